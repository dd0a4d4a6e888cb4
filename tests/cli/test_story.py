"""Every command, as people type them over the life of an app, on real parts."""

import json
import time
from pathlib import Path

import httpx
import pytest

from linkspan.cli import publish
from linkspan.prefect_api import http, server
from tests.cli.shell import linkspan, on_terminal, shell
from tests.cli.world import MODEL, World
from tests.e2e import tiny_app
from tests.services.prefect_server import asked
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.calm, pytest.mark.timeout(1800)]


def test_the_life_of_an_app(world: World, tmp_path: Path) -> None:
    before_anything(world)
    first = first_release(world)
    publishing(world, tmp_path)
    rolling_back(world)
    deploying(world, first)
    asking_why(world)
    a_commit_that_fails(world)
    reading(world, first)
    calling(world)
    the_end(world)


def test_what_may_be_broken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    linkspan("publish", str(world.train(seed=1)), "--name", MODEL)
    world.commit("one")
    assert linkspan("deploy").code == 0
    world.local._children["worker"].stop()  # the server notices that only after half a minute
    sources_that_are_away(world)
    what_doctor_finds(world)
    a_run_that_cannot_be_started(world)
    a_worker_that_is_missed(world)
    a_server_that_is_down(world, monkeypatch)


def before_anything(world: World) -> None:
    healthy = linkspan("doctor")
    assert healthy.code == 0, healthy
    assert "All is well." in healthy.out
    shown = linkspan("status")
    assert shown.code == 0
    assert f"{world.service}: nothing is live yet" in shown.says
    assert "Next Waiting for a commit whose tests pass." in shown.says
    assert linkspan("history").out == f"Nothing was rolled out to {world.service} yet.\n"
    assert linkspan("history", "--json").json == []
    back = linkspan("rollback")
    assert back.code == 8
    assert "no earlier release to go back to" in back.err


def first_release(world: World) -> str:
    published = linkspan(
        "publish", str(world.train(seed=1)), "--name", MODEL, "-m", "accuracy=0.97", "--by", "Grace", "--json"
    )
    assert published.code == 0, published
    model = published.json["model"]
    assert (model["version"], model["metrics"], model["published_by"]) == ("v1", {"accuracy": 0.97}, "Grace")
    assert [tensor["name"] for tensor in model["signature"]["inputs"]] == ["input"]
    assert published.json["run"]["created"] is True
    assert world.status()["action"] == "waiting"
    until(world.idle, what="model-stream has found no commit yet that names a model")

    sha = world.commit("one")
    started = linkspan("trigger", "commit", "--key", sha, "--hint", "push by Ada")
    again = linkspan("trigger", "commit", "--key", sha)
    assert (started.code, again.code, started.out) == (0, 0, "")
    assert f"app-stream/{world.app} started as" in started.err
    assert "was started before as" in again.err
    until(lambda: world.status()["live"] is not None, what="a first release")
    # What is live is noted a moment before nginx knows: until then it says that nothing is released.
    until(lambda: world.answers() == {"word": "one", "commit": sha, "model": "v1"})
    until(world.idle, what="the flows are done")

    shown = linkspan("status")
    assert f"Live {world.app}: {sha[:7]} + v1, revision 1" in shown.says
    assert f"Next Nothing to do: {world.app}: {sha[:7]} + v1 is live already." in shown.says
    assert "Problem" not in shown.out
    facts = world.status()
    assert (facts["action"], facts["pinned"], facts["problems"]) == ("nothing", False, [])
    assert facts["commit"]["tested"]
    assert facts["model"] == {"name": MODEL, "version": "v1", "validated": True}
    assert facts["url"].startswith("http://127.0.0.1:")
    # The release found the model as it was published, and asked for it.
    for name, newest, told in (("code", sha[:7], "push by Ada"), ("model", "v1", "push by Ada")):
        stream = facts["streams"][name]
        assert (stream["seen"], stream["built"], stream["live"], stream["held"]) == (
            newest,
            newest,
            newest,
            "",
        )
        assert told in stream["hint"]["text"]
    assert "Commit hint push by Ada, " in shown.says
    return sha


def publishing(world: World, tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.json"
    metrics.write_text('{"accuracy": 0.98, "loss": 0.1}')
    folder = world.train(seed=2)
    live = linkspan("publish", str(folder), "--metrics", str(metrics), "-m", "loss=0.2", "--wait")
    assert live.code == 0, live
    assert live.out.startswith(f"Published {MODEL} v2 (")
    assert "Live" in live.err
    assert world.answer()["model"] == "v2"

    as_json = linkspan("publish", str(world.train(seed=3)), "--version", "2.1", "--wait", "--json")
    assert as_json.code == 0, as_json
    assert as_json.json["live"]["revision"]["release"]["model"]["version"] == "2.1"
    assert as_json.json["live"]["url"] == world.status()["url"]

    there = world.versions()
    twice = linkspan("publish", str(folder), "--version", "v2")
    assert (twice.code, "it is there already" in twice.err) == (6, True)
    older = linkspan("publish", str(folder), "--version", "v1.5")
    assert (older.code, "--allow-older" in older.err) == (2, True)
    senseless = linkspan("publish", str(folder), "--version", "newest")
    assert (senseless.code, "has no order" in senseless.err) == (2, True)
    missing = linkspan("publish", "nowhere.onnx")
    assert (missing.code, "nowhere.onnx" in missing.err) == (2, True)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes((folder / "model.onnx").read_bytes()[:-100])
    refused = linkspan("publish", str(broken))
    assert (refused.code, refused.out) == (6, "")
    assert world.versions() == there

    # One file is a model too; one of another name is nobody's, which is said.
    other = linkspan("publish", str(folder / "model.onnx"), "--name", "another")
    assert other.code == 0, other
    assert f"takes model {MODEL}, so nobody will release another" in " ".join(other.err.split())
    assert [path.stem for path in (world.models / "another" / "versions").glob("*")] == ["v1"]
    until(world.idle, what="the flows are done")


def rolling_back(world: World) -> None:
    assert [row["release"]["model"]["version"] for row in linkspan("history", "--json").json] == [
        "2.1",
        "v2",
        "v1",
    ]
    would = linkspan("rollback", "--dry-run")
    assert (would.code, "+ v2" in would.out, world.answer()["model"]) == (0, True, "2.1")
    images = world.images()
    world.proxy.reset()
    begin = time.monotonic()
    back = linkspan("rollback", "--json")
    seconds = time.monotonic() - begin
    assert back.code == 0, back
    assert (back.json["number"], back.json["pinned"]) == (4, True)
    assert back.json["release"]["model"]["version"] == "v2"
    assert world.answer()["model"] == "v2"
    assert world.proxy.sent == 0
    assert world.images() == images
    assert seconds < 600

    shown = linkspan("status")
    assert "Pinned The flows leave it alone until `linkspan deploy`" in shown.says
    assert "2.1 waits. `linkspan deploy` releases on purpose." in shown.says
    assert "pinned" in linkspan("history").out.splitlines()[1]
    # The flows do not undo it, and a publisher who waits is told so.
    published = linkspan("publish", str(world.train(seed=4)), "--wait", "--json")
    assert (published.code, published.out) == (10, ""), published
    assert "Pinned to" in published.err
    assert world.answer()["model"] == "v2"

    further = linkspan("rollback")
    assert further.code == 0, further
    assert "+ v1 is live again, as revision 5, and is pinned now." in further.says
    by_number = linkspan("rollback", "3", "--dry-run", "--json")
    assert by_number.json["release"]["model"]["version"] == "2.1"
    nothing = linkspan("rollback", "v77")
    assert (nothing.code, "+ 2.1)" in nothing.err) == (8, True)
    assert linkspan("rollback").code == 8


def deploying(world: World, first: str) -> None:
    runs = len(world.local.server.recent_runs(limit=100))
    unknown = linkspan("deploy", "--commit", "0123456789")
    assert (unknown.code, "0123456789" in unknown.err) == (3, True)
    unpublished = linkspan("deploy", "--model", "v99")
    assert (unpublished.code, "no version v99" in unpublished.err) == (6, True)
    assert len(world.local.server.recent_runs(limit=100)) == runs

    world.commit("two")
    released = linkspan("deploy", "--json")
    assert released.code == 0, released
    newest = released.json["live"]
    assert (newest["pinned"], newest["release"]["model"]["version"]) == (False, "v3")
    assert released.json["url"] == world.status()["url"]
    assert world.answer()["word"] == "two"
    assert "build-and-deploy" in released.err

    named = linkspan("deploy", "--commit", first[:7], "--model", "v2")
    assert named.code == 0, named
    assert f"{world.app}: {first[:7]} + v2 is live at http://" in named.out
    assert named.out.endswith(", and pinned\n")  # else the next run of the schedule would undo it
    assert world.status()["action"] == "pinned"
    assert (world.answer()["word"], world.answer()["model"]) == ("one", "v2")
    newest_again = linkspan("deploy")
    assert newest_again.code == 0, newest_again
    assert (world.answer()["word"], world.answer()["model"]) == ("two", "v3")
    assert world.status()["action"] == "nothing"


def asking_why(world: World) -> None:
    live, before = linkspan("history", "--json").json[:2]
    url = world.status()["url"]
    wanted = {"app": world.app, "environment": "production", "role": "replica"}
    labels = [f"dev.linkspan.{name}={value}" for name, value in wanted.items()]
    [replica] = world.docker.containers.list(filters={"label": labels})
    network = replica.attrs["NetworkSettings"]["Networks"][f"linkspan-{world.service}"]
    ways = {
        "url": [url, url.replace("127.0.0.1", "localhost") + "/score"],
        "replica": [str(replica.name), str(replica.id)[:12]],
        "image": [live["release"]["image"], live["release"]["image"][7:14]],
        "version": [f"http://{network['IPAddress']}:8080"],
    }
    for found_by, questions in ways.items():
        for question in questions:
            done = linkspan("why", question, "--json")
            assert done.code == 0, done
            [found] = done.json
            assert (found["found_by"], found["revision"]) == (found_by, live), question
            assert (found["service"], found["url"], found["state"]) == (str(world.service), url, "live")
            assert found["replaced"]["number"] == before["number"]
    shown = linkspan("why", url)
    assert f"Commit {live['release']['commit']['sha']} Say two, by Ada" in shown.says
    assert f"Replaced revision {before['number']} (" in shown.says
    assert f"Flow run {world.local.server.ui_url}/runs/flow-run/" in shown.says
    assert "Found by" not in shown.says
    assert "no service has that address" in linkspan("why", ways["version"][0]).says

    gone = linkspan("why", f"linkspan-{world.service}-r5-0")
    assert "Started by rollback by" in gone.says
    assert "Flow run none: from the command line" in gone.says
    assert "State replaced" in gone.says
    assert "by revision 6" in gone.says
    for unknown, code in (
        ("nobody-knows", 8),
        ("0123456789abcdef", 8),
        ("http://127.0.0.1:1", 8),
        ("a b", 2),
    ):
        done = linkspan("why", unknown)
        assert (done.code, done.out) == (code, ""), done


def a_commit_that_fails(world: World) -> None:
    sha = world.commit("three", test_py=tiny_app.FAILS)
    shown = linkspan("status")
    before = world.status()["streams"]["code"]["built"]
    assert before not in {"", sha[:7]}
    assert f"Newest commit {sha[:7]} Say three (not tested; {before} is)" in shown.says
    assert f"Commit {sha[:7]} is not tested yet: app-stream/{world.app} does that" in shown.says
    failed = linkspan("deploy")
    assert failed.code == 4, failed
    assert "AssertionError: 3 is not 7" in failed.err
    assert world.answer()["word"] == "two"
    problem = " ".join(world.status()["problems"])
    assert f"The last run of app-stream/{world.app} failed" in problem
    assert "3 is not 7" in world.status()["streams"]["code"]["held"]


def reading(world: World, first: str) -> None:
    """What is shown stays readable on a terminal, and whole in a pipe."""
    for command in ("status", "history", "doctor"):
        lines = on_terminal(command)
        assert lines
        # Addresses and digests stay whole, to be copied; all else is wrapped.
        assert not [line for line in lines if len(line) > 80 and len(line.split()[-1]) < 60]
    piped = linkspan("history").out.splitlines()
    assert len(piped) == 1 + len(linkspan("history", "--json").json)
    assert piped[0].split() == ["Rev", "When", "Outcome", "Model", "Commit", "Image", "Started", "by"]
    assert f"{first[:7]} Say one" in piped[-1]
    assert len(linkspan("history", "-n", "2", "--json").json) == 2


def calling(world: World) -> None:
    """A plain git server that calls the receiver, with what `connect` prints and nothing else."""
    connected = linkspan("connect", "git")
    assert connected.code == 0, connected
    assert f"only what runs on this machine reaches {world.local.hooks_url}" in connected.says
    secret = linkspan("connect", "git", "--json").json["secret"]
    assert secret not in connected.out + connected.err, "the hook has keys that are made from it"
    hook = world.repository.bare / "hooks" / "post-receive"
    hook.write_text(connected.out)
    hook.chmod(0o700)
    # The receiver looks for blocks every half minute, and when a stranger calls, but not twice in three
    # seconds: who pushes just then is refused, and curl does not try again what was refused.
    log = world.local.home.logs / "receiver.log"
    httpx.post(f"{world.local.hooks_url}/hooks/{world.app}-git", timeout=600)
    until(lambda: f"routes: {world.app}-git\n" in log.read_text(), what="a receiver that knows the hook")
    sha = world.commit("six")
    until(lambda: "Say six" in hinted(world), what="a run that the webhook started")
    assert hinted(world).startswith("push by ")
    until(lambda: world.answers().get("commit") == sha, what="the release of what was pushed")
    until(world.idle, what="the flows are done")
    shown = linkspan("events", "--app", world.app)
    assert f"webhook.accepted     {world.app}-git: push by " in shown.out
    assert f"→ app-stream/{world.app}" in shown.out
    assert "release.live" in shown.out
    hook.unlink()

    renewed = linkspan("connect", "git", "--new-secret", "--json").json
    assert renewed["secret"] != secret
    assert renewed["url"] == f"{world.local.hooks_url}/hooks/{world.app}-git"
    assert linkspan("connect", "git", "--json").json == renewed
    wrong = linkspan("connect", "gitbuh")
    assert (wrong.code, "github" in wrong.err) == (2, True)


def hinted(world: World) -> str:
    hint = world.status()["streams"]["code"]["hint"]
    return str(hint["text"]) if hint else ""


def the_end(world: World) -> None:
    asked = shell("destroy")
    assert asked.code == 1
    assert f"Remove {world.service}" in asked.err
    assert world.answer()["word"] == "six"
    gone = linkspan("destroy", "--yes")
    assert (gone.code, gone.out) == (0, f"{world.service} is gone.\n"), gone
    assert world.status()["live"] is None
    assert linkspan("history", "--json").json == []


def sources_that_are_away(world: World) -> None:
    away = world.repository.bare.with_suffix(".away")
    world.repository.bare.rename(away)
    shown = linkspan("status")
    assert shown.code == 0
    assert "Problem" in shown.out
    assert "Next Unknown until that is mended. What is live stays live." in shown.says
    assert f"Live {world.app}:" in shown.says
    away.rename(world.repository.bare)


def what_doctor_finds(world: World) -> None:
    assert not wrong()

    world.save_blocks(container_registry={"password": "not the password"})
    finds(world, "registry", "Check user name and password", "was refused")
    assert "not the password" not in linkspan("doctor").says
    world.save_blocks(file_model_store={"path": str(world.folder / "gone")})
    finds(world, "store", "", "gone")
    world.save_blocks(git_repository={"url": str(world.folder / "gone.git")})
    finds(world, "repository", "", "gone.git")
    assert wrong() == {"repository"}, "the store may be read"
    there, nameless = world.versions(), linkspan("publish", str(world.train(seed=8)))
    assert (nameless.code, world.versions(), "--name" in nameless.err) == (3, there, True), nameless
    world.save_blocks(git_repository={"branch": "trunk"})
    finds(world, "repository", "", "trunk")
    world.save_blocks(image_builder={"base_url": f"unix://{world.folder}/no.sock"})
    finds(world, "builder", "Start it", "no.sock")
    world.save_blocks(docker_runtime={"base_url": f"unix://{world.folder}/no.sock"})
    finds(world, "runtime", "Start it", "no.sock")
    world.save_blocks()
    world.commit("five", linkspan_toml='name = "digits"\nmodle = 1\n')
    finds(world, "repository", None, "modle")  # it says "Did you mean `model`?", which is the fix
    world.commit("six")
    assert not wrong()
    unknown = linkspan("doctor", "-e", "staging")
    assert (unknown.code, f"not deployed: build-and-deploy/{world.app}-staging" in unknown.says) == (1, True)


def wrong() -> set[str]:
    """The checks that fail, but for the worker that was stopped."""
    return {finding["check"] for finding in linkspan("doctor", "--json").json if not finding["ok"]} - {
        "worker"
    }


def finds(world: World, check: str, fix: str | None, detail: str) -> None:
    found = linkspan("doctor", "--json")
    wrong = {finding["check"]: finding for finding in found.json if not finding["ok"]}
    assert (found.code, check in wrong) == (1, True), found
    assert detail in wrong[check]["detail"]
    assert "Traceback" not in found.err
    shown = linkspan("doctor")
    assert "FAIL" in shown.out
    if fix is not None:
        assert wrong[check]["fix"], wrong[check]
        assert fix in wrong[check]["fix"]
        assert f"to do: {wrong[check]['fix']}" in shown.out


def delete(world: World, deployment: str) -> None:
    found = world.local.server.deployment(deployment)
    asked(world.local.api_url, world.local.home.auth(), "DELETE", f"deployments/{found.id}")


def a_run_that_cannot_be_started(world: World) -> None:
    """The model is published all the same, and that is said."""
    delete(world, f"model-stream/{world.app}")
    finds(world, "deployments", "python -m flows.setup", f"not deployed: model-stream/{world.app}")
    there = world.versions()
    published = linkspan("publish", str(world.train(seed=5)))
    assert published.code == 0, published
    assert "is published, but its run could not be started" in " ".join(published.err.split())
    assert len(world.versions()) == len(there) + 1
    waits = linkspan("publish", str(world.train(seed=6)), "--wait")
    assert (waits.code, "is published, but" in waits.err) == (9, True)


def a_worker_that_is_missed(world: World) -> None:
    until(lambda: "no worker" in linkspan("doctor").out, what="a worker that is missed")
    finds(world, "worker", "Run `linkspan up`", "no worker of pool linkspan is online")
    assert "no run starts" in " ".join(world.status()["problems"])


def a_server_that_is_down(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "PATIENCE", 1.0)
    monkeypatch.setattr(http, "REQUEST_SECONDS", 15.0)
    monkeypatch.setattr(server, "OUTAGE_SECONDS", 60.0)
    world.local._children["server"].stop()
    there = world.versions()
    for command in (("status",), ("history",), ("rollback",), ("deploy",), ("status", "--json")):
        down = linkspan(*command)
        assert (down.code, down.out) == (9, ""), down
        assert "`linkspan up` starts one" in down.err
    published = linkspan("publish", str(world.train(seed=7)))
    assert (published.code, world.versions()) == (9, there)
    assert "nothing was published" in published.err
    told = linkspan("trigger", "commit", "--app", world.app, "--patience", "0.5")
    assert (told.code, "Nothing is lost" in told.err) == (9, True)
    found = linkspan("doctor", "--json")
    assert found.code == 1
    assert {finding["check"]: finding["ok"] for finding in found.json}["prefect"] is False
    assert json.loads(found.out)
    assert world.answer()["word"] == "one"
