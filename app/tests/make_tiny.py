"""Makes tiny.onnx, a model of a few hundred bytes whose answers one can foretell. Needs the onnx package.

Class 0 wins where the upper half of the picture has more ink, class 1 where the lower half has more.
narrow.onnx is the same for pictures of half the size, which the service must refuse.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def make(width: int) -> bytes:
    """The ONNX file; the same bytes every time."""
    weights = np.zeros((width, 2), np.float32)
    weights[: width // 2, 0] = weights[width // 2 :, 1] = 1 / 64
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["input", "weights"], ["sums"]),
            helper.make_node("Softmax", ["sums"], ["probabilities"], axis=1),
        ],
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


if __name__ == "__main__":
    for name, width in (("tiny", 64), ("narrow", 32)):
        target = Path(__file__).with_name(f"{name}.onnx")
        target.write_bytes(make(width))
        sys.stdout.write(f"{target}: {target.stat().st_size} bytes\n")
