"""How flows end that refuse something: failed, after one attempt, with the reason; held back from then on.

Each test has something live first, looks at the words, and then lets the other stream release. What else is
refused is in test_refused.py, without flows.
"""

from linkspan.nouns import short
from tests.e2e import tiny_app
from tests.e2e.world import Ended, World, task_runs


async def nothing_changed(world: World, before: object) -> None:
    assert world.revision() == before
    assert world.ask("/score") == {"label": "seven"}


def failed(run: Ended, *words: str) -> None:
    assert run.type == "FAILED", run
    for word in words:
        assert word in run.says, f"{word!r} is not in: {run.says}"


async def step_attempts(run: Ended, *names: str) -> dict[str, int]:
    return {name: each.run_count for name, each in (await task_runs(run.id, *names)).items()}


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
    smoke = "smoke-test the linked image"
    assert (await step_attempts(refused, smoke))[smoke] == 1
    assert world.tags("release-") == releases
    await nothing_changed(world, first)

    held = await world.release()
    assert (held.type, held.name) == ("COMPLETED", "HeldBack")
    assert f"{short(first.release.commit.sha)} + v2 is held back: the smoke request" in held.message
    steps = "find the newest code", "find the newest model", "compare with what is live"
    assert set(await task_runs(held.id, *steps)) == {*steps}
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
    tests = "run the app's tests"
    assert (await step_attempts(refused, tests))[tests] == 1
    assert {tag for tag in world.tags() - tags if not tag.startswith("rejected-")} == set()

    held = await world.app_stream()
    assert (held.type, held.name) == ("COMPLETED", "HeldBack")
    assert f"commit {short(sha)} is held back: the app's tests failed" in held.message
    assert tests not in await task_runs(held.id, "build the code image")
    failed(await world.app_stream(on_purpose=True), "the app's tests failed")
    assert (await world.release()).name == "UpToDate"
    await nothing_changed(world, first)

    # The other stream goes on with the commit before.
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
