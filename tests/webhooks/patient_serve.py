"""`linkspan serve` for a machine that may stand still: what a stall would use up lasts ten minutes.

Run as a module, with the arguments of `linkspan`.
"""

import os
from dataclasses import replace

from linkspan.cli import main
from linkspan.webhooks import serve
from linkspan.webhooks.http import connections, routes
from linkspan.webhooks.inbox import starter

SERVER_STAYS = "LINKSPAN_TESTS_SERVER_STAYS"
"""Set where the Prefect server never goes away: then a call to it is waited for as well, also at the end."""

_run = serve.run


def run(settings: serve.ServeSettings, host: str, port: int, *, proxies: str = "") -> None:
    """Serve with limits that a slow machine does not reach."""
    limits = replace(settings.limits, read_seconds=600, disk_seconds=600, refused_burst=1e9)
    _run(replace(settings, limits=limits), host, port, proxies=proxies)


if __name__ == "__main__":
    serve.run = run
    connections.HEADER_SECONDS = routes.FIRST_SECONDS = 600
    serve.END_SECONDS = 600
    if SERVER_STAYS in os.environ:
        starter.PATIENCE = 600
        starter.Starter.stop.__defaults__ = (600.0,)
    main()
