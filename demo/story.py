"""What happens in the demo, in order; each act looks at the real thing, and fails if it is not so."""

import base64
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from demo import world
from demo.machine import DemoRegistry
from demo.places import APP, CLONE, ENVIRONMENT, ROOT, TRAINED
from demo.prober import Prober, Report
from demo.show import Row, done, note, title
from linkspan.errors import RunFailed, RuntimeUnavailable
from linkspan.nouns import Revision, short
from linkspan.prefect_api.server import Server
from linkspan.progress import size
from linkspan.registry.client import Registry
from linkspan.runtimes.base import Runtime, Service

SERVICE = Service(app=APP, environment=ENVIRONMENT)
PATIENCE = 900.0


@dataclass
class Stage:
    """What the acts share: the real parts, and what was seen until now."""

    server: Server
    registry: DemoRegistry
    runtime: Runtime
    rows: list[Row] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        return self.runtime.url(SERVICE)


def first_release(stage: Stage) -> None:
    """Acts 2 to 4: a model is trained and published, a commit is pushed, and the pair answers."""
    title("A data scientist trains a first model and publishes it")
    folder = world.train("basic")
    metrics = json.loads((folder / "metrics.json").read_text())
    done("Trained", f"accuracy {metrics['accuracy']:.1%} on {metrics['hold_out_size']:.0f} held-out digits")
    before = _before(stage)
    begin = time.monotonic()
    world.publish(folder, "Grace")
    done("Published", "linkspan publish: its files, then its manifest")

    title("A developer pushes the app")
    world.push()
    done("Pushed", "the repository's hook started app-stream")
    live = _release(stage, "git push and publish", before, begin, lambda _: True)

    title("The service answers")
    answer = _score(stage.url, *_sample())
    done("A real digit", f"is read as {answer}")
    version = httpx.get(f"{stage.url}/version", timeout=30).raise_for_status().json()
    commit, model = live.release.commit.sha, live.release.model.version
    _must("/version names the commit and the model", commit in str(version) and model in str(version))
    done("/version", f"commit {short(commit)}, model {model}")


def better_model(stage: Stage) -> None:
    """Act 5, first half: a better model goes live and not a library is installed."""
    title("A better model is published")
    folder = world.train("better")
    metrics = json.loads((folder / "metrics.json").read_text())
    done("Trained", f"accuracy {metrics['accuracy']:.1%} on the same digits")
    before, live = _before(stage), _live(stage)
    begin = time.monotonic()
    world.publish(folder, "Grace")
    _release(stage, "publish", before, begin, lambda new: new.release.model != live.release.model)


def next_commit(stage: Stage) -> None:
    """Act 5, second half: a commit changes the app and not a byte of the model moves."""
    title("A commit changes the app")
    page = CLONE / "scoring" / "page"
    found = next(path for path in sorted(page.rglob("*.html")))
    text = found.read_text()
    changed = text.replace("</title>", ", now greener</title>", 1)
    _must("the page has a title to change", changed != text)
    found.write_text(changed)
    sha = world.commit("A greener page")
    before = _before(stage)
    begin = time.monotonic()
    world.push()
    done("Pushed", f"{short(sha)} A greener page")
    _release(stage, "git push", before, begin, lambda new: new.release.commit.sha == sha)


def prober(stage: Stage) -> Prober:
    """A client that asks for a real digit all the time, over new connections and over one kept alive."""
    picture, label = _sample()

    def version_of(body: bytes) -> str:
        answer = json.loads(body)
        if answer["predictions"][0]["label"] != label:
            raise ValueError(f"read {answer['predictions'][0]['label']}, not {label}")
        return f"{short(answer['commit'])} + {answer['model']['version']}"

    return Prober(
        f"{stage.url}/score",
        version_of,
        method="POST",
        body=_request(picture),
        headers={"Content-Type": "application/json"},
        per_second=25,
    )


def count(report: Report) -> None:
    """What the client saw. Raises RunFailed if a single request failed."""
    title("What a client saw that asked all the time")
    for failure in report.failures[:10]:
        note(str(failure))
    _must("not one request failed", not report.failures)
    done("Not one request failed", report.summary())


@dataclass(frozen=True)
class _Before:
    revision: int
    stored: int
    tags: frozenset[str]
    url: str
    answer: str
    """What its `/version` says. Both are empty before the first release."""


def _before(stage: Stage) -> _Before:
    live = stage.runtime.live(SERVICE)
    with _open(stage) as registry:
        tags = frozenset(registry.tags())
    url = stage.url if live else ""
    return _Before(live.number if live else 0, stage.registry.stored(), tags, url, url and _answer(url))


def _open(stage: Stage) -> Registry:
    return stage.registry.settings.open(APP)


def _live(stage: Stage) -> Revision:
    live = stage.runtime.live(SERVICE)
    _must("something is live", live is not None)
    assert live is not None  # for the type checker
    return live


def _release(
    stage: Stage, trigger: str, before: _Before, begin: float, wanted: Callable[[Revision], bool]
) -> Revision:
    """Wait for the release, tell what was made for it, and add its row."""
    note(f"the flows are at work; watch them at {stage.server.ui_url}")
    live = _wait(stage, before, begin, wanted)
    seconds = time.monotonic() - begin
    with _open(stage) as registry:
        new = set(registry.tags()) - before.tags
    made = [
        word
        for word, prefix in (("code image", "code-"), ("model layer", "layer-"))
        if any(tag.startswith(prefix) for tag in new)
    ]
    pushed = stage.registry.stored() - before.stored
    stage.rows.append(
        Row(
            revision=live.number,
            release=f"{short(live.release.commit.sha)} + {live.release.model.version}",
            trigger=trigger,
            built=", ".join(made),
            pushed=pushed,
            seconds=seconds,
        )
    )
    done("Live", f"{live.release.title} at {stage.url}: {', '.join(made)}; {size(pushed)} pushed")
    return live


def _wait(stage: Stage, before: _Before, begin: float, wanted: Callable[[Revision], bool]) -> Revision:
    """Until it is live and answers. Its seconds are counted, so the looks take little from who works on it.

    A service that answered before is asked first: an engine takes 60 ms of a processor to say what is live.
    The server is asked for failed runs once a second.
    """
    failures_at = begin
    while (now := time.monotonic()) - begin < PATIENCE:
        if not before.answer or _answer(before.url) != before.answer:
            live = None
            with suppress(RuntimeUnavailable):  # the flows wait for it too
                live = stage.runtime.live(SERVICE)
            if live and live.number > before.revision and wanted(live):
                answer = _answer(stage.url)
                if live.release.commit.sha in answer and live.release.model.version in answer:
                    return live
        if now > failures_at + 1:
            failures_at = now
            _raise_failure(stage)
        time.sleep(0.2)
    raise RunFailed(f"nothing went live in {PATIENCE:.0f} s", fix=f"Look at {stage.server.ui_url}")


def _answer(url: str) -> str:
    try:
        answer = httpx.get(f"{url}/version", timeout=30)
    except httpx.TransportError:
        return ""
    return answer.text if answer.status_code == 200 else ""


def _raise_failure(stage: Stage) -> None:
    for run in stage.server.recent_runs(limit=9, state_types=("FAILED", "CRASHED")):
        if run.id not in stage.failed:
            stage.failed.add(run.id)
            if run.failure:
                raise run.failure


def _sample() -> tuple[Path, str]:
    """A picture of a digit that no model was trained on, and which digit it is."""
    folder = TRAINED / "samples"
    if not folder.exists():
        world.run_python(str(ROOT / "app" / "train.py"), "--samples", str(folder), "--each", "1")
    picture = next(path for path in sorted(folder.glob("*.png")) if path.name.startswith("7"))
    return picture, picture.name[0]


def _request(picture: Path) -> bytes:
    # The reference app's form: a JSON list of base64 images, in a string.
    images = json.dumps([base64.b64encode(picture.read_bytes()).decode()])
    return json.dumps({"input": images}).encode()


def _score(url: str, picture: Path, label: str) -> str:
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(
        f"{url}/score", content=_request(picture), headers=headers, timeout=30
    ).raise_for_status()
    read: str = answer.json()["predictions"][0]["label"]
    _must(f"{picture.name} is read as {label}", read == label)
    return read


def _must(what: str, so: bool) -> None:
    if not so:
        raise RunFailed(f"the demo failed: {what} is not so")
