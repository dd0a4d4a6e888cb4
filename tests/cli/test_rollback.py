"""Which revision a rollback goes to."""

import pytest

from linkspan.cli.rollback import choose
from linkspan.errors import ReleaseNotFound
from linkspan.nouns import Revision
from tests.values import release, revision

ONE, TWO, THREE, NUMBERED = release(1, "v1"), release(2, "v2"), release(3, "v3"), release(4, "3")


def history(*releases: Revision) -> list[Revision]:
    return sorted(releases, key=lambda each: each.number, reverse=True)


STRAIGHT = history(revision(1, ONE), revision(2, TWO), revision(3, THREE))
# Rolled back once: revision 4 is release two again.
ONCE = history(*STRAIGHT, revision(4, TWO, pinned=True))
FAILED = history(revision(1, ONE), revision(2, TWO, outcome="failed", reason="x"), revision(3, THREE))


@pytest.mark.parametrize(
    ("known", "to", "expected"),
    [
        pytest.param(STRAIGHT, "", 2, id="the one before"),
        pytest.param(ONCE, "", 1, id="a second rollback goes further back"),
        pytest.param(FAILED, "", 1, id="one that never worked is passed over"),
        pytest.param(ONCE, "3", 3, id="number"),
        pytest.param(ONCE, "v3", 3, id="version"),
        pytest.param(ONCE, "v2", 4, id="version: the newest that had it"),
        pytest.param(ONCE, "0000001", 1, id="seven of the commit"),
        pytest.param(ONCE, THREE.commit.sha, 3, id="the whole commit"),
        pytest.param(ONCE, THREE.image, 3, id="digest"),
        pytest.param(ONCE, "F000003", 3, id="seven of the digest, as people copy it"),
        pytest.param(
            history(revision(3, THREE), revision(5, NUMBERED)), "3", 3, id="a number is a revision first"
        ),
        pytest.param(history(revision(4, THREE), revision(5, NUMBERED)), "3", 5, id="else a version"),
    ],
)
def test_choose(known: list[Revision], to: str, expected: int) -> None:
    assert choose(known, known[0], to).number == expected


@pytest.mark.parametrize(
    ("known", "to", "says"),
    [
        pytest.param([], "", "no earlier release", id="nothing at all"),
        pytest.param(history(revision(1, ONE)), "", "no earlier release", id="only one"),
        pytest.param(
            history(*ONCE, revision(5, ONE, pinned=True)), "", "no earlier release", id="at the end"
        ),
        pytest.param(ONCE, "v9", "no release 'v9'", id="unknown version"),
        pytest.param(ONCE, "9", "no release '9'", id="unknown number"),
        pytest.param(ONCE, "000000", "no release '000000'", id="six characters could be anything"),
        pytest.param(FAILED, "2", "revision 2 never became ready", id="one that failed"),
    ],
)
def test_nothing_to_go_back_to(known: list[Revision], to: str, says: str) -> None:
    with pytest.raises(ReleaseNotFound, match=says) as caught:
        choose(known, known[0] if known else None, to)
    for each in known:
        if each.outcome != "failed":
            assert f"{each.number} ({each.release.title})" in caught.value.expected
    assert "linkspan history" in caught.value.fix
