"""A world's flows as deployments, so that a worker runs them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from linkspan.prefect_api.server import Run
from tests.e2e.world import World


def prefect_file(world: World, entrypoint: str = "flows.{0}.{0}") -> dict[str, Any]:
    """A prefect.yaml of the world's three deployments; `entrypoint` gets the name of each flow's function."""
    common = ("app", "repository", "registry")
    converge = {"converge": [f"build-and-deploy/{world.service}"]}
    wanted: list[tuple[str, str, str, dict[str, Any]]] = [
        ("app_stream", "app-stream", world.app, {**world.parameters(*common, "builder"), **converge}),
        ("model_stream", "model-stream", world.app, {**world.parameters(*common, "store"), **converge}),
        ("build_and_deploy", "build-and-deploy", str(world.service), world.release_parameters()),
    ]
    return {
        "pull": [],
        "deployments": [
            {
                "name": name,
                "entrypoint": entrypoint.format(function),
                "flow_name": flow,
                "tags": ["linkspan"],
                "parameters": parameters,
                "work_pool": {"name": "linkspan", "work_queue_name": f"{flow}-{world.app}"},
            }
            for function, flow, name, parameters in wanted
        ],
    }


def hint(world: World, flow: str, text: str = "") -> str:
    """Start a run of one of them, as the receiver and the command line do; its id."""
    name = str(world.service) if flow == "build-and-deploy" else world.app
    with world.server.api() as engine:
        return engine.start(f"{flow}/{name}", {"hint": text}, idempotency_key=uuid4().hex).id


def all_runs(world: World) -> list[tuple[str, Run]]:
    """Flow and run, for all of the world's deployments."""
    names = {"app-stream": world.app, "model-stream": world.app, "build-and-deploy": str(world.service)}
    with world.server.api() as server:
        return [
            (flow, run)
            for flow, name in names.items()
            for run in server.recent_runs(f"{flow}/{name}", limit=100)
        ]


def start_anew(world: World, runs: Sequence[tuple[str, Run]], left: set[str]) -> None:
    """Do what the schedule does for runs that crashed and that nobody restarted within 20 s; `left` has them.

    Under load SQLite makes the server drop the event that their automation waits for.
    """
    for flow, run in runs:
        since = (datetime.now(UTC) - run.ended).total_seconds() if run.ended else 0
        if run.state_type == "CRASHED" and since > 20 and run.id not in left:
            left.add(run.id)
            hint(world, flow, "the clock")
