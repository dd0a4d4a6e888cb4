"""Columns, in a pipe and on a terminal."""

from collections.abc import Sequence
from io import StringIO

import pytest
from rich.console import Console

from linkspan.cli.output import columns, fail, plain
from linkspan.errors import ConfigError
from tests.cli import shell

ROWS = [("[bold]Live[/]", plain("digits: 3fa9c1d + v2 [pinned]")), ("Newest commit", "the quick brown fox")]


def shown(width: int, rows: Sequence[Sequence[str]], headings: tuple[str, ...] = ()) -> list[str]:
    stream = StringIO()
    columns(Console(file=stream, width=width), rows, headings)
    return stream.getvalue().splitlines()


def test_columns_align_and_brackets_stay() -> None:
    assert shown(200, ROWS) == [
        "Live           digits: 3fa9c1d + v2 [pinned]",
        "Newest commit  the quick brown fox",
    ]
    assert shown(200, ROWS, ("A", "B"))[0] == "A              B"
    assert shown(200, []) == []


def test_the_last_column_wraps_between_words_and_hangs() -> None:
    assert shown(35, [("Newest commit", "the quick brown fox jumps")]) == [
        "Newest commit  the quick brown fox",
        "               jumps",
    ]


def test_an_address_stays_whole() -> None:
    address = "http://127.0.0.1:4200/runs/flow-run/7a1a92c1-be9d-4122-9a3b-a9b619502cb5"
    lines = shown(40, [("to do:", f"See {address} for more")])
    assert [line.strip() for line in lines] == ["to do:  See", address, "for more"]


def test_lines_of_output_stay_lines() -> None:
    assert shown(80, [("error:", "the tests failed\n  assert 3 == 7\nend")]) == [
        "error:  the tests failed",
        "          assert 3 == 7",
        "        end",
    ]


def test_others_words_give_no_orders_to_the_terminal() -> None:
    said = "\x1b]0;title\x07\x1b[31mred\x1b[0m\x9b31m\u202e\udcff\ttab\nline"
    assert plain(said) == "red31m\ttab\nline"


def test_an_error_in_the_order_that_a_person_needs(capsys: pytest.CaptureFixture[str]) -> None:
    shell.linkspan("--version")  # forgets the consoles of tests before
    fail(ConfigError("a [thing] is wrong", expected="this", found="that", fix="Mend it"))
    assert capsys.readouterr().err.splitlines() == [
        "error:     a [thing] is wrong",
        "expected:  this",
        "found:     that",
        "to do:     Mend it",
    ]
