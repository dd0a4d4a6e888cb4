"""The ONNX model: found, opened, tried out, and asked."""

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

Matrix = npt.NDArray[np.float32]


class BrokenModel(Exception):
    """The model's files are there but cannot be used; the message says which one and why."""


class Model:
    """Scores rows of `width` numbers. May be used by several threads at once."""

    def __init__(self, folder: Path, *, width: int, threads: int = 1) -> None:
        """Raises FileNotFoundError if there is no model (yet), BrokenModel if it cannot be used."""
        files = sorted(folder.glob("*.onnx"))
        if not files:
            raise FileNotFoundError(f"there is no .onnx file in {folder}")
        self.file = files[0]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(self.file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise BrokenModel(f"{self.file.name} cannot be opened: {_one_line(error)}") from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)":
            found = ", ".join(f"{item.name}: {item.type}" for item in inputs)
            raise BrokenModel(f"{self.file.name} takes ({found}); this app gives one tensor(float)")
        self._input = inputs[0].name
        self._output = self._probabilities_output()
        # Two rows, because a model that was exported for one row only would fail later, on a user's request.
        classes = self._warm_up(np.zeros((2, width), np.float32))
        self.labels = _labels(folder, classes)

    def score(self, rows: Matrix) -> Matrix:
        """The probability of each label, for each row."""
        scores: Matrix = self._session.run([self._output], {self._input: rows})[0]
        return _softmaxed(scores)

    def _probabilities_output(self) -> str:
        for output in self._session.get_outputs():
            if output.type == "tensor(float)" and len(output.shape or ()) == 2:
                return str(output.name)
        raise BrokenModel(
            f"{self.file.name} has no output tensor(float) of rows x classes (export with zipmap off)"
        )

    def _warm_up(self, rows: Matrix) -> int:
        try:
            scores = self.score(rows)
        except Exception as error:
            message = f"{self.file.name} cannot score {rows.shape[1]} numbers: {_one_line(error)}"
            raise BrokenModel(message) from error
        if scores.shape[0] != len(rows) or not np.isfinite(scores).all():
            raise BrokenModel(
                f"{self.file.name} gives {scores.shape} or no finite numbers for a blank picture"
            )
        return int(scores.shape[1])


def _softmaxed(scores: Matrix) -> Matrix:
    """As probabilities; many networks give logits."""
    if (scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3):
        return scores
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Matrix = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _labels(folder: Path, classes: int) -> list[str]:
    """One line per class of labels.txt or synset.txt (whose lines start with a WordNet ID), else numbers."""
    for name in ("labels.txt", "synset.txt"):
        path = folder / name
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            labels = [re.sub(r"^n\d{8}\s+", "", line).strip() for line in lines if line.strip()]
            if len(labels) != classes:
                raise BrokenModel(f"{name} has {len(labels)} lines; the model gives {classes} classes")
            return labels
    return [str(number) for number in range(classes)]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__
