"""Something was written, as every store tells it: what makes two tellings the same news, and which count."""

import hashlib
from collections.abc import Sequence

from linkspan.stores.settings import folder
from linkspan.webhooks.base import Hint, Reading
from linkspan.webhooks.providers.payload import brief


def counted(found: Sequence[Hint | str], otherwise: str = "") -> Reading:
    """The hints among these; without any, the last reason why not; `otherwise` for nothing."""
    if hints := tuple(each for each in found if isinstance(each, Hint)):
        return Reading(hints=hints)
    return Reading(ignored=str(found[-1]) if found else otherwise)


def outside(path: str, prefix: str) -> str:
    """The reason that `path` is not inside the folder `prefix`."""
    return f"written outside of {prefix}: {brief(path, 150)}"


def key_of(kind: str, *parts: str) -> str:
    """The key of a hint from what makes it news; each part counts, and where it ends."""
    joined = "".join(f"{len(part)}:{part}," for part in parts)
    # Headers may hold what is no text; that must not raise here.
    return f"{kind}:{hashlib.sha256(joined.encode(errors='backslashreplace')).hexdigest()}"


def is_below(path: str, prefix: str) -> bool:
    """Whether the object `path` is inside the folder `prefix`; everything is inside the empty one."""
    return path.startswith(folder(prefix))


def touches(directory: str, prefix: str) -> bool:
    """Whether a whole directory is inside the folder `prefix`, is it, or has it inside."""
    inner, outer = folder(directory), folder(prefix)
    return inner.startswith(outer) or outer.startswith(inner)
