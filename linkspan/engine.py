"""The Prefect server over its REST API, for everything that must not wait for `import prefect`.

The command line, webhooks and pollers start runs with `Engine.start`. It is the only way by which no run is
lost and none is doubled (PREFECT.md, "Starting runs"): the server stores the run before it answers, and a
repeated request with the same idempotency key gives the same run. Events are for the feed only.
"""

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx
from pydantic import BaseModel, ConfigDict, SecretStr

from linkspan.errors import ConfigError, EngineDenied, EngineError, EngineUnavailable, RunFailed
from linkspan.local.home import Home

Json = Any
"""A JSON document as the server gave it."""

FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})
REQUEST_SECONDS = 15.0
POLL_SECONDS = 0.3
# Runs write their logs in batches; the last one arrives after the final state.
SETTLE_SECONDS = 2.0
LEVELS = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class RunRef(_Value):
    """A run that was asked for. `created` is False if the same idempotency key had already made it."""

    id: str
    name: str
    url: str
    created: bool


class Run(_Value):
    """A run as the server knows it. `state_type` is one of Prefect's state types, such as RUNNING."""

    id: str
    name: str
    url: str
    state_type: str
    state_name: str
    message: str
    parameters: dict[str, Any]
    deployment_id: str | None
    run_count: int
    created: datetime
    started: datetime | None
    ended: datetime | None

    @property
    def final(self) -> bool:
        return self.state_type in FINAL

    def raise_for_state(self) -> None:
        """Raises RunFailed, with the state's message, if the run ended in any way but Completed."""
        if self.final and self.state_type != "COMPLETED":
            raise RunFailed(
                f"run {self.name} ended as {self.state_name}: {self.message}", fix=f"See {self.url}"
            )


class LogLine(_Value):
    """A line of a run's log."""

    at: datetime
    level: str
    message: str


class Deployment(_Value):
    """A deployment; `name` is `flow-name/deployment-name`."""

    id: str
    name: str
    version: str | None
    queue: str | None
    paused: bool
    tags: tuple[str, ...]


class Worker(_Value):
    """A worker of a pool, online if the server has heard of it lately."""

    name: str
    online: bool
    last_heartbeat: datetime | None


class Engine:
    """A Prefect server. `auth` is `user:password` (open-source server), `api_key` is Prefect Cloud's.

    Calls raise EngineUnavailable (retriable), EngineDenied for refused credentials, and EngineError with the
    server's own words for every other refusal.
    """

    def __init__(
        self, api_url: str, auth: SecretStr | None = None, *, api_key: SecretStr | None = None
    ) -> None:
        self.api_url = api_url.rstrip("/")
        self.ui_url = self.api_url.removesuffix("/api")
        headers: dict[str, str] = {}
        basic: httpx.BasicAuth | None = None
        if api_key is not None:
            headers["Authorization"] = f"Bearer {api_key.get_secret_value()}"
        elif auth is not None:
            user, _, password = auth.get_secret_value().partition(":")
            basic = httpx.BasicAuth(user, password)
        self._http = httpx.Client(
            base_url=self.api_url + "/", auth=basic, headers=headers, timeout=REQUEST_SECONDS
        )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """The server that PREFECT_API_URL names, else the one that `linkspan up` started.

        Raises ConfigError when there is neither.
        """
        env = os.environ if environment is None else environment
        if url := env.get("PREFECT_API_URL"):
            auth, key = env.get("PREFECT_API_AUTH_STRING"), env.get("PREFECT_API_KEY")
            return cls(url, SecretStr(auth) if auth else None, api_key=SecretStr(key) if key else None)
        home = Home.default(env)
        state = home.read_state()
        if state is None:
            raise ConfigError(
                "no Prefect server is known",
                expected=f"PREFECT_API_URL, or a server started with `linkspan up` in {home.path}",
                fix="Run `linkspan up` in another terminal, or set PREFECT_API_URL (and "
                "PREFECT_API_AUTH_STRING or PREFECT_API_KEY)",
            )
        return cls(state.api_url, home.auth())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # Runs

    def start(
        self, deployment: str, parameters: Mapping[str, Any], *, idempotency_key: str, patience: float = 60.0
    ) -> RunRef:
        """Start a run of `flow-name/deployment-name`, exactly once per key, and return when it is stored.

        Tries again for `patience` seconds while the server cannot be reached, then raises EngineUnavailable.
        Raises EngineError when the server refuses, for example a parameter that the flow does not take.
        """
        found = self._patiently(patience, lambda left: self._get(f"deployments/name/{deployment}", left))
        # The server keeps keys unique per flow, not per deployment (PREFECT.md).
        body = {"parameters": dict(parameters), "idempotency_key": f"{deployment}:{idempotency_key}"}
        response = self._patiently(
            patience,
            lambda left: self._request(
                "POST", f"deployments/{found.json()['id']}/create_flow_run", body, left
            ),
        )
        run = response.json()
        return RunRef(
            id=run["id"], name=run["name"], url=self.run_url(run["id"]), created=response.status_code == 201
        )

    def run(self, run_id: str) -> Run:
        """A run as it is now."""
        return self._run(self._get(f"flow_runs/{run_id}").json())

    def follow(self, run_id: str, *, every: float = POLL_SECONDS) -> Iterator[Run | LogLine]:
        """The run whenever its state changes, and its log as it comes, until its state is final.

        The last thing yielded is the run in its final state. A server that is away for less than a minute is
        waited for.
        """
        seen: set[str] = set()
        since = datetime(2000, 1, 1, tzinfo=UTC)
        last: Run | None = None
        settled = float("inf")
        while True:
            run = self._run(self._patiently(60, lambda left: self._get(f"flow_runs/{run_id}", left)).json())
            if run.final and settled == float("inf"):
                settled = time.monotonic() + SETTLE_SECONDS
            elif not run.final:
                settled = float("inf")
                if last is None or (run.state_name, run.run_count) != (last.state_name, last.run_count):
                    yield run
            last = run
            for log in self._logs(run_id, since, seen):
                # Batches of one run overtake each other; look back a little and drop what was seen.
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
        return [self._run(run) for run in self._post("flow_runs/filter", body)]

    def cancel(self, run_id: str) -> None:
        """Ask for a run to end: at once if it waits, by its worker if it runs."""
        self.set_state(run_id, "CANCELLING", "Cancelling")

    def requeue(self, run_id: str, message: str) -> bool:
        """Put an unfinished run back into its queue; False if the server would not, for it has ended."""
        return self.set_state(run_id, "SCHEDULED", "AwaitingRetry", message)

    def set_state(self, run_id: str, kind: str, name: str, message: str = "", *, force: bool = False) -> bool:
        """Propose a state; whether the server took it."""
        state: dict[str, Json] = {"type": kind, "name": name, "message": message}
        if kind == "SCHEDULED":
            state["state_details"] = {"scheduled_time": datetime.now(UTC).isoformat()}
        answer = self._post(f"flow_runs/{run_id}/set_state", {"state": state, "force": force})
        return bool(answer["status"] == "ACCEPT")

    def run_url(self, run_id: str) -> str:
        """The run's page in the UI."""
        return f"{self.ui_url}/runs/flow-run/{run_id}"

    # What the server holds

    def deployments(self) -> list[Deployment]:
        """All deployments, by name."""
        flows = {flow["id"]: flow["name"] for flow in self._pages("flows/filter")}
        return sorted(
            (
                Deployment(
                    id=each["id"],
                    name=f"{flows.get(each['flow_id'], '?')}/{each['name']}",
                    version=each.get("version"),
                    queue=each.get("work_queue_name"),
                    paused=bool(each.get("paused")),
                    tags=tuple(each.get("tags") or ()),
                )
                for each in self._pages("deployments/filter")
            ),
            key=lambda each: each.name,
        )

    def workers(self, pool: str) -> list[Worker]:
        """The workers of a work pool."""
        return [
            Worker(
                name=each["name"],
                online=each["status"] == "ONLINE",
                last_heartbeat=each.get("last_heartbeat_time"),
            )
            for each in self._post(f"work_pools/{pool}/workers/filter", {})
        ]

    def automations(self) -> list[dict[str, Json]]:
        """All automations as JSON."""
        return list(self._pages("automations/filter"))

    def block(self, ref: str) -> dict[str, Json]:
        """The fields of a saved block, `block-type/name`, with its secrets in plain. Never log the answer.

        Nested blocks are not followed: none of ours has any. Raises EngineError if it was never saved.
        """
        kind, name = _split(ref)
        document = self._get(
            f"block_types/slug/{kind}/block_documents/name/{name}?include_secrets=true", what=f"block {ref}"
        )
        return dict(document.json()["data"])

    def save_block(self, ref: str, data: Mapping[str, Json]) -> None:
        """Create or replace a saved block. Its type must be registered (`python -m flows.setup`)."""
        kind, name = _split(ref)
        kind_id = self._get(f"block_types/slug/{kind}", what=f"block type {kind}").json()["id"]
        schemas = self._post(
            "block_schemas/filter", {"limit": 1, "block_schemas": {"block_type_id": {"any_": [kind_id]}}}
        )
        body: dict[str, Json] = {"data": dict(data), "block_schema_id": schemas[0]["id"]}
        documents = self._get(f"block_types/slug/{kind}/block_documents").json()
        for document in documents:
            if document["name"] == name:
                change = {**body, "merge_existing_data": False}
                self._request("PATCH", f"block_documents/{document['id']}", change)
                return
        self._request("POST", "block_documents/", {**body, "name": name, "block_type_id": kind_id})

    def emit(self, event: str, resource: str, payload: Mapping[str, Json], *, name: str = "") -> None:
        """Add an event to the feed. Starts nothing of ours and may be lost: `start` is what counts."""
        labels = {"prefect.resource.id": resource} | ({"prefect.resource.name": name} if name else {})
        now = datetime.now(UTC).isoformat()
        record = {
            "id": str(uuid4()),
            "occurred": now,
            "event": event,
            "resource": labels,
            "payload": dict(payload),
        }
        self._request("POST", "events", [record])

    def ready(self) -> bool:
        """Whether the server answers and reaches its database. Needs no credentials."""
        try:
            return self._http.get("ready", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def version(self) -> str:
        """Prefect's version on the server; the cheapest call that proves the credentials."""
        return str(self._get("admin/version").json())

    # HTTP

    def _run(self, data: Json) -> Run:
        state = data.get("state") or {}
        return Run(
            id=data["id"],
            name=data["name"],
            url=self.run_url(data["id"]),
            state_type=data.get("state_type") or "PENDING",
            state_name=data.get("state_name") or "",
            message=state.get("message") or "",
            parameters=data.get("parameters") or {},
            deployment_id=data.get("deployment_id"),
            run_count=data.get("run_count") or 0,
            created=data["created"],
            started=data.get("start_time"),
            ended=data.get("end_time"),
        )

    def _logs(self, run_id: str, since: datetime, seen: set[str]) -> Iterator[LogLine]:
        wanted = {"flow_run_id": {"any_": [run_id]}, "timestamp": {"after_": since.isoformat()}}
        for log in self._pages("logs/filter", {"logs": wanted, "sort": "TIMESTAMP_ASC"}):
            if log["id"] not in seen:
                seen.add(log["id"])
                level = LEVELS.get(log["level"] // 10 * 10, str(log["level"]))
                yield LogLine(at=log["timestamp"], level=level, message=log["message"])

    def _pages(self, path: str, body: Mapping[str, Json] | None = None) -> Iterator[Json]:
        offset = 0
        while page := self._post(path, {**(body or {}), "offset": offset, "limit": 200}):
            yield from page
            offset += len(page)
            if len(page) < 200:
                return

    def _get(self, path: str, seconds: float = REQUEST_SECONDS, *, what: str = "") -> httpx.Response:
        return self._request("GET", path, None, seconds, what=what)

    def _post(self, path: str, body: Json) -> Json:
        return self._request("POST", path, body).json()

    def _request(
        self, method: str, path: str, body: Json = None, seconds: float = REQUEST_SECONDS, *, what: str = ""
    ) -> httpx.Response:
        try:
            response = self._http.request(method, path, json=body, timeout=min(seconds, REQUEST_SECONDS))
        except httpx.TransportError as error:
            raise EngineUnavailable(
                f"the Prefect server at {self.api_url} cannot be reached: {error}",
                fix="Is it running? `linkspan up` starts one",
            ) from error
        if response.is_success:
            return response
        raise _refusal(response, what or f"{method} {path.partition('?')[0]}", self.api_url)

    def _patiently(self, patience: float, call: Callable[[float], httpx.Response]) -> httpx.Response:
        """Call until it succeeds, with jittered exponential waits, for at most `patience` seconds."""
        end = time.monotonic() + patience
        wait = 0.1
        while True:
            try:
                return call(max(0.5, end - time.monotonic()))
            except EngineUnavailable:
                pause = wait * random.uniform(0.5, 1.5)  # noqa: S311 - spreads load, hides nothing
                if time.monotonic() + pause > end:
                    raise
                time.sleep(pause)
                wait = min(wait * 2, 5.0)


def _split(ref: str) -> tuple[str, str]:
    kind, slash, name = ref.partition("/")
    if not (kind and slash and name) or "/" in name:
        raise ConfigError(
            f"{ref!r} names no block", expected="block-type/name, such as s3-model-store/digits"
        )
    return kind, name


def _refusal(response: httpx.Response, what: str, api_url: str) -> EngineError:
    """The error for an answer that is no success; says in the server's words why."""
    try:
        body = response.json()
    except ValueError:
        body = response.text
    detail = body.get("detail") or body.get("exception_message") or body if isinstance(body, dict) else body
    status = response.status_code
    if status in {401, 403}:
        return EngineDenied(
            f"the Prefect server at {api_url} refused the credentials (HTTP {status})",
            fix="Set PREFECT_API_AUTH_STRING to the server's user:password, or PREFECT_API_KEY for Prefect Cloud",
        )
    if status in {408, 425, 429} or status >= 500:
        return EngineUnavailable(f"the Prefect server at {api_url} answered HTTP {status}: {detail}"[:500])
    if status == 404:
        return EngineError(
            f"{what}: not on the Prefect server at {api_url}",
            fix="`python -m flows.setup` registers blocks and deployments; blocks are then saved in the UI",
        )
    return EngineError(f"{what}: the Prefect server refused it (HTTP {status}): {detail}"[:2000])
