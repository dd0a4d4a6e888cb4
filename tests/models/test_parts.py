"""A model's files in layers: all of them, each once, so that few layers change with few files."""

import hashlib
import random

import pytest

from linkspan.models.parts import parts
from linkspan.nouns import ModelFile

Sizes = dict[str, int]
Parts = set[tuple[ModelFile, ...]]


def files(sizes: Sizes, seed: str = "") -> list[ModelFile]:
    return [
        ModelFile(path=path, size=size, sha256=hashlib.sha256(f"{seed}{path}".encode()).hexdigest())
        for path, size in sizes.items()
    ]


def paths(sizes: Sizes) -> list[list[str]]:
    return [[file.path for file in part] for part in parts(files(sizes))]


def test_weights_alone_small_files_together() -> None:
    found = paths({"tokenizer.json": 500_000, "config.json": 900, "weights": 10**9, "vocab.txt": 64 << 10})
    assert found == [["config.json"], ["tokenizer.json"], ["vocab.txt"], ["weights"]]
    assert paths({"b": 20, "a": 10, "c/d": 0}) == [["a", "b", "c/d"]]


@pytest.mark.parametrize(
    "sizes",
    [
        {f"model-{n:05}-of-00060.safetensors": 5 * 10**9 for n in range(60)},
        {f"small/{n}": 20_000 for n in range(12_000)},
        {f"mixed/{n}": n * 13_001 for n in range(500)},
        {"one": 1},
    ],
)
def test_each_file_once_in_few_layers_that_a_registry_takes(sizes: Sizes) -> None:
    found = parts(files(sizes))
    assert sorted(file.path for part in found for file in part) == sorted(sizes)
    assert len(found) <= 24
    assert all(sum(file.size for file in part) <= 52_000 << 20 for part in found)
    turned = files(sizes)
    random.Random(0).shuffle(turned)
    assert parts(turned) == found, "whatever order they come in"


def test_a_group_is_split_where_a_registry_would_not_take_it() -> None:
    sizes = {f"shard-{n:03}": 30 << 30 for n in range(40)}
    found = parts(files(sizes))
    assert sum(map(len, found)) == 40
    assert max(sum(file.size for file in part) for part in found) <= 48_000 << 20


def changed(before: Sizes, after: Sizes, seed: str = "") -> Parts:
    """The layers of `after` that are not those of `before`."""
    return set(map(tuple, parts(files(after, seed)))) - set(map(tuple, parts(files(before))))


def test_few_files_move_few_layers() -> None:
    model = {"weights": 10**9, "tokenizer.json": 500_000} | {f"more/{n}": 100 for n in range(50)}
    other = model | {"tokenizer.json": 500_001}
    assert [[file.path for file in part] for part in changed(model, other)] == [["tokenizer.json"]]
    assert [len(part) for part in changed(model, model | {"added": 10})] == [51]
    many = {f"small/{n}": 2_000 for n in range(12_000)}
    [moved] = changed(many, many | {"small/new": 2_000})
    assert len(moved) < 12_000 / 6
