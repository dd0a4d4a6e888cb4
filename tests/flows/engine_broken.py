"""A flow whose module kills the process that imports it in order to run it; deploying it works."""

import os
import signal

from prefect import flow

if "PREFECT__FLOW_RUN_ID" in os.environ:
    os.kill(os.getpid(), signal.SIGKILL)


@flow(name="test-broken")
async def broken() -> None:
    """Never gets here."""
