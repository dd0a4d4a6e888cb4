"""`linkspan run`: the program gets the server's address and password, and nobody else sees them."""

import json
import os
import subprocess
import sys
from pathlib import Path

from linkspan.cli.follow import worth_saying
from linkspan.local.home import Home, State

ASK = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"


def linkspan(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "linkspan", *arguments],
        env={**os.environ, "LINKSPAN_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_program_is_told_where_the_server_is_and_gets_its_own_options(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    password = home.auth().get_secret_value()
    home.write_state(
        State(
            api_url="http://127.0.0.1:1/api",
            ui_url="http://127.0.0.1:1",
            pid=os.getpid(),
            pids={},
            auth_file=str(home.auth_file),
        )
    )
    done = linkspan(home.path, "run", sys.executable, "-c", ASK, "--help", "-x")
    assert done.returncode == 0, done.stderr
    arguments, env = json.loads(done.stdout)
    assert arguments == ["--help", "-x"]
    assert env["PREFECT_API_URL"] == "http://127.0.0.1:1/api"
    assert env["PREFECT_API_AUTH_STRING"] == password


def test_without_a_server_it_says_so(tmp_path: Path) -> None:
    done = linkspan(tmp_path / "home", "run", "true")
    assert done.returncode == 2
    assert "no server runs in" in done.stderr
    assert "linkspan up" in done.stderr


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.auth()
    home.write_state(State(api_url="u", ui_url="u", pid=os.getpid(), pids={}, auth_file=str(home.auth_file)))
    done = linkspan(home.path, "run", "no-such-program")
    assert done.returncode == 2
    assert "no-such-program" in done.stderr


def test_a_followed_run_shows_no_traceback_and_keeps_what_was_said() -> None:
    assert worth_saying("Finished in state Completed()") == ""
    assert worth_saying("Step 3/9 : RUN make") == "Step 3/9 : RUN make"
    raised = (
        "Task run failed with exception: AppTestsFailed('x')\nTraceback (most recent call last):\n  File …"
    )
    assert worth_saying(raised) == "Task run failed with exception: AppTestsFailed('x')"
