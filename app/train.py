"""Trains the digits model and measures it: what a data scientist runs before publishing.

    python train.py                     a folder model/ with digits.onnx, labels.txt and metrics.json
    python train.py --quality basic     a quick first model, clearly worse
    python train.py --samples samples   pictures that no model was trained on, to try the service with

The same arguments give the same bytes on the same machine: a model that did not change is not released again.
Needs train-requirements.txt; nothing of it is part of the service's image.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, map_coordinates
from scoring.digits import features
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler
from threadpoolctl import threadpool_limits

SEED = 20261122
HOLD_OUT = 0.25
FULL = 16  # the data's largest number: a block full of ink
SHEET = 256  # pixels along a side of a picture that is drawn here
OPSET = 17  # old enough for every onnxruntime of the last years

Array = npt.NDArray[Any]


def split() -> tuple[Array, Array, Array, Array]:
    """Training pictures, hold-out pictures, training labels, hold-out labels: always the same ones."""
    data = load_digits()
    return tuple(
        train_test_split(
            data.data.astype(np.float32),
            data.target,
            test_size=HOLD_OUT,
            stratify=data.target,
            random_state=SEED,
        )
    )


def basic(pictures: Array, labels: Array) -> Pipeline:
    """A first try: a linear model that saw eight pictures of each digit."""
    few, _, their_labels, _ = train_test_split(
        pictures, labels, train_size=80, stratify=labels, random_state=SEED
    )
    return make_pipeline(MinMaxScaler(), LogisticRegression()).fit(few, their_labels)


def better(pictures: Array, labels: Array) -> Pipeline:
    """A small neural network that saw every picture, and forty more of each as other hands would draw it."""
    random = np.random.default_rng(SEED)
    sevens = plain_sevens(60, random)
    pictures = np.concatenate([pictures, sevens])
    labels = np.concatenate([labels, np.full(len(sevens), 7, labels.dtype)])
    many = np.concatenate([pictures, *(redrawn(pictures, random) for _ in range(40))])
    network = MLPClassifier(
        (256,), alpha=1e-3, batch_size=256, learning_rate_init=2e-3, max_iter=15, random_state=SEED
    )
    with warnings.catch_warnings():
        # Fifteen epochs are the plan, not a lack of convergence.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return make_pipeline(MinMaxScaler(), network).fit(many, np.tile(labels, 41))


def plain_sevens(count: int, random: np.random.Generator) -> Array:
    """Sevens without a bar across the stem: nobody wrote them in these data, but many people do."""
    made = []
    for _ in range(count):
        corners = np.array([(0.27, 0.17), (0.73, 0.17), (0.55, 0.50), (0.43, 0.87)])
        corners += random.normal(0, 0.035, corners.shape)
        sheet = Image.new("L", (SHEET, SHEET), 255)
        line = [(x * SHEET, y * SHEET) for x, y in corners]
        ImageDraw.Draw(sheet).line(line, fill=0, width=int(random.integers(12, 28)), joint="curve")
        made.append(features(sheet))
    return np.stack(made)


def redrawn(pictures: Array, random: np.random.Generator) -> Array:
    """Each picture turned, sheared, stretched, moved, wobbled and inked a little differently (in blocks)."""
    count = len(pictures)
    rows, columns = np.mgrid[0:8, 0:8] - 3.5
    turn, shear = random.normal(0, [[[[0.10]]], [[[0.12]]]], (2, count, 1, 1))
    tall, wide = random.normal(1, 0.08, (2, count, 1, 1))
    down, right = random.normal(0, 0.35, (2, count, 1, 1))
    wobble = gaussian_filter(random.normal(0, 1, (2, count, 8, 8)), (0, 0, 1.5, 1.5))
    wobble *= 0.45 / wobble.std()
    from_row = (rows - turn * columns) * tall + down + wobble[0] + 3.5
    from_column = (columns + (turn + shear) * rows) * wide + right + wobble[1] + 3.5
    which = np.broadcast_to(np.arange(count)[:, None, None], from_row.shape)
    moved = map_coordinates(pictures.reshape(-1, 8, 8), [which, from_row, from_column], order=1)
    inked = np.clip(moved * random.uniform(0.85, 1.5, (count, 1, 1)), 0, FULL)
    return inked.reshape(count, 64).astype(np.float32)


def exported(pipeline: Pipeline) -> bytes:
    """The ONNX file: input [rows, 64] of 0..16, outputs label and probabilities."""
    model = to_onnx(
        pipeline,
        initial_types=[("input", FloatTensorType([None, 64]))],
        options={"zipmap": False},
        target_opset=OPSET,
        name="digits",
    )
    # skl2onnx keeps these in a set, whose order changes from run to run.
    opsets = sorted(model.opset_import, key=lambda opset: opset.domain)
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def measured(onnx: bytes, pictures: Array, labels: Array) -> dict[str, float]:
    """How good the exported file is, not the object in memory: that file is what is published."""
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    chosen, probabilities = session.run(["label", "probabilities"], {"input": pictures})
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)  # 32-bit shares miss 1 by their last bits
    return {
        "accuracy": round(float((chosen == labels).mean()), 4),
        "log_loss": round(float(log_loss(labels, exact)), 4),
        "hold_out_size": len(labels),
    }


def write_model(folder: Path, quality: str) -> dict[str, float]:
    """Train, measure and write; the .onnx file last and at once, because a service may be looking for it."""
    pictures, unseen, labels, unseen_labels = split()
    # Sums in one order: more threads would give other last bits, and so another file.
    with threadpool_limits(1):
        pipeline = {"basic": basic, "better": better}[quality](pictures, labels)
    onnx = exported(pipeline)
    metrics = measured(onnx, unseen, unseen_labels)
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath("labels.txt").write_text("".join(f"{label}\n" for label in pipeline.classes_))
    folder.joinpath("metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    half = folder / "digits.onnx.part"
    half.write_bytes(onnx)
    half.replace(folder / "digits.onnx")
    return metrics


def write_samples(folder: Path, each: int) -> list[str]:
    """`each` hold-out pictures of every digit as PNG files named <label>-<number>.png, and labels.json."""
    _, unseen, _, labels = split()
    folder.mkdir(parents=True, exist_ok=True)
    names = {}
    for digit in range(10):
        for number, index in enumerate(np.flatnonzero(labels == digit)[:each], start=1):
            blocks = (255 - unseen[index].reshape(8, 8) * (255 / FULL)).astype(np.uint8)
            name = f"{digit}-{number}.png"
            Image.fromarray(blocks).resize((224, 224), Image.Resampling.BICUBIC).save(folder / name)
            names[name] = str(digit)
    folder.joinpath("labels.json").write_text(json.dumps(names, indent=2) + "\n")
    return list(names)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description="Train the digits model, or write sample pictures.")
    parser.add_argument("--quality", choices=["basic", "better"], default="better")
    parser.add_argument("--out", type=Path, default=Path("model"), help="folder for the model (model)")
    parser.add_argument("--samples", type=Path, metavar="DIR", help="write sample pictures there instead")
    parser.add_argument("--each", type=int, default=3, help="sample pictures of each digit (3)")
    given = parser.parse_args(arguments)
    if given.samples:
        names = write_samples(given.samples, given.each)
        sys.stdout.write(f"{len(names)} pictures in {given.samples}\n")
        return 0
    metrics = write_model(given.out, given.quality)
    said = ", ".join(f"{name} {value:g}" for name, value in metrics.items())
    sys.stdout.write(f"{given.out / 'digits.onnx'}: {given.quality}, {said}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
