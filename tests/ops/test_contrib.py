"""com.microsoft: cards in the forms that onnxruntime knows, and its optimised files differentiated.

The files are the sample models as onnxruntime's optimiser saves them, and small graphs in which it
fuses what the samples lack.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from gradcli import api, onnxfile
from gradcli.errors import ModelError
from gradcli.graph import Builder, DType, Var
from gradcli.ops import OPS, REQUIRED

native: Any = onnxruntime.capi.onnxruntime_pybind11_state
SCHEMAS = {
    f"{schema.domain}::{schema.name}" if schema.domain else schema.name: schema
    for schema in native.get_all_operator_schema()
}
OURS = [op for op in OPS if op.startswith("com.microsoft::")] + ["SimplifiedLayerNormalization"]
SAMPLES = sorted(Path(__file__).parents[2].joinpath("sample_models").glob("*.onnx"))


@pytest.mark.parametrize("op", OURS)
def test_a_card_has_the_form_that_onnxruntime_gives_the_operator(op: str):
    card, schema = OPS[op], SCHEMAS[op]

    def mark(parameter: Any) -> str:
        option = str(parameter.option).rpartition(".")[2]
        return parameter.name + {"Optional": "?", "Variadic": "*"}.get(option, "")

    assert card.inputs == tuple(map(mark, schema.inputs))
    assert card.outputs == tuple(p.name for p in schema.outputs)
    assert card.attrs.keys() == schema.attributes.keys()
    required = {name: 0 for name, value in card.attrs.items() if value is REQUIRED}
    defaults = OPS.attributes(op, required)
    for name, attribute in schema.attributes.items():
        assert attribute.required == (name in required)
        proto = onnx.AttributeProto.FromString(attribute._default_value)
        if proto.name and not attribute.required:
            wanted = onnx.helper.get_attribute_value(proto)
            wanted = wanted.decode() if isinstance(wanted, bytes) else wanted
            assert defaults[name] == wanted, name


def optimised(model: str | bytes, folder: Path, level: str = "ORT_ENABLE_EXTENDED") -> bytes:
    """A file as onnxruntime saves it after its own optimisation."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return (folder / "optimised.onnx").read_bytes()


def foreign(data: bytes) -> set[str]:
    return {
        n.op_type for n in onnx.load_from_string(data).graph.node if n.domain not in ("", "ai.onnx")
    }


def check_same_derivative(before: Any, after: bytes, feeds: dict[str, np.ndarray]) -> None:
    """In float64, forward and reverse, to what float32 constants that were folded allow."""
    for operator, method in (("vjp", "reverse"), ("jvp", "forward")):
        asked = [api.ask(m, feeds, operator=operator, dtype="float64") for m in (before, after)]
        want, got = (api.derive(p, method).blocks for p in asked)
        for key, block in want.items():
            scale = float(np.max(np.abs(block)))
            np.testing.assert_allclose(got[key], block, rtol=0, atol=1e-5 * scale)
        asked = [api.ask(after, feeds, operator=operator, dtype="float32")]
        for key, block in api.derive(asked[0], method).blocks.items():
            atol = 1e-3 * float(np.max(np.abs(block))) + 1e-5
            np.testing.assert_allclose(block, want[key], rtol=0, atol=atol)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_model_as_onnxruntime_saves_it(path: Path, tmp_path: Path):
    data = optimised(str(path), tmp_path)
    # In an LSTM there is nothing to fuse.
    assert foreign(data) or path.stem == "sequence"
    check_same_derivative(str(path), data, dict(np.load(path.with_suffix(".npz"))))


def test_blocks_of_channels_are_refused_with_the_way_out(tmp_path: Path):
    digits = next(path for path in SAMPLES if path.stem == "digits")
    data = optimised(str(digits), tmp_path, "ORT_ENABLE_ALL")
    if not any(n.domain.endswith("nchwc") for n in onnx.load_from_string(data).graph.node):
        pytest.skip("on this machine onnxruntime has no such kernels")
    with pytest.raises(ModelError, match="blocks of channels"):
        onnxfile.read(data, OPS)


def rms(b: Builder, x: Var) -> Var:
    mean = b.op("ReduceMean", b.op("Pow", x, b.like(2.0, x)), b.ints([-1]), keepdims=1)
    scale = b.constant(np.linspace(0.5, 2.0, 4, dtype=np.float32), name="scale")
    return x / b.op("Sqrt", mean + 1e-5) * scale


def quick(b: Builder, x: Var) -> Var:
    return x * b.op("Sigmoid", x * 1.702)


def fast(b: Builder, x: Var) -> Var:
    cube = b.op("Pow", x, b.like(3.0, x))
    return x * 0.5 * (b.op("Tanh", (x + cube * 0.044715) * 0.7978845608) + 1.0)


def turned(b: Builder, x: Var) -> Var:
    return b.op("MatMul", b.transpose(x, (1, 0)), x) * 0.5


FUSIONS = {
    "SimplifiedLayerNormalization": rms,
    "QuickGelu": quick,
    "FastGelu": fast,
    "FusedMatMul": turned,
}


@pytest.mark.parametrize("op", FUSIONS)
def test_a_pattern_that_onnxruntime_fuses(op: str, tmp_path: Path):
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT32, (3, 4))
    before = onnxfile.write(b.graph([FUSIONS[op](b, x)]))
    after = optimised(before, tmp_path)
    if op not in {n.op_type for n in onnx.load_from_string(after).graph.node}:
        pytest.skip("this onnxruntime does not fuse it")
    feeds = {"x": np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)}
    check_same_derivative(before, after, feeds)
