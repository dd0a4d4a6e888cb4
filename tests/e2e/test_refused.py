"""What is bad is refused by name, changes nothing that is live, and is not tried again until somebody asks.

Each test has something live first, looks at the words, and then lets the other stream release.
"""

import os
from pathlib import Path

import pytest

from linkspan.nouns import short
from tests.e2e import tiny_app
from tests.e2e.conftest import Disk
from tests.e2e.world import Ended, World, task_runs


async def nothing_changed(world: World, before: object) -> None:
    assert world.revision() == before
    assert world.ask("/score") == {"label": "seven"}


def failed(run: Ended, *words: str) -> None:
    assert run.type == "FAILED", run
    for word in words:
        assert word in run.says, f"{word!r} is not in: {run.says}"


async def step_attempts(run: Ended) -> dict[str, int]:
    return {name: each.run_count for name, each in (await task_runs(run.id)).items()}


async def test_versions_whose_files_are_not_their_own(world: World) -> None:
    first = await world.first_release()
    again = "ublish a new version from the original files"

    def published(seed: int) -> Path:
        """The blob of the ONNX file of a version that is published now, to be hurt."""
        before = set(blobs.iterdir())
        world.publish(seed=seed)
        (blob,) = set(blobs.iterdir()) - before
        blob.chmod(0o644)
        return blob

    blobs = world.models / "digits/blobs/sha256"
    blob = published(1)
    size = blob.stat().st_size
    blob.write_bytes(blob.read_bytes()[:-100])
    truncated = await world.model_stream()
    sizes = f"expected {size} bytes, found {size - 100}"
    failed(truncated, "model.onnx of model digits v2 has the wrong size", sizes, again)

    published(2).unlink()
    missing = await world.model_stream()
    failed(missing, "model.onnx of model digits v3 is missing in the store", again)

    blob = published(3)
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    other = await world.model_stream()
    failed(other, "model.onnx of digits v4", "does not hold the bytes that were published", "SHA-256", again)
    for run in (truncated, missing, other):
        assert set((await step_attempts(run)).values()) == {1}
    # Only the last had to be read to be found out; it is not read again.
    assert (await world.model_stream()).name == "HeldBack"

    assert (await world.release()).name == "UpToDate"
    await nothing_changed(world, first)
    await still_released_with_a_commit(world, "v1")


async def still_released_with_a_commit(world: World, version: str) -> None:
    sha = world.commit("afterwards")
    assert (await world.app_stream()).name == "Completed"
    assert (await world.release()).name == "Completed"
    assert world.ask() == {"word": "afterwards", "commit": sha, "model": version}


async def test_a_file_that_is_no_onnx_is_held_back_until_it_is_wanted(world: World) -> None:
    first = await world.first_release()
    folder = world.model_folder()
    (folder / "model.onnx").write_bytes(b"this was never a model" * 100)
    world.publish(folder)
    refused = await world.model_stream()
    failed(refused, "model.onnx", "Open and score the model with onnxruntime")
    assert (await step_attempts(refused))["validate and package the model"] == 1
    await nothing_changed(world, first)

    world.front.reset()
    held = await world.model_stream()
    assert (held.type, held.name) == ("COMPLETED", "HeldBack")
    assert "model digits v2 is held back: model.onnx" in held.message
    assert "validate and package the model" not in await task_runs(held.id)
    assert world.sent() == 0

    failed(await world.model_stream(on_purpose=True), "model.onnx")
    assert (await world.model_stream()).name == "HeldBack"
    await still_released_with_a_commit(world, "v1")

    # A version that mends it is released, whatever came before.
    world.publish(seed=3)
    assert (await world.model_stream()).name == "Completed"
    assert (await world.release()).name == "Completed"
    assert world.ask()["model"] == "v3"


async def test_a_model_that_the_app_cannot_score(world: World) -> None:
    """Right ONNX, but the app's answer is wrong: found by running the pair before it is a release."""
    first = await world.first_release()
    releases = world.tags("release-")
    world.publish(seed=1, labels="a b c d e f g h i j")
    assert (await world.model_stream()).name == "Completed"
    refused = await world.release()
    failed(
        refused,
        "the smoke request GET /score got the wrong answer",
        "expected status 200 and {'label': 'seven'}",
        'found status 200 and {"label": "h"}',
    )
    assert (await step_attempts(refused))["smoke-test the linked image"] == 1
    assert world.tags("release-") == releases
    await nothing_changed(world, first)

    held = await world.release()
    assert (held.type, held.name) == ("COMPLETED", "HeldBack")
    assert f"{short(first.release.commit.sha)} + v2 is held back: the smoke request" in held.message
    assert set(await task_runs(held.id)) == {
        "find the newest code",
        "find the newest model",
        "compare with what is live",
    }
    failed(await world.release(on_purpose=True), "the smoke request GET /score")
    assert (await world.release()).name == "HeldBack"

    # The code that can take this model makes the pair good.
    labels = (world.repository.work / "linkspan.toml").read_text().replace("seven", "h")
    sha = world.commit("two", linkspan_toml=labels)
    assert (await world.app_stream()).name == "Completed"
    assert (await world.release()).name == "Completed"
    assert world.ask() == {"word": "two", "commit": sha, "model": "v2"}


async def test_an_app_whose_tests_fail(world: World) -> None:
    first = await world.first_release()
    tags = world.tags()
    sha = world.commit("two", test_py=tiny_app.FAILS)
    refused = await world.app_stream()
    failed(
        refused,
        "the app's tests failed: `python3 /app/test.py`",
        "AssertionError: 3 is not 7",
        "expected exit code 0, found 1",
    )
    assert (await step_attempts(refused))["run the app's tests"] == 1
    assert {tag for tag in world.tags() - tags if not tag.startswith("rejected-")} == set()

    held = await world.app_stream()
    assert (held.type, held.name) == ("COMPLETED", "HeldBack")
    assert f"commit {short(sha)} is held back: the app's tests failed" in held.message
    assert "run the app's tests" not in await task_runs(held.id)
    failed(await world.app_stream(on_purpose=True), "the app's tests failed")
    assert (await world.release()).name == "UpToDate"
    await nothing_changed(world, first)

    # The other stream goes on with the commit before.
    world.publish(seed=1)
    assert (await world.model_stream()).name == "Completed"
    assert (await world.release()).name == "Completed"
    assert world.ask() == {"word": "one", "commit": first.release.commit.sha, "model": "v2"}


async def test_a_dockerfile_that_does_not_build(world: World) -> None:
    first = await world.first_release()
    broken = tiny_app.DOCKERFILE.format(base=world.base) + "RUN echo no compiler here; exit 3\n"
    sha = world.commit("two", Dockerfile=broken)
    refused = await world.app_stream()
    failed(
        refused, "the code image does not build, at Step", "no compiler here", "returned a non-zero code: 3"
    )
    assert (await step_attempts(refused))["build the code image"] == 1
    held = await world.app_stream()
    assert (held.type, held.name) == ("COMPLETED", "HeldBack")
    assert f"commit {short(sha)} is held back: the code image does not build" in held.message
    failed(await world.app_stream(on_purpose=True), "the code image does not build")
    assert (await world.release()).name == "UpToDate"
    await nothing_changed(world, first)


async def test_a_slip_in_linkspan_toml(world: World) -> None:
    """The key and its line; and models are released meanwhile by what the commit before says."""
    first = await world.first_release()
    text = (world.repository.work / "linkspan.toml").read_text()
    line = text[: text.index("ready_seconds")].count("\n") + 1
    sha = world.commit("two", linkspan_toml=text.replace("ready_seconds", "ready_secnds"))
    refused = await world.app_stream()
    failed(
        refused,
        f"linkspan.toml of {short(sha)}, line {line}: unknown key `ready_secnds` in [serve]",
        "Did you mean `ready_seconds`?",
    )
    assert (await step_attempts(refused))["build the code image"] == 1
    await nothing_changed(world, first)
    world.publish(seed=1)
    assert (await world.model_stream()).name == "Completed"
    assert (await world.release()).name == "Completed"
    assert world.ask() == {"word": "one", "commit": first.release.commit.sha, "model": "v2"}


async def test_a_registry_that_refuses_the_password(world: World) -> None:
    first = await world.first_release()
    world.commit("two")
    world.publish(seed=1)
    await world.save_blocks(password="wr0ng-and-secret")
    for run in (await world.app_stream(), await world.model_stream(), await world.release()):
        failed(run, world.front.host, world.app, "Check user name and password", "'pusher'")
        assert "wr0ng-and-secret" not in run.says
        assert set((await step_attempts(run)).values()) == {1}
    await nothing_changed(world, first)
    await world.save_blocks()
    assert (await world.all_three()).name == "Completed"
    assert world.ask()["word"] == "two"


async def test_a_store_that_is_not_there(world: World) -> None:
    first = await world.first_release()
    world.commit("two")
    assert (await world.app_stream()).name == "Completed"
    await world.save_blocks(models=world.folder / "gone")
    for run in (await world.model_stream(), await world.release()):
        failed(run, str(world.folder / "gone"), "mkdir -p")
        assert set((await step_attempts(run)).values()) == {1}
    await nothing_changed(world, first)
    await world.save_blocks()
    assert (await world.release()).name == "Completed"
    assert world.ask() == {"word": "two", "commit": world.revision().release.commit.sha, "model": "v1"}


async def test_a_release_that_is_good_alone_and_dies_when_it_is_rolled_out(world: World) -> None:
    first = await world.first_release()
    world.commit("two", behaviour="dies soon")
    assert (await world.app_stream()).name == "Completed"
    refused = await world.release()
    failed(
        refused,
        f"{world.revision().release.app}: ",
        "did not become ready in",
        "exited with code 7: lost its licence",
        "The release before it still serves",
    )
    assert (await step_attempts(refused))["roll out"] == 1
    assert [each.outcome for each in world.runtime().history(world.service)] == ["failed", "live"]
    await nothing_changed(world, first)
    held = await world.release()
    assert (held.type, held.name) == ("COMPLETED", "HeldBack")
    assert "did not become ready" in held.message
    await nothing_changed(world, first)
    # What is live is still looked after while the newest pair is held back.
    for container in world.docker.containers.list(filters={"name": f"linkspan-{world.service}-r1"}):
        container.remove(force=True)
    repaired = await world.release()
    assert (repaired.name, world.ask()["word"]) == ("Repaired", "one")
    failed(await world.release(on_purpose=True), "did not become ready")
    world.publish(seed=1)
    assert (await world.model_stream()).name == "Completed"
    failed(await world.release(), "did not become ready")  # another pair: it is tried, once
    assert (await world.release()).name == "HeldBack"
    await nothing_changed(world, first)


async def test_a_registry_whose_disk_is_full(world: World, disk: Disk) -> None:
    if not disk.small:
        pytest.skip("cannot mount a disk to fill: this needs root")
    first = await world.first_release()
    world.commit("two", big_txt=os.urandom(2 << 20).hex())
    world.publish(side=1000)
    filler = disk.path / "filler"
    try:
        room = os.statvfs(disk.path)
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_bsize - (512 << 10))
        for run in (await world.model_stream(), await world.app_stream()):
            failed(run, "registry", world.front.host, "Free space")
            assert set((await step_attempts(run)).values()) == {1}
        assert (await world.release()).name == "UpToDate"
        await nothing_changed(world, first)
    finally:
        filler.unlink(missing_ok=True)
    assert (await world.all_three()).name == "Completed"
    assert world.ask() == {"word": "two", "commit": world.revision().release.commit.sha, "model": "v2"}
