"""Which Prefect server is meant where nobody names one."""

import os
from collections.abc import Mapping

from pydantic import SecretStr

from linkspan.errors import ConfigError
from linkspan.local.home import Home
from linkspan.prefect_api.server import Server


def known_server(environment: Mapping[str, str] | None = None) -> Server:
    """The server that PREFECT_API_URL names, else the one that `linkspan up` started.

    Raises ConfigError when there is neither.
    """
    env = os.environ if environment is None else environment
    if url := env.get("PREFECT_API_URL"):
        auth, key = env.get("PREFECT_API_AUTH_STRING"), env.get("PREFECT_API_KEY")
        return Server(url, SecretStr(auth) if auth else None, api_key=SecretStr(key) if key else None)
    home = Home.default(env)
    state = home.read_state()
    if state is None:
        raise ConfigError(
            "no Prefect server is known",
            expected=f"PREFECT_API_URL, or a server started with `linkspan up` in {home.path}",
            fix="Run `linkspan up` in another terminal, or set PREFECT_API_URL (and "
            "PREFECT_API_AUTH_STRING or PREFECT_API_KEY)",
        )
    return Server(state.api_url, home.auth())
