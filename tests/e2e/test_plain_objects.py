"""Models as the reference app kept them: plain objects that are overwritten. The content is the version."""

import shutil

from tests.e2e.world import World


def upload(world: World, **options: object) -> None:
    folder = world.model_folder(**options)  # type: ignore[arg-type]
    for name in ("model.onnx", "labels.txt"):
        shutil.copyfile(folder / name, world.models / name)


async def test_an_overwritten_object_is_a_new_release(world: World) -> None:
    await world.save_blocks(plain_objects=["model.onnx", "labels.txt"])
    world.commit()
    upload(world)
    assert (await world.all_three()).name == "Completed"
    first = world.ask()["model"]
    assert first.startswith("c")
    assert len(first) == 13
    quiet = await world.model_stream()
    assert (quiet.name, quiet.message) == ("Completed", f"{first} was packaged before")

    upload(world, seed=1)
    assert (await world.model_stream()).name == "Completed"
    assert (await world.release()).name == "Completed"
    second = world.ask()["model"]
    assert second != first

    # A bad upload over it. The objects of before are gone, yet their layer is in the registry.
    (world.models / "model.onnx").write_bytes(b"half an upload")
    refused = await world.model_stream()
    assert (refused.type, "model.onnx" in refused.says) == ("FAILED", True)
    assert (await world.model_stream()).name == "HeldBack"
    assert (await world.release()).name == "UpToDate"
    world.commit("two")
    assert (await world.app_stream()).name == "Completed"
    assert (await world.release()).name == "Completed"
    assert (world.ask()["word"], world.ask()["model"]) == ("two", second)

    # The same with one object missing.
    (world.models / "labels.txt").unlink()
    incomplete = await world.model_stream()
    assert "model digits is incomplete" in incomplete.says
    assert "no labels.txt" in incomplete.says
    world.commit("three")
    assert (await world.app_stream()).name == "Completed"
    assert (await world.release()).name == "Completed"
    assert (world.ask()["word"], world.ask()["model"]) == ("three", second)

    # The first content again is the first version again, and its layer is not pushed twice.
    upload(world)
    world.front.reset()
    assert (await world.model_stream()).name == "Completed"
    assert (await world.release()).name == "Completed"
    assert world.ask()["model"] == first
    assert world.sent() < 16 << 10
