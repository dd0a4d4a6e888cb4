"""Uploads that break: what is sent again is what the registry does not have, and nothing else."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from linkspan.errors import DigestMismatch, ModelCorrupt, RegistryUnavailable
from linkspan.ledger.modelpack import read_modelpack
from linkspan.models import open_models, publish
from linkspan.models.package import packaged_already
from linkspan.nouns import sha256
from linkspan.registry.client import Registry
from linkspan.registry.unfinished import unfinished
from linkspan.stores.file import FileStoreSettings
from tests.registry.cutting import CuttingProxy
from tests.registry.fake import FakeRegistry
from tests.registry.fixtures import OpenFake
from tests.services.registry import RunningRegistry
from tests.waiting import until

MB = 1 << 20
DATA = random.Random(7).randbytes(40 * MB)
DIGEST = sha256(DATA)


class Producer:
    """Gives DATA once, and counts what was taken of it."""

    def __init__(self, data: bytes = DATA, piece: int = 300_000) -> None:
        self.data, self.piece, self.given = data, piece, 0

    def __iter__(self) -> Iterator[bytes]:
        while self.given < len(self.data):
            chunk = self.data[self.given : self.given + self.piece]
            self.given += len(chunk)
            yield chunk


def stored(fake: FakeRegistry) -> bytes:
    return fake.blobs["team/app", DIGEST]


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_connection_cut_at_nine_tenths_goes_on(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.cut(36 * MB)
    client, producer = open_fake(), Producer()
    assert client.push_stream(iter(producer), len(DATA)) == (DIGEST, len(DATA))
    assert stored(fake) == DATA
    ranges = [seen.headers.get("content-range") for seen in fake.seen if seen.method == "PATCH"]
    assert ranges == [None, f"{36 * MB}-{40 * MB - 1}"]
    # What was in the sockets when it broke, and the tenth that was missing.
    assert client.sent < len(DATA) + 12 * MB
    assert producer.given == len(DATA)


def test_a_connection_that_is_cut_again_and_again(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.cut(3 * MB, times=10)
    assert open_fake().push_stream(iter(Producer()), len(DATA)) == (DIGEST, len(DATA))
    assert fake.count("PATCH") == 11
    assert stored(fake) == DATA


def test_only_the_answer_is_lost(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.cut(len(DATA))
    client = open_fake()
    assert client.push_stream(iter(Producer()), len(DATA)) == (DIGEST, len(DATA))
    assert fake.count("PATCH") == 1
    assert client.sent == len(DATA)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("kept", [0, 9 * MB])
def test_an_error_of_something_on_the_way(
    fake: FakeRegistry, open_fake: OpenFake, status: int, kept: int
) -> None:
    data = DATA[: 20 * MB]
    fake.cut(kept, hang_up=False, status=status)
    digest, _ = open_fake().push_stream(iter([data]), len(data))
    assert fake.blobs["team/app", digest] == data


def test_a_registry_that_reads_no_further(fake: FakeRegistry, open_fake: OpenFake) -> None:
    client, enough = open_fake(), threading.Event()
    client._transport._client.timeout = httpx.Timeout(60, write=1)
    fake.stall(8 * MB, enough)  # far more is left than sockets hold
    try:
        assert client.push_stream(iter(Producer()), len(DATA)) == (DIGEST, len(DATA))
    finally:
        enough.set()
    assert stored(fake) == DATA


def test_more_is_lost_than_is_kept(fake: FakeRegistry, open_fake: OpenFake) -> None:
    """Its bytes have passed: only a later call can read them again."""
    fake.cut(0, hang_up=False, status=502)
    with pytest.raises(RegistryUnavailable, match="502"):
        open_fake().push_stream(iter(Producer()), len(DATA))
    assert fake.uploads == {}


def test_a_registry_that_goes_on_with_nothing(fake: FakeRegistry, open_fake: OpenFake) -> None:
    """Distribution before 3, ACR."""
    fake.ways.resumes = False
    fake.cut(30 * MB)
    with pytest.raises(RegistryUnavailable, match="connection failed"):
        open_fake().push_stream(iter(Producer()), len(DATA))


def test_an_upload_that_gets_no_further_is_given_up(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.cut(0, times=99)
    with pytest.raises(RegistryUnavailable):
        open_fake().push_stream(iter([DATA[:MB]]), MB)
    assert fake.count("PATCH") == 5
    assert fake.uploads == {}


def test_a_producer_that_fails_after_a_break(fake: FakeRegistry, open_fake: OpenFake) -> None:
    def producer() -> Iterator[bytes]:
        yield DATA[: 10 * MB]
        yield DATA[10 * MB : 20 * MB]
        raise ModelCorrupt("model file 'a'")

    fake.cut(15 * MB)
    with pytest.raises(ModelCorrupt, match="model file 'a'"):
        open_fake().push_stream(producer(), 21 * MB)
    assert fake.uploads == {}
    assert fake.blobs == {}


def test_a_login_that_ends_in_the_middle(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.ways.auth = "token"
    client = open_fake(password="s3cret-of-ann")
    client.check()
    tokens = fake.count("GET", "/token")
    fake.forget_tokens_on("PATCH", "uploads")
    fake.cut(20 * MB)
    assert client.push_stream(iter(Producer()), len(DATA)) == (DIGEST, len(DATA))
    assert fake.count("GET", "/token") == tokens + 1


def test_pieces_where_a_registry_wants_them(fake: FakeRegistry) -> None:
    fake.ways.longest_chunk = 4_000_000
    with Registry(fake.host, "team/app", chunk=4_000_000, sleep=lambda _: None) as client:
        assert client.push_stream(iter(Producer()), len(DATA)) == (DIGEST, len(DATA))
        assert client.sent == len(DATA)
    sent = [seen for seen in fake.seen if seen.method == "PATCH"]
    assert [seen.headers["content-length"] for seen in sent] == ["4000000"] * 10 + [
        str(len(DATA) - 40_000_000)
    ]
    assert sent[1].headers["content-range"] == "4000000-7999999"
    assert stored(fake) == DATA


def test_pieces_that_break(fake: FakeRegistry) -> None:
    with Registry(fake.host, "team/app", chunk=4_000_000, sleep=lambda _: None) as client:
        fake.cut(1_000_000, times=3)
        assert client.push_stream(iter(Producer()), len(DATA)) == (DIGEST, len(DATA))
    assert stored(fake) == DATA


# ----- across calls and processes


def test_a_later_call_sends_the_rest(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.cut(30 * MB)
    fake.fail("GET", "uploads", 503, times=99)
    with unfinished("weights") as earlier, pytest.raises(RegistryUnavailable):
        open_fake().stage(iter(Producer()), len(DATA), earlier=earlier)
    fake.ways.faults.clear()
    client = open_fake()
    with unfinished("weights") as earlier:
        client.commit(client.stage(iter(Producer()), len(DATA), earlier=earlier))
    assert stored(fake) == DATA
    assert client.sent == 10 * MB
    with unfinished("weights") as earlier:
        assert earlier is not None
        assert earlier.session() == ""


KILLED = """
import os, sys
from linkspan.registry.client import Registry
from linkspan.registry.unfinished import unfinished
from tests.registry.test_resume import DATA, MB

def chunks():
    yield DATA[:30 * MB]
    print("sent", flush=True)
    sys.stdin.read()

with Registry(sys.argv[1], "team/app") as client, unfinished("weights") as earlier:
    client.stage(chunks(), len(DATA), earlier=earlier)
"""


def test_a_killed_process_is_followed_by_one_that_sends_the_rest(
    fake: FakeRegistry, open_fake: OpenFake
) -> None:
    """The fake stores what it has read when a connection breaks, as Distribution 3 does."""
    fake.cut(30 * MB)
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, fake.host], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "sent\n"
    with unfinished("weights") as busy:
        assert busy is None, "an upload has one process at a time"
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    until(lambda: [len(upload) for upload in fake.uploads.values()] == [30 * MB], what="its bytes")
    client = open_fake()
    with unfinished("weights") as earlier:
        client.commit(client.stage(iter(Producer()), len(DATA), earlier=earlier))
    assert stored(fake) == DATA
    assert client.sent == 10 * MB


def test_a_registry_that_is_still_away_is_asked_again_later(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.cut(30 * MB)
    fake.fail("GET", "uploads", 503, times=99)
    with unfinished("weights") as earlier, pytest.raises(RegistryUnavailable):
        open_fake().stage(iter(Producer()), len(DATA), earlier=earlier)
    fake.fail("POST", "uploads", 503, times=99)
    for _ in range(3):
        with unfinished("weights") as earlier, pytest.raises(RegistryUnavailable):
            open_fake().stage(iter(Producer()), len(DATA), earlier=earlier)
    fake.ways.faults.clear()
    client = open_fake()
    with unfinished("weights") as earlier:
        client.commit(client.stage(iter(Producer()), len(DATA), earlier=earlier))
    assert client.sent == 10 * MB


def test_an_upload_that_only_its_end_is_missing_from(fake: FakeRegistry, open_fake: OpenFake) -> None:
    """Staged, and then nobody took the PUT: nothing is sent again."""
    fake.fail("PUT", "uploads", 503, times=9)
    with unfinished("weights") as earlier:
        client = open_fake()
        staged = client.stage(iter(Producer()), len(DATA), earlier=earlier)
        with pytest.raises(RegistryUnavailable):
            client.commit(staged)
    fake.ways.faults.clear()
    client = open_fake()
    with unfinished("weights") as earlier:
        client.commit(client.stage(iter(Producer()), len(DATA), earlier=earlier))
    assert stored(fake) == DATA
    assert client.sent == 0


def test_a_session_that_refuses_what_it_said_is_left(fake: FakeRegistry, open_fake: OpenFake) -> None:
    with unfinished("weights") as earlier:
        assert earlier is not None
        client = open_fake()
        earlier.remember(str(client._start_upload()))
        fake.fail("PATCH", "uploads", 416, times=9)
        with pytest.raises(RegistryUnavailable, match="starts anew"):
            client.stage(iter(Producer()), len(DATA), earlier=earlier)
        assert earlier.session() == ""
        assert fake.uploads == {}


@pytest.mark.parametrize("note", [bytes(50), b"\xff\xfe", b"http://[", b"nonsense"])
def test_a_note_that_cannot_be_read_is_none(
    fake: FakeRegistry, open_fake: OpenFake, tmp_path: Path, note: bytes
) -> None:
    """As a power cut may leave it."""
    folder = tmp_path / "cache/linkspan/uploads"
    folder.mkdir(parents=True)
    (folder / hashlib.sha256(b"weights").hexdigest()).write_bytes(note)
    client = open_fake()
    with unfinished("weights") as earlier:
        client.commit(client.stage(iter(Producer()), len(DATA), earlier=earlier))
    assert stored(fake) == DATA


@pytest.mark.parametrize("chunk", [0, 4_000_000])
@pytest.mark.parametrize("cut", [False, True])
def test_a_producer_that_fails_after_its_last_byte(fake: FakeRegistry, chunk: int, cut: bool) -> None:
    def producer() -> Iterator[bytes]:
        yield DATA[: 5 * MB]
        yield DATA[5 * MB : 10 * MB]
        raise ModelCorrupt("model file 'a'")

    if cut:
        fake.cut(2 * MB)
    with Registry(fake.host, "team/app", chunk=chunk, sleep=lambda _: None) as client:
        with pytest.raises(ModelCorrupt):
            client.stage(producer(), 10 * MB)
        with pytest.raises(DigestMismatch, match="or more"):
            client.stage(iter([DATA[: 10 * MB], b"more"]), 10 * MB)
    assert fake.uploads == {}


def test_a_producer_that_fails_while_an_earlier_upload_is_taken_up(
    fake: FakeRegistry, open_fake: OpenFake
) -> None:
    def producer() -> Iterator[bytes]:
        yield DATA[: 10 * MB]
        raise ModelCorrupt("model file 'a'")

    fake.cut(30 * MB)
    fake.fail("GET", "uploads", 503, times=3)
    with unfinished("weights") as earlier:
        with pytest.raises(RegistryUnavailable):
            open_fake().stage(iter(Producer()), len(DATA), earlier=earlier)
        with pytest.raises(ModelCorrupt):
            open_fake().stage(producer(), len(DATA), earlier=earlier)
        assert earlier is not None
        assert earlier.session() == ""
    assert fake.uploads == {}


def test_a_big_document_goes_in_pieces_too(fake: FakeRegistry) -> None:
    fake.ways.longest_chunk = 4_000_000
    with Registry(fake.host, "team/app", chunk=4_000_000) as client:
        assert client.push_blob(DATA) == DIGEST
    assert (
        max(int(seen.headers["content-length"]) for seen in fake.seen if seen.method == "PATCH") == 4_000_000
    )


@pytest.mark.parametrize("loses", [True, False])
def test_a_session_that_is_not_what_it_was_starts_anew(
    fake: FakeRegistry, open_fake: OpenFake, loses: bool
) -> None:
    with unfinished("weights") as earlier:
        assert earlier is not None
        client = open_fake()
        session = client._start_upload()
        earlier.remember(str(session))
        if loses:
            fake.uploads.clear()
        else:
            next(iter(fake.uploads.values())).extend(b"others' bytes")
            with pytest.raises(RegistryUnavailable, match="what it said of an earlier upload"):
                client.commit(client.stage(iter(Producer()), len(DATA), earlier=earlier))
        client.commit(client.stage(iter(Producer()), len(DATA), earlier=earlier))
    assert stored(fake) == DATA


def test_what_is_refused_leaves_no_session(fake: FakeRegistry, open_fake: OpenFake) -> None:
    with unfinished("weights") as earlier:
        client = open_fake()
        client.discard(client.stage(iter(Producer()), len(DATA), earlier=earlier))
        assert earlier is not None
        assert earlier.session() == ""
    assert fake.uploads == {}


def test_a_sessions_address_is_nobody_elses(tmp_path: Path) -> None:
    with unfinished("weights"):
        [path] = (tmp_path / "cache/linkspan/uploads").iterdir()
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.name == hashlib.sha256(b"weights").hexdigest()


def test_where_nothing_can_be_written_there_is_no_earlier_upload(
    fake: FakeRegistry, open_fake: OpenFake, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("no folder")
    with unfinished("weights") as earlier:
        assert earlier is None
        client = open_fake()
        client.commit(client.stage(iter(Producer()), len(DATA), earlier=earlier))
    assert stored(fake) == DATA


def test_old_notes_go(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with unfinished(name) as note:
            assert note is not None
            note.remember("https://registry.example/v2/app/blobs/uploads/1")
    old = tmp_path / "cache/linkspan/uploads" / hashlib.sha256(b"old").hexdigest()
    os.utime(old, (0, 0))
    with unfinished("third"):
        assert len(list(old.parent.iterdir())) == 2
    assert len(list(old.parent.iterdir())) == 1, "one that says nothing goes at once"


# ----- with a real registry that can go on: Distribution 3


@pytest.fixture
def cutting(registry3: RunningRegistry) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(registry3.host)
    yield proxy
    proxy.close()


@pytest.fixture
def through(registry3: RunningRegistry, cutting: CuttingProxy, unique_app: str) -> Iterator[Registry]:
    with registry3.settings(host=cutting.host).open(unique_app) as client:
        client.check()
        yield client


def blob_of(registry: RunningRegistry, client: Registry, digest: str) -> str:
    """The digest of the bytes that the registry gives for a blob."""
    hashed = hashlib.sha256()
    with registry.settings().open(client.repository) as straight, straight.reading(digest) as chunks:
        for chunk in chunks:
            hashed.update(chunk)
    return f"sha256:{hashed.hexdigest()}"


def test_nine_tenths_of_a_big_layer_are_not_sent_again(
    registry3: RunningRegistry, cutting: CuttingProxy, through: Registry
) -> None:
    piece = random.Random(3).randbytes(8 * MB)
    size = 50 * len(piece)
    cutting.cuts = [cutting.passed + size * 9 // 10]
    digest, _ = through.push_stream((piece for _ in range(50)), size)
    assert cutting.passed < size + 2 * MB, "sent again is what was in the sockets"
    assert blob_of(registry3, through, digest) == digest


def test_many_breaks_at_odd_places(
    registry3: RunningRegistry, cutting: CuttingProxy, through: Registry
) -> None:
    dice = random.Random(11)
    cutting.cuts = sorted(cutting.passed + dice.randrange(1000, len(DATA)) for _ in range(12))
    assert through.push_stream(iter(Producer()), len(DATA)) == (DIGEST, len(DATA))
    assert blob_of(registry3, through, DIGEST) == DIGEST


def test_a_connection_that_stalls(
    registry3: RunningRegistry, cutting: CuttingProxy, through: Registry
) -> None:
    through._transport._client.timeout = httpx.Timeout(60, write=1)
    cutting.stalls = [cutting.passed + 8 * MB]
    assert through.push_stream(iter(Producer()), len(DATA)) == (DIGEST, len(DATA))
    assert blob_of(registry3, through, DIGEST) == DIGEST


def test_an_answer_that_never_arrives(
    registry3: RunningRegistry, cutting: CuttingProxy, through: Registry
) -> None:
    """The registry has done it; only we do not know."""
    cutting.mute_after = cutting.passed + len(DATA)
    assert through.push_stream(iter(Producer()), len(DATA)) == (DIGEST, len(DATA))
    assert cutting.passed < len(DATA) + MB
    assert blob_of(registry3, through, DIGEST) == DIGEST


def test_a_producer_that_fails_leaves_nothing_of_a_broken_upload(
    cutting: CuttingProxy, through: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def producer() -> Iterator[bytes]:
        yield DATA[: 20 * MB]
        raise ModelCorrupt("model file 'a'")

    cutting.cuts = [cutting.passed + 10 * MB]
    given_up: list[httpx.URL] = []
    cancel = through._cancel

    def seen(session: httpx.URL) -> None:
        given_up.append(session)
        cancel(session)

    monkeypatch.setattr(through, "_cancel", seen)
    with pytest.raises(ModelCorrupt):
        through.push_stream(producer(), 100 * MB)
    [session] = given_up
    assert through._how_far(session) is None, "the registry still has its bytes"


WORKER = """
import sys
from pathlib import Path
from linkspan.models import open_models
from linkspan.models.package import package
from linkspan.stores.file import FileStoreSettings
from tests.services.registry import RunningRegistry

host, user, password, via, app, store = sys.argv[1:]
models = open_models(FileStoreSettings(path=store), "digits")
with RunningRegistry(host, user, password).settings(host=via).open(app) as registry:
    package(models, registry, models.get("v1"), "/model", say=print, progress=lambda _: None)
"""


def test_a_killed_worker_is_followed_by_one_that_sends_the_rest(
    tmp_path: Path, registry3: RunningRegistry, cutting: CuttingProxy, through: Registry
) -> None:
    """From the store to the registry, as model-stream does it; the second works for the first's bytes too."""
    folder, store = tmp_path / "trained", tmp_path / "store"
    folder.mkdir()
    store.mkdir()
    (folder / "weights.bin").write_bytes(DATA)
    publish(FileStoreSettings(path=str(store)).objects(), "digits", folder)
    who = [registry3.host, registry3.username, registry3.password]
    worker = [sys.executable, "-c", WORKER, *who, cutting.host, through.repository, str(store)]
    before = cutting.passed
    cutting.stalls = [before + 30 * MB]
    first = subprocess.Popen(worker)
    until(lambda: not cutting.stalls, what="30 MB on their way")
    first.kill()
    first.wait()
    cutting.closed.set()  # what stalls ends with it, as it does when a machine goes
    cutting.closed.clear()
    subprocess.run(worker, check=True)
    assert cutting.passed - before < len(DATA) + 2 * MB
    models = open_models(FileStoreSettings(path=str(store)), "digits")
    found = packaged_already(through, models.get("v1"), "/model")
    assert found is not None
    _, [layer] = read_modelpack(through.image(found.manifest))
    assert blob_of(registry3, through, layer.digest) == layer.digest


def test_a_registry_that_cannot_go_on_is_tried_anew(registry: RunningRegistry, unique_app: str) -> None:
    """Distribution 2.8: the call fails for a while, and the next one succeeds."""
    proxy = CuttingProxy(registry.host)
    try:
        with registry.settings(host=proxy.host).open(unique_app) as client, unfinished("weights") as earlier:
            client.check()
            proxy.cuts = [proxy.passed + 30 * MB]
            with pytest.raises(RegistryUnavailable):
                client.stage(iter(Producer()), len(DATA), earlier=earlier)
            client.commit(client.stage(iter(Producer()), len(DATA), earlier=earlier))
            assert blob_of(registry, client, DIGEST) == DIGEST
    finally:
        proxy.close()
