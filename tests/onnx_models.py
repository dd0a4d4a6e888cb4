"""Small ONNX files for tests, made with the `onnx` package: right ones and wrong ones."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# What onnxruntime 1.20 and later open.
_OPSET = 17
_IR = 8


def linear_model(inputs: int, outputs: int, path: Path, *, seed: int = 0, batch: str | int = "batch") -> Path:
    """`scores = input @ weights`, float32, `[batch, inputs]` to `[batch, outputs]`. Weights follow `seed`."""
    weights = np.random.default_rng(seed).standard_normal((inputs, outputs)).astype(np.float32)
    return graph(
        path,
        [helper.make_node("MatMul", ["input", "weights"], ["scores"])],
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, inputs])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, outputs])],
        [numpy_helper.from_array(weights, "weights")],
    )


def identity_model(path: Path, dtype: int, shape: Sequence[int | str] = ("n", 3)) -> Path:
    """Gives back its input, of any ONNX tensor type."""
    return graph(
        path,
        [helper.make_node("Identity", ["input"], ["output"])],
        [helper.make_tensor_value_info("input", dtype, list(shape))],
        [helper.make_tensor_value_info("output", dtype, list(shape))],
    )


def operator_model(
    path: Path, operator: str, *, shape: Sequence[int | str] = (1, 3), opset: int = _OPSET
) -> Path:
    """One operator on one float input: `Log` of zero is -infinity, an unknown one cannot be opened."""
    return graph(
        path,
        [helper.make_node(operator, ["input"], ["output"])],
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, list(shape))],
        opset=opset,
    )


def external_model(folder: Path, data: str = "weights.bin") -> Path:
    """A linear model whose weights lie in a file of their own beside it."""
    whole = onnx.load(str(linear_model(64, 64, folder / "model.onnx")))
    path = folder / "model.onnx"
    onnx.save_model(
        whole,
        str(path),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=data,
        size_threshold=0,
    )
    return path


def endless_model(path: Path) -> Path:
    """A loop that counts to nearly infinity before it answers."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["go_on"]), helper.make_node("Sin", ["x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1]),
        ],
    )
    return graph(
        path,
        [helper.make_node("Loop", ["steps", "yes", "input"], ["output"], body=body)],
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1])],
        [
            numpy_helper.from_array(np.array(2**62, dtype=np.int64), "steps"),
            numpy_helper.from_array(np.array(True), "yes"),
        ],
    )


def graph(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto] = (),
    *,
    opset: int = _OPSET,
) -> Path:
    """Write a graph to `path`, unchecked, so that wrong ones can be written too."""
    made = helper.make_graph(nodes, "test", inputs, outputs, initializer=list(weights))
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=_IR)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path
