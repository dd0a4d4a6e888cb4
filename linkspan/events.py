"""The names of the events that join the flows to the outside. prefect.yaml's triggers listen to hints only.

A hint comes from somebody else: another team's flow, a Prefect Cloud webhook, `prefect event emit`. Nothing
of ours emits one, because ours start runs through REST (linkspan.engine), and a run must not start twice.
All others are for the feed, where people and other people's automations read them; nothing of ours listens.
"""

from typing import Any

from linkspan.nouns import Release

# From outside. The resource is linkspan.app.<app> (commit, release) or linkspan.model.<model>; the payload
# may hold a text for people, {"hint": "push by Ada"}. The run looks for itself what is newest.
HINT_COMMIT = "linkspan.hint.commit"
HINT_MODEL = "linkspan.hint.model"
HINT_RELEASE = "linkspan.hint.release"
HINTS = frozenset({HINT_COMMIT, HINT_MODEL, HINT_RELEASE})

# For the feed.
COMMIT_PUSHED = "linkspan.commit.pushed"
MODEL_PUBLISHED = "linkspan.model.published"
CODE_TESTED = "linkspan.code.tested"
MODEL_VALIDATED = "linkspan.model.validated"
WEBHOOK_ACCEPTED = "linkspan.webhook.accepted"
RELEASE_LIVE = "linkspan.release.live"
RELEASE_HELD = "linkspan.release.held"
RELEASE_FAILED = "linkspan.release.failed"


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
