"""What should happen now? The level-driven heart: compare what is newest with what is live.

Everything here is a function on values. An event never says what to release; it only makes somebody ask.
"""

from collections.abc import Iterable
from typing import Literal

from linkspan.ledger.tags import commit_tag
from linkspan.ledger.values import CodeImage, Rejection
from linkspan.nouns import Commit, Noun, Release, Revision

Action = Literal["nothing", "pinned", "held", "repair", "release"]


class Decision(Noun):
    """What to do and why, in a sentence for people."""

    action: Action
    reason: str


def newest_tested(commits: Iterable[Commit], tags: Iterable[str]) -> Commit | None:
    """The newest of `commits` (newest first) that has a tested image, going by the registry's tags."""
    known = set(tags)
    return next((commit for commit in commits if commit_tag(commit.sha) in known), None)


def waiting_for(code: CodeImage | None) -> str:
    """What a release waits for when one stream has produced nothing yet."""
    if code is None:
        return "Waiting for a commit whose tests pass"
    return f"Waiting for a valid version of model {code.config.model.name}"


def decide(
    wanted: Release,
    live: Revision | None,
    *,
    drift: str,
    rejection: Rejection | None,
    on_purpose: bool,
    pin: bool = False,
) -> Decision:
    """What to do about `wanted`, the newest pair, given what is live.

    A pinned environment is left alone, and a release that failed before is held back, unless somebody asks on
    purpose. `drift` says how what is live differs from what was rolled out (empty: it does not): that is
    repaired. `pin` says that a commit or model was named: then what is live is rolled out once more, to be
    pinned.
    """
    if live and live.pinned and not on_purpose:
        return _left_pinned(wanted, live, drift)
    if live and live.release.image == wanted.image and not (on_purpose and live.pinned != pin):
        if not drift:
            return Decision(action="nothing", reason=f"{wanted.title} is live already")
        reason = f"{wanted.title} is live, but not as it was rolled out: {drift}"
        return Decision(action="repair", reason=reason)
    if rejection and not on_purpose:
        held = f"{wanted.title} is held back: {rejection.reason}"
        if live and drift:
            reason = f"{live.release.title} is not as it was rolled out: {drift}; {held}"
            return Decision(action="repair", reason=reason)
        return Decision(action="held", reason=held)
    was = f", replacing {live.release.title}" if live else ""
    return Decision(action="release", reason=f"{wanted.title} is newest{was}")


def _left_pinned(wanted: Release, live: Revision, drift: str) -> Decision:
    if drift:
        reason = f"{live.release.title} is pinned, but not as it was rolled out: {drift}"
        return Decision(action="repair", reason=reason)
    newer = "" if live.release.image == wanted.image else f"; {wanted.title} waits"
    on_purpose = "`linkspan deploy` releases on purpose"
    return Decision(
        action="pinned", reason=f"Pinned to {live.release.title} by {live.cause}{newer}. {on_purpose}"
    )
