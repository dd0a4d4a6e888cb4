"""The sample app as its users and its load balancer see it: over sockets, under gunicorn."""

import json
import os
import shutil
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from linkspan.tls import trusted
from tests.services.sample_app import APP, RELEASE, RunApp, RunningApp
from tests.waiting import until

TINY = APP / "tests" / "tiny.onnx"
UPPER = {"instances": [[16] * 32 + [0] * 32]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder, still empty."""
    (made := tmp_path / "model").mkdir()
    return made


@pytest.fixture
def tiny(folder: Path) -> Path:
    shutil.copy(TINY, folder)
    return folder


def client(app: RunningApp) -> httpx.Client:
    return httpx.Client(base_url=app.url, timeout=120, trust_env=False)


def test_readiness_follows_the_model(run_app: RunApp, folder: Path) -> None:
    app = run_app(folder)
    with client(app) as http:
        before = http.get("/readyz")
        assert before.status_code == 503
        assert http.post("/score", json=UPPER).status_code == 503
        shutil.copy(TINY, folder / "part")
        (folder / "part").rename(folder / "tiny.onnx")
        app.ready()
        scored = http.post("/score", json=UPPER)
        assert scored.json()["predictions"][0]["label"] == "0"
        assert http.get("/version").json() == {
            "commit": RELEASE["LINKSPAN_COMMIT"],
            "model": {"name": "digits", "version": "v12", "digest": RELEASE["LINKSPAN_MODEL_DIGEST"]},
        }


def test_a_broken_model_keeps_the_process_and_says_why(run_app: RunApp, folder: Path) -> None:
    (folder / "broken.onnx").write_bytes(b"no model")
    app = run_app(folder)
    app.child.wait_until(
        lambda: "broken.onnx" in httpx.get(app.url + "/readyz", timeout=600).text, seconds=600
    )
    assert app.get("/readyz") == 503
    assert app.get("/healthz") == 200
    assert app.child.running


def half_sent(app: RunningApp) -> tuple[socket.socket, bytes]:
    """A connection whose request is under way, and the rest of that request."""
    body = json.dumps(UPPER).encode()
    head = f"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    sock = socket.create_connection(("127.0.0.1", app.port), timeout=600)
    sock.sendall(head + body[:10])
    return sock, body[10:]


def has_read(app: RunningApp, sock: socket.socket) -> bool:
    """Whether the server has accepted a connection and taken all that was sent, by proc(5)."""
    ours, theirs = (f"0100007F:{port:04X}" for port in (sock.getsockname()[1], app.port))
    # local_address, rem_address, st, tx_queue:rx_queue, …, inode
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    queues = {(row[1], row[2]): (*row[4].split(":"), row[9]) for row in rows}
    unsent, _, _ = queues.get((ours, theirs), ("", "", ""))
    _, unread, inode = queues.get((theirs, ours), ("", "", "0"))
    return unsent == unread == "00000000" and inode != "0"


def everything(sock: socket.socket) -> bytes:
    with sock:
        return b"".join(iter(lambda: sock.recv(65536), b""))


def test_sigterm_lets_a_request_in_flight_finish(run_app: RunApp, tiny: Path) -> None:
    # Its own 30 s for requests in flight would be over on a machine that stands still.
    app = run_app(tiny, GUNICORN_CMD_ARGS="--graceful-timeout 600").ready()
    idle = socket.create_connection(("127.0.0.1", app.port), timeout=600)
    idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    sock, rest = half_sent(app)
    until(lambda: has_read(app, sock), what="a server that has begun to read the request")
    os.kill(app.child.pid, signal.SIGTERM)
    # A worker that was told to end closes what is kept alive: gunicorn's own log says it too early.
    assert everything(idle).startswith(b"HTTP/1.1 200 ")
    assert "Handling signal: term" in app.child.log.read_text()
    assert app.child.running, "it ended with a request in flight"
    sock.sendall(rest)
    answer = everything(sock)
    assert answer.startswith(b"HTTP/1.1 200 "), answer[:200]
    assert b'"label":"0"' in answer
    until(lambda: not app.child.running, what="its end after its last request")


def test_no_request_fails_before_sigterm_is_seen(run_app: RunApp, tiny: Path) -> None:
    """Clients with connections kept alive may send until they are told `Connection: close`."""
    app = run_app(tiny).ready()
    failed: list[object] = []
    answered: list[int] = []

    def send() -> None:
        with client(app) as http:
            while True:
                try:
                    response = http.post("/score", json=UPPER)
                except httpx.ConnectError:
                    return  # a new connection is refused: the load balancer's turn
                except httpx.TransportError as error:
                    failed.append(error)
                    return
                answered.append(response.status_code)
                if response.headers.get("Connection") == "close":
                    return

    senders = [threading.Thread(target=send) for _ in range(4)]
    for sender in senders:
        sender.start()
    app.child.wait_until(lambda: len(answered) > 40, seconds=600)
    os.kill(app.child.pid, signal.SIGTERM)
    for sender in senders:
        sender.join(240)
    assert not failed
    assert set(answered) == {200}


def test_concurrent_requests_get_their_own_answers(run_app: RunApp, tiny: Path) -> None:
    app = run_app(tiny).ready()
    lower = {"instances": [[0] * 32 + [16] * 32]}

    def ask(number: int) -> bool:
        body, label = (UPPER, "0") if number % 2 else (lower, "1")
        answer = httpx.post(app.url + "/score", json=body, timeout=120, trust_env=False, verify=trusted())
        return answer.status_code == 200 and answer.json()["predictions"][0]["label"] == label

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(ask, range(200)))
    text = httpx.get(app.url + "/metrics", timeout=600, trust_env=False).text
    assert 'app_requests_total{endpoint="score",method="POST",status="200"} 200.0' in text
    assert 'app_predictions_total{label="0"} 100.0' in text
    assert 'model_version="v12"' in text


@pytest.mark.parametrize("chunked", [False, True])
def test_too_large_a_body_is_refused_and_the_service_goes_on(
    run_app: RunApp, tiny: Path, *, chunked: bool
) -> None:
    app = run_app(tiny, MAX_BODY_BYTES="100000").ready()
    body = b"x" * 3_000_000
    with client(app) as http:
        content = iter([body[:1_000_000]] * 3) if chunked else body
        answer = http.post("/score", content=content)
        assert answer.status_code == 413
        assert "100,000 bytes" in answer.json()["error"]
        assert http.post("/score", json=UPPER).status_code == 200


def test_bad_input_is_the_clients_fault(run_app: RunApp, tiny: Path) -> None:
    app = run_app(tiny).ready()
    with client(app) as http:
        for content in (b"", b"{", b"[]", b'{"input": "[\\"aGVsbG8=\\"]"}', b'{"instances": [[1]]}'):
            answer = http.post("/score", content=content)
            assert answer.status_code == 400, content
            assert answer.json()["error"]
        assert http.get("/score").status_code == 405
        assert http.get("/nothing").status_code == 404


def test_the_access_log_has_no_bodies_and_no_probes(run_app: RunApp, tiny: Path) -> None:
    app = run_app(tiny).ready()
    with client(app) as http:
        http.post("/score?key=hunter2", content=b'{"input": "secret-in-body"}', headers={"X-Key": "hunter3"})
    app.child.wait_until(lambda: "POST /score" in app.child.log.read_text(), seconds=600)
    log = app.child.log.read_text()
    assert '"POST /score" 400' in log
    # A probe that went wrong, before the model was loaded, may be there.
    for absent in ("hunter", "secret-in-body", '"GET /readyz" 200', '"GET /healthz" 200'):
        assert absent not in log


def test_it_writes_nothing(run_app: RunApp, tiny: Path, tmp_path: Path) -> None:
    """A read-only root filesystem is enough: not even gunicorn's control socket in the home folder."""
    (home := tmp_path / "home").mkdir()
    app = run_app(tiny, HOME=str(home), TMPDIR=str(home)).ready()
    assert app.get("/version") == 200
    assert list(home.rglob("*")) == []
