"""Says what is wrong in linkspan.toml so that nobody has to look anything up: line, key, expected, hint."""

import difflib
import json
import math
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from linkspan.config.lines import key_lines
from linkspan.errors import ConfigError
from linkspan.plain_text import plain_text

Location = tuple[str | int, ...]
_Problem = tuple[int, ConfigError]

_MOST_LISTED = 20
_LONGEST = 100  # characters of a key
_DEEPEST = 50

_WANTED = {
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "tuple_type": 'a list, such as ["python", "-m", "pytest"]',
    "dict_type": "a table",
    "model_type": "a table",
    "too_short": "at least one entry",
}

# Patterns are exact, and no use to a reader.
_PATTERNS = {
    "name": "small letters a-z, digits and '-', at most 40, neither first nor last a '-'",
    "path": "a path that starts with '/'",
    "ready_path": "a path that starts with '/'",
    "memory": "a size such as 512m or 2g",
    "cpu": "cores such as 500m, 0.5 or 2",
    "host": "a host name such as app.example.com, in small letters, without scheme, port or path",
    "namespace": "small letters a-z, digits and '-', at most 63, neither first nor last a '-'",
    "method": "an HTTP method in capitals",
    "env": "letters, digits and '_', not beginning with a digit or with LINKSPAN_",
}


class Problems:
    """Makes errors about one text. `model` is what it should have been; `where` is what people call it."""

    def __init__(self, model: type[BaseModel], text: str, where: str) -> None:
        self._model = model
        self._lines = key_lines(text)
        self._where = where

    def refuse_what_json_has_not(self, data: dict[str, Any]) -> None:
        """Raises ConfigError for values that only TOML has: the config travels as JSON."""
        problems = [self._wrong(path, expected, found) for path, expected, found in _not_json(data)]
        if problems:
            raise self._together(problems)

    def explain(self, error: ValidationError) -> ConfigError:
        """One error that lists all, in the order of the file."""
        return self._together([self._problem(detail) for detail in error.errors(include_url=False)])

    def _together(self, problems: list[_Problem]) -> ConfigError:
        if len(problems) == 1:
            return problems[0][1]
        listed = [f"\n  {error}" for _, error in sorted(problems, key=lambda problem: problem[0])]
        if len(listed) > _MOST_LISTED:
            listed[_MOST_LISTED:] = [f"\n  and {len(listed) - _MOST_LISTED} more"]
        return ConfigError(f"{self._where} has {len(problems)} errors:" + "".join(listed))

    def _problem(self, detail: ErrorDetails) -> _Problem:
        path, kind = detail["loc"], detail["type"]
        parent = _dotted(path[:-1])
        if kind == "extra_forbidden":
            section = f" in [{parent}]" if parent else ""
            return self._at(
                path, f"unknown key `{_dotted(path[-1:])}`{section}", fix=_hint(self._model, path)
            )
        if kind == "missing":
            section = f"[{parent}]" if parent else "the top of the file"
            return self._at(path[:-1], f"`{_dotted(path)}` is missing", fix=f"Put it into {section}")
        if path[-1] == "[key]":
            rule = _PATTERNS["env" if "env" in path[:-2] else "name"]
            return self._wrong(path[:-1], f"a name of {rule}", json.dumps(path[-2]))
        return self._wrong(path, _wanted(detail), _short(detail["input"]))

    def _wrong(self, path: Location, expected: str, found: str) -> _Problem:
        return self._at(path, f"`{_dotted(path)}` is wrong", expected=expected, found=found)

    def _at(
        self, path: Location, what: str, *, expected: str = "", found: str = "", fix: str = ""
    ) -> _Problem:
        # A key that is missing, or inside a value, has the line of the nearest table around it.
        while path and path not in self._lines:
            path = path[:-1]
        line = self._lines.get(path, 1)
        return line, ConfigError(
            f"{self._where}, line {line}: {plain_text(what)}", expected=expected, found=found, fix=fix
        )


def _not_json(value: object, path: Location = ()) -> Iterator[tuple[Location, str, str]]:
    if len(path) > _DEEPEST:
        yield path, f"at most {_DEEPEST} tables or lists in each other", "more"
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _not_json(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _not_json(item, (*path, index))
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, "a finite number", str(value)
    elif isinstance(value, int) and value.bit_length() > 63:  # TOML 1.0, "Integer"
        yield path, "a whole number of at most 64 bits", f"one of {value.bit_length() + 1}"
    elif not isinstance(value, str | int | float):
        yield path, "text in quotes", f"a date or time, {value}"


def _wanted(detail: ErrorDetails) -> str:
    kind, limits = detail["type"], detail.get("ctx", {})
    if kind in {"string_pattern_mismatch", "string_too_long"}:
        if detail["loc"] == ("model", "path"):
            return "a folder such as /model, not '/' itself"
        return _PATTERNS.get(str(detail["loc"][-1]), detail["msg"])
    words = {"greater_than": "more than", "greater_than_equal": "at least", "less_than_equal": "at most"}
    if kind in words:
        return f"{words[kind]} {next(iter(limits.values())):g}"
    return _WANTED.get(kind, detail["msg"])


def _hint(model: type[BaseModel], path: Location) -> str:
    """What an unknown key was probably meant to be."""
    key, known = str(path[-1]), _known_keys(model, path[:-1])
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f"Did you mean `{close[0]}`?"
    homes = [section for section, keys in _sections(model) if key in keys]
    if homes:
        return f"`{key}` belongs into {' or '.join(homes)}"
    return "Known are " + ", ".join(f"`{name}`" for name in known)


def _known_keys(model: type[BaseModel], path: Location) -> list[str]:
    kind: Any = model
    for part in path:
        kind = get_args(kind)[1] if get_origin(kind) is dict else _fields(kind)[str(part)]
    return list(_fields(kind))


def _sections(model: type[BaseModel], name: str = "") -> Iterator[tuple[str, list[str]]]:
    yield (f"[{name}]" if name else "the top of the file"), list(_fields(model))
    for key, annotation in _fields(model).items():
        section = f"{name}.{key}" if name else key
        is_table_of = get_origin(annotation) is dict
        kind = get_args(annotation)[1] if is_table_of else annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _sections(kind, f"{section}.<name>" if is_table_of else section)


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _dotted(path: Location) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
