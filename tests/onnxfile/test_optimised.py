"""Files that onnxruntime's own optimiser wrote: the sample models keep their derivatives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from gradcli import api
from gradcli.errors import GradcliError

SAMPLES = Path(__file__).resolve().parents[2] / "sample_models"
NAMES = sorted(p.stem for p in SAMPLES.glob("*.onnx"))
LEVELS = {
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


def optimised(name: str, level: str, folder: Path) -> Path:
    """A sample model as onnxruntime saves it at this level."""
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.optimized_model_filepath = str(folder / f"{name}.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(SAMPLES / f"{name}.onnx", options)
    return folder / f"{name}.onnx"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", ["basic", "extended"])
def test_an_optimised_file_has_the_same_derivatives(name, level, tmp_path):
    path = optimised(name, level, tmp_path)
    with np.load(SAMPLES / f"{name}.npz") as stored:
        feeds = dict(stored)
    for method in ("forward", "reverse", "complex-step"):
        want, got = (
            api.prepare(model, operator="vjp", method=method, dtype="float64").run(
                feeds, cotangent=ones(model, feeds)
            )
            for model in (SAMPLES / f"{name}.onnx", path)
        )
        for key in want:
            scale = np.abs(want[key]).max()
            np.testing.assert_allclose(got[key], want[key], rtol=0, atol=1e-5 * scale)


def ones(model: Path, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    problem = api.ask(model, feeds, operator="vjp")
    return {name: np.ones(problem.shape(name)) for name in problem.of}


def test_a_file_in_blocked_layout_is_taken_or_refused_with_what_to_do(tmp_path):
    path = optimised("digits", "all", tmp_path)
    with np.load(SAMPLES / "digits.npz") as stored:
        feeds = dict(stored)
    with pytest.raises(GradcliError) as refused:
        api.gradient(path, feeds, of="logits[0,0]")
    assert "com.microsoft.nchwc" in refused.value.message
    assert "extended" in refused.value.hint
