"""What the table of rows cannot ask of recurrent networks: many steps, both layouts, refusals."""

import numpy as np
import pytest

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, DType
from gradcli.interpret import interpret
from gradcli.ops import OPS
from gradcli.transform import vjp
from tests.ops import checks
from tests.ops.rows import TABLE
from tests.ops.rows.recurrent import GATES
from tests.ops.table import Case

STEPS, BATCH, FEATURES, HIDDEN = 4, 2, 2, 2


def large(op, **attrs):
    """Everything an operator can have, its sequences of all lengths."""
    rng = np.random.default_rng(5)
    d = 2 if attrs.get("direction") == "bidirectional" else 1
    g = GATES[op]
    inputs: list[np.ndarray | None] = [
        rng.standard_normal((STEPS, BATCH, FEATURES)),
        0.5 * rng.standard_normal((d, g * HIDDEN, FEATURES)),
        0.5 * rng.standard_normal((d, g * HIDDEN, HIDDEN)),
        0.3 * rng.standard_normal((d, 2 * g * HIDDEN)),
        np.array([STEPS, 2], np.int32),
        rng.standard_normal((d, BATCH, HIDDEN)),
    ]
    if op == "LSTM":
        inputs.append(rng.standard_normal((d, BATCH, HIDDEN)))
        inputs.append(0.5 * rng.standard_normal((d, 3 * HIDDEN)))
    attrs["hidden_size"] = HIDDEN
    return Case(tuple(inputs), attrs, outputs=3 if op == "LSTM" else 2)


def other_layout(case):
    """The same with the batch first."""
    x, *rest = case.inputs
    states = (4, 5)
    turned = [np.swapaxes(v, 0, 1) if k in states else v for k, v in enumerate(rest)]
    return Case((np.swapaxes(x, 0, 1), *turned), {**case.attrs, "layout": 1}, case.outputs)


DIRECTIONS = ["reverse", "bidirectional"]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("op", GATES)
def test_many_steps(op, direction):
    a = checks.applied(TABLE[op], large(op, direction=direction))
    for check in (checks.check_runtime, checks.check_jvp, checks.check_vjp):
        check(a)
    checks.check_derivative_runtime(a)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("op", GATES)
def test_the_batch_may_come_first(op, direction):
    case = large(op, direction=direction)
    wanted = checks.applied(TABLE[op], case).primal().values()
    a = checks.applied(TABLE[op], other_layout(case))
    got = list(a.primal().values())
    perm = (1, 2, 0, 3)
    np.testing.assert_array_equal(np.transpose(got[0], perm), next(iter(wanted)))
    for y, other in zip(got[1:], list(wanted)[1:], strict=True):
        np.testing.assert_array_equal(np.swapaxes(y, 0, 1), other)
    for check in (checks.check_types, checks.check_jvp, checks.check_vjp, checks.check_batched):
        check(a)
    checks.check_expansion(a)


@pytest.mark.parametrize("op", GATES)
def test_a_sequence_without_steps_ends_in_zeros(op):
    case = large(op, direction="bidirectional")
    inputs = [np.array([STEPS, 0], np.int32) if k == 4 else x for k, x in enumerate(case.inputs)]
    a = checks.applied(TABLE[op], Case(tuple(inputs), case.attrs, case.outputs))
    for check in (checks.check_runtime, checks.check_jvp, checks.check_vjp):
        check(a)


def test_an_activation_is_known_by_any_case_and_refused_by_name():
    case = large("RNN", direction="forward")
    given = Case(case.inputs, {"activations": ("TANH",)})
    plain = Case(case.inputs, {"activations": ("Tanh",)})
    one, other = (checks.applied(TABLE["RNN"], c).primal()["y"] for c in (given, plain))
    np.testing.assert_array_equal(one, other)
    unknown = checks.applied(TABLE["RNN"], Case(case.inputs, {"activations": ("Sine",)}))
    with pytest.raises(UnsupportedError, match="no activation 'Sine'"):
        interpret(unknown.graph, unknown.feeds)


def test_without_a_known_number_of_steps_there_is_no_derivative():
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, ("T", 1, 2))
    w, r = b.constant(np.ones((1, 3, 2))), b.constant(np.ones((1, 3, 3)))
    graph = b.graph([b.op("RNN", x, w, r)])
    with pytest.raises(UnsupportedError, match="known number of steps"):
        vjp(graph)
