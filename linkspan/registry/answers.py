"""What a registry's refusal means: HTTP status and error codes to our errors.

Codes: OCI distribution-spec, "Error Codes". What Distribution 2.8 says when its disk is full was read from a
real one: 500 UNKNOWN with either the operating system's sentence or `"Err":28` (ENOSPC) in `detail`.
"""

import json
import re
from email.utils import parsedate_to_datetime
from typing import Any

from linkspan.errors import (
    DigestMismatch,
    RegistryDenied,
    RegistryError,
    RegistryFull,
    RegistryNotFound,
    RegistryUnavailable,
)

_FULL = re.compile(
    r"no space left|not enough space|insufficient storage|quota|exceed the configured upper limit"
    r'|"Err":\s*(?:28|122)\b',  # ENOSPC, EDQUOT
    re.IGNORECASE,
)


def _errors(body: bytes) -> list[dict[str, Any]] | None:
    """What an error body of the distribution-spec lists; None for any other."""
    try:
        errors = json.loads(body)["errors"]
        return [dict(error.items()) for error in errors]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def summary(body: bytes, status: int) -> str:
    """The answer in one line for people: status, then codes and messages, or the start of the body."""
    errors = _errors(body)
    if errors is None:
        text = " ".join(body[:200].decode(errors="replace").split())
    else:
        parts = [f"{error.get('code', '')} {error.get('message', '')}".strip() for error in errors]
        text = "; ".join(parts + [each["detail"] for each in errors if isinstance(each.get("detail"), str)])
    return f"{status} {text[:300]}".strip()


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait, of a Retry-After header (RFC 9110 section 10.2.3); `now` is a UNIX time."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except ValueError:
        return None


def error_for(
    status: int, body: bytes, *, what: str, registry: str, repository: str, user: str
) -> RegistryError:
    """The error that an unexpected answer means."""
    codes = {str(error.get("code", "")) for error in _errors(body) or ()}
    found = summary(body, status)
    kind: type[RegistryError] = RegistryError
    fix = ""
    if status == 429:
        kind = RegistryUnavailable
    elif status == 507 or (status >= 400 and _FULL.search(body.decode(errors="replace"))):
        kind = RegistryFull
        fix = (
            f"Free space in registry {registry} or enlarge it: delete old tags and collect garbage; "
            "Distribution also keeps broken uploads, for a week (storage.maintenance.uploadpurging)"
        )
    elif status in (401, 403) or "DENIED" in codes:
        kind = RegistryDenied
        fix = denied_fix(repository, user)
    elif "DIGEST_INVALID" in codes or "SIZE_INVALID" in codes:
        kind = DigestMismatch
    elif status == 404 or "MANIFEST_BLOB_UNKNOWN" in codes:
        kind = RegistryNotFound
        if "NAME_UNKNOWN" in codes:
            fix = f"If registry {registry} wants repositories to be created first, create {repository}"
    elif status == 413:
        fix = "Raise the limit for request bodies in the proxy before the registry"
    # 500 too: Distribution says 500 UNKNOWN for any hiccup of the storage behind it.
    elif status in (408, 500, 502, 503, 504):
        kind = RegistryUnavailable
    ended = "was refused" if kind is RegistryDenied else "failed"
    return kind(f"{what} at registry {registry}, repository {repository}, {ended}", found=found, fix=fix)


def denied_fix(repository: str, user: str) -> str:
    who = f"user {user!r}" if user else "an anonymous user"
    return (
        f"Check user name and password of the registry, and that {who} may pull from and push to {repository}"
    )
