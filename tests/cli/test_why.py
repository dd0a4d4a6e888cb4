"""What a person reads who asks why something runs, and which service is meant."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from linkspan.cli.context import Context
from linkspan.cli.status import failed_since
from linkspan.cli.why import Seen, find, rows
from linkspan.errors import ReleaseNotFound
from linkspan.nouns import Release, Revision
from linkspan.release.why import Answer, Question, answer
from tests.values import model, release, revision

ONE, TWO = release(1, "v1"), release(2, "v2")
FAILED = revision(3, ONE, outcome="failed", reason="it crashed\nwith code 3")
HISTORY = [FAILED, revision(2, TWO, run="http://prefect/run"), revision(1, ONE, outcome="replaced")]


def seen(name: str, history: list[Revision], url: str = "", **replicas: int) -> Seen:
    def url_of(_: object) -> str:
        if not url:
            raise ReleaseNotFound("no way in")
        return url

    runtime = SimpleNamespace(url=url_of, revision_of=lambda _, replica: replicas.get(replica))
    return Seen(cast(Context, SimpleNamespace(service=name, runtime=runtime)), history)


def shown(found: Answer) -> dict[str, str]:
    return {label.removeprefix("[bold]").removesuffix("[/]"): text for label, text in rows(found)}


def of(number: int, history: list[Revision] = HISTORY, **fields: Any) -> dict[str, str]:
    [wanted] = [each for each in history if each.number == number]
    return shown(answer("a-b", history, wanted, **{"url": None, "found_by": "image", **fields}))


def test_what_a_person_reads() -> None:
    measured = model("v2", metrics={"accuracy": 0.98}, published_by="Grace")
    trained = Release.model_validate({**TWO.model_dump(), "model": measured})
    history = [revision(2, trained, run="http://prefect/run"), revision(1, ONE, outcome="replaced")]
    text = of(2, history, url="http://127.0.0.1:8080")
    text.pop("Rolled out")
    assert text == {
        "Service": "a-b at http://127.0.0.1:8080",
        "Release": "digits: 0000002 + v2, revision 2",
        "State": "live",
        "Commit": f"{TWO.commit.sha} A change, by Ada",
        "Model": "digits v2 (accuracy 0.98), published by Grace",
        "Image": TWO.image,
        "Started by": "a push",
        "Flow run": "http://prefect/run",
        "Replaced": "revision 1 (digits: 0000001 + v1)",
    }


def test_a_revision_that_is_not_live() -> None:
    first, failed = of(1), of(3)
    assert "by revision 2 (digits: 0000002 + v2)" in first["State"]
    assert first["Replaced"] == "nothing: the first release"
    assert first["Flow run"] == "none: from the command line"
    assert first["Same image"] == "revision 3"
    assert failed["State"] == "failed: it crashed with code 3"
    assert failed["Replaced"] == "nothing: it never went live"


def test_others_words_are_no_markup() -> None:
    history = [revision(1, ONE, cause="[red]me[/]\x1b[31m")]
    assert of(1, history)["Started by"] == r"\[red]me\[/]"


def test_which_services_answer() -> None:
    shop = seen("shop-production", HISTORY, "http://127.0.0.1:8080", pod=2, old=1, new=7)
    staging = seen("shop-staging", [revision(4, ONE)], "http://127.0.0.1:8081", stage=4)
    inside = seen("inside-production", [revision(9, TWO)])
    every = [staging, inside, shop]

    def found(kind: Any, text: str) -> list[tuple[str, int, str]]:
        answers = find(Question(kind, text), every)
        return [(each.service, each.revision.number, each.found_by) for each in answers]

    assert found("url", "http://localhost:8080") == [("shop-production", 2, "url")]
    assert found("image", "f000001") == [("shop-staging", 4, "image"), ("shop-production", 3, "image")]
    assert found("replica", "old") == [("shop-production", 1, "replica")]
    assert found("image", "stage") == [("shop-staging", 4, "replica")], "a container's ID"
    assert found("replica", "nobody") == []
    with pytest.raises(ReleaseNotFound, match="revision 7 of shop-production"):
        found("replica", "new")


def test_what_failed_since_the_live_release() -> None:
    live = HISTORY[1]
    assert failed_since(live, HISTORY) == [FAILED]
    assert failed_since(None, [FAILED]) == [FAILED]
    assert failed_since(revision(4, TWO), [revision(4, TWO), *HISTORY]) == []
