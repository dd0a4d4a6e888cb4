"""An app that wants its model mounted: the same story as with layers, in both places that run releases."""

from linkspan.ledger.labels import mounted_by
from tests.e2e import tiny_app
from tests.e2e.world import World


async def test_on_docker(world: World) -> None:
    await _story(world)


async def test_on_a_cluster(cluster_world: World) -> None:
    await _story(cluster_world)


async def _story(world: World) -> None:
    """First release, a commit, a model, a rollback: smoke-tested, run and put back as two images."""
    toml = tiny_app.files(world.app, world.base)["linkspan.toml"]
    toml = toml.replace('path = "/model"', 'path = "/model"\nmount = "image"')
    first = world.commit(linkspan_toml=toml)
    world.publish()
    assert (await world.all_three()).name == "Completed"
    assert world.ask() == {"word": "one", "commit": first, "model": "v1"}
    model = _mounted(world)

    second = world.commit("two", linkspan_toml=toml)
    assert (await world.app_stream()).name == "Completed"
    assert (await world.release()).name == "Completed"
    assert _answers(world) == {"word": "two", "commit": second, "model": "v1"}
    assert _mounted(world) == model, "the same image as before"

    world.publish(seed=1)
    assert (await world.model_stream()).name == "Completed"
    assert (await world.release()).name == "Completed"
    assert _answers(world) == {"word": "two", "commit": second, "model": "v2"}
    assert _mounted(world) != model
    assert (await world.release()).name == "UpToDate"

    world.front.reset()
    back = world.roll_back()
    assert world.sent() == 0, "it pushed something"
    assert back.release.model.version == "v1"
    assert _answers(world) == {"word": "two", "commit": second, "model": "v1"}
    assert _mounted(world) == model
    assert (await world.release()).name == "Pinned"


def _answers(world: World) -> object:
    """What a user hears, from one who scores with the model that is mounted too."""
    assert world.ask("/score") == {"label": "seven"}
    return world.ask()


def _mounted(world: World) -> str:
    """The model's image that the live release names. It has its code's layers and no other."""
    with world.registry() as registry:
        image = registry.image(world.revision().release.image)
        digest = mounted_by(image)
        assert digest is not None
        theirs = {each["digest"] for each in registry.manifest(digest).document["layers"]}
        assert not theirs & {each["digest"] for each in image.manifest.document["layers"]}
    assert theirs == set(world.layers())
    return digest
