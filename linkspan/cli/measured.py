"""Metrics as a data scientist gives them: on the command line, or as the file that a training wrote."""

import json
from collections.abc import Sequence
from pathlib import Path

from linkspan.errors import ConfigError


def read_metrics(pairs: Sequence[str], file: Path | None) -> dict[str, float]:
    """The metrics of a JSON file, overridden by `name=number` pairs. Raises ConfigError, naming which one."""
    values = {} if file is None else _of_file(file)
    for pair in pairs:
        name, equals, value = pair.partition("=")
        try:
            if not (name.strip() and equals):
                raise ValueError(pair)
            values[name.strip()] = float(value)
        except ValueError:
            raise ConfigError(
                f"--metric {pair!r} is no metric", expected="NAME=NUMBER, such as accuracy=0.98"
            ) from None
    return values


def _of_file(file: Path) -> dict[str, float]:
    expected = 'a JSON object of numbers, such as {"accuracy": 0.98}'
    try:
        document = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} holds no metrics: {error}", expected=expected) from None
    if not isinstance(document, dict):
        raise ConfigError(f"{file} holds no metrics", expected=expected, found=type(document).__name__)
    wrong = [name for name, value in document.items() if not isinstance(value, int | float)]
    if wrong:
        raise ConfigError(
            f"{file} holds more than metrics", expected=expected, found=f"no number for {', '.join(wrong)}"
        )
    return {name: float(value) for name, value in document.items()}
