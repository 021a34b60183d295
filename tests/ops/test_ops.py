"""Every operator of the table, over random cases: see checks.py for what is asked and how."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from gradcli.engines.base import COARSE
from gradcli.graph import CANONICAL_OPSET
from gradcli.numbers import Ball, Symbol, complex_
from gradcli.onnxfile import schemas
from gradcli.ops import OPS, REQUIRED
from gradcli.transform import expand, jvp
from gradcli.transform.rewrite import active_values
from tests.installed import need_form
from tests.ops import checks
from tests.ops.rows import ROWS, TABLE
from tests.ops.table import Row

TRIALS = 4

FACETS = {
    "elementwise": ("jvp", "vjp", "batch"),
    "linear": ("jvp", "vjp", "batch"),
    "bilinear": ("jvp", "vjp", "batch"),
    "composite": ("expand",),
    "custom": ("jvp", "vjp"),
    "flat": ("reason",),
    "opaque": ("reason",),
}

EVALUATED = [row for row in ROWS if row.op in OPS and OPS[row.op].impl is not None]
MOVING = [row for row in EVALUATED if OPS[row.op].kind not in ("flat", "opaque")]


def _name(row: Row) -> str:
    return row.op


def each(rows: list[Row], trials: int = TRIALS) -> pytest.MarkDecorator:
    """One test for each row and trial."""
    cases = [pytest.param(row, k, id=f"{row.op}-{k}") for row in rows for k in range(trials)]
    return pytest.mark.parametrize(("row", "trial"), cases)


# ---- the table itself ---------------------------------------------------------------------------


def test_every_card_has_a_row_and_every_row_a_card():
    assert len(TABLE) == len(ROWS), "two rows for one operator"
    assert sorted(OPS.keys() - TABLE.keys()) == []
    assert sorted(TABLE.keys() - OPS.keys()) == []


SMOOTH_AS_A_WHOLE = {
    "CastLike": "its Cast jumps only to 8 bits, where it is Cast's own kink",
    "MaxUnpool": "its scatter only places elements",
    "TensorScatter": "likewise",
    "MeanVarianceNormalization": "Equal guards a variance of 0",
    "ai.onnx.ml::Imputer": "Equal looks for what is missing",
    "ai.onnx.ml::LinearRegressor": "a softmax is shifted, a probit clipped, for accuracy only",
    "ai.onnx.ml::LinearClassifier": "likewise",
    "ai.onnx.ml::SVMClassifier": "likewise",
}
"""Composites that are smooth although a part of their expansion is not."""


@pytest.mark.parametrize("row", [r for r in MOVING if OPS[r.op].kind == "composite"], ids=_name)
def test_a_composite_of_parts_with_kinks_has_kinks(row):
    """What is watched on the way is the operator, not its expansion."""
    found = set()
    for trial in range(2 * TRIALS):
        graph = expand(checks.draw(row, trial).graph)
        active = active_values(graph, [v for v in graph.inputs if v.dtype.is_float], OPS)
        for node in graph.nodes:
            if OPS[node.key].kinks is not None and any(v in active for v in node.inputs):
                found.add(node.key)
    if OPS[row.op].kinks is None:
        assert not found or row.op in SMOOTH_AS_A_WHOLE, found


@pytest.mark.parametrize("op", OPS)
def test_a_card_has_the_facets_of_its_kind(op):
    card = OPS[op]
    for facet in FACETS[card.kind]:
        assert getattr(card, facet), f"a card of kind {card.kind} needs {facet}"
    assert (card.impl is None) == (card.kind == "opaque")
    assert set(card.flat) <= {name.rstrip("?*") for name in card.inputs}
    assert all(card.flat.values()), "an operand is flat for a reason"
    assert bool(card.edge) == (card.edges is not None)
    if card.edges is not None:
        assert TABLE[op].edges, "an edge that no row visits"
    if card.kinks is not None:
        assert TABLE[op].kinks, "a kink that no row visits"
        assert card.convention or card.is_flat


OPTIONS = onnx.defs.OpSchema.FormalParameterOption
MARKS = {OPTIONS.Single: "", OPTIONS.Optional: "?", OPTIONS.Variadic: "*"}

ML_OPSET = 5
"""The newest ai.onnx.ml: its trees took the older ones back, but not their forms."""

LEFT_OUT = {
    "Constant": {"sparse_value"},  # the reader makes it dense
}


@pytest.mark.parametrize("op", OPS)
def test_a_card_has_the_form_that_the_standard_gives_the_operator(op):
    card = OPS[op]
    domain, _, name = op.rpartition("::")
    if domain == "com.microsoft" or op == "SimplifiedLayerNormalization":
        pytest.skip("not the standard's: see test_contrib.py")
    opset = ML_OPSET if domain == "ai.onnx.ml" else max(CANONICAL_OPSET, card.since)
    need_form(name, opset, card.attrs, domain)
    schema = onnx.defs.get_schema(name, opset, domain)
    assert card.inputs == tuple(x.name + MARKS[x.option] for x in schema.inputs)
    assert len(card.outputs) <= len(schema.outputs)
    assert card.attrs.keys() == schema.attributes.keys() - LEFT_OUT.get(op, set())
    required = {name: 0 for name, value in card.attrs.items() if value is REQUIRED}
    defaults = OPS.attributes(op, required)
    for name in card.attrs:
        attribute = schema.attributes[name]
        assert attribute.required == (name in required)
        if not attribute.required:
            given = attribute.default_value
            wanted = onnx.helper.get_attribute_value(given) if given.name else None
            wanted = wanted.decode() if isinstance(wanted, bytes) else wanted
            if isinstance(wanted, list):
                wanted = tuple(x.decode() if isinstance(x, bytes) else x for x in wanted)
            if isinstance(wanted, int) and (op, name) in schemas.DTYPE_ATTRIBUTES:
                wanted = schemas.dtype_name(wanted)
            # A tensor without elements stands for none.
            wanted = None if isinstance(wanted, onnx.TensorProto) else wanted
            assert defaults[name] == wanted, name


# ---- the primal ---------------------------------------------------------------------------------


@each(EVALUATED)
def test_infer_foretells_types(row, trial):
    checks.check_types(checks.draw(row, trial))


@each([row for row in EVALUATED if row.dynamic])
def test_infer_copes_with_unknown_dimensions(row, trial):
    checks.check_symbolic_types(checks.draw(row, trial))


@each(EVALUATED)
def test_impl_is_what_onnxruntime_computes(row, trial):
    if OPS[row.op].since > CANONICAL_OPSET:
        need_form(row.op, OPS[row.op].since, checks.draw(row, trial).case.attrs)
    checks.check_runtime(checks.draw(row, trial))


@each(EVALUATED)
def test_impl_touches_arrays_only_through_the_number_system(row, trial):
    checks.check_sealed(checks.draw(row, trial))


@pytest.mark.parametrize("system", [complex_, Ball(), Symbol()], ids=lambda n: n.name)
@each(EVALUATED, 2)
def test_impl_is_the_same_in_every_number_system(row, trial, system):
    checks.check_system(checks.draw(row, trial), system)


@each([row for row in EVALUATED if OPS[row.op].expand is not None])
def test_expansion_is_the_operator(row, trial):
    checks.check_expansion(checks.draw(row, trial))


# ---- the rules ----------------------------------------------------------------------------------


@each(MOVING)
def test_draws_keep_off_kinks_and_edges(row, trial):
    checks.check_off_kinks(checks.draw(row, trial))


@each(EVALUATED)
def test_jvp(row, trial):
    checks.check_jvp(checks.draw(row, trial))


@each(EVALUATED)
def test_vjp(row, trial):
    checks.check_vjp(checks.draw(row, trial))


@each(MOVING)
def test_many_directions_at_once(row, trial):
    checks.check_batched(checks.draw(row, trial))


@each([row for row in MOVING if row.dynamic])
def test_rules_need_no_known_dimensions(row, trial):
    checks.check_symbolic(checks.draw(row, trial))


@each(MOVING, 2)
def test_second_order(row, trial):
    checks.check_second_order(checks.draw(row, trial))


@each([row for row in MOVING if not row.runtime], 2)
def test_derivatives_run_in_onnxruntime(row, trial):
    checks.check_derivative_runtime(checks.draw(row, trial))


KINKS = [pytest.param(row, k, id=f"{row.op}-{k}") for row in ROWS for k in range(len(row.kinks))]


@pytest.mark.parametrize(("row", "k"), KINKS)
def test_convention_at_a_kink(row, k):
    checks.check_kink(row, k)


EDGES = [pytest.param(row, case, id=row.op) for row in ROWS for case in row.edges]


@pytest.mark.parametrize(("row", "case"), EDGES)
def test_distance_to_an_edge(row, case):
    checks.check_edge(row, case)


# ---- the checks: none that cannot fail ----------------------------------------------------------


@pytest.mark.parametrize("mode", ["jvp", "vjp"])
@pytest.mark.parametrize("row", [pytest.param(row, id=row.op) for row in MOVING])
def test_a_wrong_rule_is_noticed(row, mode):
    card = OPS[row.op]
    if getattr(card, mode) is None:
        assert card.kind == "composite", "only expansions have no rule of their own"
        return
    check = getattr(checks, f"check_{mode}")
    moving = [a for a in (checks.draw(row, k) for k in range(2 * TRIALS)) if jvp(a.graph).results]
    assert moving, "no case has a derivative"
    noticed = 0
    for a in moving:
        try:
            check(a, checks.faulty(card, mode))
        except AssertionError:
            noticed += 1
    assert noticed, f"a {mode} that is wrong by 1e-4 passes"


@pytest.mark.parametrize("op", sorted(COARSE))
def test_what_is_held_to_float32_is_computed_in_it(op):
    """On float64: else there would be no reason to expect less of it."""
    row = TABLE[op]
    gaps = []
    for seed in range(8):
        a = checks.applied(row, row.draw(np.random.default_rng(seed)))
        try:
            got = checks.run_onnx(a.graph, a.feeds)
        except checks.MISSING:
            continue
        wanted = a.primal()
        for name, y in got.items():
            gap, size = np.max(np.abs(y - wanted[name])), np.max(np.abs(wanted[name]))
            gaps.append(gap / size if y.dtype == np.float64 else 0.0)
    assert max(gaps) > 1e-10
