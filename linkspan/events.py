"""The names of all events: what joins Linkspan to the outside through Prefect's feed.

A hint comes from somebody else: another team's flow, a Prefect Cloud webhook, `prefect event emit`; the
triggers of prefect.yaml listen to it. Nothing of ours emits one, because ours start runs through REST
(prefect_api), and a run must not start twice. All others are for the feed, where people and other people's
automations read them; nothing of ours listens. docs/reference.md has this list; tests/test_docs.py holds it.
"""

from typing import Any, Final

from linkspan.nouns import Release

# From outside. The resource is linkspan.app.<app> (commit, release) or linkspan.model.<model>; the payload
# may hold a text for people, {"hint": "push by Ada"}. The run looks for itself what is newest.
HINT_COMMIT: Final = "linkspan.hint.commit"
HINT_MODEL: Final = "linkspan.hint.model"
HINT_RELEASE: Final = "linkspan.hint.release"
HINTS = frozenset({HINT_COMMIT, HINT_MODEL, HINT_RELEASE})

WEBHOOK_ACCEPTED: Final = "linkspan.webhook.accepted"
MODEL_PUBLISHED: Final = "linkspan.model.published"
CODE_TESTED: Final = "linkspan.code.tested"
MODEL_VALIDATED: Final = "linkspan.model.validated"
RELEASE_LIVE: Final = "linkspan.release.live"
RELEASE_HELD: Final = "linkspan.release.held"
RELEASE_FAILED: Final = "linkspan.release.failed"
RELEASE_ROLLED_BACK: Final = "linkspan.release.rolled-back"

FEED = {
    WEBHOOK_ACCEPTED: "a webhook was believed and written down",
    MODEL_PUBLISHED: "`linkspan publish` has put a version into the store",
    CODE_TESTED: "a commit was built, its tests passed, its image is in the registry",
    MODEL_VALIDATED: "a model can score, and its layers are in the registry",
    RELEASE_LIVE: "a release has the traffic",
    RELEASE_HELD: "the newest pair is known to be bad",
    RELEASE_FAILED: "a release failed its smoke test or did not become ready",
    RELEASE_ROLLED_BACK: "`linkspan rollback` has put an earlier release back",
}
"""What each event for the feed says happened."""


def app_resource(app: str) -> str:
    """The resource ID that events about an app carry."""
    return f"linkspan.app.{app}"


def model_resource(model: str) -> str:
    """The resource ID that events about a model carry."""
    return f"linkspan.model.{model}"


def told(release: Release, environment: str, **more: str | int) -> dict[str, Any]:
    """The payload of an event about a release."""
    return {
        "title": release.title,
        "environment": environment,
        "commit": release.commit.sha,
        "author": release.commit.author,
        "model": f"{release.model.name} {release.model.version}",
        "image": release.image,
        **more,
    }
