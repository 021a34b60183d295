"""Small model files for the tests, and an operator table that knows nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from gradcli.graph import Builder, Type, Value


class NoCards:
    """A table without a single operator: the reader must then do with what the standard says."""

    def __contains__(self, key: object) -> bool:
        return False

    def attributes(self, key: str, _given: Mapping[str, Any]) -> Mapping[str, Any]:
        raise KeyError(key)

    def infer(
        self, _b: Builder, key: str, _inputs: Sequence[Value | None], _attrs: Mapping[str, Any]
    ) -> Sequence[Type]:
        raise KeyError(key)


def info(name: str, shape: Sequence[int | str | None] | None, dtype: int = TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def code(array: np.ndarray) -> int:
    return helper.np_dtype_to_tensor_dtype(array.dtype)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto] = (),
    outputs: Sequence[str | onnx.ValueInfoProto] = ("y",),
    constants: Mapping[str, np.ndarray] | None = None,
    *,
    opset: int = 21,
    ir: int = 10,
    functions: Sequence[onnx.FunctionProto] = (),
    imports: Sequence[tuple[str, int]] = (),
) -> onnx.ModelProto:
    given = list(inputs) or [info("x", [2, 3])]
    results = [
        o if isinstance(o, onnx.ValueInfoProto) else onnx.ValueInfoProto(name=o) for o in outputs
    ]
    arrays = [onnx.numpy_helper.from_array(a, n) for n, a in (constants or {}).items()]
    graph = helper.make_graph(nodes, "test", given, results, arrays)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(*i) for i in imports)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir, functions=functions)


def simple() -> bytes:
    """y = Relu(x)."""
    return model([helper.make_node("Relu", ["x"], ["y"], name="r")]).SerializeToString()


def feeds(proto: onnx.ModelProto, seed: int = 0) -> dict[str, np.ndarray]:
    """Standard normal floats for every input of fixed shape."""
    random = np.random.default_rng(seed)
    constants = {t.name for t in proto.graph.initializer}
    made = {}
    for value in proto.graph.input:
        tensor = value.type.tensor_type
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        shape = [d.dim_value or 2 for d in tensor.shape.dim]
        if value.name not in constants:
            made[value.name] = np.asarray(random.standard_normal(shape), dtype)
    return made
