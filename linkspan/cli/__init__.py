"""The command line, for people who do not want to open a browser.

Exit codes: 0 done; 1 `doctor` found something; 2 a wrong argument, linkspan.toml or block; 3 to 11 by what
failed (linkspan/errors.py); 130 interrupted.

Starting it must cost nothing: git hooks and completions call it. So the modules of the commands import typer
and little else at their top, and what a command needs where it is called.
"""

import os
import sys
from importlib import import_module
from itertools import chain
from typing import Any

import typer
from typer.core import TyperGroup

from linkspan import __version__
from linkspan.cli.output import fail
from linkspan.errors import LinkspanError

SECTIONS = {
    "Releasing": ("publish", "deploy", "rollback", "trigger"),
    "Looking": ("status", "events", "history", "why", "doctor"),
    "Running it": ("up", "serve", "connect", "run", "destroy"),
}
"""The commands: each is the function of that name in the module of that name."""

EXIT_CODES = """\b
Exit codes:
  0    done                       6    the model
  1    doctor found something     7    the container registry
  2    an argument, linkspan.toml 8    linking or rolling out
       or a block                 9    the Prefect server, or a run
  3    the git repository         10   held back: known to be bad
  4    building or testing        11   the receiver of webhooks
  5    the model store            130  interrupted
"""


class Commands(TyperGroup):
    """The commands, listed by what they are for."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 typer's, whose types are private
        """One section per purpose."""
        for section, names in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(70)) for name in names])


app = typer.Typer(
    name="linkspan",
    cls=Commands,
    help="CI/CD for AI applications: the newest code and the newest model, linked into one running release.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for _command in chain.from_iterable(SECTIONS.values()):
    _module = import_module(f"linkspan.cli.{_command}")
    app.command(
        _command,
        epilog=getattr(_module, "EXAMPLES", None),
        context_settings=getattr(_module, "PASS_ON", None),
    )(getattr(_module, _command))


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


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; an error of ours becomes one message and its exit code."""
    try:
        app(args=arguments, prog_name="linkspan")
    except LinkspanError as error:
        fail(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`); else Python would say so once more while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
