"""A picture that somebody sent, opened with care: it may be huge, broken, transparent or no picture."""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from scoring.errors import BadInput

MAX_PIXELS = 13_000_000
"""Pixels of one picture: a phone's, but no bomb; a small file can unpack to gigabytes."""

ENOUGH = 384
"""Pixels along the longer side after opening; more of them say nothing more about a digit."""


def read_picture(data: bytes) -> Image.Image:
    """Open a PNG or JPEG as grey levels. Raises BadInput if it is neither, broken, or too large to unpack."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise BadInput(
                    f"has {opened.width} x {opened.height} pixels; the most is {MAX_PIXELS:,} in all"
                )
            opened.draft("L", (ENOUGH, ENOUGH))  # a JPEG decoder can leave out what is thrown away below
            upright = ImageOps.exif_transpose(opened)
            upright.thumbnail((ENOUGH, ENOUGH))
            return _flatten(upright)
    except UnidentifiedImageError:
        raise BadInput("is not a PNG or JPEG image") from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise BadInput(f"is a broken image: {error}") from None


def _flatten(picture: Image.Image) -> Image.Image:
    """Grey levels; what is transparent is put on white or on black, whichever shows more of the picture."""
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture.convert("L")
    layered = picture.convert("RGBA")
    flat = [
        Image.alpha_composite(Image.new("RGBA", layered.size, colour), layered)
        for colour in ("white", "black")
    ]
    return max((image.convert("L") for image in flat), key=lambda grey: float(np.asarray(grey).std()))
