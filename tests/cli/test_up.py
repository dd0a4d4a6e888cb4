"""`linkspan up` as a person starts and stops it."""

import os
import signal
import sys
from pathlib import Path

import pytest

from linkspan.errors import ConfigError
from linkspan.local import leftovers
from linkspan.local.home import Home
from linkspan.processes import Child, free_port, listens
from tests.cli.shell import Result, shell
from tests.cli.world import prefect_file
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.calm, pytest.mark.timeout(1800)]


def start(folder: Path, home: Path, port: int, file: Path) -> Child:
    command = [
        sys.executable,
        "-m",
        "linkspan",
        "up",
        "--home",
        str(home),
        "--port",
        str(port),
        "--hooks-port",
        str(free_port()),
    ]
    return Child(
        "linkspan up", [*command, "--prefect-file", str(file)], log=folder / "up.log", env=dict(os.environ)
    )


def test_up_says_where_it_is_refuses_a_second_and_leaves_nothing(nowhere: Path, tmp_path: Path) -> None:
    home, port, file = Home(tmp_path / "elsewhere"), free_port(), prefect_file(tmp_path, "digits")
    child = start(tmp_path, home.path, port, file)
    try:
        expected = (
            f"Prefect UI  http://127.0.0.1:{port}\n",
            f"export LINKSPAN_HOME={home.path}\n",
            "/hooks/NAME, once `linkspan connect github`",
        )
        child.wait_until(lambda: all(each in child.log.read_text() for each in expected), seconds=600)
        assert home.auth().get_secret_value() not in child.log.read_text()

        def up(folder: Path, at: int) -> Result:
            return shell("up", "--home", str(folder), "--port", str(at))

        again = up(home.path, free_port())
        assert (again.code, again.out) == (2, "")
        assert f"already up in {home.path} (process {child.pid})" in again.err
        assert f"kill {child.pid}" in again.err
        taken = up(tmp_path / "third", port)
        assert (taken.code, f"port {port} is taken" in taken.err, "--port" in taken.err) == (2, True, True)

        def well() -> bool:
            known = shell("doctor", "--json", "--app", "digits", LINKSPAN_HOME=str(home.path))
            checks = {finding["check"]: finding["ok"] for finding in known.json}
            return bool(checks["prefect"] and checks["deployments"] and checks["worker"])

        until(well)  # SQLite, on a machine that does something else too

        print_url = "import os; print(os.environ['PREFECT_API_URL'], *os.sys.argv[1:])"
        ran = shell("run", sys.executable, "-c", print_url, "--port", LINKSPAN_HOME=str(home.path))
        assert (ran.code, ran.out) == (0, f"http://127.0.0.1:{port}/api --port\n"), ran
        missing = shell("run", "no-such-program", LINKSPAN_HOME=str(home.path))
        assert (missing.code, "no-such-program" in missing.err) == (2, True)
    finally:
        child.stop(grace=240)
    until(lambda: leftovers.find(home.mark) == [])
    assert home.read_state() is None
    assert not listens(port)


def test_ctrl_c_during_the_start_leaves_nothing(nowhere: Path, tmp_path: Path) -> None:
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        home, port = Home(tmp_path / number.name), free_port()
        child = start(tmp_path, home.path, port, prefect_file(tmp_path, "digits"))
        try:
            child.wait_until(lambda home=home: bool(leftovers.find(home.mark)), seconds=600)  # type: ignore[misc]
            os.kill(child.pid, number)
            with pytest.raises(ConfigError, match=rf"ended with code {code}"):
                child.wait_until(lambda: False, seconds=600)
        finally:
            child.stop(grace=240)
        until(lambda home=home: leftovers.find(home.mark) == [])  # type: ignore[misc]
        assert not listens(port)
        assert "Traceback" not in child.log.read_text()


def test_a_prefect_file_that_is_not_there(nowhere: Path) -> None:
    missing = shell("up", "--prefect-file", "nowhere.yaml")
    assert (missing.code, "nowhere.yaml" in missing.err) == (2, True)
