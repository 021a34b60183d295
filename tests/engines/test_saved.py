"""What a saved function means: constants that it computes are the numbers, not the next floats."""

from fractions import Fraction

import numpy as np
import onnx.parser
import pytest

from gradcli import api, onnxfile
from gradcli.engines.base import as_saved
from gradcli.engines.certified import certify
from gradcli.measure.sample import draw
from gradcli.ops import OPS
from gradcli.problem import pose

HEAD = '<ir_version: 9, opset_import: ["" : 21]>\n'

SCALED = """m (float[2,3] x) => (y) {
    sizes = Shape (x)
    three = ReduceMax <keepdims = 0> (sizes)
    wide = Cast <to = 1> (three)
    one = Constant <value = float {1}> ()
    third = Div (one, wide)
    y = Mul (x, third)
}"""

HALVED = SCALED.replace("float[2,3] x", "float[2,4] x")

RESIZED = """m (float[1,1,3] x) => (y) {
    three = Constant <value = float[1] {3}> ()
    five = Constant <value = float[1] {5}> ()
    ones = Constant <value = float[2] {1, 1}> ()
    grown = Div (five, three)
    scales = Concat <axis = 0> (ones, grown)
    y = Resize <mode = "linear"> (x, , scales)
}"""


def asked(text: str, *shape: int, operator: str = "jacobian"):
    model = onnxfile.read(onnx.parser.parse_model(HEAD + text).SerializeToString(), OPS)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return pose(model, {"x": x}, operator=operator)


def test_a_third_that_a_file_computes_is_a_third():
    problem = asked(SCALED, 2, 3)
    found = certify(problem, draw(problem))
    assert found.holds
    assert found.elements == found.taken
    slope = found.blocks["y", "x"][0, 0, 0, 0]
    assert slope == 1 / 3  # and not the float32 next to it
    gap = abs(Fraction(float(slope)) - Fraction(1, 3))
    assert 0 < gap <= Fraction(float(found.uncertainty["y", "x"][0, 0, 0, 0]))


def test_what_is_a_float_stays_a_constant():
    problem = asked(HALVED, 2, 4)
    assert as_saved(problem).graph is problem.graph


def test_what_structure_hangs_on_stays_a_constant():
    problem = asked(RESIZED, 1, 1, 3)
    assert as_saved(problem).graph is problem.graph
    found = certify(problem, draw(problem))
    assert found.holds


def test_only_the_certified_reference_computes_it_anew():
    problem = asked(SCALED, 2, 3)
    assert [node.op for node in problem.graph.nodes] == ["Mul"]
    again = as_saved(problem)
    assert [node.op for node in again.graph.nodes] == ["Cast", "Div", "Mul"]
    assert [v.name for v in again.graph.inputs] == ["x"]


def test_in_float64_it_is_rounded_once():
    problem = asked(SCALED, 2, 3)
    (third,) = (a for v, a in problem.exact.constants.items() if v.name == "third")
    assert third == 1 / 3
    (third,) = (a for v, a in problem.graph.constants.items() if v.name == "third")
    assert third == np.float32(1 / 3)


@pytest.mark.parametrize("operator", ["jvp", "vjp"])
def test_a_comparison_holds_float64_against_it(operator: str):
    model = onnx.parser.parse_model(HEAD + SCALED).SerializeToString()
    x = np.ones((2, 3), np.float32)
    found = api.compare(
        model, {"x": x}, operator=operator, methods=["reverse", "forward"], reference="certified"
    )
    assert found.reference.kind == "certified"
