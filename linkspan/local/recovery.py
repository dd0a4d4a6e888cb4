"""Runs whose worker is gone, put back into their queues: the quick path beside flows/automations.py."""

from linkspan.local.prefect_settings import POOL
from linkspan.prefect_api.server import Run, Server


def requeue_orphans(server: Server) -> list[Run]:
    """Put every run of our pool that is said to run, or about to, back into its queue; those runs.

    Call it only while no worker of the pool and none of its runs lives.
    """
    requeued = []
    for run in server.recent_runs(limit=200, state_types=("RUNNING", "PENDING"), pool=POOL):
        if server.requeue(run.id, "Its worker died; starting again"):
            requeued.append(run)
    for run in server.recent_runs(limit=200, state_types=("CANCELLING",), pool=POOL):
        # Nobody is left who could finish the cancellation, and it holds its slot until somebody does.
        server.set_state(run.id, "CANCELLED", "Cancelled", "Its worker died", force=True)
    return requeued
