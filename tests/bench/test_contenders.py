"""The comparison: what is made of its samples, how memory is measured, and once with real engines."""

import io
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from tests.bench.contenders import BY_NAME, Options, compare, plot, record, tables
from tests.bench.contenders.content import MB, Content, write_random
from tests.bench.contenders.memory import Watch
from tests.bench.contenders.record import Record
from tests.bench.contenders.samples import LINKSPAN, Case, Sample
from tests.services import own_engine
from tests.waiting import until

SMALL = 64 << 10


def sample(contender: str, case: Case, to_registry: float, to_start: float | None, size: int = 10) -> Sample:
    known = to_start is not None
    return Sample(
        contender=contender,
        case=case,
        size=size,
        round=0,
        to_registry=to_registry,
        to_start=to_start,
        sent=1_500_000,
        fetched=2_500 if known else None,
        memory=30_000_000,
    )


@pytest.fixture
def kept() -> Record:
    """Two rounds of a new model and three of a commit."""
    samples = [
        sample("raw copy + SHA-256", Case.MODEL, 1.0, None),
        *(sample(LINKSPAN, Case.MODEL, seconds, seconds + 1) for seconds in (1.0, 1.2)),
        *(sample("a <push> & pull", Case.MODEL, seconds, None) for seconds in (2.0, 2.4)),
        *(sample(LINKSPAN, Case.CODE, seconds / 2, seconds) for seconds in (0.9, 1.0, 30.0)),
        *(sample("ours too", Case.CODE, 1.0, seconds) for seconds in (0.7, 0.8, 0.9)),
        *(sample("on top", Case.CODE, 1.0, seconds) for seconds in (20.0, 21.0, 22.0)),
        *(sample("all anew", Case.CODE, 1.0, seconds) for seconds in (40.0, 41.0, 42.0)),
    ]
    return Record(
        "2 cores",
        "2026-11-30",
        samples,
        missing={"absent": "there is none"},
        notes={"on top": "as it says"},
        without_our_layout=["on top", "all anew"],
    )


def test_medians_and_ratios(kept: Record) -> None:
    results = kept.results
    assert results.contenders[0] == LINKSPAN
    assert results.median(LINKSPAN, Case.CODE, 10, "to_start") == 1.0
    assert results.median("a <push> & pull", Case.MODEL, 10, "to_start") is None
    assert results.median("on top", Case.CODE, 100, "to_start") is None
    assert results.ratio("on top", Case.CODE, 10, "to_start") == 21.0
    assert results.ratio("a <push> & pull", Case.MODEL, 10, "to_registry") == pytest.approx(2.0)
    assert results.ratio("a <push> & pull", Case.MODEL, 10, "to_start") is None
    assert results.best(Case.CODE, 10, "to_start", ["all anew", "on top"]) == ("on top", 21.0)
    assert results.best(Case.CODE, 10, "to_start", ["raw copy + SHA-256"]) is None


def test_the_two_questions_are_answered_for_each_size(kept: Record) -> None:
    assert tables.headlines(kept) == [
        "A new model of 10 MB is in the registry after 1.10 s: 1.10x of copying and hashing it (1.00 s); "
        "the quickest other is a <push> & pull with 2.20 s.",
        "A commit beside a model of 10 MB can be started after 1.00 s; the quickest without its layout, "
        "on top, takes 21.0 s: 21.0x.",
    ]
    kept.samples = [each for each in kept.samples if each.contender != LINKSPAN]
    assert tables.headlines(kept) == []


def test_the_table_has_a_row_for_each_and_a_dash_for_what_cannot_be(kept: Record) -> None:
    file = io.StringIO()
    Console(file=file, width=140).print(tables.table(kept))
    lines = file.getvalue().splitlines()
    [row] = [line for line in lines if "<push>" in line]
    assert row.split() == [*["a", "<push>", "&", "pull", "2.20", "2.00x", "-", "1.50", "-", "30.0", "2"]]
    [ours] = [line for line in lines if line.startswith("code-only, 10 MB")]
    assert ours.split()[3:] == [LINKSPAN, "0.50", "1.00", "1.50", "0.00", "30.0", "3"]
    assert tables.notes(kept) == ["on top: as it says", "absent cannot run here: there is none"]


def test_the_tables_of_the_readme(kept: Record) -> None:
    kept.samples.append(sample(LINKSPAN, Case.CODE, 1.0, 1.25, size=100))
    text = "\n".join(tables.markdown(kept))
    assert "| Commit: seconds until the node can start it | 10 MB | 100 MB |\n|---|---|---|\n" in text
    assert "| Linkspan | 1.00 | 1.25 |" in text
    assert "| on top | 21.0 (21.0x) | - |" in text
    assert "| New model: seconds to the registry |" in text


def test_the_picture_has_a_bar_for_each_median(kept: Record) -> None:
    root = ElementTree.fromstring(plot.svg(kept))
    texts = [each.text or "" for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a <push> & pull", LINKSPAN, "model of 10 MB", "2.2 s", "21 s"} <= set(texts)
    assert texts[-1] == "Medians of 1 to 3 rounds, 2026-11-30, 2 cores. Logarithmic axes."
    bars = list(root.iter("{http://www.w3.org/2000/svg}rect"))[1:]
    assert len(bars) == 3 + 4  # of a new model, of a commit
    widths = {float(bar.attrib["width"]) for bar in bars}
    assert max(widths) <= 250
    assert texts.count("-") == 2 * 6 - len(bars)


def test_a_record_survives_its_file_and_others_come_to_it(kept: Record, tmp_path: Path) -> None:
    file, other = tmp_path / "new" / "one.json", tmp_path / "other.json"
    kept.write(file)
    assert record.read([file]) == kept
    Record("2 cores", "2026-12-01", [sample("late", Case.CODE, 1, 2)], {}, {}, ["late", "on top"]).write(
        other
    )
    both = record.read([file, other])
    assert both.samples[-1].contender == "late"
    assert both.without_our_layout == ["on top", "all anew", "late"]
    assert (both.machine, both.when) == ("2 cores", "2026-11-30, 2026-12-01")


def test_content_is_new_with_its_seed_and_its_version(tmp_path: Path) -> None:
    one, other = (Content(tmp_path / name, name, 1) for name in ("one", "other"))
    first, second = one.model(1), one.model(2)
    assert first.stat().st_size == second.stat().st_size == MB
    assert len({path.read_bytes() for path in (first, second, other.model(1))}) == 3
    line = (one.app / "app.py").read_text()
    one.code(2)
    assert (one.app / "app.py").read_text() != line
    again = tmp_path / "again"
    write_random(again, "one 1", MB)
    assert again.read_bytes() == first.read_bytes()


def test_memory_is_that_of_all_its_processes_and_not_what_an_engine_had_before() -> None:
    hoard = "data = b'x' * 60_000_000; print(flush=True); input()"
    both = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hoard!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", both], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        child.stdout.readline()  # its child has it
        with Watch([child.pid]) as engine, Watch([]) as client:
            client.add(child.pid)
            until(lambda: client.peak > 60_000_000, what="the memory of a child's child")
        assert engine.peak < 30_000_000
        child.communicate(b"\n")


def test_a_disk_that_is_too_small_is_said_before_anything_is_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(own_engine, "unavailable", lambda: "")
    with pytest.raises(pytest.skip.Exception, match=r"a model of 1000000000 MB needs \d+ GB\. Free space"):
        compare(lambda _: None, Options((10**9,), 1, tmp_path / "raw.json"))


def test_every_contender_says_what_a_reader_must_know() -> None:
    assert all(each.note for each in BY_NAME.values())
    assert [name for name, each in BY_NAME.items() if each.our_layout] == ["linkspan", "docker", "buildah"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.needs("engine", "registry")
def test_linkspan_docker_and_a_copy_on_real_engines(tmp_path: Path, base_image: str) -> None:
    """Each byte that is new goes once, and a commit moves none of the model."""
    raw = tmp_path / "raw.json"
    found = compare(lambda _: None, Options((1,), 1, raw, ("linkspan", "docker", "raw")))
    assert found == record.read([raw])
    assert found.missing == {}
    results = found.results
    for name in (LINKSPAN, "docker build + push"):
        assert [results.count(name, case, 1) for case in Case] == [1] * 4
        for case, new in ((Case.NOTHING, 0), (Case.CODE, 0), (Case.MODEL, MB)):
            for figure in ("sent", "fetched"):
                count = results.median(name, case, 1, figure)
                assert count is not None
                assert new <= count < new + SMALL, (name, case, figure)
            to_start = results.median(name, case, 1, "to_start")
            assert to_start is not None
            assert to_start > (results.median(name, case, 1, "to_registry") or 0) > 0
    copied = [each for each in found.samples if each.contender == tables.LIMIT]
    assert [(each.case, each.sent, each.to_start) for each in copied] == [
        (Case.FIRST, None, None),
        (Case.MODEL, None, None),
    ]
    # A copy of 1 MB may be over before anybody looked.
    assert all(each.memory > 0 for each in found.samples if each.contender != tables.LIMIT)
