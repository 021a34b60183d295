"""Saved derivatives of what torch exports: against autograd, at another batch, and twice."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import gradcli

torch = pytest.importorskip("torch", reason="needs the extra `peers`: pip install gradcli[peers]")
nn: Any = torch.nn

# The exporter warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore")


def exported(module: Any, shape: tuple[int, ...]) -> bytes:
    """What torch's own exporter writes, its batch open."""
    file = io.BytesIO()
    names: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"], "dynamo": False}
    with contextlib.redirect_stdout(io.StringIO()):
        axes = {"x": {0: "N"}}
        torch.onnx.export(module, (torch.randn(shape),), file, dynamic_axes=axes, **names)
    return file.getvalue()


def run(data: bytes, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


NETS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.Linear(8, 3)), (5,)),
    "cnn": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, 2, 1),
            nn.BatchNorm2d(4),
            nn.SiLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16, 3),
        ),
        (2, 8, 8),
    ),
    "encoder": (
        lambda: nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.Softmax(-1), nn.Flatten()),
        (4, 8),
    ),
}


@pytest.mark.parametrize("name", list(NETS))
def test_a_batch_of_another_size_has_autograd_s_derivative(name: str) -> None:
    make, shape = NETS[name]
    torch.manual_seed(0)
    module = make().eval()
    made = gradcli.export(exported(module, (2, *shape)), operator="vjp")
    assert made.shapes["x_bar"] == ("N", *shape)
    x = torch.randn((5, *shape), requires_grad=True)
    y = module(x)
    w = torch.randn(y.shape)
    (want,) = torch.autograd.grad(y, x, w)
    found = run(made.data, {"x": x.detach().numpy(), "y_bar": w.numpy()})["x_bar"]
    np.testing.assert_allclose(found, want.numpy(), rtol=1e-3, atol=1e-5)


def test_the_second_derivative_is_autograd_s() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1)).double()
    data = exported(module.float(), (1, 2))
    module = module.double()
    first = gradcli.export(data, operator="gradient", dtype="float64")
    second = gradcli.export(first.data, operator="jacobian", wrt="x", of="x_bar", per_row=True)
    x = torch.randn((4, 2), dtype=torch.float64)
    found = run(second.data, {"x": x.numpy()})["x_bar/x"]
    for k in range(4):
        want = torch.autograd.functional.hessian(lambda v: module(v[None])[0, 0], x[k])
        np.testing.assert_allclose(found[k], want.numpy(), rtol=1e-6, atol=1e-9)
