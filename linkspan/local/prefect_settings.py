"""Every PREFECT_* setting we give to a server, a worker and a client, in one place.

The values come from measurements (PREFECT.md); the reason stands beside each.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

POOL = "linkspan"

# A certificate whose key nobody has. Each of Prefect's clients reads the authorities of the web, also for a
# server that it reaches without TLS: 30 ms of a processor, nine times before the first step of a run.
NOBODY = Path(__file__).with_name("nobody.pem")

# Nobody's usage is reported anywhere.
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_CLI_COLORS": "false",
}

SERVER = {
    # The default keeps leases in memory: a slot held at a restart can be held for good.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # Prefect's clients keep a connection for 5 s, and the server would end it after 5 s: who asks just then
    # gets no answer. Longer than a load balancer's, too.
    "PREFECT_SERVER_API_KEEPALIVE_TIMEOUT": "75",
    # Events appear in the feed after at most this many seconds.
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
}

CLIENT = {
    # The smallest that Prefect takes; a lost run is noticed after 105 s (flows/automations.py).
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.5",
}

WORKER = {
    # Every look writes to the server's database: 16 writes a second at 0.2 s, 5 at 1 s. SQLite refuses what
    # collides with them, and a refused request costs more seconds than a quick look saves.
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_WORKER_PREFETCH_SECONDS": "0",
    "PREFECT_WORKER_HEARTBEAT_SECONDS": "15",
    # Off by default, and then a run that is cancelled in the UI goes on.
    "PREFECT_WORKER_ENABLE_CANCELLATION": "true",
    "PREFECT_WORKER_CANCELLATION_POLL_SECONDS": "5",
}


def clean(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment without any Prefect setting, so that a user's shell changes nothing of ours."""
    env = os.environ if environment is None else environment
    return {name: value for name, value in env.items() if not name.startswith("PREFECT_")}


def client(prefect_home: Path, api_url: str, auth: SecretStr | None) -> dict[str, str]:
    """Settings of everything that talks to the server: flows, `prefect` commands, tests.

    `auth` ends in the environment, which only the same user can read; never on a command line.
    """
    env = {**QUIET, **CLIENT, "PREFECT_HOME": str(prefect_home), "PREFECT_API_URL": api_url}
    if auth is not None:
        env["PREFECT_API_AUTH_STRING"] = auth.get_secret_value()
    if api_url.startswith("http://"):
        env["PREFECT_API_SSL_CERT_FILE"] = str(NOBODY)
    return env


def server(
    prefect_home: Path, api_url: str, auth: SecretStr | None, database_url: SecretStr | None
) -> dict[str, str]:
    """Settings of the server. Without a database URL it keeps a SQLite file in `prefect_home`."""
    env = {**client(prefect_home, api_url, auth), **SERVER}
    if auth is not None:
        env["PREFECT_SERVER_API_AUTH_STRING"] = auth.get_secret_value()
    if database_url is not None:
        env["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database_url.get_secret_value()
    return env


def worker(prefect_home: Path, api_url: str, auth: SecretStr | None) -> dict[str, str]:
    """Settings of the worker, and so of the runs that it starts."""
    return {**client(prefect_home, api_url, auth), **WORKER}
