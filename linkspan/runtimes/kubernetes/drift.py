"""How an object in the cluster differs from what was applied, in words, and what others have put into it.

What somebody changed in ours is the difference between the object and a dry run of applying it again: both
come from the API server, so defaults and what webhooks add are in both.

What somebody added is in both too, and an apply of ours would leave it there. The API server writes down who
set each field, in metadata.managedFields (fields that nobody set, such as defaults and what an admission
webhook adds to a write, are in no entry). So a variable, a port or a container that was added by hand can be
told from what the cluster added itself. Once such fields are written down as ours, the next apply removes
them: server-side apply takes away what its manager owned and no longer names
(https://kubernetes.io/docs/reference/using-api/server-side-apply/). So the object itself changes once.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from linkspan.runtimes.base import KubeObject
from linkspan.runtimes.kubernetes.marks import FIELD_MANAGER
from linkspan.runtimes.kubernetes.objects import as_written, called

Fields = dict[str, Any]
"""A set of fields as FieldsV1 has it. Any: it is as deep as the object."""

# Kinds of others are left out: their controllers often write into the spec what users left open. So are
# those of the cluster's own into which it writes itself, such as PersistentVolumeClaim and ServiceAccount.
_ROOTS: Final = {
    ("", "ConfigMap"): ("data", "binaryData"),
    ("", "Service"): ("spec",),
    ("apps", "DaemonSet"): ("spec",),
    ("apps", "Deployment"): ("spec",),
    ("apps", "StatefulSet"): ("spec",),
    ("autoscaling", "HorizontalPodAutoscaler"): ("spec",),
    ("batch", "CronJob"): ("spec",),
    ("networking.k8s.io", "Ingress"): ("spec",),
    ("networking.k8s.io", "NetworkPolicy"): ("spec",),
    ("policy", "PodDisruptionBudget"): ("spec",),
}

_THEIRS: Final = {
    # How many there are is an autoscaler's business where the app does not say it.
    ".spec.replicas",
    # `kubectl rollout restart`: somebody wanted new pods, and they run what was released.
    ".spec.template.metadata.annotations.kubectl.kubernetes.io/restartedAt",
    # What the server, or a load balancer's controller, gives a Service that asks for nothing.
    ".spec.clusterIP",
    ".spec.clusterIPs",
    ".spec.externalIPs",
    ".spec.healthCheckNodePort",
    ".spec.loadBalancerIP",
    ".spec.ipFamilies",
    ".spec.ipFamilyPolicy",
}
_NODE_PORT: Final = re.compile(r"\.spec\.ports\[.*\]\.nodePort")

# Where something of _THEIRS may lie beside what is not, though we have nothing there.
_BAGS: Final = {"f:metadata", "f:annotations"}

_MOST: Final = 3
"""Changes of one object that are named."""


class Foreign(NamedTuple):
    """A field that only others have set, with all below it."""

    manager: str
    path: tuple[str, ...]
    fields: Fields

    def __str__(self) -> str:
        return f"{_spelled(self.path).lstrip('.')} was set by {self.manager}"


def drift_of(found: KubeObject, wanted: KubeObject, applied: KubeObject | None) -> str:
    """What must change in `found`, as one line; empty if nothing.

    `wanted` is what was applied, `applied` what a dry run of applying it again gave; None if the cluster
    would not say: then it is what others have set.
    """
    # A dry run counts generation up for a change that is found below.
    changes = [] if applied is None else _changes(as_written(found), as_written(applied), "")
    changes += [str(each) for each in foreign(applied or found, wanted)]
    if not changes:
        return ""
    more = f" and {len(changes) - _MOST} more" if len(changes) > _MOST else ""
    return f"{called(wanted)}: " + ", ".join(changes[:_MOST]) + more


def _changes(found: Any, wanted: Any, path: str) -> list[str]:  # Any: JSON
    if found == wanted:
        return []
    if isinstance(found, dict) and isinstance(wanted, dict):
        names = sorted(found.keys() | wanted.keys())
        return [
            line for n in names for line in _changes(found.get(n), wanted.get(n), f"{path}.{n}".lstrip("."))
        ]
    if isinstance(found, list) and isinstance(wanted, list):
        before, after = _keyed(found), _keyed(wanted)
        names = [*after, *(name for name in before if name not in after)]
        return [line for n in names for line in _changes(before.get(n), after.get(n), f"{path}[{n}]")]
    return [f"{path} is {_shown(found)} instead of {_shown(wanted)}"]


def _keyed(items: list[Any]) -> dict[str, Any]:
    """By their names if each has one of its own, else by their places."""
    names = [str(each["name"]) for each in items if isinstance(each, dict) and "name" in each]
    if len(set(names)) < len(items):
        names = [str(place) for place in range(len(items))]
    return dict(zip(names, items, strict=True))


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def watched(obj: KubeObject) -> bool:
    """Whether fields that others set in objects of this kind matter."""
    return _kind(obj) in _ROOTS


def foreign(found: KubeObject, wanted: KubeObject) -> list[Foreign]:
    """What others have set in `found`, and we have not, in the parts that `wanted` says something about.

    `found` is what the API server gave, with its managedFields. Left out are status, metadata, what the
    cluster's controllers own, and entries of another version of the API, whose fields may have other names.
    """
    entries = _entries(found)
    ours = next((each for each in entries if _is_ours(each)), {"apiVersion": wanted["apiVersion"]})
    mine: Fields = ours.get("fieldsV1") or {}
    roots = [f"f:{root}" for root in _ROOTS.get(_kind(wanted), ()) if root in wanted]
    return [
        Foreign(str(each.get("manager", "")), path, fields)
        for each in entries
        if not _is_ours(each) and each.get("apiVersion") == ours["apiVersion"]
        for root in roots
        if root in (theirs := each.get("fieldsV1") or {})
        for path, fields in _only_in(theirs[root], mine.get(root) or {}, (root,))
    ]


def taken_over(found: KubeObject, wanted: KubeObject) -> list[KubeObject] | None:
    """The managedFields of `found` with all that is `foreign` written down as ours; None if nothing is."""
    seen = foreign(found, wanted)
    if not seen:
        return None
    every = found["metadata"]["managedFields"]
    own = next((each for each in every if _is_ours(each)), None) or {
        "manager": FIELD_MANAGER,
        "operation": "Apply",
        "apiVersion": wanted["apiVersion"],
        "fieldsType": "FieldsV1",
    }
    mine = own.get("fieldsV1") or {}
    for each in seen:
        mine = _merged(mine, _nested(each.path, each.fields))
    entries = [{**own, "fieldsV1": mine}]
    for each in every:
        if each.get("subresource"):
            entries.append(each)
        elif not _is_ours(each):
            fields = each.get("fieldsV1") or {}
            for field in seen:
                if field.manager == each.get("manager"):
                    fields = _without(fields, field.path)
            entries += [{**each, "fieldsV1": fields}] if fields else []
    return entries


def _entries(found: KubeObject) -> list[KubeObject]:
    """Those who wrote the object itself: status and scale are controllers' business."""
    every = found["metadata"].get("managedFields") or []
    return [each for each in every if not each.get("subresource")]


def _is_ours(entry: KubeObject) -> bool:
    own = (FIELD_MANAGER, "Apply", "")
    return (entry.get("manager"), entry.get("operation"), entry.get("subresource") or "") == own


def _only_in(theirs: Fields, ours: Fields, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Fields]]:
    for key, below in theirs.items():
        if key == ".":
            continue  # that a map or an item is there
        where = (*path, key)
        spelled = _spelled(where)
        if spelled in _THEIRS or _NODE_PORT.fullmatch(spelled):
            continue
        if key not in ours and key not in _BAGS:
            yield where, below
        else:
            yield from _only_in(below, ours.get(key) or {}, where)


def _nested(path: tuple[str, ...], fields: Fields) -> Fields:
    for key in reversed(path):
        fields = {key: fields}
    return fields


def _merged(one: Fields, other: Fields) -> Fields:
    return one | {key: _merged(one.get(key) or {}, below) for key, below in other.items()}


def _without(fields: Fields, path: tuple[str, ...]) -> Fields:
    key, *rest = path
    if key not in fields:
        return fields
    kept = {name: below for name, below in fields.items() if name != key}
    # An empty set would mean the field itself.
    if rest and (below := _without(fields[key], tuple(rest))):
        kept[key] = below
    return kept


def _spelled(path: tuple[str, ...]) -> str:
    """`.spec.ports[80/TCP].nodePort`: the keys are those of structured-merge-diff's fieldpath package."""
    said = ""
    for step in path:
        sort, _, value = step.partition(":")
        if sort == "f":
            said += f".{value}"
        elif sort == "k":
            said += "[" + "/".join(str(each) for each in json.loads(value).values()) + "]"
        else:
            said += f"[{value}]"
    return said


def _kind(obj: KubeObject) -> tuple[str, str]:
    return obj["apiVersion"].rpartition("/")[0], obj["kind"]
