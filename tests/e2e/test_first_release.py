"""From nothing to a first release, whichever stream comes first; and what the second release costs."""

from tests.e2e.world import World


async def test_code_first(world: World) -> None:
    assert (await world.app_stream()).name == "Waiting"
    waits = await world.release()
    assert (waits.type, waits.name, waits.message) == (
        "COMPLETED",
        "Waiting",
        "Waiting for a commit whose tests pass",
    )
    sha = world.commit()
    waits = await world.release()
    assert (waits.name, waits.message) == ("Waiting", "Waiting for a commit whose tests pass")
    assert (await world.app_stream()).name == "Completed"
    waits = await world.model_stream()
    assert (waits.name, waits.message) == ("Waiting", "Waiting for the first version of digits")
    waits = await world.release()
    assert (waits.name, waits.message) == ("Waiting", "Waiting for a valid version of model digits")
    assert world.live() is None

    world.publish()
    assert (await world.model_stream()).name == "Completed"
    assert (await world.release()).name == "Completed"
    assert world.ask() == {"word": "one", "commit": sha, "model": "v1"}


async def test_model_first(world: World) -> None:
    world.publish()
    waits = await world.model_stream()
    assert (waits.type, waits.name) == ("COMPLETED", "Waiting")
    assert waits.message == "Waiting for the first commit: it names the model"

    sha = world.commit()
    assert (await world.app_stream()).name == "Completed"
    # The code is there and the model is not packaged: the release asks the model stream to look.
    waits = await world.release()
    assert (waits.name, waits.message) == ("Waiting", "Waiting for a valid version of model digits")
    with world.server.api() as engine:
        started = engine.recent_runs(f"model-stream/{world.app}")
    assert [run.state_type for run in started] == ["SCHEDULED"]

    assert (await world.model_stream()).name == "Completed"
    assert (await world.release()).name == "Completed"
    assert world.ask() == {"word": "one", "commit": sha, "model": "v1"}
