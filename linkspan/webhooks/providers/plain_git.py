"""A plain git server: what the post-receive hook of git_hook.py sends.

The body is text, because a shell cannot write JSON of whatever a branch is called. Lines of names and values,
an empty line, then what git tells a post-receive hook (githooks(5)), each with the commit's subject:

    linkspan-push 1
    repository digits
    by ada
    at 1795384800
    process 4711

    <old sha> <new sha> <ref> <subject>

The header X-Linkspan-Signature is `sha256=` and the HMAC-SHA256 of the body in hex. `at`, in seconds since
1970, and `process` make two pushes of the same commits two messages; no clock is compared.
"""

import re
from datetime import UTC, datetime

from linkspan.errors import WebhookRefused
from linkspan.webhooks.base import Reading, Request, WebhookSettings
from linkspan.webhooks.providers.payload import brief, content_type
from linkspan.webhooks.providers.proofs import check_hmac
from linkspan.webhooks.providers.push import Push, reading

FIRST_LINE = "linkspan-push 1"
SIGNATURE_HEADER = "x-linkspan-signature"
CONTENT_TYPE = "text/plain"

_SHA = "[0-9a-f]{40}(?:[0-9a-f]{24})?"
# A ref holds neither blanks nor control characters (git-check-ref-format(1)).
_UPDATE = re.compile(rf"{_SHA} ({_SHA}) (refs/[^\s\x00-\x1f\x7f]+)(?: (.*))?")


def verify(request: Request, settings: WebhookSettings) -> None:
    """X-Linkspan-Signature."""
    check_hmac(request, settings, SIGNATURE_HEADER, "sha256=")


def read(request: Request, settings: WebhookSettings) -> Reading:
    content_type(request, CONTENT_TYPE)
    # Names in another encoding than UTF-8 are no branch of ours, and no reason to refuse the others.
    head, empty_line, updates = request.body.decode(errors="replace").partition("\n\n")
    first, *lines = head.split("\n")
    if first != FIRST_LINE or not empty_line:
        raise WebhookRefused(
            "the body is not from Linkspan's hook", expected=FIRST_LINE, found=brief(first, 60) or "nothing"
        )
    fields = _fields(lines)
    pushes = [_push(line, fields) for line in updates.removesuffix("\n").split("\n")]
    return reading(pushes, settings, request.digest(), any_case=False)


def _fields(lines: list[str]) -> dict[str, str]:
    pairs = [line.partition(" ") for line in lines]
    fields = {name: value for name, _, value in pairs}
    if len(fields) != len(lines) or not fields.get("repository"):
        raise WebhookRefused(
            "the body's first lines are not those of Linkspan's hook", expected="a repository"
        )
    return fields


def _push(line: str, fields: dict[str, str]) -> Push:
    update = _UPDATE.fullmatch(line)
    if not update:
        raise WebhookRefused(
            "a line is no update of a ref", expected="old, new, ref, subject", found=brief(line, 80)
        )
    sha, ref, subject = update.groups(default="")
    at = fields.get("at", "")
    return Push(
        repository=fields["repository"],
        ref=ref,
        sha=sha,
        by=fields.get("by", ""),
        subject=subject,
        at=datetime.fromtimestamp(int(at), UTC) if re.fullmatch(r"[0-9]{1,11}", at) else None,
    )
