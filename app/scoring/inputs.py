"""The two forms of a scoring request, read strictly: what cannot be scored is named by its place and reason.

{"input": "[\"<base64 of PNG or JPEG>\", ...]"}    a JSON list in a JSON string, as older clients send it
{"instances": [[64 numbers 0..16] or [[8 numbers] x 8], ...]}
"""

import base64
import binascii
import json
from typing import Any

import numpy as np

from scoring import digits
from scoring.errors import BadInput
from scoring.images import read_picture
from scoring.model import Matrix

WIDTH = digits.SIDE * digits.SIDE
FORMS = """send {"input": "[\\"<base64 image>\\", ...]"} or {"instances": [[64 numbers 0..16], ...]}"""


def read_request(body: Any, *, most: int) -> Matrix:
    """Rows of WIDTH numbers. Raises BadInput."""
    if not isinstance(body, dict) or len({"input", "instances"} & body.keys()) != 1:
        raise BadInput(f"{FORMS} as a JSON object")
    if "input" in body:
        return np.stack(
            [_image(n, text) for n, text in enumerate(_items(_unpacked(body["input"]), "input", most))]
        )
    return np.stack(
        [_instance(n, item) for n, item in enumerate(_items(body["instances"], "instances", most))]
    )


def _unpacked(value: Any) -> Any:
    if not isinstance(value, str):
        return value  # a plain list says the same
    try:
        return json.loads(value)
    except ValueError:
        raise BadInput(f"input is a string, but not of a JSON list; {FORMS}") from None


def _items(value: Any, name: str, most: int) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise BadInput(f"{name} must be a list with at least one item")
    if len(value) > most:
        raise BadInput(
            f"{name} has {len(value)} items; at most {most} are scored at once, send several requests"
        )
    return value


def _image(number: int, text: Any) -> digits.Features:
    where = f"input[{number}]"
    if not isinstance(text, str):
        raise BadInput(f"{where} must be a string of base64")
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        data = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput(f"{where} is not base64: {error}") from None
    try:
        return digits.features(read_picture(data))
    except BadInput as error:
        raise BadInput(f"{where} {error}") from None


def _instance(number: int, item: Any) -> digits.Features:
    where = f"instances[{number}]"
    try:
        array = np.asarray(item)
    except ValueError:
        raise BadInput(f"{where} has rows of different lengths") from None
    if array.shape not in {(WIDTH,), (digits.SIDE, digits.SIDE)}:
        found = " x ".join(map(str, array.shape)) or "1"
        raise BadInput(
            f"{where} has {found} numbers; it takes {WIDTH}, or {digits.SIDE} rows of {digits.SIDE}"
        )
    if array.dtype.kind not in "iuf":
        raise BadInput(f"{where} has something that is not a number")
    if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= digits.FULL):
        raise BadInput(f"{where} has a number outside of 0..{digits.FULL}")
    return array.reshape(WIDTH).astype(np.float32)
