"""What is special about a folder: links, uploads on their way, writes into a file."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from linkspan.errors import ObjectChanged, ObjectNotFound, StoreDenied
from linkspan.stores.file import FileObjects, FileStoreSettings


def test_only_an_absolute_path_is_a_store() -> None:
    with pytest.raises(ValidationError, match="not an absolute path"):
        FileStoreSettings(path="models")


def test_an_upload_on_its_way_is_not_seen_and_leaves_nothing(tmp_path: Path) -> None:
    store = FileObjects(tmp_path)
    source = tmp_path.parent / f"{tmp_path.name}-source"
    source.write_bytes(b"x" * 100)

    def look_and_fail(_: int) -> None:
        assert list(store.list("")) == []
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put("model", source, progress=look_and_fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["../x", "a//b", "/etc/passwd", "", "a/./b", "a\0b", ".~linkspan-1"])
def test_keys_that_leave_the_store_are_not_there(tmp_path: Path, key: str) -> None:
    store = FileObjects(tmp_path)
    with pytest.raises(ObjectNotFound):
        store.head(key)
    with pytest.raises(ObjectNotFound):
        store.put(key, b"data")


def test_a_link_may_point_inside_but_not_outside(tmp_path: Path) -> None:
    root, outside = tmp_path / "store", tmp_path / "secret"
    root.mkdir()
    outside.write_bytes(b"secret")
    store = FileObjects(root)
    store.put("v3.onnx", b"third")
    (root / "latest.onnx").symlink_to("v3.onnx")
    (root / "stolen").symlink_to(outside)

    assert b"".join(store.read(store.head("latest.onnx"))) == b"third"
    with pytest.raises(StoreDenied, match="leads out"):
        store.head("stolen")


def test_a_file_that_is_replaced_while_it_is_read_keeps_its_bytes(tmp_path: Path) -> None:
    store = FileObjects(tmp_path)
    old = b"o" * (3 << 20)
    pinned = store.put("key", old)
    chunks = store.read(pinned)
    got = [next(chunks)]
    (tmp_path / "new").write_bytes(b"n" * (3 << 20))
    (tmp_path / "new").rename(tmp_path / "key")
    assert b"".join([*got, *chunks]) == old
    with pytest.raises(ObjectChanged):
        list(store.read(pinned))


def test_a_write_that_hides_its_time_is_still_seen(tmp_path: Path) -> None:
    store = FileObjects(tmp_path)
    pinned = store.put("key", b"old")
    before = (tmp_path / "key").stat()
    with (tmp_path / "key").open("r+b") as file:
        file.write(b"new")
    os.utime(tmp_path / "key", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ObjectChanged):
        list(store.read(pinned))


def test_a_folder_is_no_object(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ObjectNotFound, match="not a file"):
        FileObjects(tmp_path).head("folder")
