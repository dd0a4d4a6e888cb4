"""What the tests share: the app over the tiny model, and pictures."""

import base64
import io
import json
import shutil
import tempfile
import unittest
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient
from PIL import Image, ImageDraw
from scoring import create_app
from scoring.settings import Settings

TINY = Path(__file__).with_name("tiny.onnx").read_bytes()
NARROW = Path(__file__).with_name("narrow.onnx").read_bytes()  # takes 32 numbers, not 64
RELEASE = {
    "commit": "c" * 40,
    "model_name": "tiny",
    "model_version": "v3",
    "model_digest": "sha256:" + "d" * 64,
}


class AppCase(unittest.TestCase):
    """A client of an app whose model is loaded; `self.folder` is the model's folder."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def client(self, **settings: Any) -> FlaskClient:
        """After loading came to an end, good or bad."""
        client, loader = self.starting(**settings)
        self.assertTrue(loader.wait(240), "the model's loading came to no end")
        return client

    def starting(self, **settings: Any) -> tuple[FlaskClient, Any]:
        app = create_app(Settings(**{"model_path": self.folder, **RELEASE, **settings}))
        loader = app.extensions["model"]
        self.addCleanup(loader.stop)
        return app.test_client(), loader

    def give_model(self, content: bytes = TINY, name: str = "tiny.onnx") -> None:
        half = self.folder / "half"
        half.write_bytes(content)
        half.replace(self.folder / name)


def png(image: Image.Image, kind: str = "PNG") -> str:
    """Base64 of the image's file."""
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


def images(*encoded: str) -> dict[str, str]:
    """A request in the first form: a JSON list in a JSON string."""
    return {"input": json.dumps(encoded)}


def drawn(
    points: list[tuple[float, float]], *, side: int = 256, pen: int = 20, paper: int = 255
) -> Image.Image:
    """A line through points between 0 and 1."""
    image = Image.new("L", (side, side), paper)
    line = [(x * side, y * side) for x, y in points]
    ImageDraw.Draw(image).line(line, fill=255 - paper, width=pen, joint="curve")
    return image


SEVEN = [(0.3, 0.2), (0.7, 0.2), (0.45, 0.8)]
BAR = [(0.5, 0.1), (0.5, 0.9)]
