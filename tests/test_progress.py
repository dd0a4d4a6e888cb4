"""How far bytes have come, for people: no flood, and figures that are right."""

import pytest

from linkspan.progress import Percent, Transfer, moved, size


def test_progress_is_thinned() -> None:
    said: list[str] = []
    transfer = Transfer("pushed", said.append, every=3600)
    for done in range(1000):
        transfer.update("a", done, 1000)
    transfer.update("b", 5, 0)
    assert transfer.bytes == 1004
    assert said == []
    Transfer("pushed", said.append, every=0).update("a", 1_500_000, 3_000_000)
    assert [line.split(",")[0] for line in said] == ["pushed 1.5 MB of 3.0 MB"]


@pytest.mark.parametrize(
    ("done", "total", "seconds", "says"),
    [
        (0, 1000, 5.0, "0 B of 1.0 KB"),
        (500, 1000, 0.0, "500 B of 1.0 KB"),
        (1_200_000_000, 4_000_000_000, 5.0, "1.2 GB of 4.0 GB, 240.0 MB/s, 12 s left"),
        (1_000_000, 61_000_000, 2.0, "1.0 MB of 61.0 MB, 500.0 KB/s, 2 min 0 s left"),
        (10, 10, 1.0, "10 B of 10 B, 10 B/s, 0 s left"),
        (12, 10, 1.0, "12 B of 10 B, 12 B/s, 0 s left"),
    ],
)
def test_bytes_rate_and_time_left(done: int, total: int, seconds: float, says: str) -> None:
    assert moved(done, total, seconds) == says


def test_percent() -> None:
    percent = Percent(400)
    percent.add(100)
    assert (percent.value, percent.done, percent.total) == (25.0, 100, 400)
    percent.add(400)
    assert percent.value == 100.0
    assert Percent(0).value == 100.0


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (4149, "4.1 KB"),
        (122_400_000, "122.4 MB"),
        (1_200_000_000, "1.2 GB"),
        (5_000_000_000_000, "5.0 TB"),
        (5_000_000_000_000_000, "5000.0 TB"),
    ],
)
def test_size(count: int, text: str) -> None:
    assert size(count) == text
