"""Options that several commands take, and nothing that is slow to import."""

from typing import Annotated

import typer

AppOption = Annotated[
    str,
    typer.Option(
        "--app",
        "-a",
        metavar="NAME",
        help="The app. Default: LINKSPAN_APP, else linkspan.toml here, else the only one.",
    ),
]
EnvironmentOption = Annotated[
    str, typer.Option("--environment", "-e", metavar="NAME", help="The environment.", show_default=True)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
