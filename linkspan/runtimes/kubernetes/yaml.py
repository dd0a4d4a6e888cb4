"""Kubernetes' YAML as values that are JSON, with the line at which each document begins.

PyYAML reads YAML 1.1 to the letter, Kubernetes does not: there `12:30` is text and not 750, a date is text,
and a key that stands twice is an error. What is read here is what `kubectl` would read (sigs.k8s.io/yaml).
"""

import math
import re
from collections.abc import Iterator
from typing import Any, Final

import yaml

from linkspan.errors import ConfigError

MAX_VALUES: Final = 100_000
"""Values in one file, aliases written out: a few lines of aliases can stand for gigabytes."""

_MERGE = "tag:yaml.org,2002:merge"
_INT = re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|0|[1-9][0-9_]*)")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_SURROGATE = re.compile("[\ud800-\udfff]")


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of Go's YAML: no base 60, no dates, `1e3` is a number."""


_TAGS = {"tag:yaml.org,2002:" + kind for kind in ("int", "float", "timestamp", "value")}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag not in _TAGS]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in (("int", _INT), ("float", _FLOAT)):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern.pattern})$"), list("-+.0123456789")
    )


def documents(text: str, where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line and value of each document of `text` that is not empty; `where` is how errors call the file.

    Raises ConfigError that names file and line.
    """
    loader = _open(text, where)
    try:
        while loader.check_node() and (node := loader.get_node()) is not None:
            reader = _Reader(loader, where)
            value = reader.value(node)
            if value is not None and not isinstance(value, dict):
                raise reader.error(node, "is no object", expected="apiVersion, kind and metadata")
            if value:
                yield node.start_mark.line + 1, value
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{where}, line {line}: not YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise ConfigError(f"{where} is nested too deep") from None
    finally:
        loader.dispose()


def _open(text: str, where: str) -> _Loader:
    try:
        return _Loader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{where}, line {line}: not YAML: character {error.character!r} is not allowed"
        ) from None


class _Reader:
    """Makes values of one document's nodes. Aliases become copies; how many is counted."""

    def __init__(self, loader: _Loader, where: str) -> None:
        self._loader = loader
        self._where = where
        self._left = MAX_VALUES
        self._open: set[int] = set()

    def value(self, node: yaml.Node) -> Any:
        self._left -= 1
        if self._left < 0:
            raise self.error(node, "too large", expected=f"at most {MAX_VALUES} values, aliases included")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if node.tag not in {"tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"}:
            raise self.error(node, "must be a list or a mapping", found=node.tag)
        if id(node) in self._open:
            raise self.error(node, "an alias of what it is in")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item) for item in node.value]
            return self._mapping(node)
        finally:
            self._open.remove(id(node))

    def _mapping(self, node: yaml.Node) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, item in node.value:
            if key_node.tag == _MERGE:
                for each in self._merged(item):
                    merged = {**each, **merged}  # the first wins, yaml.org/type/merge.html
                continue
            key = self._key(key_node)
            if key in own:
                raise self.error(key_node, f"`{key}` stands twice")
            own[key] = self.value(item)
        return {**merged, **own}

    def _merged(self, node: yaml.Node) -> list[dict[str, Any]]:
        found = self.value(node)
        each = found if isinstance(found, list) else [found]
        if not all(isinstance(one, dict) for one in each):
            raise self.error(node, "`<<` takes a mapping")
        return each

    def _key(self, node: yaml.Node) -> str:
        key = self.value(node) if isinstance(node, yaml.ScalarNode) else None
        if key is None:
            raise self.error(node, "a key must be text")
        return str(key).lower() if isinstance(key, bool) else str(key)

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        try:
            value = self._loader.construct_object(node)
        except (ValueError, OverflowError):
            raise self.error(node, "cannot be read", found=node.value[:60]) from None
        if isinstance(value, float) and not math.isfinite(value):
            fix = "Put it into quotes if it is text"
            raise self.error(node, "is no number that JSON has", found=node.value, fix=fix)
        if isinstance(value, str) and _SURROGATE.search(value):
            raise self.error(node, "is no Unicode text")
        if value is not None and not isinstance(value, str | int | float):
            raise self.error(node, "must be text or a number", found=node.tag)
        return value

    def error(self, node: yaml.Node, what: str, **more: str) -> ConfigError:
        return ConfigError(f"{self._where}, line {node.start_mark.line + 1}: {what}", **more)
