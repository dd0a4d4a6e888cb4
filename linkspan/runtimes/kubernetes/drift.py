"""How an object in the cluster differs from what was applied, in words.

Both sides come from the API server, one from a dry run of applying it again, so defaults and what webhooks
add are in both. What somebody changed in ours is not. What somebody added is, but the server says who set it.
"""

from typing import Any

from linkspan.runtimes.base import KubeObject
from linkspan.runtimes.kubernetes.objects import called
from linkspan.runtimes.kubernetes.owners import foreign

# What the server itself keeps in an object. A dry run counts generation up for a change that is found below.
_SERVERS = {"managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink"}
_MOST = 3


def drift_of(found: KubeObject, wanted: KubeObject, applied: KubeObject | None) -> str:
    """What must change in `found`, as one line; empty if nothing.

    `wanted` is what was applied, `applied` what a dry run of applying it again gave; None if the cluster
    would not say: then it is what others have set.
    """
    changes = [] if applied is None else _changes(_ours(found), _ours(applied), "")
    changes += [str(each) for each in foreign(applied or found, wanted)]
    if not changes:
        return ""
    more = f" and {len(changes) - _MOST} more" if len(changes) > _MOST else ""
    return f"{called(wanted)}: " + ", ".join(changes[:_MOST]) + more


def _ours(thing: KubeObject) -> KubeObject:
    meta = {name: value for name, value in thing["metadata"].items() if name not in _SERVERS}
    return {**{name: value for name, value in thing.items() if name != "status"}, "metadata": meta}


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
