"""What a run says, for people: all in one table, the two questions in a sentence each, and for the README."""

from collections.abc import Iterator

from rich.table import Table

from tests.bench.contenders.record import Record
from tests.bench.contenders.samples import LINKSPAN, Case, Results

LIMIT = "raw copy + SHA-256"
HEADLINES = (
    (Case.MODEL, "to_registry", "New model: seconds to the registry"),
    (Case.CODE, "to_start", "Commit: seconds until the node can start it"),
)
_MB = 1_000_000


def table(record: Record) -> Table:
    """The medians of all figures, and of seconds how many times Linkspan's they are."""
    made = Table(
        "",
        "",
        "s to registry",
        "",
        "s to start",
        "",
        "MB to registry",
        "MB to node",
        "peak MB",
        "n",
        box=None,
        pad_edge=False,
    )
    for column in made.columns[2:]:
        column.justify = "right"
    results = record.results
    for size in results.sizes:
        for case in Case:
            there = [name for name in results.contenders if results.count(name, case, size)]
            for name in there:
                made.add_row(
                    f"{case}, {size} MB" if name == there[0] else "",
                    name,
                    *_pair(results, name, case, size, "to_registry"),
                    *_pair(results, name, case, size, "to_start"),
                    *(
                        _number(_scaled(results.median(name, case, size, figure)))
                        for figure in ("sent", "fetched", "memory")
                    ),
                    str(results.count(name, case, size)),
                    style="bold" if name == LINKSPAN else "",
                    end_section=name == there[-1],
                )
    return made


def notes(record: Record) -> list[str]:
    """Who each contender is, and why some are not there."""
    ran = record.results.contenders
    lines = [f"{name}: {record.notes[name]}" for name in ran if name in record.notes]
    return [*lines, *(f"{name} cannot run here: {why}" for name, why in record.missing.items())]


def headlines(record: Record) -> list[str]:
    """The two questions, for each size."""
    results = record.results
    return [
        line for size in results.sizes for line in (_new_model(results, size), _commit(record, size)) if line
    ]


def _new_model(results: Results, size: int) -> str:
    ours = results.median(LINKSPAN, Case.MODEL, size, "to_registry")
    limit = results.median(LIMIT, Case.MODEL, size, "to_registry")
    others = [name for name in results.contenders if name != LINKSPAN and not name.startswith("raw")]
    best = results.best(Case.MODEL, size, "to_registry", others)
    if ours is None:
        return ""
    said = f"A new model of {size} MB is in the registry after {_number(ours)} s"
    if limit:
        said += f": {ours / limit:.2f}x of copying and hashing it ({_number(limit)} s)"
    if best:
        said += f"; the quickest other is {best[0]} with {_number(best[1])} s"
    return f"{said}."


def _commit(record: Record, size: int) -> str:
    results = record.results
    ours = results.median(LINKSPAN, Case.CODE, size, "to_start")
    best = results.best(Case.CODE, size, "to_start", record.without_our_layout)
    if ours is None or best is None:
        return ""
    return (
        f"A commit beside a model of {size} MB can be started after {_number(ours)} s; "
        f"the quickest without its layout, {best[0]}, takes {_number(best[1])} s: {best[1] / ours:.1f}x."
    )


def markdown(record: Record) -> Iterator[str]:
    """The two questions as tables for the README."""
    results = record.results
    for case, figure, title in HEADLINES:
        yield f"| {title} | {' | '.join(f'{size} MB' for size in results.sizes)} |"
        yield "|---|" + "---|" * len(results.sizes)
        for name in results.contenders:
            cells = [_cell(results, name, case, size, figure) for size in results.sizes]
            if any(cell != "-" for cell in cells):
                yield f"| {name} | {' | '.join(cells)} |"
        yield ""


def _cell(results: Results, name: str, case: Case, size: int, figure: str) -> str:
    seconds, ratio = _pair(results, name, case, size, figure)
    return f"{seconds} ({ratio})" if ratio else seconds


def _pair(results: Results, name: str, case: Case, size: int, figure: str) -> tuple[str, str]:
    """A median and its ratio; Linkspan's own has none."""
    ratio = results.ratio(name, case, size, figure)
    shown = "" if ratio is None or name == LINKSPAN else f"{_number(ratio)}x"
    return _number(results.median(name, case, size, figure)), shown


def _scaled(count: float | None) -> float | None:
    return None if count is None else count / _MB


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"
