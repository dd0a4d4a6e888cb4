"""Opens ONNX files with onnxruntime and scores a sample of each; runs in the sandbox, by file path.

Imports nothing of ours. Arguments: paths relative to the working folder. Writes one JSON document:
{"signatures": {path: {"inputs": [...], "outputs": [...]}}, "unscored": {path: "why"}}, or
{"refused": "why"}.
"""

import json
import math
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime as ort

_NUMPY = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bool": "bool",
    "string": "object",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
# Dimensions that vary become 1; a few models (a convolution, a pooling) need room.
_SIZES = (1, 32, 224)


class RefusedError(Exception): ...


class NoSampleError(Exception): ...


def open_model(path: str) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise RefusedError(f"{path} cannot be opened: {_line(error)}") from error


def score(path: str, session: Any) -> None:
    """Score zeros, then random numbers, then larger shapes, until one sample gives finite numbers."""
    first = ""
    for feeds in _samples(session):
        try:
            outputs = session.run(None, feeds)
        except Exception as error:  # noqa: BLE001 - the library raises a dozen types
            first = first or f"{path} cannot score a sample: {_line(error)}"
            continue
        bad = [
            out.name for out, value in zip(session.get_outputs(), outputs, strict=True) if not _finite(value)
        ]
        if not bad:
            return
        first = first or f"{path} gives numbers that are not finite (NaN or infinity) in output {bad[0]}"
    raise RefusedError(first)


def describe(session: Any) -> dict[str, Any]:
    return {
        "inputs": [_tensor(each) for each in session.get_inputs()],
        "outputs": [_tensor(each) for each in session.get_outputs()],
    }


def _samples(session: Any) -> Iterator[dict[str, Any]]:
    inputs = session.get_inputs()
    varies = any(not isinstance(size, int) for each in inputs for size in each.shape)
    for size in _SIZES if varies else _SIZES[:1]:
        for random in (None, np.random.default_rng(0)):
            yield {each.name: _value(each, size, random) for each in inputs}


def _value(node: Any, size: int, random: Any) -> Any:
    kind = str(node.type)
    if kind.startswith("optional("):
        return None
    inner = kind.removeprefix("seq(") if kind.startswith("seq(") else kind
    dtype = _NUMPY.get(inner.removeprefix("tensor(").rstrip(")"))
    if dtype is None or not inner.startswith("tensor("):
        raise NoSampleError(f"input {node.name} is a {kind}, of which no sample can be made")
    shape = [each if isinstance(each, int) and each >= 0 else size for each in node.shape]
    if dtype == "object":
        value: Any = np.full(shape, "a" if random else "", dtype=object)
    elif random is None:
        value = np.zeros(shape, dtype=dtype)
    elif dtype.startswith("float"):
        value = random.random(shape).astype(dtype)
    else:
        value = random.integers(0, 2, shape).astype(dtype)
    return [value] if kind.startswith("seq(") else value


def _finite(value: Any) -> bool:
    """Whether all floating-point numbers in an output are finite: an array, a list, or a list of maps."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind != "f" or bool(np.isfinite(value).all())
    if isinstance(value, dict):
        return all(_finite(each) for each in value.values())
    if isinstance(value, list | tuple):
        return all(_finite(each) for each in value)
    return not isinstance(value, float) or math.isfinite(value)


def _tensor(node: Any) -> dict[str, Any]:
    inner = str(node.type).removeprefix("tensor(").removesuffix(")")
    dtype = _NUMPY.get(inner, str(node.type)).replace("object", "string")
    shape = [each if isinstance(each, int) and each >= 0 else None for each in node.shape or []]
    return {"name": node.name, "dtype": dtype, "shape": shape}


def _line(error: Exception) -> str:
    """The library's own words in one line, without its source file and C++ signature."""
    text = " ".join(str(error).split())
    return re.sub(r"/onnxruntime_src/\S+:\d+ .*?\) (?=[A-Z])", "", text)[:600].rstrip(".")


def main(paths: list[str]) -> dict[str, Any]:
    signatures, unscored = {}, {}
    try:
        for path in paths:
            session = open_model(path)
            try:
                score(path, session)
            except NoSampleError as error:
                unscored[path] = str(error)
            signatures[path] = describe(session)
    except RefusedError as refused:
        return {"refused": str(refused)}
    return {"signatures": signatures, "unscored": unscored}


if __name__ == "__main__":
    json.dump(main(sys.argv[1:]), sys.stdout)
