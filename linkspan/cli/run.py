"""`linkspan run`: another program, told where the Prefect server is, with a password that nobody sees."""

import os
import shutil
from typing import Annotated

import typer

EXAMPLES = """\b
Examples:
  linkspan run python save_blocks.py
  linkspan run prefect deployment ls
"""

# What follows the program's name is the program's, also where it looks like an option of ours.
PASS_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def run(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="The program and its arguments.")],
) -> None:
    """Run a program against the server of `linkspan up`.

    It gets PREFECT_API_URL and PREFECT_API_AUTH_STRING in its environment.
    """
    from linkspan.errors import ConfigError
    from linkspan.local.home import Home

    home = Home.default()
    state = home.read_state()
    if state is None:
        raise ConfigError(
            f"no server runs in {home.path}",
            fix="Run `linkspan up` in another terminal, and set LINKSPAN_HOME here if it is set there",
        )
    program = shutil.which(command[0])
    if program is None:
        raise ConfigError(f"there is no program {command[0]!r}")
    env = {
        **os.environ,
        "PREFECT_API_URL": state.api_url,
        "PREFECT_API_AUTH_STRING": home.auth().get_secret_value(),
    }
    os.execve(program, command, env)  # noqa: S606 the very program that the user named
