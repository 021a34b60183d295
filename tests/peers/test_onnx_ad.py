"""onnx-ad, another differentiator of ONNX files: its reverse graphs agree with gradcli's.

It writes the reverse graph of a file as a file. Its rules and gradcli's have nothing in common, and
onnxruntime runs what it writes: in float64 where it has the kernels, else in float32. What onnx-ad
refuses, and where it is wrong, stands in the tables below; anything else that does not agree fails.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest

from gradcli import api, onnxfile
from gradcli.graph import DType, Graph
from gradcli.interpret import interpret
from gradcli.ops import OPS
from gradcli.transform import cast, vjp
from tests.ops import checks
from tests.ops.checks import Applied, Arrays
from tests.ops.rows import ROWS, TABLE
from tests.ops.table import Case, Row

WHY = "needs the extra `peers`: pip install gradcli[peers]"
onnx_ad: Any = pytest.importorskip("onnx_ad", reason=WHY)

KNOWN = "0.3.0"
"""The version that the tables speak of."""

TRIALS = 4
RTOL = {DType.FLOAT64: 1e-9, DType.FLOAT32: 1e-4}

REFUSED = {
    "AveragePool": ("ceil_mode=1", "auto_pad"),
    "BatchNormalization": ("training_mode",),
    "CausalConvWithState": ("a grouped Conv",),
    "Conv": ("a grouped Conv", "auto_pad"),
    "ConvTranspose": ("with respect to its weight", "auto_pad"),
    "DequantizeLinear": ("block_size",),
    "Einsum": ("a repeated index", "a leading ellipsis", "without the ellipsis"),
    "GRU": ("clip", "sequence_lens"),
    "GatherND": ("batch_dims",),
    "LSTM": ("clip", "input_forget", "sequence_lens"),
    "LayerNormalization": ("the mean and inverse standard deviation",),
    "LpPool": ("ceil_mode=1", "auto_pad"),
    "MaxPool": ("ceil_mode=1", "auto_pad"),
    "MaxRoiPool": ("no reverse rule for MaxRoiPool",),
    "Pad": ("only constant-mode Pad",),
    "RNN": ("clip", "sequence_lens"),
    "RoiAlign": ("avg mode only", "in its boxes"),
    "RotaryEmbedding": ("Slice with a step",),
    "ScatterElements": ("reduction=",),
    "ScatterND": ("reduction=",),
    "SimplifiedLayerNormalization": ("no reverse rule",),
}
"""What onnx-ad says that it does not differentiate: a part of its words for each reason."""

NARROW = {
    "Attention": "its softmax is rounded to float32",
    "GroupNormalization": "stash_type is float32",
    "RMSNormalization": "stash_type is float32",
}
"""Where the standard's own body of an operator, which onnx-ad differentiates, rounds to float32."""


class Fault(NamedTuple):
    """Where onnx-ad is wrong: the reverse graph's numbers are, or it does not run."""

    op: str
    why: str
    case: Case
    wrt: int = 0


def f64(*numbers: float, dims: tuple[int, ...] = (-1,)) -> np.ndarray:
    return np.array(numbers, np.float64).reshape(dims)


def i64(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


SIX = f64(0.7, -1.3, 0.4, 2.1, -0.6, 1.8)
ROW = SIX.reshape(1, 1, 6)
KERNEL = f64(1.5, -0.5, 2.0, dims=(1, 1, 3))
BATCH = Case((ROW, *f64(2, 3, 4, 5, dims=(4, 1))))
CROSSED = Case((SIX, f64(0.6, dims=()), f64(-0.4, dims=())))
MASK = np.array([[False, False], [True, True]])
MASKED = Case((*(f64(1, 2, 1, 3, 2, 5, dims=(3, 1, 1, 2, 1))), MASK))

ALL_AXES = "an empty list of axes means all of them; it counts as none"
NO_AXES = "along no axes the result is still |x| or x²; it counts as the identity"
PADS = "where padding is larger behind than before, the cotangent's lies the other way round"
ZERO = "0/0 where a factor is 0: the quotient of the product and the factor"
ABSENT = "the operand counts as a constant"
EMPTY = "the reverse graph does not run"

FAULTS = (
    Fault("Attention", "NaN from a row that is masked as a whole", MASKED),
    Fault("AveragePool", PADS, Case((ROW,), {"kernel_shape": (2,), "pads": (0, 1)})),
    Fault("BatchNormalization", ABSENT, BATCH, 3),
    Fault("BatchNormalization", ABSENT, BATCH, 4),
    Fault("Clip", "bounds that have crossed", CROSSED, 1),
    Fault("Clip", "bounds that have crossed", CROSSED, 2),
    Fault("Conv", PADS, Case((ROW, KERNEL), {"strides": (2,), "pads": (0, 1)})),
    Fault("ConvTranspose", EMPTY, Case((ROW, KERNEL), {"strides": (2,), "output_shape": (16,)})),
    Fault("CumProd", ZERO, Case((f64(2, 0, 3), np.array(0)))),
    Fault("Det", "it counts as flat", Case((f64(1, 2, 3, 5, dims=(2, 2)),))),
    Fault("LpPool", PADS, Case((ROW,), {"kernel_shape": (2,), "pads": (0, 1)})),
    Fault("OneHot", ABSENT, Case((i64(0, 2), np.array(3), f64(2, 5))), 2),
    Fault("Pad", EMPTY, Case((SIX, i64(-1, 2)))),
    Fault("Pad", ABSENT, Case((SIX, i64(1, 2), f64(3, dims=()))), 2),
    Fault("ReduceL1", ALL_AXES, Case((SIX, i64()))),
    Fault("ReduceL1", NO_AXES, Case((SIX,), {"noop_with_empty_axes": 1})),
    Fault("ReduceL2", NO_AXES, Case((SIX,), {"noop_with_empty_axes": 1})),
    Fault("ReduceLogSumExp", ALL_AXES, Case((SIX, i64()))),
    Fault("ReduceMax", ALL_AXES, Case((SIX, i64()))),
    Fault("ReduceMin", ALL_AXES, Case((SIX, i64()))),
    Fault("ReduceProd", ZERO, Case((f64(2, 0, 3),))),
    Fault("ReduceSumSquare", NO_AXES, Case((SIX,), {"noop_with_empty_axes": 1})),
    Fault("Reshape", EMPTY, Case((np.zeros((3, 0)), i64(0, 4)), {"allowzero": 1})),
    Fault("Slice", EMPTY, Case((SIX, i64(7), i64(0)))),
    Fault("Unsqueeze", EMPTY, Case((SIX, i64()))),
)

WRONG = {fault.op for fault in FAULTS}

# ---- what each says -----------------------------------------------------------------------------


class Answer(NamedTuple):
    """What onnx-ad says of one operand: its cotangent and width, or why there is none."""

    x_bar: np.ndarray | None = None
    dtype: DType = DType.FLOAT64
    refusal: str = ""
    error: str = ""


def session(data: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def theirs(graph: Graph, feeds: Arrays, y_bars: Arrays, x: str) -> Answer:
    """The cotangent of x by onnx-ad, in float64 if it and onnxruntime can, else in float32."""
    answer = Answer()
    for dtype in (DType.FLOAT64, DType.FLOAT32):
        model = onnx.load_from_string(onnxfile.write(cast(graph, dtype)))
        for value in model.graph.input:  # of unknown dimensions it refuses much
            value.CopyFrom(
                onnx.helper.make_tensor_value_info(
                    value.name, value.type.tensor_type.elem_type, feeds[value.name].shape
                )
            )
        try:
            reverse = onnx_ad.reverse(model, [x], list(y_bars), prefix="bar_", layout="onnx")
        except onnx_ad.UnsupportedOperator as refusal:
            answer = Answer(refusal=str(refusal))
            continue
        # A direction has a last axis of its own: there may be several.
        given = {f"bar_{name}": y_bar[..., None] for name, y_bar in y_bars.items()}
        typed = {name: np.asarray(v, dtype.np) for name, v in (feeds | given).items()}
        try:
            (x_bar,) = session(reverse.SerializeToString()).run([f"bar_{x}"], typed)
        except (*checks.MISSING, onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument) as e:
            answer = Answer(error=str(e))
            continue
        return Answer(x_bar[..., 0], dtype)
    return answer


def ours(graph: Graph, feeds: Arrays, y_bars: Arrays, x: str) -> np.ndarray:
    d = vjp(graph, [x], list(y_bars))
    out = interpret(d.graph, feeds | checks.rename(d.directions, y_bars))
    return checks.zero_where_absent(d, out, x, feeds[x].shape)


def differences(graph: Graph, feeds: Arrays, y_bars: Arrays, x: str) -> np.ndarray:
    """The cotangent of x from the primal alone, element by element."""
    x_bar = np.zeros(feeds[x].size)
    for k in range(x_bar.size):
        unit = np.zeros(x_bar.size)
        unit[k] = 1.0
        y_dots = checks.central(
            lambda at: interpret(graph, at), feeds, {x: unit.reshape(feeds[x].shape)}
        )
        x_bar[k] = sum(np.sum(y_bar * y_dots[name]) for name, y_bar in y_bars.items())
    return x_bar.reshape(feeds[x].shape)


def agree(answer: Answer, wanted: np.ndarray, op: str = "") -> bool:
    if answer.x_bar is None or answer.x_bar.shape != wanted.shape:
        return False
    rtol = RTOL[DType.FLOAT32 if op in NARROW else answer.dtype]
    scale = max(float(np.max(np.abs(wanted), initial=0.0)), 1e-3)
    return bool(np.all(np.abs(answer.x_bar - wanted) <= rtol * scale))


# ---- operators ----------------------------------------------------------------------------------


def questions(row: Row) -> Iterator[tuple[Applied, Arrays, str]]:
    """Of the row's cases, each float operand, with cotangents of the float outputs."""
    for trial in range(TRIALS):
        a = checks.draw(row, trial)
        if a.smooth:
            y_bars = a.directions(a.smooth, 4)
            for x in a.feeds:
                yield a, y_bars, x


STANDARD = [row for row in ROWS if "::" not in row.op and OPS[row.op].impl is not None]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.op) for row in STANDARD])
def test_an_operator(row: Row) -> None:
    for a, y_bars, x in questions(row):
        answer = theirs(a.graph, a.feeds, y_bars, x)
        if answer.refusal:
            assert any(part in answer.refusal for part in REFUSED.get(row.op, ())), answer.refusal
            continue
        wanted = ours(a.graph, a.feeds, y_bars, x)
        if agree(answer, wanted, row.op):
            continue
        said = f"{x}: gradcli {wanted}, onnx-ad {answer}"
        witness = differences(a.graph, a.feeds, y_bars, x)
        checks.close(wanted, witness, 1e-6, f"differences say otherwise than gradcli: {said}")
        assert row.op in WRONG, said


@pytest.mark.parametrize(
    "fault", [pytest.param(f, id=f"{f.op}-{f.wrt}-{k}") for k, f in enumerate(FAULTS)]
)
def test_a_fault_of_onnx_ad(fault: Fault) -> None:
    a = checks.applied(TABLE[fault.op], fault.case)
    y_bars, x = a.directions(a.smooth, 4), f"x{fault.wrt}"
    witness = differences(a.graph, a.feeds, y_bars, x)
    checks.close(ours(a.graph, a.feeds, y_bars, x), witness, 1e-6, "gradcli")
    answer = theirs(a.graph, a.feeds, y_bars, x)
    assert not answer.refusal
    if agree(answer, witness, fault.op):
        version = importlib.metadata.version("onnx-ad")
        assert version != KNOWN, "no fault"
        pytest.skip(f"mended in onnx-ad {version}")


# ---- models -------------------------------------------------------------------------------------

SAMPLES = sorted((Path(__file__).parents[2] / "sample_models").glob("*.onnx"))


@pytest.mark.parametrize("path", [pytest.param(p, id=p.stem) for p in SAMPLES])
def test_a_sample_model(path: Path) -> None:
    graph = cast(onnxfile.read(path, OPS).graph, DType.FLOAT64)
    feeds: Arrays = dict(np.load(path.with_suffix(".npz")))
    rng = np.random.default_rng(0)
    y_bars = {name: rng.standard_normal(y.shape) for name, y in interpret(graph, feeds).items()}
    for x in feeds:
        answer = theirs(graph, feeds, y_bars, x)
        assert agree(answer, ours(graph, feeds, y_bars, x)), f"{x}: {answer}"


BRANCHES = """
<ir_version: 10, opset_import: ["": 21]>
g (double[3] x) => (double[3] y) {
  total = ReduceSum <keepdims = 0> (x)
  zero = Constant <value = double {0.0}> ()
  positive = Greater (total, zero)
  y = If (positive) <
    then_branch = t () => (double[3] a) { a = Tanh (x) },
    else_branch = e () => (double[3] b) { b = Mul (x, x) }
  >
}
"""


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_branch_that_is_taken(sign: float) -> None:
    model = onnx.parser.parse_model(BRANCHES)
    x, y_bar = sign * f64(0.3, 0.7, -0.2), f64(1.5, -2.0, 0.5)
    reverse = onnx_ad.reverse(model, prefix="bar_", layout="onnx").SerializeToString()
    (x_bar,) = session(reverse).run(["bar_x"], {"x": x, "bar_y": y_bar[:, None]})
    np.testing.assert_allclose(
        api.vjp(model.SerializeToString(), x, y_bar)["x"], x_bar[:, 0], rtol=1e-12
    )
