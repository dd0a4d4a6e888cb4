"""The two questions as a picture: bars on a logarithmic axis, written as SVG by hand."""

import math
from collections.abc import Iterator
from html import escape

from tests.bench.contenders.record import Record
from tests.bench.contenders.samples import LINKSPAN, Results
from tests.bench.contenders.tables import HEADLINES

_LABELS, _PANEL, _GAP, _VALUES = 250, 250, 24, 56
_TOP, _ROW, _GROUP, _BOTTOM = 58, 18, 30, 52
_INK, _FAINT, _OURS, _THEIRS, _LIMIT = "#1f2933", "#d9dee4", "#0b6bcb", "#93a1b0", "#4b5763"


def svg(record: Record) -> str:
    """The picture; a contender that has nothing in a case has a dash there."""
    results = record.results
    names, sizes = results.contenders, results.sizes
    group = _GROUP + _ROW * len(names)
    width = _LABELS + len(HEADLINES) * (_PANEL + _VALUES + _GAP)
    height = _TOP + group * len(sizes) + _BOTTOM
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="system-ui, sans-serif" font-size="12" fill="{_INK}">',
        "<title>Linkspan beside its contenders</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for row, size in enumerate(sizes):
        top = _TOP + row * group
        lines.append(_text(12, top + 18, f"model of {size} MB", weight="bold"))
        for number, name in enumerate(names):
            weight = "bold" if name == LINKSPAN else "normal"
            lines.append(_text(_LABELS - 10, _baseline(top, number), name, anchor="end", weight=weight))
    for number in range(len(HEADLINES)):
        lines += _panel(results, number, _LABELS + number * (_PANEL + _VALUES + _GAP), group)
    under = f"Medians of {_rounds(results)}, {record.when}, {record.machine}. Logarithmic axes."
    lines += [_text(12, height - 12, under, size=11), "</svg>"]
    return "\n".join(lines) + "\n"


def _panel(results: Results, number: int, left: int, group: int) -> Iterator[str]:
    case, figure, title = HEADLINES[number]
    medians = {
        (name, size): results.median(name, case, size, figure)
        for name in results.contenders
        for size in results.sizes
    }
    there = [value for value in medians.values() if value]
    if not there:
        return
    low, high = math.floor(math.log10(min(there))), math.ceil(math.log10(max(there)))
    high = max(high, low + 1)
    bottom = _TOP + group * len(results.sizes)

    def place(value: float) -> float:
        return left + _PANEL * (math.log10(value) - low) / (high - low)

    yield _text(left, 24, title, weight="bold")
    for power in range(low, high + 1):
        at = place(10.0**power)
        yield f'<line x1="{at:.1f}" y1="{_TOP - 8}" x2="{at:.1f}" y2="{bottom}" stroke="{_FAINT}"/>'
        yield _text(at, _TOP - 14, f"{10.0**power:g} s", anchor="middle", size=11)
    for row, size in enumerate(results.sizes):
        top = _TOP + row * group
        for order, name in enumerate(results.contenders):
            value = medians[name, size]
            y = _baseline(top, order)
            if value is None:
                yield _text(left + 4, y, "-")
                continue
            colour = _OURS if name == LINKSPAN else _LIMIT if name.startswith("raw") else _THEIRS
            long = max(place(value) - left, 1)
            yield f'<rect x="{left}" y="{y - 11:.0f}" width="{long:.1f}" height="13" rx="2" fill="{colour}"/>'
            yield _text(left + long + 5, y, f"{value:.3g} s", size=11)


def _rounds(results: Results) -> str:
    counts = {
        results.count(name, case, size)
        for name in results.contenders
        for case, _, _ in HEADLINES
        for size in results.sizes
    } - {0}
    fewest, most = min(counts, default=0), max(counts, default=0)
    return f"{most} round{'s' * (most != 1)}" if fewest == most else f"{fewest} to {most} rounds"


def _baseline(top: float, row: int) -> float:
    return top + _GROUP + _ROW * row + 9


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal", size: int = 12
) -> str:
    style = f'text-anchor="{anchor}" font-weight="{weight}" font-size="{size}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'
