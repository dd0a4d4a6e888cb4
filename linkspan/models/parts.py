"""A model's files in groups, each of which becomes a layer: a pure function of their paths and sizes.

A big file has a layer of its own, so that a changed tokenizer does not move the weights, two models with the
same file share it, and engines fetch several at once. Small files lie together, by their paths and not by
their order, so that one more moves only its group.
"""

import hashlib
from collections.abc import Iterator, Sequence

from linkspan.nouns import ModelFile

_OWN = 64 << 10
"""Bytes from which on a file may have a layer of its own."""
_MOST_OWN = 16
_MOST_GROUPS = 8  # engines take 125 layers in all (moby layer/layer.go), and the code needs some too
_GROUP = 1 << 20  # with up to this many bytes one group is enough
# ECR takes 52,000 MiB a layer; a group may be split, a file may not.
_LAYER_CAP = 48_000 << 20


def parts(files: Sequence[ModelFile]) -> list[tuple[ModelFile, ...]]:
    """All of `files`, each once, in groups; the groups by their first paths."""
    big = sorted((file for file in files if file.size >= _OWN), key=lambda file: (-file.size, file.path))
    own = big[:_MOST_OWN]
    alone = {file.path for file in own}
    rest = sorted((file for file in files if file.path not in alone), key=lambda file: file.path)
    count = _groups(sum(map(_weight, rest)))
    groups: dict[int, list[ModelFile]] = {}
    for file in rest:
        groups.setdefault(_place(file.path) % count, []).append(file)
    found = [(file,) for file in own] + [part for group in groups.values() for part in _split(group)]
    return sorted(found, key=lambda part: part[0].path)


def _groups(size: int) -> int:
    """A power of two, so that few sizes mean other groups."""
    count = 1
    while count < _MOST_GROUPS and count * _GROUP < size:
        count *= 2
    return count


def _weight(file: ModelFile) -> int:
    """About the bytes that it takes in a tar, which are more than its own where it is small."""
    return file.size + 1024


def _place(path: str) -> int:
    return hashlib.sha256(path.encode()).digest()[0]


def _split(group: list[ModelFile]) -> Iterator[tuple[ModelFile, ...]]:
    part: list[ModelFile] = []
    size = 0
    for file in group:
        if part and size + _weight(file) > _LAYER_CAP:
            yield tuple(part)
            part, size = [], 0
        part.append(file)
        size += _weight(file)
    if part:
        yield tuple(part)
