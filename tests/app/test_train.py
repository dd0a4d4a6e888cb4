"""The data scientist's script: what it writes, that it repeats to the bit, and how good its models are."""

import hashlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.services.sample_app import APP


def train(folder: Path, quality: str, *, seed: str) -> str:
    """Returns the model's SHA-256. `seed` changes the order of Python's sets, which must not matter."""
    subprocess.run(
        [sys.executable, "train.py", "--quality", quality, "--out", str(folder)],
        cwd=APP,
        env={**os.environ, "PYTHONHASHSEED": seed},
        check=True,
        timeout=800,
    )
    return hashlib.sha256((folder / "digits.onnx").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("basic") / "model"
    train(folder, "basic", seed="0")
    return folder


def metrics(folder: Path) -> dict[str, float]:
    read: dict[str, float] = json.loads((folder / "metrics.json").read_text())
    return read


def test_the_better_model_is_better(basic: Path, digits_model: Path) -> None:
    first, second = metrics(basic), metrics(digits_model)
    assert first["hold_out_size"] == second["hold_out_size"] == 450
    assert 0.8 < first["accuracy"] < 0.93
    assert second["accuracy"] > 0.98
    assert second["log_loss"] < 0.1 < first["log_loss"]


def test_the_same_arguments_give_the_same_bytes(basic: Path, digits_model: Path, tmp_path: Path) -> None:
    # Two and five: with skl2onnx's own order of operator sets these differ from nought.
    first = hashlib.sha256((basic / "digits.onnx").read_bytes()).hexdigest()
    assert {train(tmp_path / seed, "basic", seed=seed) for seed in ("2", "5")} == {first}
    second = hashlib.sha256((digits_model / "digits.onnx").read_bytes()).hexdigest()
    assert train(tmp_path / "better", "better", seed="2") == second


def test_the_folder_holds_what_the_service_reads(digits_model: Path) -> None:
    assert {path.name for path in digits_model.iterdir()} == {"digits.onnx", "labels.txt", "metrics.json"}
    assert (digits_model / "labels.txt").read_text().split() == [str(digit) for digit in range(10)]
    session = onnxruntime.InferenceSession(str(digits_model / "digits.onnx"))
    assert [(item.name, item.shape, item.type) for item in session.get_inputs()] == [
        ("input", [None, 64], "tensor(float)")
    ]
    assert [item.type for item in session.get_outputs()] == ["tensor(int64)", "tensor(float)"]


def test_the_smoke_request_of_linkspan_toml_is_answered_by_both(basic: Path, digits_model: Path) -> None:
    smoke = tomllib.loads((APP / "linkspan.toml").read_text())["smoke"]
    rows = smoke["json"]["instances"]
    for folder in (basic, digits_model):
        session = onnxruntime.InferenceSession(str(folder / "digits.onnx"))
        labels = session.run(["label"], {"input": np.asarray(rows, np.float32)})[0]
        assert [{"label": str(label)} for label in labels] == smoke["expect_json"]["predictions"]
