"""Tens of thousands of files in a folder: what waits, waits once, and a power cut finds no half of one."""

import multiprocessing
import os
import stat
import time
from collections import Counter
from pathlib import Path

import pytest

from linkspan.errors import StoreUnavailable
from linkspan.models import PublishedModels, publish
from linkspan.stores import disk
from linkspan.stores.base import Upload
from linkspan.stores.file import FileObjects

COUNT = 2_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    for number in range(COUNT):
        (made / f"{number}.bin").write_text(f"bytes of {number}")
    return made


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the disk is asked for, in order."""
    seen: list[str] = []
    fsync, link, sleep, whole = os.fsync, os.link, time.sleep, disk.sync_filesystem

    def counted_fsync(descriptor: int) -> None:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        seen.append("fsync of a folder" if folder else "fsync of a file")
        fsync(descriptor)

    def counted_link(source: Path, target: Path) -> None:
        seen.append("name of the version" if target.suffix == ".json" else "name of a file")
        link(source, target)

    def counted_sleep(seconds: float) -> None:
        seen.append("wait")
        sleep(seconds)

    def counted_whole(descriptor: int) -> None:
        seen.append("sync of all")
        whole(descriptor)

    monkeypatch.setattr(os, "fsync", counted_fsync)
    monkeypatch.setattr(os, "link", counted_link)
    monkeypatch.setattr(time, "sleep", counted_sleep)
    monkeypatch.setattr(disk, "sync_filesystem", counted_whole)
    return seen


def test_no_file_is_waited_for_alone(
    root: Path, folder: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "has_device", lambda _: True)  # the tests' own folder may be in memory
    publish(FileObjects(root), "digits", folder)
    pinned = PublishedModels(FileObjects(root), "digits").newest()

    assert pinned is not None
    assert len(pinned.objects) == COUNT
    counted = Counter(calls)
    assert counted["name of a file"] == COUNT
    assert counted["sync of all"] == 1
    assert counted["fsync of a file"] == 1, "the manifest"
    assert counted["fsync of a folder"] < 20
    assert counted["wait"] <= 10


def test_bytes_are_on_the_disk_before_their_names_and_the_version_is_last(
    root: Path, folder: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "has_device", lambda _: True)
    publish(FileObjects(root), "digits", folder)

    named = [at for at, call in enumerate(calls) if call == "name of a file"]
    version = calls.index("name of the version")
    assert calls.index("sync of all") < named[0]
    assert "fsync of a folder" in calls[named[-1] : version]
    assert "fsync of a file" in calls[named[-1] : version], "the manifest's own bytes"
    assert "fsync of a folder" in calls[version:]


def test_a_file_loses_its_partial_name_at_once(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It moves ctime, so who has pinned the file before would find it changed."""
    link = os.link
    named: list[Path] = []

    def looking_back(source: Path, target: Path) -> None:
        if named:
            assert named[-1].stat().st_nlink == 1
        link(source, target)
        named.append(target)

    monkeypatch.setattr(os, "link", looking_back)
    publish(FileObjects(root), "digits", folder)
    assert len(named) == COUNT + 1


def test_where_a_sync_of_all_may_not_reach_a_disk_each_file_is_synced(
    root: Path, folder: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "has_device", lambda _: False)
    publish(FileObjects(root), "digits", folder)
    assert Counter(calls)["fsync of a file"] == COUNT + 1
    assert "sync of all" not in calls
    assert calls.index("name of a file") >= COUNT


def test_files_that_another_publisher_put_are_made_to_last_too(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their bytes are on the disk before they have a name, but their names may not be yet."""
    publish(FileObjects(root), "digits", folder)
    keys = [obj.key for obj in FileObjects(root).list("digits/blobs/")]
    synced: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))

    there = FileObjects(root).put_missing([Upload(key, folder / "7.bin", 10) for key in keys])

    assert len(there) == COUNT
    blobs = root / "digits" / "blobs" / "sha256"
    assert {each.stat().st_ino for each in (root, root / "digits", blobs)} <= synced


def test_a_disk_that_fails_leaves_no_names(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(disk, "has_device", lambda _: True)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "sync_filesystem", fail)
        with pytest.raises(StoreUnavailable, match="Input/output error"):
            publish(FileObjects(root), "digits", folder)
    assert [path for path in root.rglob("*") if path.is_file()] == []
    assert publish(FileObjects(root), "digits", folder).version == "v1"


def _die_in_the_middle(root: str, folder: str) -> None:
    passed = 0

    def die(count: int) -> None:
        nonlocal passed
        passed += count
        if passed > 10_000:
            os._exit(9)

    publish(FileObjects(Path(root)), "digits", Path(folder), progress=die)


def test_a_killed_publisher_leaves_nothing_that_readers_see(root: Path, folder: Path) -> None:
    killed = multiprocessing.get_context("spawn").Process(
        target=_die_in_the_middle, args=(str(root), str(folder))
    )
    killed.start()
    killed.join(240)
    assert killed.exitcode == 9
    left = [path.name for path in root.rglob("*") if path.is_file()]
    assert left
    assert all(name.startswith(".~linkspan-") for name in left)
    assert list(FileObjects(root).list("")) == []

    assert publish(FileObjects(root), "digits", folder).version == "v1"
    assert len(PublishedModels(FileObjects(root), "digits").get("v1").objects) == COUNT
    assert len(list(FileObjects(root).list("digits/blobs/"))) == COUNT
