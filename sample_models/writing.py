"""A graph written node by node, each node and weight under a name of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

BATCH = "N"
IR_VERSION = 8
PRODUCER = "gradcli-samples"


class GraphWriter:
    """Collects nodes and weights of one graph, each under a name chosen by the caller."""

    def __init__(self, name: str, opset: int) -> None:
        self._name = name
        self._opset = opset
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, *shape: int) -> str:
        """Declare a float32 input whose first dimension is the free batch size."""
        self._inputs.append(_value(name, shape))
        return name

    def weight(self, name: str, value: Tensor | ArrayLike) -> str:
        """Store a float32 constant and return its name."""
        data = value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
        self._weights.append(numpy_helper.from_array(data.astype(np.float32), name))
        return name

    def shape(self, name: str, value: Sequence[int]) -> str:
        """Store an int64 constant (a shape or a list of axes) and return its name."""
        self._weights.append(numpy_helper.from_array(np.array(value, dtype=np.int64), name))
        return name

    def node(self, op: str, output: str, *inputs: str, **attributes: Any) -> str:
        """Append a node named after its only output and return that name."""
        self._nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def gemm(self, output: str, value: str, layer: nn.Linear) -> str:
        """Append a linear layer on rows, keeping the trained [out, in] weight layout."""
        weight = self.weight(f"{output}.weight", layer.weight)
        bias = self.weight(f"{output}.bias", layer.bias)
        return self.node("Gemm", output, value, weight, bias, transB=1)

    def matmul(self, output: str, value: str, layer: nn.Linear) -> str:
        """Append a linear layer on the last axis of a token sequence."""
        weight = self.weight(f"{output}.weight", layer.weight.T)
        bias = self.weight(f"{output}.bias", layer.bias)
        product = self.node("MatMul", f"{output}.product", value, weight)
        return self.node("Add", output, product, bias)

    def conv(self, output: str, value: str, layer: nn.Conv2d) -> str:
        """Append a 3x3 convolution that keeps the image size."""
        weight = self.weight(f"{output}.weight", layer.weight)
        bias = self.weight(f"{output}.bias", layer.bias)
        return self.node(
            "Conv", output, value, weight, bias, kernel_shape=[3, 3], pads=[1, 1, 1, 1]
        )

    def lstm(self, output: str, value: str, *weights: str, **attributes: Any) -> str:
        """Append an LSTM over [steps, batch, features] of which only the last states are read."""
        results = ["", output]
        self._nodes.append(
            helper.make_node("LSTM", [value, *weights], results, name=output, **attributes)
        )
        return output

    def finish(self, output: str, *shape: int) -> onnx.ModelProto:
        """Close the graph with one float32 output and return the checked model."""
        graph = helper.make_graph(
            self._nodes, self._name, self._inputs, [_value(output, shape)], self._weights
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", self._opset)],
            ir_version=IR_VERSION,
            producer_name=PRODUCER,
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def _value(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, *shape])
