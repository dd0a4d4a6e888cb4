"""The post-receive hook on real git servers: a folder, git:// and HTTP; its curl calls a real server."""

import hashlib
import hmac
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from linkspan.errors import ConfigError
from linkspan.webhooks.base import Request
from linkspan.webhooks.connect.git_hook import post_receive
from tests.repos import IDENTITY, GitHttp, Repository, git_daemon
from tests.webhooks.samples import read, settings

pytestmark = pytest.mark.needs("git hook")

SECRETS = {
    "usual": "f3b0c44298fc1c149afbf4c8996fb92427ae41e4",
    # Bytes that XOR with HMAC's pads to NUL, %, \ and quotes.
    "awkward": "6\\%'\"$(id)`6\x13\t\n66\\\\",
    "unicode": "schlüssel 🔑 schlüssel",
    "a block": "k" * 64,
    "longer than a block": "k" * 65,
}
SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]
OLD, NEW = "1" * 40, "2" * 40


class Receiver:
    """What the hook calls: keeps every request, answers with `statuses` one by one, then with 202."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.statuses: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.requests.append(
                    Request(
                        method="POST",
                        path=self.path,
                        query=(),
                        headers=tuple((name.lower(), value) for name, value in self.headers.items()),
                        body=self.rfile.read(int(self.headers["Content-Length"])),
                        received=datetime.now(UTC),
                    )
                )
                self.send_response(outer.statuses.pop(0) if outer.statuses else 202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Not on the tests' output."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hooks/digits"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    # The hook's curl goes through no proxy of this machine.
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    found = Receiver()
    try:
        yield found
    finally:
        found.close()


def patient(text: str) -> str:
    """The hook with a curl that does not tell again when the machine stands still for some seconds."""
    usual, long = "--connect-timeout 5 --max-time 10", "--connect-timeout 600 --max-time 600"
    assert usual in text
    return text.replace(usual, long)


def install(repository: Repository, text: str) -> Path:
    hook = repository.bare / "hooks" / "post-receive"
    hook.write_text(patient(text))
    hook.chmod(0o700)
    return hook


def test_a_push_is_a_hint(tmp_path: Path, receiver: Receiver) -> None:
    source = settings("git", repository="digits")
    repository = Repository(tmp_path)
    install(repository, post_receive(receiver.url, source))
    sha = repository.commit({"a.txt": "1"}, subject="Say 'hello' \\n %s $(id) 🚢")
    [request] = receiver.requests
    assert request.path == "/hooks/digits"
    [hint] = read(request, source).hints
    assert hint.text.startswith("push by ")
    assert hint.text.endswith(f" to main: {sha[:7]} Say 'hello' \\n %s $(id) 🚢")
    assert hint.at is not None
    assert abs((datetime.now(UTC) - hint.at).total_seconds()) < 1200


def test_only_the_branch_counts(tmp_path: Path, receiver: Receiver) -> None:
    source = settings("git", repository="digits", branch="release/2026")
    repository = Repository(tmp_path)
    install(repository, post_receive(receiver.url, source))
    repository.commit(subject="On main")
    repository.git("tag", "release/2026")
    repository.git("push", "-q", "origin", "refs/tags/release/2026")
    repository.git("push", "-q", "origin", "HEAD:refs/heads/release/2026-x")
    repository.git("push", "-q", "origin", "HEAD:refs/heads/release/2026")
    repository.git("push", "-q", "origin", ":refs/heads/release/2026")
    readings = [read(request, source) for request in receiver.requests]
    assert [bool(reading.hints) for reading in readings] == [False, False, False, True, False]
    assert readings[-1].ignored == "the branch 'release/2026' was deleted"


def test_a_push_of_many_refs_is_one_hint_and_odd_names_hurt_nobody(
    tmp_path: Path, receiver: Receiver
) -> None:
    source = settings("git")
    repository = Repository(tmp_path, name="digits")
    install(repository, post_receive(receiver.url, source))
    odd = ["it's", '"quoted"', "$(touch${IFS}owned)", "`id`", "ünïcode", "-n", "100%s", "a;b|c&d"]
    for name in odd:
        repository.git("update-ref", f"refs/heads/{name}", repository.commit(subject=f"About {name}"))
    receiver.requests.clear()
    sha = repository.commit(subject="Last")
    repository.git("push", "-q", "origin", "refs/heads/*:refs/heads/*", f"{sha}:refs/heads/main-2")
    [_, request] = receiver.requests
    assert request.body.count(b" refs/heads/") == len(odd) + 1
    # All of them are told; main itself did not move with that push.
    assert "only the branch 'main' counts" in read(request, source).ignored
    assert not list(repository.bare.rglob("owned"))
    for name in odd:
        [hint] = read(request, settings("git", repository="digits", branch=name)).hints
        assert hint.text.endswith(f"About {name}")


def test_a_branch_set_back_and_forth_is_new_each_time(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within one second, too."""
    date = tmp_path / "bin" / "date"
    date.parent.mkdir()
    date.write_text("#!/bin/sh\necho 1795384801\n")
    date.chmod(0o700)
    monkeypatch.setenv("PATH", f"{date.parent}:{os.environ['PATH']}")
    source = settings("git")
    repository = Repository(tmp_path)
    install(repository, post_receive(receiver.url, source))
    first, second = repository.commit(subject="First"), repository.commit(subject="Second")
    for sha in (first, second, first, second):
        repository.git("push", "-q", "--force", "origin", f"{sha}:refs/heads/main")
    hints = [hint for request in receiver.requests for hint in read(request, source).hints]
    assert len({hint.key for hint in hints}) == len(hints) == 6
    assert {str(hint.at) for hint in hints} == {"2026-11-22 22:00:01+00:00"}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_every_shell_signs_with_every_secret(
    tmp_path: Path, receiver: Receiver, shell: str, secret: str
) -> None:
    source = settings("git", repository="team's digits", secret=secret)
    hook = tmp_path / "post-receive"
    hook.write_text(patient(post_receive(receiver.url, source)))
    command = [shell, "sh", str(hook)] if shell == "busybox" else [shell, str(hook)]
    update = f"{OLD} {NEW} refs/heads/main\n"
    done = subprocess.run(command, input=update, text=True, capture_output=True, check=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("", "")
    [request] = receiver.requests
    assert read(request, source).hints
    # It is plain HMAC: what `openssl dgst -sha256 -hmac` prints.
    right = hmac.new(secret.encode(), request.body, hashlib.sha256).hexdigest()
    assert request.header("x-linkspan-signature") == f"sha256={right}"


def test_no_process_has_the_secret_as_an_argument(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every program the hook starts writes down its arguments and its environment first."""
    log, programs = tmp_path / "processes.log", tmp_path / "bin"
    programs.mkdir()
    for name in ("openssl", "curl", "git", "cat", "cut", "date", "id", "basename", "printf"):
        real = shutil.which(name)
        assert real
        wrapper = programs / name
        wrapper.write_text(
            f'#!/bin/sh\n{{ echo "{name} $*"; tr "\\0" "\\n" </proc/$$/environ; }} >>{log}\n'
            f'exec {real} "$@"\n'
        )
        wrapper.chmod(0o700)
    source = settings("git")
    repository = Repository(tmp_path)
    text = post_receive(receiver.url, source)
    install(repository, text)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    repository.commit(subject="Say hello")
    assert read(receiver.requests[0], source).hints
    seen = log.read_text()
    assert "curl --silent" in seen
    assert "openssl dgst -sha256 -binary" in seen
    keys = [line.split("'")[3] for line in text.splitlines() if "printf '%b'" in line]
    assert len(keys) == 2
    for secret in (source.secret.get_secret_value(), *keys):
        assert secret not in seen
    assert "\nprintf " not in seen, "the shell's own printf wrote the keys"


def test_a_push_goes_through_when_linkspan_is_away(tmp_path: Path, receiver: Receiver) -> None:
    repository = Repository(tmp_path)
    install(repository, post_receive(receiver.url, settings("git")))
    receiver.close()
    repository.git("commit", "-q", "--allow-empty", "-m", "Alone")
    done = subprocess.run(
        ["git", "push", "origin", "HEAD"],
        cwd=repository.work,
        env={**os.environ, **IDENTITY},
        check=True,
        capture_output=True,
        text=True,
    )
    assert "Linkspan was not told of this push; it finds it by itself" in done.stderr
    assert settings("git").secret.get_secret_value() not in done.stderr


def test_a_retry_says_the_same(tmp_path: Path, receiver: Receiver) -> None:
    source = settings("git")
    repository = Repository(tmp_path)
    install(repository, post_receive(receiver.url, source))
    receiver.statuses = [503, 429]
    repository.commit(subject="Say hello")
    keys = [hint.key for request in receiver.requests for hint in read(request, source).hints]
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_over_git_daemon(tmp_path: Path, receiver: Receiver) -> None:
    source = settings("git", repository="ml/digits")
    repository = Repository(tmp_path)
    install(repository, post_receive(receiver.url, source))
    repository._git("config", "daemon.receivepack", "true", cwd=repository.bare)
    with git_daemon(tmp_path) as address:
        repository.git("remote", "set-url", "origin", f"{address}/app.git")
        sha = repository.commit(subject="Over the wire")
    [hint] = read(receiver.requests[0], source).hints
    assert hint.text.endswith(f"to main: {sha[:7]} Over the wire")


def test_over_http_the_name_is_who_logged_in(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = settings("git")
    repository = Repository(tmp_path)
    install(repository, post_receive(receiver.url, source))
    repository._git("config", "http.receivepack", "true", cwd=repository.bare)
    monkeypatch.setenv("REMOTE_USER", "grace")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = GitHttp(tmp_path)
    try:
        repository.git("remote", "set-url", "origin", f"{server.url}/app.git")
        sha = repository.commit(subject="Over HTTP")
    finally:
        server.stop()
    [hint] = read(receiver.requests[0], source).hints
    assert hint.text == f"push by grace to main: {sha[:7]} Over HTTP"


def test_the_text_is_valid_and_keeps_its_secret() -> None:
    source = settings("git", repository="it's $(mine)")
    text = post_receive("https://linkspan.example/hooks/digits?a=b&c", source)
    subprocess.run(["dash", "-n"], input=text, text=True, check=True)
    assert source.secret.get_secret_value() not in text
    assert source.secret.get_secret_value().encode().hex() not in text


@pytest.mark.parametrize(
    "url", ["", "ftp://x/y", "-o/etc/passwd", "http://a b", "https://a\nrm -rf /", "file:///x"]
)
def test_only_a_web_address_goes_into_a_hook(url: str) -> None:
    with pytest.raises(ConfigError, match="no address for a hook"):
        post_receive(url, settings("git"))
