"""YAML as Kubernetes reads it: the same values, and what would be read in two ways is refused."""

from typing import Any

import pytest

from linkspan.errors import ConfigError
from linkspan.runtimes.kubernetes.yaml import documents


def read(text: str) -> list[tuple[int, Any]]:
    return list(documents(text, "x.yaml"))


def value(text: str) -> Any:
    [(_, document)] = read(f"v: {text}\n")
    return document["v"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12:30", "12:30"),
        ("190:20:30.15", "190:20:30.15"),
        ("2026-11-22", "2026-11-22"),
        ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z"),
        ("0644", 0o644),
        ("0", 0),
        ("-7", -7),
        ("0x1F", 31),
        ("1_000", 1000),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("1.2.3", "1.2.3"),
        ("100%", "100%"),
        ("500m", "500m"),
        ("=", "="),
        ("yes", True),
        ("off", False),
        ("~", None),
        ("'yes'", "yes"),
        ("|\n  a\n  b", "a\nb\n"),
    ],
)
def test_scalars(text: str, expected: object) -> None:
    assert value(text) == expected
    assert type(value(text)) is type(expected)


def test_documents_and_their_lines() -> None:
    assert read("# nothing\n---\na: 1\n---\n---\n{}\n---\n# x\n\nb: 2\n") == [(3, {"a": 1}), (10, {"b": 2})]


def test_keys_are_text() -> None:
    assert read("1: a\n2.5: b\non: c\n") == [(1, {"1": "a", "2.5": "b", "true": "c"})]


def test_aliases_and_merges_are_written_out() -> None:
    [(_, found)] = read("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [{x: 7}, *a]}\nd: [*a, *a]\n")
    assert found["b"] == {"x": 1, "y": 3}
    assert found["c"] == {"x": 7, "y": 2}
    assert found["d"][0] is not found["d"][1]


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: `a` stands twice"),
        ("a: {1: x, '1': y}\n", "line 1: `1` stands twice"),
        ("a: 1\n? [b]\n: c\n", "line 2: a key must be text"),
        ("a: 1\n~: c\n", "line 2: a key must be text"),
        ("a: .nan\n", "line 1: is no number that JSON has"),
        ("a: 12e4567\n", "Put it into quotes"),
        ("a: !!binary aGk=\n", "line 1: must be text or a number"),
        ("a: 1\nb: !Ref c\n", "line 2: not YAML"),
        ("a: !Sub [c]\n", "line 1: must be a list or a mapping"),
        ("a: !!set {c}\n", "line 1: must be a list or a mapping"),
        ("a: !!int seven\n", "line 1: cannot be read"),
        ("a: 1\n\tb: 2\n", "line 2: not YAML"),
        ("a: 1\nb: \x07\n", "line 2: not YAML: character"),
        ('a: "\\ud800"\n', "line 1: is no Unicode text"),
        ("a: *b\n", "line 1: not YAML: found undefined alias"),
        ("a: {<<: 7}\n", "line 1: `<<` takes a mapping"),
        ("a: &a [*a]\n", "line 1: an alias of what it is in"),
        ("a: &a {<<: *a}\n", "line 1: an alias of what it is in"),
        ("a: " + "[" * 5000, "nested too deep"),
        (bomb(12), "too large (expected at most 100000 values"),
        ("just text\n", "line 1: is no object"),
        ("0\n", "line 1: is no object"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert str(caught.value).startswith("x.yaml")
    assert said in str(caught.value)
