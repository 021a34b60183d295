"""The committed sample models: complete, runnable, documented, and kinked where they say so."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).resolve().parent.parent / "sample_models"
NAMES = ("attention", "diabetes", "digits", "kinked", "physics", "sequence")
EXPECTED_INPUTS = {
    "attention": {"rows": (1, 8, 8)},
    "diabetes": {"patient": (1, 10)},
    "digits": {"image": (1, 1, 8, 8)},
    "kinked": {"flower_mm": (1, 4)},
    "physics": {"x": (1, 1), "t": (1, 1)},
    "sequence": {"rows": (1, 8, 8)},
}
OUTPUT_SIZES = {
    "attention": 10,
    "diabetes": 1,
    "digits": 10,
    "kinked": 3,
    "physics": 1,
    "sequence": 10,
}
OPERATORS = (
    "Add Sub Mul Div Neg Pow Sqrt Exp Log Tanh Sigmoid Erf Relu LeakyRelu Softplus Gelu Clip "
    "Min Max Where Cast Identity Dropout MatMul Gemm Conv MaxPool AveragePool "
    "GlobalAveragePool BatchNormalization LayerNormalization Softmax LogSoftmax ReduceSum "
    "ReduceMean ReduceMax Reshape Flatten Squeeze Unsqueeze Transpose Concat Slice Gather "
    "Expand Pad Constant ConstantOfShape Shape Equal Greater Less LSTM"
)
MODEL_LIMIT = 1_000_000
TOTAL_LIMIT = 10_000_000

Array = NDArray[np.float32]
Row = list[Fraction]


def load_model(name: str) -> onnx.ModelProto:
    """Read one committed model."""
    return onnx.load(FOLDER / f"{name}.onnx")


def load_inputs(name: str) -> dict[str, Array]:
    """Read the input committed beside a model."""
    with np.load(FOLDER / f"{name}.npz") as stored:
        return {key: stored[key] for key in stored.files}


def values(name: str, wanted: Sequence[str], inputs: dict[str, Array]) -> list[Array]:
    """Evaluate any values of a model, inner ones included, with onnxruntime."""
    model = load_model(name)
    del model.graph.output[:]
    model.graph.output.extend(
        helper.make_tensor_value_info(value, TensorProto.FLOAT, None) for value in wanted
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(list(wanted), inputs)


def output_name(name: str) -> str:
    """Return the name of a model's only output."""
    (output,) = load_model(name).graph.output
    return output.name


def provenance() -> dict[str, dict[str, str]]:
    """Read the provenance table as one dictionary a row, by file name."""
    lines = (FOLDER / "PROVENANCE.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    head, _, *rows = cells
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def fractions(array: NDArray[Any]) -> list[Row]:
    """Turn a matrix of floats into exact fractions."""
    return [[Fraction(float(item)) for item in row] for row in np.atleast_2d(array)]


def affine(weight: list[Row], bias: Row, x: Row) -> Row:
    """Return weight @ x + bias in exact arithmetic."""
    products = [sum(w * v for w, v in zip(row, x, strict=True)) for row in weight]
    return [product + offset for product, offset in zip(products, bias, strict=True)]


class Kinked:
    """The kinked network recomputed with fractions from the weights in its file."""

    def __init__(self) -> None:
        model = load_model("kinked")
        arrays = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
        self.weight = fractions(arrays["pre_activation.weight"])
        self.bias = fractions(arrays["pre_activation.bias"])[0]
        self.out_weight = fractions(arrays["logits.weight"])
        self.out_bias = fractions(arrays["logits.bias"])[0]
        self.point = fractions(load_inputs("kinked")["flower_mm"])[0]

    def pre_activation(self, x: Row) -> Row:
        """Return the hidden values before the ReLU."""
        return affine(self.weight, self.bias, x)

    def logits(self, x: Row) -> Row:
        """Return the outputs."""
        hidden = [max(item, Fraction(0)) for item in self.pre_activation(x)]
        return affine(self.out_weight, self.out_bias, hidden)

    def slope(self, axis: int, step: Fraction) -> Row:
        """Return the difference quotient of the logits along one input, step of either sign."""
        moved = [item + step * (index == axis) for index, item in enumerate(self.point)]
        pairs = zip(self.logits(moved), self.logits(self.point), strict=True)
        return [(after - before) / step for after, before in pairs]


def test_folder_holds_exactly_the_expected_models() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.onnx")) == list(NAMES)
    assert sorted(path.stem for path in FOLDER.glob("*.npz")) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_model_is_valid_and_within_the_promised_formats(name: str) -> None:
    model = load_model(name)
    onnx.checker.check_model(model, full_check=True)
    assert model.producer_name == "gradcli-samples"
    assert model.ir_version <= 10
    assert [entry.domain for entry in model.opset_import] == [""]
    assert 13 <= model.opset_import[0].version <= 21
    assert {node.op_type for node in model.graph.node} <= set(OPERATORS.split())


@pytest.mark.parametrize("name", NAMES)
def test_input_file_fits_the_graph_inputs(name: str) -> None:
    inputs = load_inputs(name)
    declared = load_model(name).graph.input
    assert {key: array.shape for key, array in inputs.items()} == EXPECTED_INPUTS[name]
    assert {item.name for item in declared} == set(inputs)
    for item in declared:
        array, tensor = inputs[item.name], item.type.tensor_type
        batch, *rest = tensor.shape.dim
        assert array.dtype == helper.tensor_dtype_to_np_dtype(tensor.elem_type) == np.float32
        assert batch.dim_param == "N"
        assert [dim.dim_value for dim in rest] == list(array.shape[1:])
        assert np.isfinite(array).all()


@pytest.mark.parametrize("name", NAMES)
def test_model_runs_and_rows_do_not_depend_on_the_batch(name: str) -> None:
    inputs = load_inputs(name)
    (single,) = values(name, [output_name(name)], inputs)
    assert single.shape == (1, OUTPUT_SIZES[name])
    assert single.dtype == np.float32
    assert np.isfinite(single).all()
    tripled = {key: np.concatenate([array] * 3) for key, array in inputs.items()}
    (batch,) = values(name, [output_name(name)], tripled)
    np.testing.assert_allclose(batch, np.repeat(single, 3, axis=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_output_depends_on_every_input(name: str) -> None:
    inputs = load_inputs(name)
    (before,) = values(name, [output_name(name)], inputs)
    for key in inputs:
        moved = {**inputs, key: inputs[key] + np.float32(0.125)}
        (after,) = values(name, [output_name(name)], moved)
        assert np.abs(after - before).max() > 1e-3


def test_files_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir() if path.is_file()}
    assert sum(sizes.values()) < TOTAL_LIMIT
    assert max(size for name, size in sizes.items() if name.endswith(".onnx")) < MODEL_LIMIT


def test_provenance_rows_and_files_match_both_ways() -> None:
    assert sorted(provenance()) == sorted(path.name for path in FOLDER.glob("*.onnx"))


@pytest.mark.parametrize("name", NAMES)
def test_provenance_row_tells_what_the_file_says(name: str) -> None:
    row = provenance()[f"{name}.onnx"]
    model = load_model(name)
    facts = {item.key: item.value for item in model.metadata_props}
    assert model.doc_string == row["what"] == facts["what"]
    assert row["bytes"] == str((FOLDER / f"{name}.onnx").stat().st_size)
    assert row["opset"] == str(model.opset_import[0].version)
    for column in ("data", "training", "accuracy"):
        assert row[column] == facts[column] != ""
    assert row["input"] == facts["sample"] != ""
    assert row["made by"] == facts["made_by"] != ""


def test_kinked_has_exactly_one_zero_pre_activation_in_exact_arithmetic() -> None:
    network = Kinked()
    assert network.pre_activation(network.point).count(Fraction(0)) == 1


def test_kinked_float32_evaluation_is_exact() -> None:
    network = Kinked()
    inputs = load_inputs("kinked")
    pre, logits = values("kinked", ["pre_activation", "logits"], inputs)
    assert fractions(pre)[0] == network.pre_activation(network.point)
    assert fractions(logits)[0] == network.logits(network.point)
    assert np.count_nonzero(pre == np.float32(0)) == 1


def test_kinked_sums_are_exact_in_any_order() -> None:
    network = Kinked()
    parts = [
        [w * v for w, v in zip(row, network.point, strict=True)] + [offset]
        for row, offset in zip(network.weight, network.bias, strict=True)
    ]
    # Multiples of one power of two add without rounding while they stay below 2^24 of its units.
    unit = Fraction(1, 2**8)
    assert all((term / unit).denominator == 1 for row in parts for term in row)
    assert max(sum(abs(term) for term in row) for row in parts) < 2**24 * unit


@pytest.mark.parametrize("axis", range(4))
def test_kinked_one_sided_derivatives_differ_along_every_input(axis: int) -> None:
    network = Kinked()
    unit = network.pre_activation(network.point).index(Fraction(0))
    step = Fraction(1, 2**10)
    right, left = network.slope(axis, step), network.slope(axis, -step)
    # Both quotients are the derivatives themselves: halving the step changes nothing.
    assert right == network.slope(axis, step / 2)
    assert left == network.slope(axis, -step / 2)
    jumps = [abs(after - before) for after, before in zip(right, left, strict=True)]
    assert jumps == [abs(row[unit] * network.weight[unit][axis]) for row in network.out_weight]
    assert min(jumps) > 0


def pool_leads(stage: Array) -> Array:
    """Return the lead of the winner in each 2x2 window that the ReLU lets through."""
    height, width = stage.shape[2] // 2, stage.shape[3] // 2
    windows = np.maximum(stage, 0).reshape(*stage.shape[:2], height, 2, width, 2)
    ranked = np.sort(windows.transpose(0, 1, 2, 4, 3, 5).reshape(-1, 4), axis=1)
    alive = ranked[ranked[:, 3] > 0]
    return alive[:, 3] - alive[:, 2]


def test_digits_input_lies_away_from_every_relu_and_pooling_switch() -> None:
    for stage in values("digits", ["conv1", "conv2"], load_inputs("digits")):
        leads = pool_leads(stage)
        assert leads.size > 0
        assert min(float(np.abs(stage).min()), float(leads.min())) > 1e-3


@pytest.mark.parametrize(("x", "t"), [(0.25, 0.5), (0.5, 0.1), (0.8, 0.9)])
def test_physics_follows_the_heat_equation_in_value_and_slope(x: float, t: float) -> None:
    def network(x: float, t: float) -> float:
        inputs = {"x": np.array([[x]], np.float32), "t": np.array([[t]], np.float32)}
        return float(values("physics", ["u"], inputs)[0][0, 0])

    step = 2.0**-6
    decay = np.exp(-0.1 * np.pi**2 * t)
    u, u_x = decay * np.sin(np.pi * x), np.pi * decay * np.cos(np.pi * x)
    got_x = (network(x + step, t) - network(x - step, t)) / (2 * step)
    got_t = (network(x, t + step) - network(x, t - step)) / (2 * step)
    assert network(x, t) == pytest.approx(u, abs=0.01)
    assert got_x == pytest.approx(u_x, abs=0.05)
    assert got_t == pytest.approx(-0.1 * np.pi**2 * u, abs=0.05)
