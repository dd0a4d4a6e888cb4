"""Which revision an address, an image or a replica stands for, and what became of it.

Pure: linkspan/cli/why.py asks the runtimes, and this reads their histories.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from linkspan.errors import ConfigError
from linkspan.nouns import Noun, Revision

HISTORY = 50
"""The most revisions that a runtime remembers (runtimes/base.py); with fewer, the oldest is the first."""
_SHORTEST = 7  # as many characters as we print of a digest; fewer could be anything
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_USUAL_PORTS = {"http": 80, "https": 443}


class Question(NamedTuple):
    """What was asked: `text` is scheme and authority of a URL, hex digits of an image's digest, or a name."""

    kind: Literal["url", "image", "replica"]
    text: str


class Answer(Noun):
    """Why something runs, or ran: the revision behind it.

    `found_by` is `version` if no service has the address, but what answers there says which release it is.
    `replaced` was live before it, `replaced_by` after it, `also` are other revisions of the same image.
    `complete` says whether the history goes back to the first release.
    """

    service: str
    found_by: Literal["url", "version", "image", "replica"]
    url: str | None
    state: Literal["live", "replaced", "failed"]
    revision: Revision
    replaced: Revision | None
    replaced_by: Revision | None
    also: tuple[int, ...]
    complete: bool


def read_question(text: str) -> Question:
    """Tell URL, digest and name apart. Raises ConfigError for what is none of them.

    A digest may be a part of an image's reference, and a name may be written as kubectl does (`pod/NAME`).
    """
    wanted = "a URL, the name of a pod or of a container, or seven characters of an image's digest"
    text = text.strip()
    kind, _, named = text.rpartition("/")
    if kind in {"pod", "pods"}:
        return _replica(named, wanted)
    if digest := re.fullmatch(r"(?:(?:.*@)?sha256:)([0-9a-fA-F]+)|([0-9a-fA-F]{7,64})", text):
        digits = (digest[1] or digest[2]).lower()
        if not _SHORTEST <= len(digits) <= 64:
            raise ConfigError(
                f"{text!r} is no image's digest", expected=f"{_SHORTEST} to 64 of its characters"
            )
        return Question("image", digits)
    # Names of replicas have dots only where a Deployment's has; `pod/` says that it is one.
    if re.search(r"[:/.]", text):
        if (origin := origin_of(text)) is None:
            raise ConfigError(f"{text!r} is no URL of a service", expected=wanted)
        return Question("url", origin)
    return _replica(text, wanted)


def _replica(name: str, wanted: str) -> Question:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,252}", name):
        raise ConfigError(f"{name!r} cannot be the name of anything that runs", expected=wanted)
    return Question("replica", name)


def origin_of(url: str) -> str | None:
    """Scheme, host and port of a URL, http if it says none; None if there is no host. Drops a password."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host or parts.scheme not in _USUAL_PORTS or re.search(r"[^\w.:%-]", host):
        return None
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")


def same_place(one: str, other: str) -> bool:
    """Whether two URLs lead to the same host and port.

    Loopback has several names, and what ends TLS before the cluster makes https out of http.
    """
    return _place(one) == _place(other)


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    host = "localhost" if parts.hostname in _LOOPBACK else (parts.hostname or "").rstrip(".")
    port = parts.port or _USUAL_PORTS.get(parts.scheme, 0)
    return host, 0 if port in _USUAL_PORTS.values() else port


def live_of(history: Iterable[Revision]) -> Revision | None:
    """What is live, of a history that is newest first."""
    return next((each for each in history if each.outcome == "live"), None)


def with_number(history: Iterable[Revision], number: int) -> Revision | None:
    return next((each for each in history if each.number == number), None)


def with_image(history: Sequence[Revision], digits: str) -> Revision | None:
    """The revision of an image, by the first digits of its digest: the live one, else the newest."""
    return _foremost(each for each in history if each.release.image.startswith(f"sha256:{digits}"))


def that_says(history: Sequence[Revision], document: Any) -> Revision | None:
    """The revision whose commit and model a JSON document names, anywhere; the live one, else the newest.

    Apps answer at /version as they like, with what LINKSPAN_COMMIT, LINKSPAN_MODEL_VERSION and
    LINKSPAN_MODEL_DIGEST told them.
    """
    said = set(_strings(document))
    commits = tuple(text for text in said if re.fullmatch(r"[0-9a-f]{7,64}", text))
    return _foremost(
        each
        for each in history
        if each.outcome != "failed"
        and any(each.release.commit.sha.startswith(text) for text in commits)
        and said & {each.release.model.version, each.release.model.digest}
    )


def answer(
    service: str,
    history: Sequence[Revision],
    revision: Revision,
    *,
    url: str | None,
    found_by: Literal["url", "version", "image", "replica"],
) -> Answer:
    """What there is to say about a revision of a history that is newest first."""
    worked = [each for each in history if each.outcome != "failed"]
    live = live_of(history)
    state = revision.outcome
    if state == "live" and live != revision:
        state = "replaced"  # a rollout was killed before it had written that down
    earlier = [each for each in worked if each.number < revision.number]
    later = [each for each in worked if each.number > revision.number]
    same = (each.number for each in history if each.release.image == revision.release.image)
    return Answer(
        service=service,
        found_by=found_by,
        url=url,
        state=state,
        revision=revision,
        replaced=earlier[0] if earlier and state != "failed" else None,
        replaced_by=later[-1] if later and state == "replaced" else None,
        also=tuple(number for number in same if number != revision.number),
        complete=len(history) < HISTORY,
    )


def _foremost(found: Iterable[Revision]) -> Revision | None:
    """The live one, else the first, which is the newest."""
    revisions = list(found)
    return live_of(revisions) or next(iter(revisions), None)


def _strings(document: Any) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, dict):
        for value in document.values():
            yield from _strings(value)
    elif isinstance(document, list):
        for value in document:
            yield from _strings(value)
