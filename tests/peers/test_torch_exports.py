"""Networks that torch exports, by either of its exporters: gradcli agrees with torch's autograd."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from gradcli import api

WHY = "needs the extra `peers`: pip install gradcli[peers]"
torch = pytest.importorskip("torch", reason=WHY)
nn: Any = torch.nn

# The exporters warn of themselves.
pytestmark = pytest.mark.filterwarnings("ignore")


class Net(NamedTuple):
    """A network and its inputs.

    `exact` is False where an exporter computes weights anew in float32 (a batch normalisation that
    it folds into a convolution, the root in GELU): then float64 cannot agree to the last digits.
    """

    module: Callable[[], Any]
    shapes: tuple[tuple[int, ...], ...]
    exact: bool = True


class Residual(nn.Module):  # type: ignore[misc] # torch has no types here
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4))
        self.way = nn.Sequential(nn.Conv2d(3, 4, 1, 2, bias=False), nn.BatchNorm2d(4))

    def forward(self, x: Any) -> Any:
        return torch.relu(self.two(self.one(x)) + self.way(x)).mean((2, 3))


class Attention(nn.Module):  # type: ignore[misc] # likewise
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 96)

    def forward(self, x: Any) -> Any:
        n, t, _ = x.shape
        q, k, v = self.project(x).view(n, t, 3, 2, 16).permute(2, 0, 3, 1, 4).unbind(0)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return y.transpose(1, 2).reshape(n, t, 32)


class Skip(nn.Module):  # type: ignore[misc] # likewise
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(2, 4, 3, padding=1), nn.ConvTranspose2d(4, 4, 2, 2)

    def forward(self, x: Any) -> Any:
        a = torch.tanh(self.down(x))
        return torch.cat([a, self.up(nn.functional.max_pool2d(a, 2))], 1)


def mlp(activation: Any) -> Any:
    return nn.Sequential(nn.Linear(5, 8), activation, nn.Linear(8, 4), activation, nn.Linear(4, 3))


def lenet() -> Any:
    convolutions = [nn.Conv2d(1, 4, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.ReLU()]
    return nn.Sequential(*convolutions, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(24, 5))


def mobile() -> Any:
    depthwise = nn.Conv2d(8, 8, 3, 2, 1, groups=8)
    first = [nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU6()]
    return nn.Sequential(*first, depthwise, nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 4, 1))


NETS = {
    "MLP, Tanh": Net(lambda: mlp(nn.Tanh()), ((4, 5),)),
    "MLP, SiLU": Net(lambda: mlp(nn.SiLU()), ((4, 5),)),
    "MLP, Softplus": Net(lambda: mlp(nn.Softplus()), ((4, 5),)),
    "MLP, GELU": Net(lambda: mlp(nn.GELU()), ((4, 5),), exact=False),
    "MLP, ReLU6": Net(lambda: mlp(nn.ReLU6()), ((4, 5),)),
    "MLP, LogSoftmax": Net(lambda: mlp(nn.LogSoftmax(-1)), ((4, 5),)),
    "LeNet": Net(lenet, ((2, 1, 18, 18),)),
    "residual block": Net(Residual, ((2, 3, 9, 9),), exact=False),
    "depthwise block": Net(mobile, ((2, 3, 8, 8),), exact=False),
    "skip connection": Net(Skip, ((2, 2, 6, 6),)),
    "LayerNorm": Net(lambda: nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8)), ((4, 5),)),
    "attention": Net(Attention, ((2, 5, 8),)),
}


def prepared(net: Net) -> tuple[Any, list[Any]]:
    torch.manual_seed(0)
    module = net.module().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
        if hasattr(part, "eps"):
            part.eps = float(np.float32(part.eps))  # which is all that a file can hold
    return module, [torch.randn(shape) for shape in net.shapes]


def exported(module: Any, inputs: list[Any], *, dynamo: bool, opset: int) -> bytes:
    names = [f"x{k}" for k in range(len(inputs))]
    how: dict[str, Any] = {"input_names": names, "opset_version": opset, "dynamo": dynamo}
    with contextlib.redirect_stdout(io.StringIO()):
        if dynamo:
            free: Any = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs)
            program = torch.onnx.export(
                module, tuple(inputs), dynamic_shapes=free, verbose=False, **how
            )
            return bytes(program.model_proto.SerializeToString())
        file = io.BytesIO()
        free = {name: {0: "N"} for name in names}
        torch.onnx.export(module, tuple(inputs), file, dynamic_axes=free, **how)
        return file.getvalue()


@pytest.mark.parametrize(("dynamo", "opset"), [(False, 13), (False, 20), (True, 18)])
@pytest.mark.parametrize("name", NETS)
def test_autograd_agrees(name: str, *, dynamo: bool, opset: int) -> None:
    if dynamo:
        pytest.importorskip("onnxscript", reason="torch's newer exporter needs it")
    net = NETS[name]
    if name == "attention" and opset < 14:
        pytest.skip("torch exports it from opset 14 on")
    module, inputs = prepared(net)
    data = exported(module, inputs, dynamo=dynamo, opset=opset)
    moved = [x.double().requires_grad_() for x in inputs]
    y = module.double()(*moved)
    y_bar = torch.randn(y.shape, dtype=torch.float64)
    wanted = torch.autograd.grad(y, moved, y_bar)
    model = api.load(data)
    feeds = {f"x{k}": x.numpy() for k, x in enumerate(inputs)}
    (of,) = [v.name for v in model.graph.outputs]
    for dtype, rtol in (("float64", 1e-9 if net.exact else 1e-7), ("float32", 1e-4)):
        for method in ("reverse", "forward"):
            asked = api.ask(
                model, feeds, operator="vjp", cotangent={of: y_bar.numpy()}, dtype=dtype
            )
            blocks = api.derive(asked, method).blocks
            for k, x_bar in enumerate(wanted):
                scale = float(x_bar.abs().max())
                np.testing.assert_allclose(
                    blocks["", f"x{k}"], x_bar.numpy(), rtol=0, atol=rtol * scale, err_msg=method
                )
