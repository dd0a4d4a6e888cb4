"""What is bad is refused by name, changes nothing that is live, and is not tried again until somebody asks.

Each test has something live first, looks at the words, and then lets the other stream release. No flow is
needed for that; how those end that refuse something is in test_refusing_runs.py.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from linkspan.errors import LinkspanError
from linkspan.ledger.values import PackagedModel
from linkspan.nouns import short
from tests.e2e import tiny_app
from tests.e2e.conftest import Disk
from tests.e2e.plain import PlainWorld


@pytest.fixture
def world(plain_world: PlainWorld) -> PlainWorld:
    return plain_world


def nothing_changed(world: PlainWorld, before: object) -> None:
    assert world.revision() == before
    assert world.ask("/score") == {"label": "seven"}


@contextmanager
def refused(*words: str, temporary: bool = False) -> Iterator[None]:
    """What is done in the block is refused in these words; flows try again only what is temporary."""
    with pytest.raises(LinkspanError) as caught:
        yield
    for word in words:
        assert word in str(caught.value), f"{word!r} is not in: {caught.value}"
    assert caught.value.retriable is temporary


def packaged(world: PlainWorld) -> str:
    """The version that is valid and packed now."""
    found = world.package_model()
    assert isinstance(found, PackagedModel), found
    return found.model.version


def held(world: PlainWorld) -> str:
    """Why the newest model is held back."""
    found = world.package_model()
    assert isinstance(found, str), found
    return found


def released(world: PlainWorld) -> str:
    """What a release did."""
    return world.release_pair()[0]


def test_versions_whose_files_are_not_their_own(world: PlainWorld) -> None:
    first = world.release_first()
    again = "ublish a new version from the original files"
    blobs = world.models / "digits/blobs/sha256"

    def published(seed: int) -> Path:
        """The blob of the ONNX file of a version that is published now, to be hurt."""
        before = set(blobs.iterdir())
        world.publish(seed=seed)
        (blob,) = set(blobs.iterdir()) - before
        blob.chmod(0o644)
        return blob

    blob = published(1)
    size = blob.stat().st_size
    blob.write_bytes(blob.read_bytes()[:-100])
    sizes = f"expected {size} bytes, found {size - 100}"
    with refused("model.onnx of model digits v2 has the wrong size", sizes, again):
        world.package_model()

    published(2).unlink()
    with refused("model.onnx of model digits v3 is missing in the store", again):
        world.package_model()

    blob = published(3)
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    with refused("model.onnx of digits v4", "does not hold the bytes that were published", "SHA-256", again):
        world.package_model()
    # Only the last had to be read to be found out; it is not read again.
    assert "model digits v4 is held back" in held(world)

    assert released(world) == "nothing"
    nothing_changed(world, first)
    still_released_with_a_commit(world, "v1")


def still_released_with_a_commit(world: PlainWorld, version: str) -> None:
    sha = world.commit("afterwards")
    assert world.build_code().digest
    assert released(world) == "release"
    assert world.ask() == {"word": "afterwards", "commit": sha, "model": version}


def test_a_file_that_is_no_onnx_is_held_back_until_it_is_wanted(world: PlainWorld) -> None:
    first = world.release_first()
    folder = world.model_folder()
    (folder / "model.onnx").write_bytes(b"this was never a model" * 100)
    world.publish(folder)
    with refused("model.onnx", "Open and score the model with onnxruntime"):
        world.package_model()
    nothing_changed(world, first)

    world.front.reset()
    assert "model digits v2 is held back: model.onnx" in held(world)
    assert world.sent() == 0

    with refused("model.onnx"):
        world.package_model(on_purpose=True)
    assert held(world)
    still_released_with_a_commit(world, "v1")

    # A version that mends it is released, whatever came before.
    world.publish(seed=3)
    assert packaged(world) == "v3"
    assert released(world) == "release"
    assert world.ask()["model"] == "v3"


def test_a_dockerfile_that_does_not_build(world: PlainWorld) -> None:
    first = world.release_first()
    broken = tiny_app.DOCKERFILE.format(base=world.base) + "RUN echo no compiler here; exit 3\n"
    sha = world.commit("two", Dockerfile=broken)
    with refused("the code image does not build, at Step", "no compiler here", "returned a non-zero code: 3"):
        world.build_code()
    assert f"commit {short(sha)} is held back: the code image does not build" in world.build_code().held
    with refused("the code image does not build"):
        world.build_code(on_purpose=True)
    assert released(world) == "nothing"
    nothing_changed(world, first)


def test_a_slip_in_linkspan_toml(world: PlainWorld) -> None:
    """The key and its line; and models are released meanwhile by what the commit before says."""
    first = world.release_first()
    text = (world.repository.work / "linkspan.toml").read_text()
    line = text[: text.index("ready_seconds")].count("\n") + 1
    sha = world.commit("two", linkspan_toml=text.replace("ready_seconds", "ready_secnds"))
    with refused(
        f"linkspan.toml of {short(sha)}, line {line}: unknown key `ready_secnds` in [serve]",
        "Did you mean `ready_seconds`?",
    ):
        world.build_code()
    nothing_changed(world, first)
    world.publish(seed=1)
    assert packaged(world) == "v2"
    assert released(world) == "release"
    assert world.ask() == {"word": "one", "commit": first.release.commit.sha, "model": "v2"}


def test_a_store_that_is_not_there(world: PlainWorld) -> None:
    first = world.release_first()
    world.commit("two")
    assert world.build_code().digest
    away = world.models.with_name("gone")
    world.models.rename(away)
    steps: tuple[Callable[[], object], ...] = (world.package_model, world.release_pair)
    for step in steps:
        with refused(str(world.models), "mkdir -p"):
            step()
    nothing_changed(world, first)
    away.rename(world.models)
    assert released(world) == "release"
    assert world.ask() == {"word": "two", "commit": world.revision().release.commit.sha, "model": "v1"}


def test_a_release_that_is_good_alone_and_dies_when_it_is_rolled_out(world: PlainWorld) -> None:
    first = world.release_first()
    world.commit("two", behaviour="dies when rolled out")
    assert world.build_code().digest
    with refused(
        f"{first.release.app}: ",
        "did not become ready in",
        "exited with code 7: lost its licence",
        "The release before it still serves",
    ):
        world.release_pair()
    assert [each.outcome for each in world.runtime().history(world.service)] == ["failed", "live"]
    nothing_changed(world, first)
    action, reason = world.release_pair()
    assert (action, "did not become ready" in reason) == ("held", True)
    nothing_changed(world, first)
    # What is live is still looked after while the newest pair is held back.
    for container in world.docker.containers.list(filters={"name": f"linkspan-{world.service}-r1"}):
        container.remove(force=True)
    assert (released(world), world.ask()["word"]) == ("repair", "one")
    with refused("did not become ready"):
        world.release_pair(on_purpose=True)
    world.publish(seed=1)
    assert packaged(world) == "v2"
    with refused("did not become ready"):
        world.release_pair()  # another pair: it is tried, once
    assert released(world) == "held"
    nothing_changed(world, first)


def test_a_registry_whose_disk_is_full(world: PlainWorld, disk: Disk) -> None:
    if not disk.small:
        pytest.skip("cannot mount a disk to fill: this needs root")
    first = world.release_first()
    world.commit("two", big_txt=os.urandom(2 << 20).hex())
    world.publish(side=1000)
    filler = disk.path / "filler"
    steps: tuple[Callable[[], object], ...] = (world.package_model, world.build_code)
    try:
        room = os.statvfs(disk.path)
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_bsize - (512 << 10))
        for step in steps:
            with refused("registry", world.front.host, "Free space"):
                step()
        assert released(world) == "nothing"
        nothing_changed(world, first)
    finally:
        filler.unlink(missing_ok=True)
    assert world.build_code().digest
    assert packaged(world) == "v2"
    assert released(world) == "release"
    assert world.ask() == {"word": "two", "commit": world.revision().release.commit.sha, "model": "v2"}
