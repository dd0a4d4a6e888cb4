"""What a person reads who has made a mistake, and what a script gets; no server needed."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from linkspan import errors
from linkspan.cli import SECTIONS, app
from linkspan.cli.measured import read_metrics
from linkspan.errors import ConfigError, LinkspanError
from linkspan.prefect_api.server import Run
from linkspan.processes import free_port
from tests.cli.shell import linkspan, on_terminal, shell
from tests.values import NOW

COMMANDS = [command for section in SECTIONS.values() for command in section]
# Enough for each command to get as far as asking for a server.
ARGUMENTS = {
    "publish": ["model.bin"],
    "trigger": ["commit"],
    "destroy": ["--yes"],
    "why": ["3fa9c1d"],
    "connect": ["github", "--url", "https://ci.example.com"],
}
ASKING = [name for name in COMMANDS if name not in {"up", "serve", "doctor", "run"}]


def test_every_command_is_listed_once() -> None:
    registered = [command.name for command in app.registered_commands]
    assert sorted(COMMANDS) == sorted(str(name) for name in registered)
    shown = linkspan("--help")
    assert shown.code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in shown.out


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_a_terminal_and_says_what_it_is_for(command: str, nowhere: Path) -> None:
    lines = on_terminal(*command.split(), "-h")
    assert max(len(line) for line in lines) <= 80, max(lines, key=len)
    assert lines[0].startswith(f"Usage: linkspan {command}".rstrip())
    assert not command or lines[2].endswith(".")  # the first sentence is one line
    assert not [line for line in lines if "╭" in line]


def test_version_and_mistyped_commands(nowhere: Path) -> None:
    assert linkspan("--version").out.startswith("linkspan ")
    for wrong in (("pubish",), ("status", "--jsn"), ("trigger", "weather"), ("history", "-n", "0"), ()):
        done = linkspan(*wrong)
        assert (done.code, done.out) == (2, ""), done
        assert "Usage: linkspan" in done.err


@pytest.mark.parametrize("command", ASKING)
def test_no_server_is_known(command: str, nowhere: Path) -> None:
    (nowhere / "model.bin").write_text("weights")
    done = linkspan(command, *ARGUMENTS.get(command, []))
    assert (done.code, done.out) == (2, ""), done
    assert "no Prefect server is known" in done.err
    assert "to do:" in done.err
    assert "`linkspan up`" in done.err


@pytest.mark.parametrize("command", ASKING)
def test_the_server_is_down(command: str, nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    (nowhere / "model.bin").write_text("weights")
    about = [] if command == "why" else ["--app", "digits"]  # it asks all
    arguments = [*ARGUMENTS.get(command, []), *about]
    done = linkspan(command, *arguments, *(["--patience", "0"] if command == "trigger" else []))
    assert (done.code, done.out) == (9, ""), done
    assert "cannot be reached" in done.err
    assert "`linkspan up` starts" in done.err
    if command == "publish":
        assert "nothing was published" in done.err


def test_run_without_a_server(nowhere: Path) -> None:
    done = linkspan("run", "true", "--flag")
    assert (done.code, done.out) == (2, "")
    assert "Run `linkspan up` in another terminal" in done.err


def test_doctor_without_a_server(nowhere: Path) -> None:
    found = linkspan("doctor", "--json")
    assert found.code == 1
    checks = {finding["check"]: finding for finding in found.json}
    assert not checks["prefect"]["ok"]
    assert "`linkspan up`" in checks["prefect"]["fix"]
    assert all(checks[name]["ok"] for name in ("python", "packages", "git"))
    left = {name for name, finding in checks.items() if finding["detail"].startswith("not checked")}
    assert left == {"deployments", "worker", "repository", "store", "registry", "builder", "runtime"}
    assert "FAIL  prefect" in linkspan("doctor").out


def test_names_that_cannot_be(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    for arguments, name in ((("--app", "My App"), "'My App'"), (("-a", "x", "-e", "Prod!"), "'Prod!'")):
        done = linkspan("status", *arguments)
        assert (done.code, name in done.err) == (2, True), done
        assert "lower-case letters" in done.err


def test_the_app_is_the_one_here(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    (nowhere / "linkspan.toml").write_text('name = "shop"\n[model]\nname = "ranker"\n')
    assert "app-stream/shop" in linkspan("trigger", "commit", "--patience", "0").err
    monkeypatch.setenv("LINKSPAN_APP", "faces")
    assert "app-stream/faces" in linkspan("trigger", "commit", "--patience", "0").err
    assert "app-stream/cats" in linkspan("trigger", "commit", "-a", "cats", "--patience", "0").err
    monkeypatch.delenv("LINKSPAN_APP")
    (nowhere / "linkspan.toml").write_text('nmae = "shop"\n')
    done = linkspan("status")
    assert (done.code, "nmae" in done.err) == (2, True)


def test_ctrl_c_is_130(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    with subprocess.Popen(
        [sys.executable, "-c", _SAYS_WHEN_IT_WAITS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(240) == 130
        assert "Traceback" not in process.stderr.read()


# It waits for a server that is away; its first sleep says that it has come as far as that.
_SAYS_WHEN_IT_WAITS = """
import time
sleep = time.sleep
def first(seconds):
    print("waiting", flush=True)
    sleep(3600)
time.sleep = first
from linkspan.cli import main
main(["trigger", "commit", "--app", "digits"])
"""


def test_errors_wrap_between_words_on_a_terminal_and_not_in_a_pipe(nowhere: Path) -> None:
    lines = on_terminal("status")
    # A word, such as the path of a test's folder, is never cut in two.
    assert all(len(line) <= 80 or len(line.split()) == 1 for line in lines)
    assert [line.split()[0] for line in lines if line[:1].strip()] == ["error:", "expected:", "to"]
    piped = shell("status")
    assert (piped.code, piped.out) == (2, "")
    assert len(piped.err.splitlines()) == 3
    assert not [line for line in piped.err.splitlines() if line != line.rstrip()]


@pytest.mark.parametrize(
    ("raised", "kind", "code"),
    [
        ("AppTestsFailed: the app's tests failed\nAssertionError", errors.AppTestsFailed, 4),
        ("ModelRefused: model.onnx: no ONNX", errors.ModelRefused, 6),
        ("RegistryFull: pushing", errors.RegistryFull, 7),
        ("ValueError: what nobody thought of", errors.RunFailed, 9),
        ("free_port: not an error of ours", errors.RunFailed, 9),
    ],
)
def test_a_failed_run_ends_as_what_failed_in_it(raised: str, kind: type[LinkspanError], code: int) -> None:
    error = run("FAILED", f"Flow run encountered an exception: {raised}").failure
    assert type(error) is kind
    assert error is not None
    assert error.exit_code == code
    assert raised.partition(": ")[2] in error.what
    assert "http://server/run" in error.fix


def test_a_run_that_did_not_fail_is_no_failure() -> None:
    assert run("COMPLETED", "").failure is None
    assert run("RUNNING", "").failure is None
    crashed = run("CRASHED", "its worker died").failure
    assert isinstance(crashed, errors.RunFailed)


def run(state: str, message: str) -> Run:
    return Run(
        id="1",
        name="digits",
        url="http://server/run",
        state_type=state,
        state_name=state.title(),
        message=message,
        parameters={},
        deployment_id=None,
        run_count=1,
        scheduled=False,
        created=NOW,
        started=NOW,
        ended=NOW,
    )


def test_metrics(tmp_path: Path) -> None:
    file = tmp_path / "metrics.json"
    file.write_text('{"accuracy": 0.9, "n": 10}')
    assert read_metrics(["accuracy=0.95", " loss = 1e-3"], file) == {
        "accuracy": 0.95,
        "n": 10.0,
        "loss": 0.001,
    }
    assert read_metrics([], None) == {}


@pytest.mark.parametrize("pair", ["accuracy", "=1", "accuracy=", "accuracy=good", " =1"])
def test_a_metric_that_is_none(pair: str) -> None:
    with pytest.raises(ConfigError, match="NAME=NUMBER") as caught:
        read_metrics([pair], None)
    assert pair in caught.value.what


@pytest.mark.parametrize("document", ["[1]", '{"accuracy": "good"}', '{"matrix": [1, 2]}', "{", "", "3"])
def test_a_file_that_holds_no_metrics(document: str, tmp_path: Path) -> None:
    file = tmp_path / "metrics.json"
    file.write_text(document)
    with pytest.raises(ConfigError, match=r"metrics\.json holds"):
        read_metrics([], file)


def test_json_is_json(nowhere: Path) -> None:
    done = shell("doctor", "--json")
    assert isinstance(json.loads(done.out), list)
