"""Where Linkspan is on a machine: its folder, its ports."""

import os
from collections.abc import Mapping
from pathlib import Path

PORT = 4200
"""Where `linkspan up` has the UI, unless another port is asked for: Prefect's own default."""

HOOKS_PORT = 4300
"""Where `linkspan serve` listens."""


def home_folder(environment: Mapping[str, str] | None = None) -> Path:
    """The folder of `linkspan up`, also of the server's password and of everybody's secrets.

    LINKSPAN_HOME, else below the folder for user data of the XDG base directory specification.
    """
    env = os.environ if environment is None else environment
    named = env.get("LINKSPAN_HOME")
    place = Path(named) if named else Path(env.get("XDG_DATA_HOME") or "~/.local/share") / "linkspan"
    return place.expanduser().resolve()
