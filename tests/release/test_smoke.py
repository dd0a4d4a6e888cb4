"""What a smoke request's answer must contain. tests/runtimes/test_trial.py has the smoke test itself."""

from typing import Any

import pytest

from linkspan.release.smoke import missing


@pytest.mark.parametrize(
    ("found", "wanted", "says"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, ""),
        ({"a": {"b": [1, {"c": 2, "d": 3}]}}, {"a": {"b": [1, {"c": 2}]}}, ""),
        (1, 1.0, ""),
        (None, None, ""),
        ({"a": 1}, {"b": 1}, "$.b is missing"),
        ({"a": [1, 2]}, {"a": [1]}, "$.a is no list of 1"),
        ({"a": [1, 2]}, {"a": [1, 3]}, "$.a[1] is 2, not 3"),
        (True, 1, "$ is True, not 1"),
        ([], {}, "$ is no object"),
    ],
)
def test_a_part_of_the_json(found: Any, wanted: Any, says: str) -> None:
    assert missing(found, wanted) == says
