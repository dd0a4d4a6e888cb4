"""The release report: true numbers, and text of other people that stays text."""

import re

import pytest

from linkspan.nouns import Mount, Revision
from linkspan.release.layout import Stratum
from linkspan.release.plan import Candidate
from linkspan.release.report import Step, metrics, release_report
from tests.registry.images import CONFIG
from tests.values import commit, model, release, revision

DIGEST = "sha256:" + "1" * 64


def test_metrics() -> None:
    assert metrics({"accuracy": 0.98123, "loss": 0.07, "samples": 1797.0}) == (
        "accuracy 0.9812, loss 0.07, samples 1797"
    )
    assert metrics({}) == ""


def report(of: Revision, **changes: object) -> str:
    steps = [
        Step(name="package the model", seconds=1.25, pushed=95_000),
        Step(name="build", seconds=0.5, reused=True, note="same tree"),
    ]
    fields: dict[str, object] = {
        "environment": "production",
        "candidate": candidate(of),
        "url": "http://127.0.0.1:8080",
        "steps": steps,
        "replaced": None,
        **changes,
    }
    return release_report(of, **fields)  # type: ignore[arg-type]


def candidate(of: Revision, **changes: object) -> Candidate:
    reference = "registry.example/digits@" + of.release.image
    return Candidate(release=of.release, config=CONFIG, reference=reference).model_copy(update=changes)


def cells(row: str) -> list[str]:
    """The cells of a row, as a Markdown reader splits them: at every bar that is not escaped."""
    return [cell.strip() for cell in re.split(r"(?<!\\)(?:\\\\)*\|", row)[1:-1]]


def test_it_says_who_what_where_and_what_it_cost() -> None:
    text = report(revision(7, release(1, "v2")), replaced=revision(6, release(1, "v1")))
    assert text.startswith("# digits: 0000001 + v2 → production (revision 7)\n")
    for part in (
        "`0000001` A change",
        "| Author | Ada |",
        "12 B in 1 file |",
        "Replaced | digits: 0000001 + v1",
    ):
        assert part in text, text
    assert "| package the model | 1.25 | 95.0 KB |  |" in text
    assert "| build | 0.50 | 0 B | reused same tree |" in text
    assert "**1.75** | **95.0 KB**" in text
    assert "nothing: the first release" in report(revision(1, release(1, "v1")))
    assert "none published" in text


def test_it_says_how_the_layers_lie() -> None:
    laid = (
        Stratum(half="model", layers=1, size=1_052_000_000),
        Stratum(half="code", layers=9, size=131_000_000),
        Stratum(half="model", layers=2, size=512_300),
        Stratum(half="code", layers=1, size=20_100),
    )
    first = revision(1, release(1, "v1"))
    said = (
        "model 1.1 GB, below code 131.0 MB in 9 layers, below model 512.3 KB in 2 layers, below code 20.1 KB"
    )
    assert f"| Layers | {said} |" in report(first, candidate=candidate(first, strata=laid)).splitlines()
    why = candidate(first, strata=laid, unmounted="node a|b has containerd 1.7")
    assert f"| Layers | {said} (not mounted: node a\\|b has containerd 1.7) |" in report(first, candidate=why)
    mounted = candidate(first, strata=laid[1:2], mount=Mount(image="r/a@sha256:1", content=DIGEST, path="/m"))
    lines = report(first, candidate=mounted).splitlines()
    beside = "code 131.0 MB in 9 layers; the model beside it, mounted from `r/a@sha256:1`"
    assert f"| Layers | {beside} |" in lines


HOSTILE = [
    "fix | everything | now",
    "a\nb\r\n| c | d |\n# heading",
    "![x](http://evil.example/pixel.png)",
    "[click](javascript:alert(1))",
    "<script>alert(1)</script>",
    "`code` *bold* _under_ ~~gone~~",
    "ends with a backslash \\",
    "\\| escaped before",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_others_wrote_stays_in_its_cell(text: str) -> None:
    before = release(1, "v1")
    of = before.model_copy(
        update={
            "commit": commit(1, subject=text, author=text),
            "model": model("v1", published_by=text, metrics={text.replace("\n", " "): 1.0}),
        }
    )
    shown = report(revision(1, of, cause=text))
    rows = [line for line in shown.splitlines() if line.startswith("|")]
    plain = [line for line in report(revision(1, before)).splitlines() if line.startswith("|")]
    assert len(rows) == len(plain)
    assert [len(cells(row)) for row in rows] == [len(cells(row)) for row in plain]
    assert len([line for line in shown.splitlines() if line.startswith("#")]) == 1
    unescaped = re.sub(r"\\.", "", shown)
    for markup in ("<script", "![", "](javascript", "](http://evil", "*bold*", "~~gone"):
        assert markup not in unescaped


def test_a_step_cannot_take_negative_time() -> None:
    with pytest.raises(ValueError, match="greater than or equal"):
        Step(name="x", seconds=-1)
