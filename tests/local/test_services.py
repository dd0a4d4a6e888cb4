"""`linkspan up` as a process: it gets ready, stops clean, and takes over what a killed one left."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from linkspan.errors import ConfigError, ServerUnavailable
from linkspan.local import leftovers, prefect_settings, services, tether
from linkspan.local.home import Home
from linkspan.local.known import known_server
from linkspan.local.services import Local
from linkspan.prefect_api.server import Server
from linkspan.processes import Child, free_port, listens
from tests.flows.heartbeats import wait_for_heartbeats
from tests.services.prefect_server import lay_database
from tests.waiting import until

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = ROOT / "tests/flows/engine_flows.yaml"

UP = """
import os, sys
from pathlib import Path
from pydantic import SecretStr
from linkspan.local import services
from linkspan.local.services import Local
services.SERVER_SECONDS = services.WORKER_SECONDS = services.RECEIVER_SECONDS = services.SETUP_SECONDS = 1200
say = lambda line: print(line, flush=True)
url = os.environ.get("TEST_DATABASE")
with Local(
    Path(sys.argv[1]), port=int(sys.argv[2]), prefect_file=Path(sys.argv[3]), say=say,
    hooks=("127.0.0.1", int(sys.argv[4])),
    database_url=SecretStr(url) if url else None,
) as local:
    say("UP")
    local.wait()
say("DOWN")
"""


def completed(server: Server, run_id: str) -> bool:
    try:
        return server.run(run_id).state_type == "COMPLETED"
    except ServerUnavailable:  # it is just being replaced
        return False


def receives(url: str) -> bool:
    """Whether the receiver can keep what it is told; a busy disk says no for a while."""
    return httpx.get(f"{url}/readyz", timeout=600).status_code == 200


def told(pid: int, file: str) -> list[str]:
    """A process's arguments or environment; nothing if it has ended: a schedule has runs too."""
    try:
        return Path(f"/proc/{pid}/{file}").read_text().split("\0")
    except OSError:
        return []


class Up:
    """`linkspan up` in a home of its own. `before`: it was up there before, and has been set up."""

    def __init__(self, folder: Path, database: SecretStr | None = None, *, before: bool = False) -> None:
        self.database = {"TEST_DATABASE": database.get_secret_value()} if database else {}
        self.home = Home(folder / "home")
        self.port, self.hooks = free_port(), free_port()
        self.deployments = folder / "prefect.yaml"
        self.deployments.write_text(DEPLOYMENTS.read_text())
        if before:
            self.home.create()
            lay_database(self.home.prefect, flows=True)
        self._count = 0

    def start(self) -> Child:
        self._count += 1
        log = self.deployments.parent / f"up-{self._count}.log"
        arguments = [str(self.home.path), str(self.port), str(self.deployments), str(self.hooks)]
        env = {**os.environ, **self.database, "PYTHONPATH": str(ROOT)}
        child = Child("up", [sys.executable, "-c", UP, *arguments], log=log, env=env)
        try:
            child.wait_until(lambda: "UP\n" in log.read_text(), seconds=1200)
        except ConfigError:
            child.stop()
            raise
        return child

    def server(self) -> Server:
        return known_server({"LINKSPAN_HOME": str(self.home.path)})

    def processes(self) -> list[int]:
        return leftovers.find(self.home.mark)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    up = Up(tmp_path, before=True)
    yield up
    leftovers.end_all(up.home.mark)


@pytest.fixture(scope="module")
def running_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One that outlives what is killed in it; it has all its services at the end of each test."""
    up = Up(tmp_path_factory.mktemp("up"), before=True)
    child = up.start()
    try:
        with up.server() as server:
            wait_for_heartbeats(server, up.home.auth(), 1200)
        yield up
        child.stop(grace=240)
        until(lambda: up.processes() == [])
    finally:
        leftovers.end_all(up.home.mark)


@pytest.fixture
def new_up(tmp_path: Path) -> Iterator[Up]:
    up = Up(tmp_path)
    yield up
    leftovers.end_all(up.home.mark)


@pytest.mark.calm
@pytest.mark.needs("prefect")
def test_up_is_ready_sets_up_quickly_again_and_leaves_nothing(new_up: Up) -> None:
    up = new_up
    child = up.start()
    try:
        state = up.home.read_state()
        assert state is not None
        assert set(state.pids) == {"server", "warm", "receiver", "worker"}
        until(lambda: receives(state.hooks_url))
        with up.server() as server:
            until(server.ready)
            assert [worker.online for worker in server.workers(prefect_settings.POOL)] == [True]
            versions = {each.name: each.version for each in server.deployments()}
            before = server.automations()

            again = Local(up.home, port=up.port, prefect_file=up.deployments)
            again.setup()
            # Nothing was touched: what `prefect deploy` makes anew has other IDs and dates.
            assert server.automations() == before
            assert {each.name: each.version for each in server.deployments()} == versions
            assert all(version for version in versions.values())

        assert stat.S_IMODE(up.home.auth_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(up.home.path.stat().st_mode) == 0o700
        password = up.home.auth().get_secret_value().partition(":")[2]
        for pid in up.processes():
            assert password not in " ".join(told(pid, "cmdline"))
        assert password not in child.log.read_text()

        with pytest.raises(ConfigError, match=rf"already up in .* \(process {child.pid}\)"):
            Local(up.home, port=free_port()).start()
    finally:
        child.stop(grace=240)
    assert child.log.read_text().endswith("DOWN\n")
    until(lambda: up.processes() == [])
    assert up.home.read_state() is None
    assert not listens(up.port)
    assert not listens(up.hooks)


@pytest.mark.calm
@pytest.mark.needs("prefect")
def test_up_on_postgres_keeps_everything_there(postgres: SecretStr, tmp_path: Path) -> None:
    up = Up(tmp_path, database=postgres)
    child = up.start()
    try:
        with up.server() as server:
            (tmp_path / "go").touch()
            ref = server.start("test-wait/test", {"folder": str(tmp_path)}, idempotency_key=uuid4().hex)
            until(lambda: completed(server, ref.id))
        os.kill(child.pid, signal.SIGKILL)
        child.kill()
        second = up.start()
        with up.server() as server:
            assert completed(server, ref.id)
        password = postgres.get_secret_value().rpartition("@")[0].rpartition(":")[2]
        for pid in up.processes():
            assert password not in " ".join(told(pid, "cmdline"))
        second.stop(grace=240)
        assert password not in child.log.read_text() + second.log.read_text()
        assert not list(up.home.prefect.glob("*.db*"))
    finally:
        leftovers.end_all(up.home.mark)


@pytest.mark.calm
@pytest.mark.needs("prefect")
def test_a_killed_up_is_taken_over_and_its_run_is_finished(up: Up, tmp_path: Path) -> None:
    first = up.start()
    with up.server() as server:
        wait_for_heartbeats(server, up.home.auth(), 1200)
        ref = server.start("test-wait/test", {"folder": str(tmp_path)}, idempotency_key=uuid4().hex)
        until((tmp_path / "seen").exists)
    old = up.processes()
    for pid in old:  # no orderly end for anybody: all of them lose their lives in one moment
        os.kill(pid, signal.SIGSTOP)
    os.kill(first.pid, signal.SIGKILL)
    (tmp_path / "go").touch()

    second = up.start()
    try:
        assert "left behind" in second.log.read_text()
        assert not set(old) & set(up.processes())
        with up.server() as server:
            until(lambda: completed(server, ref.id))
            assert server.run(ref.id).run_count == 2
    finally:
        second.stop(grace=240)


@pytest.mark.calm
@pytest.mark.needs("prefect")
def test_services_end_with_a_killed_up(up: Up) -> None:
    child = up.start()
    assert up.processes()
    os.kill(child.pid, signal.SIGKILL)
    until(lambda: up.processes() == [])


@pytest.mark.calm
@pytest.mark.needs("prefect")
def test_a_run_is_a_fork_and_ends_with_whoever_stands_for_it(running_up: Up, tmp_path: Path) -> None:
    """Each of the two is killed; the run is never left alone, is known to have crashed, and starts again."""
    up = running_up

    def attempts() -> list[int]:
        seen = tmp_path / "seen"
        return [int(line.split()[1]) for line in seen.read_text().splitlines()] if seen.exists() else []

    def stand_in(run: str) -> int:
        """The process that the worker started for the run."""
        [found] = [
            pid
            for pid in up.processes()
            if tether.__file__ in (line := told(pid, "cmdline"))
            and line[-3:-1] == tether.ENGINE
            and f"PREFECT__FLOW_RUN_ID={run}" in told(pid, "environ")
        ]
        return found

    state = up.home.read_state()
    assert state is not None
    until((up.home.warm / "socket").exists)
    with up.server() as server:
        ref = server.start("test-wait/test", {"folder": str(tmp_path)}, idempotency_key=uuid4().hex)
        until(lambda: len(attempts()) == 1)
        assert parent_of(attempts()[0]) == state.pids["warm"]
        os.kill(stand_in(ref.id), signal.SIGKILL)
        until(lambda: gone(attempts()[0]))
        until(lambda: len(attempts()) == 2)
        assert parent_of(attempts()[1]) == state.pids["warm"]
        os.kill(state.pids["warm"], signal.SIGKILL)
        until(lambda: gone(attempts()[1]))
        until(lambda: len(attempts()) == 3)
        os.kill(attempts()[2], signal.SIGKILL)
        until(lambda: len(attempts()) == 4)
        (tmp_path / "go").touch()
        until(lambda: completed(server, ref.id))
        assert server.run(ref.id).run_count == 4
    until(lambda: (found := up.home.read_state()) is not None and found.pids["warm"] != state.pids["warm"])


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


@pytest.mark.calm
@pytest.mark.needs("prefect")
@pytest.mark.parametrize("victim", ["worker", "server", "receiver"])
def test_a_killed_service_is_replaced_and_the_run_is_finished(
    running_up: Up, tmp_path: Path, victim: str
) -> None:
    up = running_up
    state = up.home.read_state()
    assert state is not None
    with up.server() as server:
        ref = server.start("test-wait/test", {"folder": str(tmp_path)}, idempotency_key=uuid4().hex)
        until((tmp_path / "seen").exists)
        os.kill(state.pids[victim], signal.SIGKILL)
        (tmp_path / "go").touch()
        until(lambda: completed(server, ref.id))
    until(lambda: (found := up.home.read_state()) is not None and found.pids[victim] != state.pids[victim])
    until(lambda: receives(state.hooks_url))


@pytest.mark.calm
@pytest.mark.needs("prefect")
def test_a_run_under_way_goes_on_after_an_orderly_stop(up: Up, tmp_path: Path) -> None:
    first = up.start()
    with up.server() as server:
        ref = server.start("test-wait/test", {"folder": str(tmp_path)}, idempotency_key=uuid4().hex)
        until((tmp_path / "seen").exists)
    first.stop(grace=240)
    until(lambda: up.processes() == [])
    (tmp_path / "go").touch()
    second = up.start()
    try:
        with up.server() as server:
            until(lambda: completed(server, ref.id))
    finally:
        second.stop(grace=240)


def test_a_taken_port_is_said_before_anything_starts(tmp_path: Path) -> None:
    port = free_port()
    child = Child(
        "other",
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        log=tmp_path / "log",
        cwd=tmp_path,
    )
    try:
        child.wait_until(lambda: listens(port), seconds=600)
        local = Local(tmp_path / "home", port=port)
        with pytest.raises(ConfigError, match=f"port {port} is taken"):
            local.start()
        assert local.pids == {}
        with local.home.held():  # and the home is free again
            pass
    finally:
        child.stop()


def test_who_waits_for_a_server_that_stands_still_is_started_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    local = Local(tmp_path / "home", say=said.append)
    local.home.create()
    answers = iter([False, False, True])

    def start() -> None:
        if not next(answers):
            raise ServerUnavailable("it timed out")
        local._spawn("worker", ["-c", "import time; time.sleep(3600)"], {})

    monkeypatch.setattr(local, "_start_worker", start)
    local._spawn("worker", ["-c", ""], {})
    until(lambda: not local._children["worker"].running)
    try:
        assert [local.tend() for _ in range(4)] == [[], [], ["worker"], []]
    finally:
        local.stop()
    assert said == [
        "the worker has died; starting it again",
        "the worker has to wait for the Prefect server: it timed out",
    ]


def test_who_keeps_dying_ends_all_but_for_what_runs_can_do_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    local = Local(tmp_path / "home", say=said.append)
    local.home.create()
    lives = ["-c", "import time; time.sleep(3600)"]
    dies = ["-c", "raise SystemExit('no such thing')"]

    def die(name: str) -> None:
        local._spawn(name, dies, {})
        until(lambda: not local._children[name].running)

    monkeypatch.setattr(local, "_start_warm", lambda: die("warm"))
    monkeypatch.setattr(local, "_start_worker", lambda: local._spawn("worker", lives, {}))
    try:
        die("warm")
        die("worker")
        for _ in range(services.RESTARTS):
            assert "warm" in local.tend()
        local._children["worker"].kill()
        assert local.tend() == ["worker"]  # and who has not died often is started again all the same
        assert local.pids.keys() == {"worker"}
        assert said.count("the warm has died; starting it again") == services.RESTARTS
        [last] = [line for line in said if "the warm keeps dying" in line]
        assert last.endswith("warm.log:\n" + "no such thing\n" * services.RESTARTS + "no such thing")
        state = local.home.read_state()
        assert state is not None
        assert state.pids.keys() == {"worker"}

        monkeypatch.setattr(local, "_start_worker", lambda: die("worker"))
        local._children["worker"].kill()
        for _ in range(services.RESTARTS - 2):
            assert local.tend() == ["worker"]
        with pytest.raises(ServerUnavailable, match=r"the worker keeps dying:\nno such thing"):
            local.tend()
    finally:
        local.stop()


def test_a_tethered_program_ends_with_its_parent(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    sleeper = [sys.executable, "-c", "import os,sys,time; print(os.getpid(), flush=True); time.sleep(3600)"]
    parent = f"""
import subprocess, sys
command = [sys.executable, "-ISs", {tether.__file__!r}, *{sleeper!r}]
subprocess.Popen(command, stdout=open({str(note)!r}, "w")).wait()
"""
    process = subprocess.Popen([sys.executable, "-c", parent], start_new_session=True)
    until(lambda: note.exists() and note.read_text().endswith("\n"))
    pid = int(note.read_text())
    process.kill()
    process.wait()
    until(lambda: not Path(f"/proc/{pid}").exists())


def test_only_processes_with_the_mark_are_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(3600)"]
    mark = uuid4().hex
    ours = subprocess.Popen(command, env={leftovers.MARK: mark})
    other = subprocess.Popen(command, env={leftovers.MARK: mark + "0"})
    try:
        until(lambda: leftovers.find(mark) == [ours.pid])
        assert leftovers.end_all(mark) == 1
        assert ours.wait(240) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        for process in (ours, other):
            process.kill()
            process.wait()


def test_the_password_stays_the_same_and_survives_a_half_written_file(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    first = home.auth()
    assert home.auth() == first
    home.auth_file.write_text("")
    assert home.auth() != first


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"LINKSPAN_HOME": "/a", "XDG_DATA_HOME": "/b"}, "/a"),
        ({"XDG_DATA_HOME": "/b"}, "/b/linkspan"),
        ({}, str(Path.home() / ".local/share/linkspan")),
    ],
)
def test_where_the_home_is(env: dict[str, str], expected: str) -> None:
    assert str(Home.default(env).path) == expected


def test_a_folder_that_others_use_is_left_as_it_is(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "theirs").touch()
    with pytest.raises(ConfigError, match="is in use for other things"), Home(shared).held():
        pass
    assert shared.stat().st_mode & 0o7777 == 0o1777
    (shared / "theirs").unlink()
    Home(shared).create()
    assert shared.stat().st_mode & 0o777 == 0o700


def test_a_home_that_is_no_folder_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for home in (Home(file), Home(file / "below")):
        with pytest.raises(ConfigError, match=f"{file}"):
            home.create()
        with pytest.raises(ConfigError, match=r"state\.json cannot be read"):
            home.read_state()


def test_no_setting_of_the_users_shell_reaches_the_services() -> None:
    assert prefect_settings.clean({"PREFECT_API_KEY": "x", "PREFECT_PROFILE": "y", "PATH": "z"}) == {
        "PATH": "z"
    }


def test_importing_the_local_services_does_not_import_prefect() -> None:
    code = "import linkspan.local.services, linkspan.cli.links, sys, json; print(json.dumps([*sys.modules]))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert not [name for name in json.loads(output) if name.partition(".")[0] == "prefect"]
