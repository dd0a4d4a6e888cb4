"""What makes two tellings the same news, and whether something written is the source's business."""

import hashlib

from linkspan.stores.settings import folder


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
