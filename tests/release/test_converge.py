"""What should happen now: every branch, and tags that every registry takes."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from linkspan.ledger.tags import (
    code_tag,
    commit_tag,
    layer_tag,
    model_tag,
    pinned_tag,
    rejection_tag,
    release_tag,
)
from linkspan.ledger.values import Rejection
from linkspan.nouns import Revision
from linkspan.release.converge import decide, newest_tested, waiting_for
from tests.skew import DAY
from tests.values import NOW, code_image, commit, release, revision

# OCI distribution-spec 1.1, "Pulling manifests".
TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")

OLD, NEW = release(1, "v1"), release(2, "v2")
GONE = "replica 2 is missing"
BAD = Rejection(key="k", what="digits", reason="it answered 500", at=datetime(2026, 11, 22, tzinfo=UTC))


def live(image: int, *, pinned: bool = False) -> Revision:
    return Revision(
        number=4, release=OLD if image == 1 else NEW, cause="rollback by Ada", at=NOW, pinned=pinned
    )


@pytest.mark.parametrize(
    ("now", "drift", "rejected", "on_purpose", "action", "says"),
    [
        pytest.param(None, "", False, False, "release", "v2 is newest", id="first release"),
        pytest.param(live(1), "", False, False, "release", "v2 is newest, replacing", id="newer"),
        pytest.param(live(1), GONE, False, False, "release", "is newest", id="a broken one is replaced"),
        pytest.param(live(2), "", False, False, "nothing", "is live already", id="no news"),
        pytest.param(live(2), GONE, False, False, "repair", "not as it was rolled out", id="broken"),
        pytest.param(live(2), "", True, False, "nothing", "live already", id="live though once refused"),
        pytest.param(live(2), "", False, True, "nothing", "live already", id="on purpose, no news"),
        pytest.param(None, "", True, False, "held", "held back: it answered 500", id="bad at first"),
        pytest.param(live(1), "", True, False, "held", "held back: it answered 500", id="bad"),
        pytest.param(live(1), "", True, True, "release", "v2 is newest", id="bad, tried on purpose"),
        pytest.param(live(1), GONE, True, False, "repair", "held back", id="bad, and the old one is broken"),
        pytest.param(live(1, pinned=True), "", False, False, "pinned", "v2 waits", id="pinned, news wait"),
        pytest.param(live(2, pinned=True), "", False, False, "pinned", "Pinned to", id="pinned to newest"),
        pytest.param(live(1, pinned=True), "", True, False, "pinned", "Pinned to", id="pinned, bad news"),
        pytest.param(
            live(1, pinned=True), GONE, False, False, "repair", "is pinned, but", id="pinned, broken"
        ),
        pytest.param(live(1, pinned=True), "", False, True, "release", "is newest", id="on purpose"),
        pytest.param(live(2, pinned=True), "", False, True, "release", "is newest", id="unpinned on purpose"),
        pytest.param(live(2, pinned=True), "", True, True, "release", "is newest", id="unpinned, once bad"),
    ],
)
def test_decide(
    now: Revision | None, drift: str, rejected: bool, on_purpose: bool, action: str, says: str
) -> None:
    decision = decide(NEW, now, drift=drift, rejection=BAD if rejected else None, on_purpose=on_purpose)
    assert decision.action == action
    assert says in decision.reason


@pytest.mark.parametrize("day", [DAY, -DAY, timedelta()], ids=["live later", "live earlier", "same"])
@pytest.mark.parametrize("action", ["release", "nothing", "held", "repair", "pinned"])
def test_no_date_decides(action: str, day: timedelta) -> None:
    """What is live says it is a day newer or older than what is wanted; each date of it."""
    of = OLD if action == "release" else NEW
    made = of.commit.model_copy(update={"committed_at": NOW + day})
    trained = of.model.model_copy(update={"published_at": NOW + day})
    rolled = of.model_copy(update={"commit": made, "model": trained})
    wanted = NEW.model_copy(update={"model": NEW.model.model_copy(update={"published_at": NOW})})
    now = None if action == "held" else revision(4, rolled, at=NOW + day, pinned=action == "pinned")
    bad = BAD.model_copy(update={"at": NOW + day}) if action == "held" else None
    drift = GONE if action == "repair" else ""
    assert decide(wanted, now, drift=drift, rejection=bad, on_purpose=False).action == action


@pytest.mark.parametrize(
    ("now", "on_purpose", "action"),
    [
        pytest.param(live(2), True, "release", id="live, to be pinned"),
        pytest.param(live(2, pinned=True), True, "nothing", id="pinned to it already"),
        pytest.param(live(1), True, "release", id="another"),
        pytest.param(live(1, pinned=True), True, "release", id="pinned to another"),
        pytest.param(live(1, pinned=True), False, "pinned", id="pinned, and nobody says on purpose"),
    ],
)
def test_a_named_pair_is_pinned(now: Revision, on_purpose: bool, action: str) -> None:
    decision = decide(NEW, now, drift="", rejection=None, on_purpose=on_purpose, pin=True)
    assert decision.action == action


def test_pinned_says_who_pinned_it_and_how_to_go_on() -> None:
    reason = decide(NEW, live(1, pinned=True), drift="", rejection=None, on_purpose=False).reason
    assert "rollback by Ada" in reason
    assert "`linkspan deploy`" in reason
    same = decide(OLD, live(1, pinned=True), drift="", rejection=None, on_purpose=False).reason
    assert "waits" not in same


def test_newest_tested_follows_history_and_not_tags() -> None:
    commits = [commit(3), commit(2), commit(1)]
    tags = [commit_tag(commit(1).sha), commit_tag(commit(2).sha), "latest", commit_tag(commit(9).sha)]
    assert newest_tested(commits, tags) == commit(2)
    assert newest_tested(commits, []) is None
    assert newest_tested([], tags) is None


def test_what_a_release_waits_for() -> None:
    assert waiting_for(None) == "Waiting for a commit whose tests pass"
    assert waiting_for(code_image(1)) == "Waiting for a valid version of model digits"


LONGEST = release(1, "9" * 64).model_copy(update={"app": "a" * 40})
TAGS = [
    commit_tag("a" * 64),
    code_tag("b" * 64),
    model_tag("m" * 40, "1.2.3_rc-" + "9" * 55),
    pinned_tag("c" * 64, "/srv/models/résumé with space"),
    layer_tag("sha256:" + "d" * 64, "/model"),
    release_tag(LONGEST),
    rejection_tag("any key, however long and whatever is in it: " + "x" * 500),
]


@pytest.mark.parametrize("tag", TAGS)
def test_tags_are_valid(tag: str) -> None:
    assert TAG.fullmatch(tag), tag


def test_tags_tell_apart_what_differs() -> None:
    assert release_tag(OLD) != release_tag(OLD.model_copy(update={"image": NEW.image}))
    assert pinned_tag("a" * 64, "/model") != pinned_tag("a" * 64, "/models")
    assert pinned_tag("a" * 64, "/model") != pinned_tag("b" * 64, "/model")
    assert layer_tag("sha256:" + "a" * 64, "/m") != layer_tag("sha256:" + "b" * 64, "/m")
    assert release_tag(OLD).startswith(f"release-{OLD.commit.sha[:7]}-v1-")
