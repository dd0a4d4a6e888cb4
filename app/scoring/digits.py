"""From a picture of a digit to the 64 numbers the model was trained on. Replace this file for another model.

scikit-learn's digits are UCI's "Optical Recognition of Handwritten Digits": NIST's programs made each digit
upright, scaled it to 20 x 32 pixels and evened out the pen (NISTIR 5469); UCI counted the ink in blocks of
4 x 4. Whatever a person draws or photographs goes through the same steps here, else the model sees strangers.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter, ImageOps

from scoring.errors import BadInput

Features = npt.NDArray[np.float32]

SIDE = 8
"""Blocks along a side; the model takes SIDE * SIDE numbers of 0..FULL."""

FULL = 16
"""A block with ink all over."""

_FINE = (
    12  # our pixels along a block's side: three times those of the data, so that the pen can be evened out
)
_TALL = SIDE * _FINE
_WIDE = round(_TALL * 21 / 32)
_INK = 313 / 1024  # the part of the square that is ink in the data, nearly the same for every digit
_TINTED = 24  # grey levels; less than that between the lightest and the darkest is an empty sheet


def features(picture: Image.Image) -> Features:
    """SIDE * SIDE numbers of 0..FULL, row by row. Raises BadInput if nothing is drawn in `picture`."""
    drawn = _upright(_crop(_clean(_bitmap(picture))))
    # Scaled twice, because another pen makes the digit a little larger or smaller.
    square = _scale(_crop(_even(_scale(drawn))))
    blocks = np.asarray(square, np.float32).reshape(SIDE, _FINE, SIDE, _FINE)
    numbers: Features = blocks.mean(axis=(1, 3)).reshape(SIDE * SIDE) * np.float32(FULL / 255)
    return numbers


def _bitmap(picture: Image.Image) -> Image.Image:
    """255 where the pen was. The paper, light or dark, is what is most of the edge."""
    levels = np.asarray(picture, np.uint8)
    if int(levels.max()) - int(levels.min()) < _TINTED:
        raise BadInput("is blank: nothing is drawn in it")
    light = levels > _threshold(levels)
    edge = np.concatenate([light[0], light[-1], light[:, 0], light[:, -1]])
    return Image.fromarray(np.where(light != (edge.mean() > 0.5), 255, 0).astype(np.uint8))


def _threshold(levels: npt.NDArray[np.uint8]) -> int:
    """The grey level that best parts dark from light (Otsu 1979)."""
    count = np.bincount(levels.ravel(), minlength=256).astype(np.float64)
    weight = (count * np.arange(256)).cumsum()
    dark = count.cumsum()
    light = dark[-1] - dark
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = dark * light * (weight / dark - (weight[-1] - weight) / light) ** 2
    return int(np.nan_to_num(spread).argmax())


def _clean(ink: Image.Image) -> Image.Image:
    """Without specks, which would stretch the digit's box; a pen as thin as a speck stays."""
    calm = ink.filter(ImageFilter.MedianFilter(3))
    return calm if calm.getbbox() else ink


def _crop(ink: Image.Image) -> Image.Image:
    return ink.crop(ink.getbbox())


def _upright(ink: Image.Image) -> Image.Image:
    """Sheared until the leftmost ink of the top is above the leftmost ink of the bottom, as NIST did."""
    on = np.asarray(ink) > 0
    band = max(1, round(ink.height * 0.08))
    top, bottom = (int(rows.any(axis=0).argmax()) for rows in (on[:band], on[-band:]))
    slant = float(np.clip((bottom - top) / max(1, ink.height - band), -1.2, 1.2))
    wide = ImageOps.expand(ink, border=(round(abs(slant) * ink.height) + 1, 0))
    shear = (1, slant, -slant * ink.height / 2, 0, 1, 0)
    return _crop(wide.transform(wide.size, Image.Transform.AFFINE, shear))


def _scale(ink: Image.Image) -> Image.Image:
    """The digit in the middle of the square, as tall as it, squeezed where it is wider than the data are."""
    width = max(1, round(min(ink.width * _TALL / ink.height, _WIDE)))
    kind = Image.Resampling.BOX if ink.height > _TALL else Image.Resampling.BILINEAR
    square = Image.new("L", (_TALL, _TALL))
    square.paste(ink.resize((width, _TALL), kind), ((_TALL - width) // 2, 0))
    return square.point(lambda level: 255 if level > 127 else 0)


def _even(square: Image.Image) -> Image.Image:
    """The same digit with the pen that puts as much ink on the paper as in the data."""
    ink = ImageOps.expand(square, border=_FINE * 2)  # room for a wider pen
    target = _INK * _TALL * _TALL
    area = _area(ink)
    pen = ImageFilter.MaxFilter(3) if area < target else ImageFilter.MinFilter(3)
    while (better := _area(ink.filter(pen))) and abs(better - target) < abs(area - target):
        ink, area = ink.filter(pen), better
    return ink


def _area(ink: Image.Image) -> float:
    return float(np.count_nonzero(np.asarray(ink)))
