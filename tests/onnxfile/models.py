"""Small model files for the tests, and an operator table that knows nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gradcli import onnxfile, runtime
from gradcli.errors import ModelError
from gradcli.graph import Builder, Type, Value
from gradcli.onnxfile import Model
from gradcli.ops import OPS


class NoCards:
    """A table without a single operator: the reader must then do with what the standard says."""

    exact = False

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


ONES = np.ones((2, 3), np.float32)


def read(proto: onnx.ModelProto, **options: Any) -> Model:
    return onnxfile.read(proto.SerializeToString(), options.pop("table", OPS), **options)


def refusal(proto: onnx.ModelProto, **options: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        read(proto, **options)
    assert caught.value.message.isprintable()
    return caught.value


def both_agree(proto: onnx.ModelProto, **given: np.ndarray) -> Model:
    """The file in onnxruntime and what was read, written again, give the same."""
    made = read(proto)
    expected, found = (runtime.prepare(s).run(given) for s in (made, made.graph))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6)
    return made
