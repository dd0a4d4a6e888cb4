"""Whoever starts a run tells the worker here, and nobody where there is none."""

from pathlib import Path

import pytest

from linkspan.local.wake import WAKE, listen, wake


def test_a_worker_hears_it_wherever_its_folder_is(tmp_path: Path) -> None:
    folder = tmp_path / ("a-folder-whose-name-is-long-" * 7)
    with listen(folder) as line:
        with pytest.raises(BlockingIOError):
            line.recv(1)
        wake({WAKE: str(folder)})
        assert line.recv(1) == b""


def test_without_a_name_it_is_the_one_of_linkspan_up(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with listen(tmp_path / "home" / "warm") as line:
        wake({"LINKSPAN_HOME": str(tmp_path / "home")})
        assert line.recv(1) == b""


def test_nothing_happens_where_nobody_listens(tmp_path: Path) -> None:
    wake({WAKE: str(tmp_path / "nowhere")})
    listen(tmp_path).close()
    wake({WAKE: str(tmp_path)})


def test_nobody_waits_for_a_worker_that_does_not_listen(tmp_path: Path) -> None:
    with listen(tmp_path):
        for _ in range(10_000):  # more than a socket holds
            wake({WAKE: str(tmp_path)})


def test_a_worker_takes_the_place_of_one_that_has_died(tmp_path: Path) -> None:
    listen(tmp_path).close()
    with listen(tmp_path) as line:
        wake({WAKE: str(tmp_path)})
        assert line.recv(1) == b""
