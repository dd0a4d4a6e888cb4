"""A picture becomes the same numbers, however it was made."""

import base64
import io
import unittest

import numpy as np
from PIL import Image, ImageOps
from scoring import digits
from scoring.errors import BadInput
from scoring.images import read_picture

from tests.support import BAR, SEVEN, drawn, png


def apart(one: digits.Features, other: digits.Features) -> float:
    return float(np.abs(one - other).mean())


class Digits(unittest.TestCase):
    def setUp(self) -> None:
        self.seven = digits.features(drawn(SEVEN))

    def test_range_and_ink_are_those_of_the_training_data(self) -> None:
        self.assertEqual(self.seven.shape, (64,))
        self.assertEqual(self.seven.dtype, np.float32)
        self.assertGreaterEqual(self.seven.min(), 0)
        self.assertEqual(self.seven.max(), 16)
        self.assertAlmostEqual(self.seven.mean(), 4.9, delta=0.8)

    def test_it_fills_the_height_and_stands_in_the_middle(self) -> None:
        blocks = self.seven.reshape(8, 8)
        self.assertGreater(blocks[0].max(), 4)
        self.assertGreater(blocks[7].max(), 4)
        self.assertEqual(blocks[:, 0].sum(), 0)
        self.assertEqual(blocks[:, 7].sum(), 0)

    def test_light_on_dark_is_the_same(self) -> None:
        self.assertLess(apart(self.seven, digits.features(drawn(SEVEN, paper=0))), 0.1)

    def test_place_and_size_do_not_matter(self) -> None:
        small = [(0.6 + x * 0.3, 0.1 + y * 0.3) for x, y in SEVEN]
        self.assertLess(apart(self.seven, digits.features(drawn(small, side=768))), 0.7)

    def test_the_pen_hardly_matters(self) -> None:
        for pen in (8, 14, 30):
            with self.subTest(pen=pen):
                self.assertLess(apart(self.seven, digits.features(drawn(SEVEN, pen=pen))), 1.6)

    def test_a_slanted_one_is_an_upright_one(self) -> None:
        slanted = digits.features(drawn([(0.7, 0.1), (0.3, 0.9)]))
        self.assertLess(apart(digits.features(drawn(BAR)), slanted), 1.0)

    def test_specks_do_not_change_the_box(self) -> None:
        dusty = drawn(SEVEN)
        for place in ((3, 3), (250, 250), (3, 250)):
            dusty.putpixel(place, 0)
        self.assertLess(apart(self.seven, digits.features(dusty)), 0.1)

    def test_blank_pictures_are_refused(self) -> None:
        for paper in (0, 128, 255):
            with self.assertRaisesRegex(BadInput, "blank"):
                digits.features(Image.new("L", (40, 40), paper))

    def test_odd_pictures_are_scored_or_refused_but_never_fail(self) -> None:
        random = np.random.default_rng(1)
        for shape in ((1, 1), (1, 300), (300, 1), (2, 2), (64, 5)):
            for levels in (random.integers(0, 256, shape), random.choice([0, 255], shape)):
                with self.subTest(shape=shape):
                    try:
                        numbers = digits.features(Image.fromarray(levels.astype(np.uint8)))
                    except BadInput:
                        continue
                    self.assertTrue(np.isfinite(numbers).all())


class Reading(unittest.TestCase):
    def read(self, image: Image.Image, kind: str = "PNG") -> digits.Features:
        return digits.features(read_picture(base64.b64decode(png(image, kind))))

    def test_png_and_jpeg_colour_and_transparency(self) -> None:
        seven = drawn(SEVEN)
        plain = digits.features(seven)
        on_nothing = Image.new("RGBA", seven.size)
        on_nothing.putalpha(ImageOps.invert(seven))  # black strokes on a transparent sheet
        white_strokes = Image.new("RGBA", seven.size, "white")
        white_strokes.putalpha(ImageOps.invert(seven))
        for name, image, kind in (
            ("rgb", seven.convert("RGB"), "PNG"),
            ("palette", seven.convert("P"), "PNG"),
            ("bits", seven.convert("1"), "PNG"),
            ("16 bits", Image.fromarray(np.asarray(seven, np.uint16) * 257), "PNG"),
            ("jpeg", seven.convert("RGB"), "JPEG"),
            ("cmyk", seven.convert("CMYK"), "JPEG"),
            ("transparent", on_nothing, "PNG"),
            ("white on transparent", white_strokes, "PNG"),
        ):
            with self.subTest(name):
                self.assertLess(apart(plain, self.read(image, kind)), 0.6)

    def test_a_turned_photograph_is_turned_back(self) -> None:
        turned = drawn(SEVEN).rotate(90, expand=True)
        exif = Image.Exif()
        exif[0x0112] = 6  # Orientation: turn by 90 degrees to see it upright
        buffer = io.BytesIO()
        turned.save(buffer, "JPEG", exif=exif)
        self.assertLess(
            apart(digits.features(drawn(SEVEN)), digits.features(read_picture(buffer.getvalue()))), 0.6
        )

    def test_a_bomb_is_refused_before_it_unpacks(self) -> None:
        with self.assertRaisesRegex(BadInput, "5000 x 3000 pixels"):
            self.read(Image.new("1", (5000, 3000)))

    def test_broken_files_are_refused(self) -> None:
        whole = base64.b64decode(png(drawn(SEVEN)))
        for data in (b"", b"hello", whole[:60], whole[:-40], b"GIF89a" + bytes(40)):
            with self.subTest(data=data[:8]), self.assertRaises(BadInput):
                read_picture(data)
