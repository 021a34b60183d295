"""Files that onnxruntime's quantiser wrote: the sample models in its three forms.

Whatever they are compared by, no method may be said to be wrong, and none is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    quantize_dynamic,
    quantize_static,
)

from gradcli import api, onnxfile, runtime
from gradcli.interpret import interpret
from gradcli.ops import OPS
from tests.onnxfile.models import info, model

SAMPLES = Path(__file__).resolve().parents[2] / "sample_models"
NAMES = sorted(p.stem for p in SAMPLES.glob("*.onnx"))
FORMATS = {"qdq": QuantFormat.QDQ, "qoperator": QuantFormat.QOperator}
FORMS = ("dynamic", *FORMATS)


class Points(CalibrationDataReader):  # type: ignore[misc] # onnxruntime has no types
    """The stored point, and others around it."""

    def __init__(self, feeds: dict[str, np.ndarray], count: int = 4) -> None:
        rng = np.random.default_rng(0)
        self.points: Iterator[dict[str, np.ndarray]] = iter(
            {
                name: (x + 0.3 * k * rng.standard_normal(x.shape)).astype(x.dtype)
                for name, x in feeds.items()
            }
            for k in range(count)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        """What the calibration asks for, until there is no more."""
        return next(self.points, None)


def stored(name: str) -> dict[str, np.ndarray]:
    with np.load(SAMPLES / f"{name}.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes a sample model's quantised form, once."""
    folder = tmp_path_factory.mktemp("quantised")

    def make(name: str, form: str) -> Path:
        path = folder / f"{name}_{form}.onnx"
        if not path.exists():
            logging.disable(logging.WARNING)
            try:
                source = SAMPLES / f"{name}.onnx"
                if form == "dynamic":
                    quantize_dynamic(source, path)
                else:
                    points = Points(stored(name))
                    quantize_static(source, path, points, quant_format=FORMATS[form])
            finally:
                logging.disable(logging.NOTSET)
        return path

    return make


def one_output(model: Path, feeds: dict[str, np.ndarray], **how: Any) -> Any:
    """A comparison of few methods, of what a vjp says of all outputs."""
    problem = api.ask(model, feeds, operator="vjp", **how)
    methods = ("forward", "reverse", "symbolic", "finite-central", "complex-step")
    return api.judged(problem, api.Settings(methods, runs=1, warmup=0, budget=10.0))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_no_method_is_wrong_on_a_quantised_model(name, form, quantised):
    found = one_output(quantised(name, form), stored(name))
    assert found.primal.matches, found.primal.reason
    assert found.exit_code == 0
    for method in found.methods:
        assert method.counts.get("DISAGREE", 0) == 0, (method.method, method.detail)
        assert method.status == "computed" or "out of time" in method.reason, method.reason
    if form != "dynamic":
        reverse = next(m for m in found.methods if m.method == "reverse")
        assert reverse.verdict == "AGREE"
        assert reverse.max_abs_error == 0.0


@pytest.mark.parametrize("budget", [1.0, 2.0])
def test_ties_that_nobody_had_time_for_are_not_held_against_a_method(budget, quantised):
    """Many pixels are equal to the greatest, which sets the scale: each method takes another."""
    model, feeds = quantised("digits", "dynamic"), stored("digits")
    found = api.compare(
        model, feeds, methods=["reverse", "symbolic"], dtype="float64", budget=budget
    )
    assert {m.verdict for m in found.methods} <= {"INCONCLUSIVE", "KINK", None}
    assert any(kink.op == "DynamicQuantizeLinear" for kink in found.kinks if kink.margin == 0)


def test_a_derivative_alone_is_held_against_the_file_as_it_is_written(quantised):
    """onnxruntime's own fusions make another function of this one, a quantum off."""
    model, feeds = quantised("attention", "qdq"), stored("attention")
    problem = api.ask(model, feeds, operator="vjp", dtype="float64")
    for block in api.derive(problem, "reverse").blocks.values():
        np.testing.assert_array_equal(block, 0.0)


def test_the_forms_hold_what_they_are_said_to(quantised):
    used = {
        f"{node.domain}::{node.op_type}"
        for name in NAMES
        for form in FORMS
        for node in onnx.load(quantised(name, form)).graph.node
    }
    assert used >= {
        *("com.microsoft::QGemm", "com.microsoft::QLinearAdd", "com.microsoft::QLinearMul"),
        *("com.microsoft::QLinearSoftmax", "com.microsoft::QLinearConcat"),
        *("com.microsoft::DynamicQuantizeLSTM", "::QLinearConv", "::DequantizeLinear"),
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["digits", "kinked", "diabetes", "physics", "sequence"])
def test_straight_through_is_nearly_the_derivative_before_quantising(name, form, quantised):
    feeds = stored(name)
    how: dict[str, Any] = {"operator": "vjp", "dtype": "float64", "seed": 3}
    asked = api.ask(SAMPLES / f"{name}.onnx", feeds, **how)
    straight = api.ask(quantised(name, form), feeds, straight_through=True, **how)
    want, got = (
        np.concatenate([x.reshape(-1) for x in api.derive(p, "reverse").blocks.values()])
        for p in (asked, straight)
    )
    assert got @ want >= 0.998 * np.linalg.norm(got) * np.linalg.norm(want)
    np.testing.assert_allclose(np.linalg.norm(got), np.linalg.norm(want), rtol=0.05)
    ahead = np.concatenate([x.reshape(-1) for x in api.derive(straight, "forward").blocks.values()])
    np.testing.assert_allclose(ahead, got, rtol=0, atol=1e-12 * np.abs(got).max())


@pytest.mark.parametrize("level", [0, 1, 4])
def test_a_product_of_few_bits_rounds_nothing_but_its_weights(level):
    """At accuracy_level 4 a kernel may round the other operand too, and then is 1 % off."""
    rng = np.random.default_rng(0)
    steps = rng.integers(0, 256, (8, 2, 16)).astype(np.uint8)
    scales = (rng.random(16) + 0.5).astype(np.float32)
    node = helper.make_node("MatMulNBits", ["x", "b", "s"], ["y"], "few", domain="com.microsoft")
    attrs = {"K": 64, "N": 8, "bits": 4, "block_size": 32, "accuracy_level": level}
    node.attribute.extend(helper.make_attribute(name, n) for name, n in attrs.items())
    proto = model(
        [node],
        [info("x", [3, 64])],
        ["y"],
        {"b": steps, "s": scales},
        imports=[("com.microsoft", 1)],
    )
    read = onnxfile.read(proto.SerializeToString(), OPS)
    x = rng.standard_normal((3, 64)).astype(np.float32)
    packed = np.stack([steps & 15, steps >> 4], -1).reshape(8, 2, 32)
    weights = (packed - 8.0) * scales.reshape(8, 2, 1)
    y = runtime.prepare(read).run({"x": x})["y"]
    np.testing.assert_allclose(y, x @ weights.reshape(8, 64).T, atol=1e-3)
    noted = any("accuracy_level" in note for note in api.ask(read, {"x": x}).notes)
    assert noted == (level == 4)


@pytest.mark.parametrize("scale", [1 / 256, 1 / 255, 0.0039, 0.003, 0.01])
def test_a_quantised_softmax_is_that_of_the_kernel(scale):
    """Whose steps are one over an integer, whatever the scale."""
    rng = np.random.default_rng(0)
    inputs = ["q", "s", "z", "s_out", "z_out"]
    node = helper.make_node("QLinearSoftmax", inputs, ["y"], domain="com.microsoft", opset=13)
    constants: dict[str, np.ndarray] = {
        "s": np.array(0.1, np.float32),
        "z": np.array(128, np.uint8),
        "s_out": np.array(scale, np.float32),
        "z_out": np.array(0, np.uint8),
    }
    given = info("q", [500, 17], onnx.TensorProto.UINT8)
    proto = model([node], [given], ["y"], constants, imports=[("com.microsoft", 1)])
    read = onnxfile.read(proto.SerializeToString(), OPS)
    q = rng.integers(0, 256, (500, 17)).astype(np.uint8)
    wanted = runtime.prepare(read).run({"q": q})["y"]
    np.testing.assert_array_equal(interpret(read.graph, {"q": q})["y"], wanted)
