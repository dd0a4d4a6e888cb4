"""`linkspan serve`: the receiver of webhooks, until Ctrl-C or SIGTERM."""

from pathlib import Path
from typing import Annotated

import typer

from linkspan.places import HOOKS_PORT

EXAMPLES = """\b
Examples:
  linkspan serve
  linkspan serve --host 0.0.0.0 --port 8080 --proxy 10.0.0.5
  linkspan serve --routes routes.toml

Serve it to the internet only behind a proxy that speaks TLS: some providers send their secret as it is.
"""


def serve(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where it listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = HOOKS_PORT,
    inbox: Annotated[
        Path | None,
        typer.Option(
            envvar="LINKSPAN_INBOX",
            metavar="FOLDER",
            help="Where hints are kept until their runs are started.",
        ),
    ] = None,
    routes: Annotated[
        Path | None,
        typer.Option(
            envvar="LINKSPAN_ROUTES",
            metavar="FILE",
            help="Who may call, as TOML or JSON, instead of the webhook-source blocks in Prefect.",
        ),
    ] = None,
    max_body: Annotated[
        int, typer.Option(metavar="MIB", min=1, max=1024, help="Longest body; GitHub sends 25 MiB at most.")
    ] = 25,
    proxy: Annotated[
        str,
        typer.Option(metavar="ADDRESSES", help="Proxies whose X-Forwarded-For is believed, with commas."),
    ] = "",
) -> None:
    """Receive webhooks and start runs for them.

    What is accepted is on disk before the sender hears so, and is started once the Prefect server can be
    reached.
    """
    from linkspan.webhooks.http.limits import MIB, Limits
    from linkspan.webhooks.serve import ServeSettings, default_inbox, run

    settings = ServeSettings(
        inbox=inbox or default_inbox(), routes_file=routes, limits=Limits(body_bytes=max_body * MIB)
    )
    run(settings, host, port, proxies=proxy)
