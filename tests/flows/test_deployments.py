"""prefect.yaml against the flows it names, and against a real server: no drift, schedules and hints work."""

import inspect
import re
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from prefect import Flow
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.hashing import file_hash

from flows import automations, setup
from flows.build_and_deploy import QUIET
from linkspan import events
from linkspan.cli.links import SETTINGS, Links
from linkspan.errors import ConfigError
from linkspan.local.prefect_settings import POOL
from linkspan.prefect_api.server import Server
from tests.services.prefect_server import AUTH, ROOT, PrefectServer, asked
from tests.waiting import until

DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
NAMES = [f"{each['flow_name']}/{each['name']}" for each in DEPLOYMENTS]
every_deployment = pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=NAMES)


def flow_of(deployment: dict[str, Any]) -> Flow[..., Any]:
    flow: Flow[..., Any] = load_flow_from_entrypoint(deployment["entrypoint"])
    return flow


def given_parameters(deployment: dict[str, Any]) -> set[str]:
    """All parameters that the deployment, its schedules and its triggers give to the flow."""
    names = set(deployment["parameters"])
    for source in (*deployment.get("schedules", ()), *deployment.get("triggers", ())):
        names |= set(source.get("parameters", ()))
    return names


@every_deployment
def test_the_entrypoint_loads_and_is_an_async_flow_of_that_name(deployment: dict[str, Any]) -> None:
    flow = flow_of(deployment)
    assert flow.name == deployment["flow_name"]
    assert flow.isasync


@every_deployment
def test_its_version_is_that_of_its_own_file(deployment: dict[str, Any]) -> None:
    """The hash that Prefect makes of a flow's file: it must tell one change of the flow from another."""
    flow = flow_of(deployment)
    assert flow.version == file_hash(str(sys.modules[flow.fn.__module__].__file__))


@every_deployment
def test_every_parameter_is_one_of_the_flow(deployment: dict[str, Any]) -> None:
    assert given_parameters(deployment) <= set(inspect.signature(flow_of(deployment).fn).parameters)


@every_deployment
def test_every_block_that_a_parameter_names_is_of_a_kind_we_have(deployment: dict[str, Any]) -> None:
    texts = [value for value in deployment["parameters"].values() if isinstance(value, str) and "/" in value]
    assert {text.partition("/")[0] for text in texts if text not in NAMES} <= set(SETTINGS)
    for name in deployment["parameters"].get("converge", ()):
        assert name in NAMES


@every_deployment
def test_every_deployment_has_a_queue_the_tag_and_no_limit_of_prefects_own(
    deployment: dict[str, Any],
) -> None:
    assert deployment["work_pool"]["name"] == POOL
    assert deployment["work_pool"]["work_queue_name"]
    assert automations.TAG in deployment["tags"]
    assert "concurrency_limit" not in deployment  # PREFECT.md: it cancels, or forgets the order


def test_no_two_deployments_share_a_queue() -> None:
    queues = [each["work_pool"]["work_queue_name"] for each in DEPLOYMENTS]
    assert len(set(queues)) == len(queues)


def test_triggers_listen_to_hints_from_outside_and_all_hints_are_heard() -> None:
    heard = [
        name for each in DEPLOYMENTS for trigger in each.get("triggers", ()) for name in trigger["expect"]
    ]
    assert sorted(heard) == sorted(events.HINTS)


def test_nothing_of_ours_emits_a_hint() -> None:
    """A hint from us would start a run that we also start through REST."""
    constants = [
        name for name, value in vars(events).items() if isinstance(value, str) and value in events.HINTS
    ]
    pattern = re.compile("|".join([*constants, *map(re.escape, events.HINTS)]))
    sources = [path for package in ("blocks", "flows", "linkspan") for path in (ROOT / package).rglob("*.py")]
    emitters = [path.name for path in sources if pattern.search(path.read_text())]
    assert emitters == ["events.py"]


def test_the_heartbeat_automation_knows_the_names_of_all_our_final_states() -> None:
    """Else it would look for signs of life of runs that have ended."""
    texts = [path.read_text() for path in (ROOT / "flows").glob("*.py") if path.name != "automations.py"]
    names = {name for text in texts for name in re.findall(r'Completed\(\s*name="(\w+)"', text)}
    assert names >= {"Waiting"}
    assert names | set(QUIET.values()) <= automations.ENDED


def test_reconciles_are_staggered() -> None:
    crons = [s["cron"] for each in DEPLOYMENTS for s in each["schedules"] if s["slug"] == "reconcile"]
    looking = [each for each in DEPLOYMENTS if each["flow_name"] != "poll"]
    assert len(crons) == len(looking) == len(set(crons))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server of its own with the real prefect.yaml; nothing runs there."""
    with PrefectServer(tmp_path_factory.mktemp("deployments")).running() as server:
        server.set_up(ROOT / "prefect.yaml", "--timezone", "Europe/Oslo")
        yield server


@pytest.fixture
def api(server: PrefectServer) -> Iterator[Server]:
    with server.api() as api:
        yield api


def ask(api: Server, path: str, body: dict[str, Any]) -> Any:
    return asked(api.api_url, AUTH, "POST", path, body).json()


@pytest.mark.needs("prefect")
def test_all_are_deployed_with_version_tags_queue_and_parameters(api: Server) -> None:
    found = {each.name: each for each in api.deployments()}
    assert set(found) == set(NAMES)
    for each in DEPLOYMENTS:
        deployed = found[f"{each['flow_name']}/{each['name']}"]
        assert deployed.version
        assert set(deployed.tags) == set(each["tags"])
        assert deployed.queue == each["work_pool"]["work_queue_name"]
        assert deployed.parameters == each["parameters"]


@pytest.mark.needs("prefect")
def test_every_queue_runs_one_at_a_time(api: Server) -> None:
    queues = {queue["name"]: queue["concurrency_limit"] for queue in ask(api, "work_queues/filter", {})}
    for each in DEPLOYMENTS:
        assert queues[each["work_pool"]["work_queue_name"]] == 1


@pytest.mark.needs("prefect")
def test_the_blocks_of_an_environment_are_read_from_its_deployment(api: Server) -> None:
    links = Links.of_deployment(api, "build-and-deploy/digits-production")
    assert links.runtime == "docker-runtime/digits-production"
    assert links.repository == "git-repository/digits"


@pytest.mark.needs("prefect")
def test_cron_runs_are_really_created_in_the_chosen_time_zone(api: Server) -> None:
    """With sqlalchemy 2.1 they never are (PREFECT.md, "Dependencies")."""

    def scheduled() -> dict[str, list[dict[str, Any]]]:
        wanted = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}, "limit": 200}
        runs = [run for run in ask(api, "flow_runs/filter", wanted) if run["auto_scheduled"]]
        names = {each.id: each.name for each in api.deployments()}
        by_name: dict[str, list[dict[str, Any]]] = {}
        for run in runs:
            by_name.setdefault(names[run["deployment_id"]], []).append(run)
        return by_name

    active = {
        f"{each['flow_name']}/{each['name']}"
        for each in DEPLOYMENTS
        if any(schedule.get("active", True) for schedule in each["schedules"])
    }
    found = until(lambda: (runs := scheduled()).keys() >= active and runs) or {}
    assert set(found) == active == set(NAMES) - {"poll/digits"}
    hints = {run["parameters"]["hint"] for run in found["build-and-deploy/digits-production"]}
    assert hints == {"the clock", "the nightly release"}
    nightly = [
        datetime.fromisoformat(run["expected_start_time"]).astimezone(ZoneInfo("Europe/Oslo"))
        for run in found["build-and-deploy/digits-production"]
        if run["parameters"]["hint"] == "the nightly release"
    ]
    assert {(at.hour, at.minute) for at in nightly} == {(2, 0)}


@pytest.mark.needs("prefect")
@pytest.mark.parametrize(
    ("event", "resource", "deployment"),
    [
        (events.HINT_COMMIT, events.app_resource("digits"), "app-stream/digits"),
        (events.HINT_MODEL, events.model_resource("digits"), "model-stream/digits"),
        (events.HINT_RELEASE, events.app_resource("digits"), "build-and-deploy/digits-production"),
    ],
)
def test_a_hint_from_outside_starts_its_run(api: Server, event: str, resource: str, deployment: str) -> None:
    def hints() -> set[str]:
        return {run.parameters["hint"] for run in api.recent_runs(deployment, limit=50)}

    api.emit(event, resource, {"hint": 'push by "Ada"'})
    api.emit(event, resource, {})
    api.emit(event, f"{resource}-other", {"hint": "of another app"})
    until(lambda: 'push by "Ada"' in (h := hints()) and any(x.startswith("event ") for x in h))
    assert "of another app" not in hints()


@pytest.mark.needs("prefect")
def test_a_second_set_up_touches_nothing_and_a_change_is_deployed(
    server: PrefectServer, tmp_path: Path
) -> None:
    with server.api() as api:
        before = api.automations()
        output = server.set_up(ROOT / "prefect.yaml")  # and the time zone stays
        assert "deployments and blocks: as they should be" in output
        assert api.automations() == before

        changed = tmp_path / "prefect.yaml"
        changed.write_text((ROOT / "prefect.yaml").read_text().replace("the nightly release", "the night"))
        assert "app-stream/digits" in server.set_up(changed)
        for name in NAMES:
            assert api.deployment(name).tags  # writing the version drops nothing
        after = {each["name"]: each["id"] for each in api.automations()}
        for each in before:
            if each["name"].startswith(automations.PREFIX):
                assert after[each["name"]] == each["id"]  # what watches runs is not forgotten


@pytest.mark.needs("prefect")
def test_a_flow_that_does_not_load_is_said_with_its_reason(server: PrefectServer, tmp_path: Path) -> None:
    broken = tmp_path / "prefect.yaml"
    broken.write_text((ROOT / "prefect.yaml").read_text().replace("flows.app_stream", "flows.no_such_stream"))
    with pytest.raises(AssertionError, match="no_such_stream"):
        server.set_up(broken)


def test_a_prefect_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml is not there"):
        setup.deployments(tmp_path / "nowhere.yaml")
