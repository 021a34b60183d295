"""A derivative of a derivative: the jvp of an exported vjp against differences of gradients."""

import numpy as np
import pytest

import gradcli
from tests.cli.support import SAMPLES
from tests.exporting.test_export import close, run

STEP = 2.0**-9


@pytest.mark.parametrize("name", ["attention", "digits", "sequence"])
def test_second_derivatives_are_differences_of_first_ones(name, tmp_path):
    model = str(SAMPLES / f"{name}.onnx")
    rng = np.random.default_rng(3)
    with np.load(SAMPLES / f"{name}.npz") as arrays:
        # Multiples of a power of two, so that a model that takes float32 is asked where it is said.
        feeds = {key: (np.round(x[:1] * 256) / 256).astype(x.dtype) for key, x in arrays.items()}
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    pulled = gradcli.export(model, first, operator="vjp", inputs=feeds)
    (x,) = feeds
    (bar,) = [t for t in pulled.inputs if t.role == "cotangent"]
    v = rng.choice([-1.0, 1.0], feeds[x].shape).astype(np.float32)
    y = gradcli.jvp(model, feeds, v)[bar.of]
    w = rng.standard_normal(y.shape).astype(np.float32)
    given = {**feeds, bar.name: w}

    def slope(t):
        return gradcli.vjp(model, {x: feeds[x] + np.float32(t) * v}, w, dtype="float64")[x]

    def second_order(h):
        return (slope(h) - slope(-h)) / (2 * h)

    want = (4 * second_order(STEP / 2) - second_order(STEP)) / 3  # Richardson: fourth order
    scale = np.max(np.abs(want))
    assert (scale > 0.01) == (name != "digits")  # which is of pieces that are linear
    exact = gradcli.jvp(first, given, {x: v}, wrt=x, of=f"{x}_bar", dtype="float64")
    np.testing.assert_allclose(exact[f"{x}_bar"], want, rtol=0, atol=1e-6 * scale)

    gradcli.export(first, second, operator="jvp", wrt=x, of=f"{x}_bar", inputs=given)
    found = run(second, {**given, f"{x}_dot": v})
    close(found, {f"{x}_bar_dot": want}, rtol=1e-4)
