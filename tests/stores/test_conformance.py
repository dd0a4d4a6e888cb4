"""The specification of ObjectStore, run against every kind of store."""

import hashlib
import itertools
import os
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from linkspan.errors import (
    ConfigError,
    LinkspanError,
    ObjectChanged,
    ObjectExists,
    ObjectNotFound,
    StoreDenied,
    StoreUnavailable,
)
from linkspan.stores.base import CHUNK, ObjectStore, StoredObject, Upload
from linkspan.stores.ranges import AT_ONCE
from tests.memory import traced
from tests.services.slow_line import SlowLine
from tests.stores.places import MIB, RANGE, MakePlace, Place, RemotePlace
from tests.stores.proxy import cutting_proxy
from tests.waiting import until

ODD = [
    "a b.txt",
    "100%.onnx",
    "a+b&c=d.bin",
    "grüße/猫.txt",
    "q?x#y.json",
    "quote'\"s.txt",
    "[1]{2}~^@!$(),;.bin",
    "%2e%2e/x",
    "dots..in...it",
]


def _noise(size: int) -> bytes:
    return os.urandom(size)


def _everything(store: ObjectStore, obj: StoredObject) -> bytes:
    return b"".join(store.read(obj))


def test_what_was_put_is_read_back(place: Place) -> None:
    data = b"weights" * 1000
    put = place.store.put("team/model.onnx", data)
    assert (put.key, put.size) == ("team/model.onnx", len(data))
    assert place.store.head("team/model.onnx") == put
    assert _everything(place.store, put) == data


def test_an_empty_object(place: Place) -> None:
    put = place.store.put("empty", b"")
    assert put.size == 0
    assert list(place.store.read(put)) == []


def test_a_file_is_put_from_disk_with_progress(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "weights.bin"
    source.write_bytes(_noise(12 * MIB + 17))
    passed: list[int] = []

    put = place.store.put("weights.bin", source, progress=passed.append)

    assert sum(passed) == put.size == source.stat().st_size
    assert len(passed) > 1
    assert (
        hashlib.sha256(_everything(place.store, put)).digest() == hashlib.sha256(source.read_bytes()).digest()
    )


def test_chunks_are_small(place: Place) -> None:
    put = place.store.put("weights", _noise(3 * MIB + 1))
    assert max(len(chunk) for chunk in place.store.read(put)) <= CHUNK


def test_a_big_object_is_read_and_put_in_little_memory(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "big"
    source.write_bytes(bytes(48 * MIB))
    small = place.store.put("warm-up", b"x")  # the client's own modules are not what is measured
    _everything(place.store, small)

    with traced() as peak:
        put = place.store.put("big", source)
        size = sum(len(chunk) for chunk in place.store.read(put))
        # Four ranges, or a part or two.
        assert peak() < 20 * MIB
    assert size == 48 * MIB


def test_put_never_replaces(place: Place) -> None:
    place.store.put("key", b"first")
    with pytest.raises(ObjectExists, match="key"):
        place.store.put("key", b"second")
    assert _everything(place.store, place.store.head("key")) == b"first"


def test_put_of_a_big_object_never_replaces(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "big"
    source.write_bytes(_noise(6 * MIB))
    place.store.put("key", b"first")
    passed: list[int] = []
    with pytest.raises(ObjectExists):
        place.store.put("key", source, progress=passed.append)
    assert sum(passed) == 0, "a refused upload must cost nothing"


@pytest.mark.parametrize("size", [100, 6 * MIB])
def test_of_concurrent_puts_exactly_one_wins(place: Place, size: int) -> None:
    count = 6
    contents = [bytes([65 + number]) * size for number in range(count)]
    together = threading.Barrier(count)

    def put(number: int) -> bool:
        together.wait()
        try:
            place.store.put("raced", contents[number])
        except ObjectExists:
            return False
        return True

    with ThreadPoolExecutor(count) as pool:
        won = list(pool.map(put, range(count)))

    assert sum(won) == 1
    assert _everything(place.store, place.store.head("raced")) == contents[won.index(True)]


def test_list_goes_over_pages_in_key_order(make_place: MakePlace) -> None:
    place = make_place("some/prefix")
    keys = ["m/versions/v1.json", "m-2/x", "m/a", "m/b/c", "m/b-c", "m/b.c", "m/Z", "other"]
    for key in keys:
        place.store.put(key, key.encode())

    found = list(place.store.list("m/"))

    assert [obj.key for obj in found] == sorted(key for key in keys if key.startswith("m/"))
    assert [obj.size for obj in found] == [len(obj.key) for obj in found]
    assert [obj.key for obj in place.store.list("")] == sorted(keys)
    assert [obj.key for obj in place.store.list("m/b")] == ["m/b-c", "m/b.c", "m/b/c"]
    assert list(place.store.list("nothing/")) == []


def test_what_list_says_can_be_read(place: Place) -> None:
    place.store.put("key", b"data")
    (found,) = place.store.list("")
    assert _everything(place.store, found) == b"data"


def test_odd_characters_in_keys(make_place: MakePlace) -> None:
    place = make_place("a prefix+with ü")
    for key in ODD:
        place.store.put(key, key.encode())
    assert [obj.key for obj in place.store.list("")] == sorted(ODD)
    for key in ODD:
        assert _everything(place.store, place.store.head(key)) == key.encode()


def test_head_of_nothing(place: Place) -> None:
    with pytest.raises(ObjectNotFound, match=r"model\.onnx"):
        place.store.head("model.onnx")


def _uploads(folder: Path, count: int, size: int = 100) -> list[Upload]:
    made = []
    for number in range(count):
        source = folder / f"{number}.bin"
        source.write_bytes(number.to_bytes(4) + _noise(size - 4))
        made.append(Upload(f"m/blobs/{number}", source, size))
    return made


def test_heads_of_many(place: Place) -> None:
    put = [place.store.put(f"m/{number}", b"x" * number) for number in range(12)]
    assert place.store.head_all(["m/7", "nothing", *(obj.key for obj in put)]) == [put[7], None, *put]
    assert place.store.head_all([]) == []


def test_what_is_missing_is_put_and_the_rest_stays(place: Place, tmp_path: Path) -> None:
    uploads = _uploads(tmp_path, 30)
    there = [place.store.put(uploads[number].key, b"other") for number in (3, 0, 29)]
    passed: list[int] = []

    found = place.store.put_missing(uploads, progress=passed.append)

    assert sorted(found, key=lambda obj: obj.key) == sorted(there, key=lambda obj: obj.key)
    assert sum(passed) == 27 * 100
    for number, (upload, obj) in enumerate(
        zip(uploads, place.store.head_all([each.key for each in uploads]), strict=True)
    ):
        assert obj is not None
        assert isinstance(upload.source, Path)
        expected = b"other" if number in {0, 3, 29} else upload.source.read_bytes()
        assert _everything(place.store, obj) == expected
    again = place.store.put_missing(uploads, progress=passed.append)
    assert {obj.key for obj in again} == {upload.key for upload in uploads}
    assert sum(passed) == 27 * 100
    assert place.store.put_missing([]) == []


def test_big_and_small_are_put_together(place: Place, tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    big = [each._replace(key=f"big/{each.key}") for each in _uploads(tmp_path / "big", 2, 6 * MIB)]
    small = _uploads(tmp_path, 4)
    passed: list[int] = []
    assert place.store.put_missing([big[0], *small, big[1]], progress=passed.append) == []
    assert sum(passed) == 12 * MIB + 400
    assert sorted(obj.size for obj in place.store.list("")) == [100] * 4 + [6 * MIB] * 2


def test_of_those_who_put_the_same_at_once_each_is_created_by_one(place: Place, tmp_path: Path) -> None:
    uploads = _uploads(tmp_path, 24)
    together = threading.Barrier(3)

    def put(_: int) -> int:
        together.wait()
        return len(uploads) - len(place.store.put_missing(uploads))

    with ThreadPoolExecutor(3) as pool:
        created = list(pool.map(put, range(3)))

    assert sum(created) == len(uploads)
    for upload, obj in zip(uploads, place.store.head_all([each.key for each in uploads]), strict=True):
        assert obj is not None
        assert isinstance(upload.source, Path)
        assert _everything(place.store, obj) == upload.source.read_bytes()


@pytest.mark.parametrize("size", [100, 6 * MIB])
def test_what_is_found_changed_before_it_appears_does_not(place: Place, tmp_path: Path, size: int) -> None:
    passed: list[int] = []

    def check() -> None:
        asked.append(sum(passed))
        if len(asked) == 2:
            raise ConfigError("it changed")

    asked: list[int] = []
    (upload,) = _uploads(tmp_path, 1, size)
    with pytest.raises(ConfigError, match="it changed"):
        place.store.put_missing([upload._replace(check=check)], progress=passed.append)
    assert asked[0] == 0
    assert place.store.head_all([upload.key]) == [None]
    assert place.store.put_missing([upload]) == []


def test_the_first_failure_comes_out_and_the_rest_is_done_later(place: Place, tmp_path: Path) -> None:
    uploads = _uploads(tmp_path, 40)

    def fail() -> None:
        raise ConfigError("number 20 is bad")

    before = threading.active_count()
    with pytest.raises(ConfigError, match="number 20"):
        place.store.put_missing([*uploads[:20], uploads[20]._replace(check=fail), *uploads[21:]])
    until(lambda: threading.active_count() <= before, what="the threads' end")
    there = [obj.key for obj in place.store.list("m/")]
    assert uploads[20].key not in there
    found = place.store.put_missing(uploads)
    assert sorted(obj.key for obj in found) == there
    assert all(place.store.head_all([each.key for each in uploads]))


def test_an_interrupted_put_of_many_can_be_done_again(place: Place, tmp_path: Path) -> None:
    uploads = _uploads(tmp_path, 40)
    counter = itertools.count()

    def interrupt(_: int) -> None:
        if next(counter) == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.store.put_missing(uploads, progress=interrupt)
    assert all(obj.size == 100 for obj in place.store.list(""))
    place.store.put_missing(uploads)
    for upload, obj in zip(uploads, place.store.head_all([each.key for each in uploads]), strict=True):
        assert obj is not None
        assert isinstance(upload.source, Path)
        assert _everything(place.store, obj) == upload.source.read_bytes()


def test_delete(place: Place) -> None:
    place.store.put("key", b"data")
    place.store.delete("key")
    with pytest.raises(ObjectNotFound):
        place.store.head("key")
    place.store.delete("key")
    assert list(place.store.list("")) == []


def test_a_deleted_key_can_be_put_again(place: Place) -> None:
    place.store.put("key", b"first")
    place.store.delete("key")
    put = place.store.put("key", b"second")
    assert _everything(place.store, put) == b"second"


def test_an_overwritten_object_is_not_read(place: Place) -> None:
    pinned = place.store.put("key", b"old" * 100)
    place.overwrite("key", b"new" * 100)
    if place.kind == "s3-versioned":
        assert _everything(place.store, pinned) == b"old" * 100, "the pinned version is still there"
        return
    with pytest.raises(ObjectChanged, match="key"):
        _everything(place.store, pinned)


def test_an_overwritten_empty_object_is_not_read(place: Place) -> None:
    pinned = place.store.put("key", b"")
    place.overwrite("key", b"new")
    if place.kind == "s3-versioned":
        assert _everything(place.store, pinned) == b""
        return
    with pytest.raises(ObjectChanged, match="key"):
        _everything(place.store, pinned)


def test_an_object_overwritten_while_it_is_read_is_not_mixed(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "old"
    old = b"o" * ((AT_ONCE + 3) * RANGE)  # more than is held before anybody wants it
    source.write_bytes(old)
    pinned = place.store.put("key", source)
    chunks = place.store.read(pinned)
    got = [next(chunks)]
    place.overwrite("key", b"n" * len(old))
    if place.kind == "s3-versioned":
        assert b"".join([*got, *chunks]) == old
        return
    with pytest.raises(ObjectChanged, match="key") as caught:
        got.extend(chunks)
    assert caught.value.retriable
    assert set(b"".join(got)) == {ord("o")}


def test_an_object_removed_while_it_is_read(place: Place) -> None:
    pinned = place.store.put("key", b"old")
    place.store.delete("key")
    if place.kind == "s3-versioned":
        assert _everything(place.store, pinned) == b"old"
        return
    with pytest.raises(ObjectChanged, match="key"):
        _everything(place.store, pinned)


def test_a_missing_container_is_named(place: Place) -> None:
    store = place.elsewhere()
    gone = StoredObject(key="key", size=3, pin="etag:x")
    name = "nowhere" if place.kind == "file" else "not-there"
    for call in (
        lambda: list(store.list("")),
        lambda: store.head("key"),
        lambda: store.put("key", b"data"),
        lambda: store.put("key", b"data" * 2 * MIB),
        lambda: store.head_all(["key", "other"]),
        lambda: store.put_missing([Upload("key", b"data", 4), Upload("other", b"data", 4)]),
        lambda: list(store.read(gone)),
        lambda: store.delete("key"),
    ):
        with pytest.raises(ObjectNotFound, match=name) as caught:
            call()
        assert caught.value.fix


def test_the_url_is_for_people(make_place: MakePlace) -> None:
    url = make_place("team/models").store.url
    assert url.endswith("/team/models")
    assert "?" not in url


def test_a_broken_connection_is_resumed_where_it_broke(remote_place: RemotePlace, tmp_path: Path) -> None:
    source = tmp_path / "weights"
    source.write_bytes(_noise(6 * MIB))
    pinned = remote_place.store.put("weights", source)
    with cutting_proxy(remote_place.remote.port, after=MIB + 12345, cuts=2) as proxy:
        read = _everything(remote_place.remote.through(proxy.port, 4), pinned)
        assert proxy.cut == 2
    assert hashlib.sha256(read).digest() == hashlib.sha256(source.read_bytes()).digest()


def test_a_big_object_is_read_by_several_connections_and_a_small_one_by_one(
    remote_place: RemotePlace, tmp_path: Path
) -> None:
    source = tmp_path / "weights"
    source.write_bytes(_noise(7 * RANGE))
    big = remote_place.store.put("weights", source)
    small = remote_place.store.put("labels", _noise(RANGE))
    together = threading.Barrier(AT_ONCE)
    numbers = itertools.count()

    def before(_: bytes) -> None:
        # The first is alone; then another one is, until its first byte. Of the others none is answered before
        # so many have been asked.
        if 2 <= next(numbers) <= 1 + AT_ONCE:
            together.wait(240)

    threads = threading.active_count()
    with SlowLine(remote_place.remote.port, rate=30_000_000, before=before) as line:
        store = remote_place.remote.through(line.port, 4)
        read = hashlib.sha256()
        for chunk in store.read(big):
            read.update(chunk)
        assert len(line.requests) == 7
        assert _everything(store, small) == _everything(remote_place.store, small)
        assert len(line.requests) == 8
    assert read.digest() == hashlib.sha256(source.read_bytes()).digest()
    until(lambda: threading.active_count() <= threads, what="the threads' end")


def test_whoever_stops_in_the_middle_keeps_no_connection(remote_place: RemotePlace, tmp_path: Path) -> None:
    source = tmp_path / "weights"
    source.write_bytes(bytes(6 * RANGE))
    pinned = remote_place.store.put("weights", source)
    with SlowLine(remote_place.remote.port) as line:
        store = remote_place.remote.through(line.port, 4)
        chunks = store.read(pinned)
        next(chunks)
        assert isinstance(chunks, Generator)
        chunks.close()
        assert "reads a range" not in {thread.name for thread in threading.enumerate()}
        # What was half read is closed, and what was read to its end is used again.
        assert len(_everything(store, pinned)) == pinned.size


def test_a_connection_that_stays_broken_is_temporary(remote_place: RemotePlace) -> None:
    pinned = remote_place.store.put("weights", _noise(3 * MIB))
    with cutting_proxy(remote_place.remote.port, after=1, cuts=10**6) as proxy:
        store = remote_place.remote.through(proxy.port, 2)
        with pytest.raises(StoreUnavailable):
            _everything(store, pinned)


def test_a_put_whose_answer_was_lost_is_not_taken_for_a_lost_race(remote_place: RemotePlace) -> None:
    with cutting_proxy(remote_place.remote.port, after=0, cuts=1, only_answers_to=b"PUT ") as proxy:
        put = remote_place.remote.through(proxy.port, 4).put("key", b"data")
        assert proxy.cut == 1
    assert remote_place.store.head("key") == put
    with pytest.raises(ObjectExists):
        remote_place.store.put("key", b"data")


def test_a_wrong_key_is_denied_and_not_told(remote_place: RemotePlace) -> None:
    pinned = remote_place.store.put("key", b"data")
    store = remote_place.remote.wrong_key()
    for call in (
        lambda: list(store.list("")),
        lambda: store.head("key"),
        lambda: store.put("other", b"data"),
        lambda: store.head_all(["key", "other"]),
        lambda: store.put_missing([Upload("other", b"data", 4), Upload("third", b"data", 4)]),
        lambda: list(store.read(pinned)),
        lambda: store.delete("key"),
    ):
        with pytest.raises(StoreDenied) as caught:
            call()
        assert caught.value.fix
        assert "wrong" not in str(caught.value)


def test_a_service_that_is_not_there_is_temporary(remote_place: RemotePlace) -> None:
    store = remote_place.remote.unreachable()
    for call in (
        lambda: list(store.list("")),
        lambda: store.head("key"),
        lambda: store.put("key", b"x"),
        lambda: store.head_all(["key", "other"]),
        lambda: store.put_missing([Upload("key", b"x", 1), Upload("other", b"x", 1)]),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_source_that_grows_while_it_is_put_is_refused(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "growing"
    source.write_bytes(_noise(12 * MIB))
    counter = itertools.count()

    def grow(_: int) -> None:
        if next(counter) == 0:
            with source.open("ab") as file:
                file.write(b"more")

    with pytest.raises(LinkspanError, match="changed its size"):
        place.store.put("growing", source, progress=grow)
    with pytest.raises(ObjectNotFound):
        place.store.head("growing")
