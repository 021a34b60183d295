"""A method that is the reference is not praised for agreeing with itself."""

from pathlib import Path

import pytest

from gradcli import api
from gradcli.comparison.facts import Verdict

PHYSICS = Path(__file__).resolve().parents[2] / "sample_models" / "physics.onnx"
POINT = {"x": [[0.25]], "t": [[0.5]]}


@pytest.mark.parametrize(("dtype", "counted"), [("float64", False), ("float32", True)])
def test_the_reference_has_no_digits(dtype, counted):
    methods = ["reverse", "finite-forward"]
    found = api.compare(PHYSICS, POINT, dtype=dtype, methods=methods, runs=1, reference="float64")
    assert found.reference.kind == "float64-reverse"
    reverse, other = found.methods
    assert (reverse.verdict, other.verdict) == (Verdict.AGREE, Verdict.AGREE)
    assert (reverse.correct_digits is not None) == counted
    assert any("reference itself" in note for note in reverse.notes) != counted
    assert other.correct_digits is not None
    (best,) = [a for a in found.advice if "accurate" in a.text]
    assert (best.method == "finite-forward") == (
        other.correct_digits > (reverse.correct_digits or 0)
    )
