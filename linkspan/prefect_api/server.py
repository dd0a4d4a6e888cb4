"""The Prefect server over its REST API, for everything that must not wait for `import prefect`.

The command line, webhooks and pollers start runs with `Server.start`. It is the only way by which no run is
lost and none is doubled (PREFECT.md, "Starting runs"): the server stores the run before it answers, and a
repeated request with the same idempotency key gives the same run. Events are for the feed only.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import quote
from uuid import uuid4

from pydantic import SecretStr

from linkspan.errors import ServerUnavailable
from linkspan.prefect_api import feed
from linkspan.prefect_api.http import Json, ServerHttp, check_names, deployment_path, patiently, split_ref
from linkspan.prefect_api.values import Deployment, Event, LogLine, Run, RunRef, Worker

__all__ = ["OUTAGE_SECONDS", "Deployment", "Event", "LogLine", "Run", "RunRef", "Server", "Worker"]

POLL_SECONDS = 0.3
# Runs write their logs in batches; the last one arrives after the final state.
SETTLE_SECONDS = 2.0
OUTAGE_SECONDS = 60.0
"""How long a server that is away is waited for where somebody follows what it does."""


class Server:
    """A Prefect server. `auth` is `user:password` (open-source server), `api_key` is Prefect Cloud's.

    Calls raise ServerUnavailable (retriable), ServerDenied for refused credentials, and ServerError with the
    server's own words for every other refusal.
    """

    def __init__(
        self, api_url: str, auth: SecretStr | None = None, *, api_key: SecretStr | None = None
    ) -> None:
        self._http = ServerHttp(api_url, auth, api_key)
        self.api_url = self._http.api_url
        self.ui_url = self.api_url.removesuffix("/api")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # Runs

    def start(
        self,
        deployment: str,
        parameters: Mapping[str, Any],
        *,
        idempotency_key: str,
        patience: float | None = None,
    ) -> RunRef:
        """Start a run of `flow-name/deployment-name`, exactly once per key, and return when it is stored.

        While the server cannot be reached it tries again for `patience` seconds (None: OUTAGE_SECONDS), then
        raises ServerUnavailable. Raises ServerError when the server refuses, for example a parameter that the
        flow does not take.
        """
        # The server keeps keys unique per flow, not per deployment (PREFECT.md).
        body = {"parameters": dict(parameters), "idempotency_key": f"{deployment}:{idempotency_key}"}
        what = f"deployment {deployment}"

        def create(left: float) -> Any:
            end = time.monotonic() + left
            found = self._http.get(deployment_path(deployment), what=what, seconds=left)
            check_names(deployment, parameters, found.get("parameter_openapi_schema") or {})
            path = f"deployments/{found['id']}/create_flow_run"
            left = max(0.5, end - time.monotonic())
            return self._http.request("POST", path, body, what=f"a run of {what}", seconds=left)

        response = patiently(OUTAGE_SECONDS if patience is None else patience, create)
        run = self._http.read(response)
        return RunRef(
            id=run["id"], name=run["name"], url=self.run_url(run["id"]), created=response.status_code == 201
        )

    def run(self, run_id: str) -> Run:
        """A run as it is now."""
        return Run.of(self._http.get(f"flow_runs/{run_id}", what=f"run {run_id}"), self.run_url(run_id))

    def follow(self, run_id: str, *, every: float = POLL_SECONDS) -> Iterator[Run | LogLine]:
        """The run whenever its state changes, and its log as it comes, until its state is final.

        The last thing yielded is the run in its final state. A server that is away for less than
        OUTAGE_SECONDS is waited for.
        """
        seen: set[str] = set()
        since = datetime(2000, 1, 1, tzinfo=UTC)
        last: Run | None = None
        settled = float("inf")
        path = f"flow_runs/{run_id}"
        while True:
            answer = patiently(OUTAGE_SECONDS, lambda left: self._http.request("GET", path, seconds=left))
            run = Run.of(self._http.read(answer), self.run_url(run_id))
            if not run.final:
                settled = float("inf")  # a crashed run may start again
                if last is None or (run.state_name, run.run_count) != (last.state_name, last.run_count):
                    yield run
            elif settled == float("inf"):
                settled = time.monotonic() + SETTLE_SECONDS
            last = run
            # A server that is busy now has the same lines later; whether it is away is asked above.
            with suppress(ServerUnavailable):
                for log in self._logs(run_id, since, seen):
                    # Batches of one run overtake each other: look back a little, drop what was seen.
                    since = max(since, log.at - timedelta(seconds=15))
                    yield log
                    if run.final and log.message.startswith("Finished in state"):
                        settled = 0
            if time.monotonic() >= settled:
                yield run
                return
            time.sleep(every)

    def recent_runs(
        self,
        deployment: str | None = None,
        *,
        limit: int = 20,
        state_types: tuple[str, ...] = (),
        pool: str = "",
    ) -> list[Run]:
        """Runs that are due or past, newest first: of one `flow-name/deployment-name`, of a pool, or all."""
        wanted: dict[str, Json] = {"expected_start_time": {"before_": datetime.now(UTC).isoformat()}}
        if state_types:
            wanted["state"] = {"type": {"any_": list(state_types)}}
        body: dict[str, Json] = {"sort": "EXPECTED_START_TIME_DESC", "limit": limit, "flow_runs": wanted}
        if deployment:
            flow, _, name = deployment.partition("/")
            body |= {"flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": [name]}}}
        if pool:
            body["work_pools"] = {"name": {"any_": [pool]}}
        return [Run.of(run, self.run_url(run["id"])) for run in self._http.post("flow_runs/filter", body)]

    def requeue(self, run_id: str, message: str) -> bool:
        """Put a run back into its queue, whatever its state; whether the server took it."""
        return self.set_state(run_id, "SCHEDULED", "AwaitingRetry", message)

    def set_state(self, run_id: str, kind: str, name: str, message: str = "", *, force: bool = False) -> bool:
        """Propose a state; whether the server took it."""
        state: dict[str, Json] = {"type": kind, "name": name, "message": message}
        if kind == "SCHEDULED":
            state["state_details"] = {"scheduled_time": datetime.now(UTC).isoformat()}
        answer = self._http.post(f"flow_runs/{run_id}/set_state", {"state": state, "force": force})
        return bool(answer["status"] == "ACCEPT")

    def run_url(self, run_id: str) -> str:
        """The run's page in the UI."""
        return f"{self.ui_url}/runs/flow-run/{run_id}"

    # What the server holds

    def deployment(self, name: str) -> Deployment:
        """The deployment `flow-name/deployment-name`."""
        found = self._http.get(deployment_path(name), what=f"deployment {name}")
        return Deployment.of(found, name)

    def deployments(self) -> list[Deployment]:
        """All deployments, by name."""
        flows = {flow["id"]: flow["name"] for flow in self._http.pages("flows/filter")}
        found = self._http.pages("deployments/filter")
        all_of_them = [
            Deployment.of(each, f"{flows.get(each['flow_id'], '?')}/{each['name']}") for each in found
        ]
        return sorted(all_of_them, key=lambda each: each.name)

    def set_parameters(self, name: str, changes: Mapping[str, Json]) -> None:
        """Change some of a deployment's parameters. The next `prefect deploy` sets those of its file."""
        found = self._http.get(deployment_path(name), what=f"deployment {name}")
        body = {"parameters": {**found["parameters"], **changes}}
        self._http.request("PATCH", f"deployments/{found['id']}", body, what=f"deployment {name}")

    def workers(self, pool: str) -> list[Worker]:
        """The workers of a work pool."""
        return [Worker.of(each) for each in self._http.post(f"work_pools/{quote(pool)}/workers/filter", {})]

    def automations(self) -> list[dict[str, Json]]:
        """All automations as JSON."""
        return list(self._http.pages("automations/filter"))

    def block(self, ref: str) -> dict[str, Json]:
        """The fields of a saved block, `block-type/name`, with its secrets in plain. Never log the answer.

        Nested blocks are not followed: none of ours has any. Raises ServerError if it was never saved.
        """
        kind, name = split_ref(ref)
        path = f"block_types/slug/{kind}/block_documents/name/{name}?include_secrets=true"
        return dict(self._http.get(path, what=f"block {ref}")["data"])

    def blocks(self, kind: str) -> dict[str, dict[str, Json]]:
        """The fields of all saved blocks of a type, by name, like `block`; none if nobody registered it."""
        # A search, because 404 is also what others say in the place of a server that is away.
        wanted = {"block_types": {"slug": {"any_": [kind]}}}
        if not self._http.post("block_types/filter", wanted):
            return {}
        path = f"block_types/slug/{quote(kind, safe='')}/block_documents?include_secrets=true"
        return {each["name"]: dict(each["data"]) for each in self._http.get(path, what=f"blocks {kind}")}

    def save_block(self, ref: str, data: Mapping[str, Json]) -> None:
        """Create or replace a saved block. Its type must be registered (`python -m flows.setup`)."""
        kind, name = split_ref(ref)
        kind_id = self._http.get(f"block_types/slug/{kind}", what=f"block type {kind}")["id"]
        newest = {"limit": 1, "block_schemas": {"block_type_id": {"any_": [kind_id]}}}
        schema_id = self._http.post("block_schemas/filter", newest)[0]["id"]
        body: dict[str, Json] = {"data": dict(data), "block_schema_id": schema_id}
        for document in self._http.get(f"block_types/slug/{kind}/block_documents"):
            if document["name"] == name:
                change = {**body, "merge_existing_data": False}
                self._http.request("PATCH", f"block_documents/{document['id']}", change, what=f"block {ref}")
                return
        body |= {"name": name, "block_type_id": kind_id}
        self._http.request("POST", "block_documents/", body, what=f"block {ref}")

    def emit(self, event: str, resource: str, payload: Mapping[str, Json], *, name: str = "") -> None:
        """Add an event to the feed. Starts nothing of ours and may be lost: `start` is what counts."""
        labels = {"prefect.resource.id": resource} | ({"prefect.resource.name": name} if name else {})
        record = {
            "id": str(uuid4()),
            "occurred": datetime.now(UTC).isoformat(),
            "event": event,
            "resource": labels,
            "payload": dict(payload),
        }
        self._http.request("POST", "events", [record], what=f"event {event}")

    def events(
        self,
        prefixes: Sequence[str],
        *,
        since: datetime,
        limit: int = 200,
        wanted: feed.Wanted = lambda _: True,
        follow: bool = False,
    ) -> Iterator[Event]:
        """The newest `limit` wanted events since then, oldest first, whose name begins with one of these.

        With `follow` every further one too, as it comes, for ever; then a server that is away is waited for.
        """
        read = feed.follow if follow else feed.recent
        yield from read(self._http, prefixes, since, limit, wanted)

    # The server itself

    def ready(self) -> bool:
        """Whether the server answers and reaches its database. Needs no credentials."""
        return self._http.answers("ready")

    def version(self) -> str:
        """Prefect's version on the server; the cheapest call that proves the credentials."""
        return str(self._http.get("admin/version"))

    def _logs(self, run_id: str, since: datetime, seen: set[str]) -> Iterator[LogLine]:
        wanted = {"flow_run_id": {"any_": [run_id]}, "timestamp": {"after_": since.isoformat()}}
        for log in self._http.pages("logs/filter", {"logs": wanted, "sort": "TIMESTAMP_ASC"}):
            if log["id"] not in seen:
                seen.add(log["id"])
                yield LogLine.of(log)
