"""The git providers, described for the conformance suite. Payloads are in each provider's documented form."""

import base64
import hashlib

from linkspan.webhooks.providers.plain_git import SIGNATURE_HEADER
from tests.webhooks.providers.makers import (
    BITBUCKET,
    FORGEJO,
    GITEA,
    GITHUB,
    OTHER_SHA,
    PLAIN,
    WHSEC,
    ZERO,
    basic,
    github_form,
    gitlab_token,
    hex_hmac,
    hmac_maker,
    other_hmacs,
    other_standards,
    standard,
)
from tests.webhooks.samples import SECRET, Sample, changed, payload, settings, with_header

github = settings("github", repository="Harbour-AI/digits")
gitlab = settings("gitlab", repository="ML/vision/digits", branch="release/2026")
gitlab_signing = settings("gitlab", repository="ml/vision/digits", branch="release/2026", secret=WHSEC)
gitea = settings("gitea", repository="ml/digits")
bitbucket = settings("bitbucket", repository="harbour/digits")
data_center = settings("bitbucket", repository="ml/digits")
azure = settings("azure-repos", repository="machine vision/digits", username="linkspan")
git = settings("git", repository="digits")
signed = settings("signed", repository="team/digits", secret=WHSEC)
signed_model = settings("signed", container="models", prefix="vision/digits", secret=WHSEC)

make_github = hmac_maker("x-hub-signature-256", "sha256=", GITHUB)
make_gitea = hmac_maker("x-gitea-signature", "", GITEA)
make_bitbucket = hmac_maker("x-hub-signature", "sha256=", BITBUCKET)
make_data_center = hmac_maker("x-hub-signature", "sha256=", BITBUCKET | {"x-event-key": "repo:refs_changed"})
make_git = hmac_maker(SIGNATURE_HEADER, "sha256=", PLAIN)


def pushes(body: bytes, ref: str = "main") -> dict[str, bytes]:
    """Pushes in GitHub's form, and that of Gitea and GitLab, that do not count."""
    return {
        "other branch": changed(body, "ref", to="refs/heads/dev"),
        "branch that ends alike": changed(body, "ref", to=f"refs/heads/old/{ref}"),
        "branch in other case": changed(body, "ref", to=f"refs/heads/{ref.upper()}"),
        "bare branch": changed(body, "ref", to=ref),
        "tag of that name": changed(body, "ref", to=f"refs/tags/{ref}"),
        "deleted": changed(body, "after", to=ZERO),
    }


GITHUB_PUSH, GITLAB_PUSH, GITEA_PUSH = (
    payload(f"{name}_push.json") for name in ("github", "gitlab", "gitea")
)
CLOUD_PUSH, DC_PUSH = payload("bitbucket_push.json"), payload("bitbucket_data_center_push.json")
AZURE_PUSH, GIT_PUSH = payload("azure_repos_push.json"), payload("git_push.txt")
COMMIT, MODEL = payload("signed_commit.json"), payload("signed_model.json")

_github_elsewhere = pushes(GITHUB_PUSH) | {
    "other repository": changed(GITHUB_PUSH, "repository", "full_name", to="harbour-ai/digits-2")
}
_gitlab_elsewhere = pushes(GITLAB_PUSH, "release/2026") | {
    "other repository": changed(GITLAB_PUSH, "project", "path_with_namespace", to="vision/digits"),
    "other event": changed(GITLAB_PUSH, "object_kind", to="tag_push"),
}
_gitea_elsewhere = pushes(GITEA_PUSH) | {
    "other repository": changed(GITEA_PUSH, "repository", "full_name", to="ml/digit")
}
_change = ("push", "changes", 0)
_update = ("resource", "refUpdates", 0)

SAMPLES = [
    Sample(
        name="github",
        settings=github,
        body=GITHUB_PUSH,
        make=make_github,
        proof="x-hub-signature-256",
        other_proofs=other_hmacs("sha256="),
        elsewhere=_github_elsewhere,
        retold={
            "delivered again by hand": with_header(
                make_github(GITHUB_PUSH, github), "x-github-delivery", "8e2c7a50-0000-11e3-81ab-4c9367dc0958"
            )
        },
        news={"next push": make_github(changed(GITHUB_PUSH, "after", to=OTHER_SHA), github)},
        unsigned_headers=["x-github-delivery", "x-github-hook-id", "x-hub-signature"],
    ),
    Sample(
        name="github-form",
        settings=github,
        body=GITHUB_PUSH,
        make=github_form,
        proof="x-hub-signature-256",
        other_proofs=other_hmacs("sha256="),
        elsewhere=_github_elsewhere,
        unsigned_headers=["x-github-delivery"],
    ),
    Sample(
        name="gitlab-token",
        settings=gitlab,
        body=GITLAB_PUSH,
        make=gitlab_token,
        proof="x-gitlab-token",
        other_proofs=lambda body: [
            hashlib.sha256(SECRET.encode()).hexdigest(),
            hex_hmac(body, SECRET),
            "sha256=" + hex_hmac(body, SECRET),
            SECRET.upper(),
            SECRET[:-1],
            SECRET + " ",
            f"{SECRET},{SECRET}",
            f"Bearer {SECRET}",
        ],
        elsewhere=_gitlab_elsewhere,
        retold={
            "tried again": with_header(gitlab_token(GITLAB_PUSH, gitlab), "webhook-timestamp", "1795384999")
        },
        news={
            # The body has no time: only this header tells a branch that is set back and forth from a retry.
            "the same commits pushed later": with_header(
                gitlab_token(GITLAB_PUSH, gitlab), "idempotency-key", "7d1c"
            )
        },
        signs=False,
        unsigned_headers=["x-gitlab-event-uuid", "webhook-timestamp", "webhook-id"],
    ),
    Sample(
        name="gitlab-signing-token",
        settings=gitlab_signing,
        body=GITLAB_PUSH,
        make=standard,
        proof="webhook-signature",
        other_proofs=other_standards,
        elsewhere=_gitlab_elsewhere,
        retold={"tried again, signed again": standard(GITLAB_PUSH, gitlab_signing, age=60)},
        news={"the same commits pushed later": standard(GITLAB_PUSH, gitlab_signing, identity="msg_9")},
        unsigned_headers=["x-gitlab-event-uuid", "idempotency-key", "x-gitlab-token"],
    ),
    Sample(
        name="gitea",
        settings=gitea,
        body=GITEA_PUSH,
        make=make_gitea,
        proof="x-gitea-signature",
        other_proofs=other_hmacs(""),
        elsewhere=_gitea_elsewhere,
        retold={
            "delivered again by hand": with_header(make_gitea(GITEA_PUSH, gitea), "x-gitea-delivery", "77")
        },
        news={
            "next push": make_gitea(
                changed(GITEA_PUSH, "repository", "updated_at", to="2026-11-22T20:21:00Z"), gitea
            )
        },
        unsigned_headers=["x-gitea-delivery", "x-github-event", "x-gitea-event-type"],
    ),
    Sample(
        name="forgejo",
        settings=gitea,
        body=GITEA_PUSH,
        make=hmac_maker("x-forgejo-signature", "", FORGEJO),
        proof="x-forgejo-signature",
        other_proofs=other_hmacs(""),
        elsewhere=_gitea_elsewhere,
        unsigned_headers=["x-forgejo-delivery"],
    ),
    Sample(
        name="bitbucket",
        settings=bitbucket,
        body=CLOUD_PUSH,
        make=make_bitbucket,
        proof="x-hub-signature",
        other_proofs=other_hmacs("sha256="),
        elsewhere={
            "other branch": changed(CLOUD_PUSH, *_change, "new", "name", to="dev"),
            "other repository": changed(CLOUD_PUSH, "repository", "full_name", to="harbour/digits2"),
            "tag of that name": changed(CLOUD_PUSH, *_change, "new", "type", to="tag"),
            "deleted": changed(CLOUD_PUSH, *_change, "new", to=None),
            "nothing": changed(CLOUD_PUSH, "push", "changes", to=[]),
        },
        retold={"tried again": with_header(make_bitbucket(CLOUD_PUSH, bitbucket), "x-attempt-number", "2")},
        news={
            "next push": make_bitbucket(
                changed(CLOUD_PUSH, *_change, "new", "target", "hash", to=OTHER_SHA), bitbucket
            )
        },
        unsigned_headers=["x-request-uuid", "x-hook-uuid", "x-attempt-number"],
    ),
    Sample(
        name="bitbucket-data-center",
        settings=data_center,
        body=DC_PUSH,
        make=make_data_center,
        proof="x-hub-signature",
        other_proofs=other_hmacs("sha256="),
        elsewhere={
            "other branch": changed(DC_PUSH, "changes", 0, "ref", "id", to="refs/heads/dev"),
            "other repository": changed(DC_PUSH, "repository", "project", "key", to="OTHER"),
            "deleted": changed(DC_PUSH, "changes", 0, "toHash", to=ZERO),
        },
        unsigned_headers=["x-request-uuid"],
    ),
    Sample(
        name="azure-repos",
        settings=azure,
        body=AZURE_PUSH,
        make=basic,
        proof="authorization",
        other_proofs=lambda _body: [
            f"Bearer {SECRET}",
            "Basic " + SECRET,
            "Basic " + base64.b64encode(f":{SECRET}".encode()).decode(),
            "Basic " + base64.b64encode(f"Linkspan:{SECRET}".encode()).decode(),
            "Basic " + base64.b64encode(f"linkspan:{SECRET}\n".encode()).decode(),
            "Basic",
            base64.b64encode(f"linkspan:{SECRET}".encode()).decode(),
            'Digest username="linkspan"',
        ],
        elsewhere={
            "other branch": changed(AZURE_PUSH, *_update, "name", to="refs/heads/dev"),
            "other repository": changed(AZURE_PUSH, "resource", "repository", "name", to="digits2"),
            "other project": changed(AZURE_PUSH, "resource", "repository", "project", "name", to="Machine"),
            "other event": changed(AZURE_PUSH, "eventType", to="git.pullrequest.created"),
            "deleted": changed(AZURE_PUSH, *_update, "newObjectId", to=ZERO),
        },
        retold={"tried again": basic(changed(AZURE_PUSH, "notificationId", to=20), azure)},
        news={"next push": basic(changed(AZURE_PUSH, "id", to="c0ffee"), azure)},
        signs=False,
    ),
    Sample(
        name="git",
        settings=git,
        body=GIT_PUSH,
        make=make_git,
        proof=SIGNATURE_HEADER,
        other_proofs=other_hmacs("sha256="),
        elsewhere={
            "other branch": GIT_PUSH.replace(b"refs/heads/main", b"refs/heads/Main"),
            "other repository": GIT_PUSH.replace(b"repository digits", b"repository Digits"),
            "tag of that name": GIT_PUSH.replace(b"refs/heads/main", b"refs/tags/main"),
            "branch no UTF-8 can spell": GIT_PUSH.replace(b"heads/main", b"heads/ma\xeen"),
        },
        news={
            "the same commits pushed later": make_git(
                GIT_PUSH.replace(b"at 1795384801", b"at 1795389999"), git
            )
        },
    ),
    Sample(
        name="signed-commit",
        settings=signed,
        body=COMMIT,
        make=standard,
        proof="webhook-signature",
        other_proofs=other_standards,
        elsewhere={
            "other branch": changed(COMMIT, "data", "branch", to="dev"),
            "other repository": changed(COMMIT, "data", "repository", to="Team/digits"),
            "other type": changed(COMMIT, "type", to="invoice.paid"),
            "deleted": changed(COMMIT, "data", "sha", to=ZERO),
        },
        retold={"tried again, signed again": standard(COMMIT, signed, age=200)},
        news={"another message": standard(COMMIT, signed, identity="msg_3")},
    ),
    Sample(
        name="signed-model",
        settings=signed_model,
        body=MODEL,
        make=standard,
        proof="webhook-signature",
        other_proofs=other_standards,
        elsewhere={
            "other container": changed(MODEL, "container", to="datasets"),
            "other prefix": changed(MODEL, "path", to="vision/digits2/v13/manifest.json"),
        },
        retold={"tried again, signed again": standard(MODEL, signed_model, age=-200)},
        news={"another message": standard(MODEL, signed_model, identity="msg_3")},
    ),
]
