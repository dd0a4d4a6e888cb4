"""Reads objects of a cluster, in which any optional field may be absent or null, and shortens what it says.

The shapes are those of core/v1, apps/v1 and discovery.k8s.io/v1 as JSON.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from linkspan.runtimes.base import KubeObject
from linkspan.runtimes.kubernetes.marks import REVISION

WORDS = 400
"""Characters of a cluster's message that are worth a place in an error."""

_USER = re.compile(r"(https?://)[^/\s\"@]*@")
_QUERY = re.compile(r"(https?://[^\s\"?]*)\?[^\s\"]*")
_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")
_PULL_PREFIX = re.compile(
    r"^(?:rpc error: code = \w+ desc = |ErrImagePull: |RegistryUnavailable: "
    r"|(?:Back-off pulling|Failed to pull|failed to pull and unpack) image \"[^\"]*\"(?:: |$)"
    r"|failed to resolve reference \"[^\"]*\": "
    r"|[\w.:-]+(?:/[\w./-]+)?(?::[\w.-]+)?@sha256:[0-9a-f]+: "
    r"|[\w.-]+(?::\d+)?/[\w./-]+:[\w.-]+: )"
)
_START_PREFIX = re.compile(r"^.*unable to start container process: ")
_REFUSED_PREFIX = re.compile(
    r"^(?:\(combined from similar events\): )?(?:Error creating: )?(?:pods \"[^\"]*\" is forbidden: )?"
)
_PREEMPTION = re.compile(r"[.,]? (?:no new claims to deallocate, )?preemption: .*$")


def field(of: Any, *path: str) -> Any:
    """What stands at `path`; None if anything on the way is absent."""
    for key in path:
        of = of.get(key) if isinstance(of, dict) else None
    return of


def text(of: Any, *path: str) -> str:
    found = field(of, *path)
    return "" if found is None else str(found)


def number(of: Any, *path: str, default: int = 0) -> int:
    found = field(of, *path)
    return found if isinstance(found, int) else default


def objects(of: Any, *path: str) -> list[KubeObject]:
    return [each for each in field(of, *path) or () if isinstance(each, dict)]


def name(of: KubeObject) -> str:
    return text(of, "metadata", "name")


def condition(of: KubeObject, kind: str) -> KubeObject:
    """The status condition of that type; empty if there is none."""
    return next((c for c in objects(of, "status", "conditions") if c.get("type") == kind), {})


def revision_of(of: KubeObject) -> str:
    """The revision that a pod or a replica set belongs to."""
    label = text(of, "metadata", "labels", REVISION)
    return label or text(of, "spec", "template", "metadata", "labels", REVISION)


def carried(deployment: KubeObject | None) -> str:
    """The revision that a Deployment says it runs; empty if there is none."""
    return text(deployment, "metadata", "annotations", REVISION)


def is_leaving(of: KubeObject) -> bool:
    return bool(field(of, "metadata", "deletionTimestamp"))


def is_over(pod: KubeObject) -> bool:
    """Whether the pod will never run again: its replica set has made another in its place."""
    return text(pod, "status", "phase") in {"Succeeded", "Failed"}


def is_ready(pod: KubeObject) -> bool:
    return text(condition(pod, "Ready"), "status") == "True" and not is_over(pod)


def events_of(events: Iterable[KubeObject], of: KubeObject) -> list[KubeObject]:
    """The events about this very object, oldest first."""
    uid = text(of, "metadata", "uid")

    def concerns(event: KubeObject) -> bool:
        about = text(event, "involvedObject", "uid")
        if uid and about:
            return uid == about
        return text(event, "involvedObject", "name") == name(of) != ""

    return sorted(filter(concerns, events), key=when)


def newest(events: Iterable[KubeObject], *reasons: str) -> KubeObject:
    """The last of the events that has one of these reasons; empty if there is none."""
    return next((event for event in reversed(list(events)) if event.get("reason") in reasons), {})


def when(event: KubeObject) -> str:
    """When it happened last, RFC 3339 in UTC: comparable as text."""
    return (
        text(event, "series", "lastObservedTime")
        or text(event, "lastTimestamp")
        or text(event, "eventTime")
        or text(event, "metadata", "creationTimestamp")
    )


def sentence(words: str) -> str:
    """`words` in one line, without what may be secret.

    A registry sends a puller to storage by signed links, and a failed download quotes them.
    """
    line = " ".join(words.split())
    line = _QUERY.sub(r"\1", _USER.sub(r"\1", line))
    return _DIGEST.sub(r"\1", line)[:WORDS]


def pull_words(message: str) -> str:
    """What remains of the kubelet's message about a pull when its wrappings are taken off; may be empty."""
    message = " ".join(message.split())
    while (shorter := _PULL_PREFIX.sub("", message, count=1)) != message:
        message = shorter
    return sentence(message)


def start_words(message: str) -> str:
    return sentence(_START_PREFIX.sub("", " ".join(message.split())))


def refusal_words(message: str) -> str:
    return sentence(_REFUSED_PREFIX.sub("", " ".join(message.split())))


def scheduler_words(message: str) -> str:
    """The scheduler's reasons per node, without its remarks on preemption."""
    return sentence(_PREEMPTION.sub("", " ".join(message.split())))


def pod_addresses(pod: KubeObject) -> Iterator[str]:
    yield from (text(each, "ip") for each in objects(pod, "status", "podIPs"))
    yield text(pod, "status", "podIP")
