"""How an object in the cluster differs from what was applied, in words.

Both sides come from the API server, one from a dry run of applying it again, so defaults and other people's
fields are in both and only what somebody changed in ours is left.
"""

from typing import Any

from linkspan.runtimes.base import Manifest

# What the server itself keeps in an object. A dry run counts generation up for a change that is found below.
_SERVERS = {"managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink"}
_MOST = 3


def drift_of(found: Manifest, wanted: Manifest) -> str:
    """What must change in `found` to be `wanted`, as one line; empty if nothing."""
    changes = _changes(_ours(found), _ours(wanted), "")
    if not changes:
        return ""
    more = f" and {len(changes) - _MOST} more" if len(changes) > _MOST else ""
    return f"{wanted['kind']}/{wanted['metadata']['name']}: " + ", ".join(changes[:_MOST]) + more


def _ours(thing: Manifest) -> Manifest:
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
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        pairs = enumerate(zip(found, wanted, strict=True))
        return [line for i, (a, b) in pairs for line in _changes(a, b, f"{path}[{_name(b, i)}]")]
    return [f"{path} is {_shown(found)} instead of {_shown(wanted)}"]


def _name(item: Any, index: int) -> str:
    return str(item.get("name", index)) if isinstance(item, dict) else str(index)


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
