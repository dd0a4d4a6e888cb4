"""The command line, for people who do not want to open a browser.

Exit codes: 0 done; 1 `doctor` found something; 2 a wrong argument, linkspan.toml or block; 3 to 10 by what
failed (linkspan/errors.py); 130 interrupted.
"""

import sys

import typer

from linkspan import __version__
from linkspan.cli import deploy, doctor, inspect, publish, rollback, services, trigger
from linkspan.cli.output import fail
from linkspan.errors import LinkspanError

app = typer.Typer(
    name="linkspan",
    help="CI/CD for AI applications: the newest code and the newest model, linked into one running release.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("publish")(publish.publish)
app.command("deploy")(deploy.deploy)
app.command("status")(inspect.status)
app.command("history")(inspect.history)
app.command("rollback")(rollback.rollback)
app.command("doctor")(doctor.doctor)
app.command("up")(services.up)
app.command("trigger")(trigger.trigger)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"linkspan {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_version, is_eager=True
    ),
) -> None: ...


def main() -> None:
    """Run the command line; an error of ours becomes one message and its exit code."""
    try:
        app()
    except LinkspanError as error:
        fail(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
