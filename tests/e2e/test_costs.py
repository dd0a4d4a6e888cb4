"""What a release moves and builds, counted at the registry and at the store."""

import sys
from pathlib import Path

import pytest

from linkspan.nouns import short
from linkspan.stores.file import FileObjects
from tests.e2e.world import World, flow_run, task_runs


def seconds_of_work(runs: dict[str, object]) -> float:
    return sum(run.total_run_time.total_seconds() for run in runs.values())  # type: ignore[attr-defined]


@pytest.fixture
def read_from_store(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of all objects whose bytes are read, in order."""
    keys: list[str] = []
    real = FileObjects.read

    def read(self: FileObjects, obj: object) -> object:
        keys.append(obj.key)  # type: ignore[attr-defined]
        return real(self, obj)  # type: ignore[arg-type]

    monkeypatch.setattr(FileObjects, "read", read)
    return keys


async def test_what_each_kind_of_release_costs(
    world: World, read_from_store: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    first = await world.first_release()
    code_tags = world.tags("code-")
    lines = []

    # A new model: its layer and a few descriptions, no build.
    published = world.publish(seed=1)
    world.front.reset()
    assert (await world.model_stream()).name == "Completed"
    assert (await world.release()).name == "Completed"
    assert world.ask()["model"] == published.version == "v2"
    layers = world.layers()
    size = sum(layers.values())
    assert size > published.size
    assert size <= world.sent() <= size + (64 << 10)
    lines.append(f"model-only: {len(layers)} layers {size} bytes + {world.sent() - size}")
    assert world.tags("code-") == code_tags
    assert world.revision().release.commit == first.release.commit

    # A new commit: not a byte of the model, from the store or to the registry.
    read_from_store.clear()
    world.front.reset()
    sha = world.commit("two")
    assert (await world.app_stream()).name == "Completed"
    assert (await world.model_stream()).name == "Completed"
    assert (await world.release()).name == "Completed"
    assert world.ask() == {"word": "two", "commit": sha, "model": "v2"}
    assert [key for key in read_from_store if "blobs/" in key] == []
    # Nor to the engine: the weights lie below the code.
    asked = {layer: [each.method for each in world.front.asked if layer in each.path] for layer in layers}
    assert all(set(methods) <= {"HEAD"} for methods in asked.values()), asked
    assert world.sent() < 32 << 10
    lines.append(f"code-only: {world.sent()} bytes, 0 of the model")
    assert world.layers() == layers

    # Nothing new.
    world.front.reset()
    quiet = [await world.app_stream(), await world.model_stream(), await world.release()]
    assert [each.type for each in quiet] == ["COMPLETED"] * 3
    assert (quiet[2].name, quiet[2].message) == (
        "UpToDate",
        f"{world.app}: {short(sha)} + v2 is live already",
    )
    assert world.sent() == 0
    work = [seconds_of_work(dict(await task_runs(each.id))) for each in quiet]
    lines.append(f"no-op: 0 bytes; own work {' + '.join(f'{each:.2f}' for each in work)} s")
    with capsys.disabled():
        sys.stdout.write("\n  " + "\n  ".join(lines) + "\n")


async def test_the_same_bytes_under_a_new_version_are_not_pushed_again(
    world: World, read_from_store: list[str]
) -> None:
    folder = world.model_folder()
    world.commit()
    world.publish(folder)
    assert (await world.all_three()).name == "Completed"
    layers = world.layers()
    again = world.publish(folder)
    read_from_store.clear()
    world.front.reset()
    assert (await world.model_stream()).name == "Completed"
    assert (await world.release()).name == "Completed"
    assert world.ask()["model"] == again.version == "v2"
    assert world.layers() == layers
    assert world.sent() < 16 << 10
    assert [key for key in read_from_store if "blobs/" in key] == []


async def test_a_commit_beside_the_app_builds_nothing_and_deploys_nothing(world: World) -> None:
    first = await world.first_release()
    # A commit with the same files, and one that a later commit takes back.
    sha = world.repository.commit(subject="Nothing but words")
    images = world.images()
    done = await world.app_stream()
    assert done.name == "Completed"
    steps = await task_runs(done.id, "build the code image")
    assert {"run the app's tests", "push the code image"}.isdisjoint(steps)
    assert f"commit-{sha}" in world.tags()
    assert len(world.tags("code-")) == 1
    assert world.images() <= images
    assert (await world.release()).name == "UpToDate"
    assert world.revision() == first


async def test_the_same_pair_is_the_same_release_and_going_back_builds_nothing(world: World) -> None:
    first = await world.first_release()
    world.commit("two")
    assert (await world.app_stream()).name == "Completed"
    assert (await world.release()).name == "Completed"
    assert world.revision().release.image != first.release.image

    world.repository.git("revert", "--no-edit", "HEAD")
    world.repository.push()
    world.front.reset()
    assert (await world.app_stream()).name == "Completed"
    assert (await world.release()).name == "Completed"
    assert world.revision().release.image == first.release.image
    assert world.ask()["word"] == "one"
    assert len(world.tags("code-")) == 2
    assert world.sent() < 16 << 10


async def test_a_layer_that_the_store_lost_is_still_released(world: World) -> None:
    """The registry has it: a clean-up of the store must not bring an older model back."""
    await world.first_release()
    world.publish(seed=1)
    assert (await world.all_three()).name == "Completed"
    before = world.revision()
    for blob in (world.models / "digits/blobs/sha256").iterdir():
        blob.unlink()
    world.commit("two")
    assert (await world.app_stream()).name == "Completed"
    assert (await world.release()).name == "Completed"
    assert world.ask()["model"] == "v2"
    assert world.revision().release.model == before.release.model


async def test_two_model_folders(world: World) -> None:
    """Code that wants its model elsewhere gets it there, without a new version."""
    await world.first_release()
    config = (world.repository.work / "linkspan.toml").read_text()
    service = (world.repository.work / "service.py").read_text()
    world.commit(
        linkspan_toml=config.replace("/model", "/srv/model"),
        service_py=service.replace("/model", "/srv/model"),
    )
    assert (await world.app_stream()).name == "Completed"
    waits = await world.release()
    assert (waits.name, world.revision().number) == ("Waiting", 1)
    assert (await world.model_stream()).name == "Completed"
    assert (await world.release()).name == "Completed"
    assert world.ask("/score") == {"label": "seven"}


async def test_runs_say_what_they_are_about(world: World) -> None:
    sha = world.commit("nine")
    world.publish()
    code, model = await world.app_stream(), await world.model_stream()
    release = await world.release()
    assert (await flow_run(code.id)).name == f"{world.app}: {short(sha)} Say nine"
    assert (await flow_run(model.id)).name == f"{world.app}: digits v1"
    assert (await flow_run(release.id)).name == f"{world.app}: {short(sha)} + v1 → production"


def test_the_counter_of_reads_counts(
    tmp_path: Path, read_from_store: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figure 0 above is worth something only if another one would be seen."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs/x").write_text("x")
    store = FileObjects(tmp_path)
    assert b"".join(store.read(store.head("blobs/x"))) == b"x"
    assert read_from_store == ["blobs/x"]
