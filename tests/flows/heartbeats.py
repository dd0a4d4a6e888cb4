"""How long a server waits for a run's heartbeat before it takes the run for crashed."""

from pydantic import SecretStr

from linkspan.prefect_api.server import Server
from tests.services.prefect_server import asked


def wait_for_heartbeats(api: Server, auth: SecretStr, seconds: float) -> None:
    """Change the automation, as it is until `flows.setup` runs again; it forgets the runs that it watches."""
    for automation in api.automations():
        if automation["name"].endswith("without heartbeat has crashed"):
            body = {name: automation[name] for name in ("name", "description", "enabled", "actions")}
            body["trigger"] = {**automation["trigger"], "within": seconds}
            asked(api.api_url, auth, "PUT", f"automations/{automation['id']}", body)
