"""A rolled-back environment stays where it was put, until somebody releases on purpose."""

from linkspan.nouns import short
from tests.e2e.world import World


async def test_the_streams_leave_a_pinned_environment_alone(world: World) -> None:
    first = await world.first_release()
    world.commit("two")
    assert (await world.all_three()).name == "Completed"
    code_tags = world.tags("code-")

    world.front.reset()
    back = world.roll_back()
    assert (back.pinned, back.release) == (True, first.release)
    assert world.ask()["word"] == "one"
    assert world.sent() == 0
    quiet = await world.release()
    assert (quiet.type, quiet.name) == ("COMPLETED", "Pinned")

    sha = world.commit("three")
    world.publish(seed=1)
    pinned = await world.all_three()
    assert (pinned.type, pinned.name) == ("COMPLETED", "Pinned")
    assert pinned.message == (
        f"Pinned to {first.release.title} by rollback by Ada; {world.app}: {short(sha)} + v2 waits. "
        "`linkspan deploy` releases on purpose"
    )
    assert world.revision() == back
    assert world.tags("code-") > code_tags  # the streams went on; only the release waits

    done = await world.release(on_purpose=True, hint="linkspan deploy by Ada")
    assert done.name == "Completed"
    assert world.ask() == {"word": "three", "commit": sha, "model": "v2"}
    live = world.revision()
    assert (live.pinned, live.cause) == (False, "linkspan deploy by Ada")


async def test_on_purpose_unpins_also_what_is_newest_already(world: World) -> None:
    first = await world.first_release()
    world.commit("two")
    assert (await world.all_three()).name == "Completed"
    world.roll_back()
    # Its own pair becomes the newest one: the commit is taken back.
    world.repository.git("revert", "--no-edit", "HEAD")
    world.repository.push()
    assert (await world.app_stream()).name == "Completed"
    assert (await world.release()).name == "Pinned"
    assert (await world.release(on_purpose=True)).name == "Completed"
    live = world.revision()
    assert (live.pinned, live.release) == (False, first.release)
    assert (await world.release()).name == "UpToDate"
