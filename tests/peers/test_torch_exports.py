"""What torch exports, by either of its exporters: gradcli agrees with torch's autograd."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

from gradcli import api

WHY = "needs the extra `peers`: pip install gradcli[peers]"
torch = pytest.importorskip("torch", reason=WHY)
nn: Any = torch.nn
NEWER = "torch's newer exporter needs onnxscript"

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


def prepared(module: Any, shapes: Sequence[tuple[int, ...]]) -> tuple[Any, list[Any]]:
    """The module with weights that a file can hold, and inputs for it."""
    torch.manual_seed(0)
    module.eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
        if getattr(part, "eps", None):
            part.eps = float(np.float32(part.eps))  # which is all that a file can hold
    return module, [torch.randn(shape) for shape in shapes]


def exported(
    module: Any, inputs: list[Any], *, dynamo: bool, opset: int, dynamic: bool = True
) -> bytes:
    """The file that one of the exporters writes, its batches of any size where `dynamic`."""
    names = [f"x{k}" for k in range(len(inputs))]
    how: dict[str, Any] = {"input_names": names, "opset_version": opset, "dynamo": dynamo}
    with contextlib.redirect_stdout(io.StringIO()):
        if dynamo:
            free: Any = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs) if dynamic else None
            program = torch.onnx.export(
                module, tuple(inputs), dynamic_shapes=free, verbose=False, **how
            )
            return bytes(program.model_proto.SerializeToString())
        file = io.BytesIO()
        free = {name: {0: "N"} for name in names} if dynamic else None
        torch.onnx.export(module, tuple(inputs), file, dynamic_axes=free, **how)
        return file.getvalue()


def differentiated(ys: Any) -> list[Any]:
    """The outputs that autograd differentiates, None at the place of any other."""
    every = ys if isinstance(ys, tuple) else (ys,)
    return [y if y.requires_grad else None for y in every]


def check(data: bytes, module: Any, inputs: list[Any], exact: Callable[[int], bool]) -> None:
    """Forward and reverse in either width against autograd in float64; `exact` as in Net."""
    moved = [x.double().requires_grad_() for x in inputs]
    model = api.load(data)
    every = zip(model.graph.outputs, differentiated(module.double()(*moved)), strict=True)
    ys = {v.name: y for v, y in every if y is not None}
    y_bars = {name: torch.randn(y.shape, dtype=torch.float64) for name, y in ys.items()}
    wanted = torch.autograd.grad(list(ys.values()), moved, list(y_bars.values()))
    feeds = {f"x{k}": x.numpy() for k, x in enumerate(inputs)}
    cotangent = {name: y_bar.numpy() for name, y_bar in y_bars.items()}
    for dtype in ("float64", "float32"):
        asked = api.ask(model, feeds, of=list(ys), operator="vjp", cotangent=cotangent, dtype=dtype)
        for method in ("reverse", "forward"):
            blocks = api.derive(asked, method).blocks
            for k, x_bar in enumerate(wanted):
                rtol = 1e-4 if dtype == "float32" else 1e-9 if exact(k) else 3e-7
                np.testing.assert_allclose(
                    blocks["", f"x{k}"],
                    x_bar.numpy(),
                    rtol=0,
                    atol=rtol * max(float(x_bar.abs().max()), 1e-6),
                    err_msg=f"{method}, {dtype}, x{k}",
                )


@pytest.mark.parametrize(("dynamo", "opset"), [(False, 13), (False, 20), (True, 18)])
@pytest.mark.parametrize("name", NETS)
def test_autograd_agrees(name: str, *, dynamo: bool, opset: int) -> None:
    if dynamo:
        pytest.importorskip("onnxscript", reason=NEWER)
    net = NETS[name]
    if name == "attention" and opset < 14:
        pytest.skip("torch exports it from opset 14 on")
    module, inputs = prepared(net.module(), net.shapes)
    check(exported(module, inputs, dynamo=dynamo, opset=opset), module, inputs, lambda _: net.exact)


# ---- operator by operator -----------------------------------------------------------------------


class Part(NamedTuple):
    """A function of its own inputs; many of them share a file, since exporting takes its time.

    Attributes:
        make: The module or function.
        shapes: Of its inputs.
        since: The first opset at which the older exporter takes it, NEVER where none does.
        exact: As in Net.
    """

    make: Callable[[], Any]
    shapes: tuple[tuple[int, ...], ...]
    since: int = 11
    exact: bool = True


NEVER = 99
SQUARE, BATCH, IMAGE = (3, 3), (2, 4), (1, 2, 4, 6)


def fn(f: Callable[..., Any], *shapes: tuple[int, ...], since: int = 11, exact: bool = True) -> Any:
    return Part(lambda: f, shapes, since, exact)


def at(f: Callable[..., Any], places: Any, *shapes: tuple[int, ...], since: int = 11) -> Any:
    """A function of integers too, which are constants of the file."""
    constant = torch.tensor(places)
    return Part(lambda: lambda *x: f(*x, constant), shapes, since)


class Both(nn.Module):  # type: ignore[misc] # torch has no types here
    """A recurrent network's results: the sequence and every last state."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Any) -> Any:
        y, state = self.network(x)
        return (y, *state) if isinstance(state, tuple) else (y, state)


def branch(x: Any) -> Any:
    return torch.cond(x.sum() > 0, torch.tanh, torch.square, (x,))


F: Any = nn.functional
ROW_OF = [[0, 1, 2], [2, 0, 0]]
APART = [[0, 1, 2], [2, 0, 1]]
CLASSES = [1, 0, 3]


def resized(mode: str, *, align: bool | None) -> Any:
    since = NEVER if mode == "nearest-exact" else 11
    return fn(
        lambda x: (
            F.interpolate(x, scale_factor=2.0, mode=mode, align_corners=align),
            F.interpolate(x, size=(3, 5), mode=mode, align_corners=align),
        ),
        IMAGE,
        since=since,
    )


def sampled(mode: str, padding: str, *, align: bool) -> Any:
    how: dict[str, Any] = {"mode": mode, "padding_mode": padding, "align_corners": align}
    return fn(lambda x, g: F.grid_sample(x, g, **how), IMAGE, (1, 3, 2, 2), since=16)


def attended(**how: Any) -> Any:
    q, kv = (1, 4, 3, 4), (1, 2 if how else 4, 3, 4)
    since = NEVER if how else 14
    return fn(
        lambda *x: F.scaled_dot_product_attention(*x, **how), q, kv, kv, since=since, exact=False
    )


# Not here, since torch 2.13 exports another function: scatter_reduce of means (as a plain scatter),
# cross_entropy with label_smoothing (as one without), bilinear interpolation before opset 11.
PARTS: dict[str, dict[str, Part]] = {
    "recurrent": {
        "LSTM": Part(lambda: Both(nn.LSTM(3, 4, 2, batch_first=True)), ((2, 5, 3),)),
        "LSTM, both ways": Part(lambda: Both(nn.LSTM(3, 4, bidirectional=True)), ((5, 2, 3),)),
        "GRU": Part(lambda: Both(nn.GRU(3, 4, 2)), ((5, 2, 3),)),
        "GRU, both ways": Part(lambda: Both(nn.GRU(3, 4, bidirectional=True)), ((5, 2, 3),)),
        "RNN": Part(lambda: Both(nn.RNN(3, 4)), ((5, 2, 3),)),
        "RNN of ReLU, both ways": Part(
            lambda: Both(nn.RNN(3, 4, nonlinearity="relu", bidirectional=True)), ((5, 2, 3),)
        ),
    },
    "normalisation": {
        "InstanceNorm": Part(lambda: nn.InstanceNorm2d(3, affine=True), ((2, 3, 4, 5),)),
        "GroupNorm": Part(lambda: nn.GroupNorm(2, 6), ((2, 6, 4),)),
        "RMSNorm": Part(lambda: nn.RMSNorm(6, eps=2.0**-20), ((2, 6),), NEVER),
        "LocalResponseNorm": Part(lambda: nn.LocalResponseNorm(3), ((2, 6, 3, 3),), exact=False),
        "normalize": fn(lambda x: F.normalize(x, dim=1), BATCH),
        "norms": fn(lambda x: tuple(torch.norm(x, p=p, dim=1) for p in (1, 2)), BATCH),
        "norm of order 3": fn(lambda x: torch.norm(x, p=3, dim=1), BATCH, exact=False),
        "largest": fn(lambda x: torch.linalg.vector_norm(x, float("inf"), dim=1), BATCH),
        "logsumexp": fn(lambda x: torch.logsumexp(x, 1), BATCH),
        "cosine": fn(lambda x, y: F.cosine_similarity(x, y, dim=1), BATCH, BATCH, exact=False),
        "var": fn(lambda x: torch.var_mean(x, 1), BATCH),
    },
    "activation": {
        "PReLU": Part(lambda: nn.PReLU(3), ((2, 3, 4),), NEVER),
        "SELU": fn(F.selu, BATCH, exact=False),
        "CELU": fn(lambda x: F.celu(x, 1.5), BATCH, since=12),
        "ELU": fn(lambda x: F.elu(x, 0.75), BATCH),
        "Hardswish": fn(F.hardswish, BATCH, exact=False),
        "Hardsigmoid": fn(F.hardsigmoid, BATCH, exact=False),
        "Mish": fn(F.mish, BATCH),
        "Softplus": fn(lambda x: F.softplus(x, 2.0), BATCH),
        "Softsign": fn(F.softsign, BATCH),
        "shrinks": fn(lambda x: (F.softshrink(x, 0.25), F.hardshrink(x, 0.25)), BATCH),
        "LogSigmoid": fn(F.logsigmoid, BATCH),
        "GLU": fn(F.glu, BATCH),
        "GELU, tanh": fn(lambda x: F.gelu(x, approximate="tanh"), BATCH, exact=False),
    },
    "convolution and pool": {
        "ConvTranspose1d": Part(lambda: nn.ConvTranspose1d(2, 4, 3, 2, 1, 1, 2), ((1, 2, 5),)),
        "ConvTranspose2d": Part(lambda: nn.ConvTranspose2d(2, 3, 2, dilation=2), (IMAGE,)),
        "ConvTranspose3d": Part(lambda: nn.ConvTranspose3d(2, 2, 2, 2), ((1, 2, 2, 2, 2),)),
        "max_pool with indices": fn(lambda x: F.max_pool2d(x, 2, return_indices=True), IMAGE),
        "max_pool, ceil": fn(lambda x: F.max_pool2d(x, 2, ceil_mode=True), (1, 2, 5, 5)),
        "max_pool, dilated": fn(lambda x: F.max_pool2d(x, 2, 1, 1, 2), IMAGE),
        "avg_pool, ceil": fn(lambda x: F.avg_pool2d(x, 2, 2, 1, ceil_mode=True), (1, 2, 5, 5)),
        "adaptive_avg_pool": fn(lambda x: F.adaptive_avg_pool2d(x, (2, 3)), IMAGE),
        "adaptive_max_pool": fn(lambda x: F.adaptive_max_pool2d(x, (2, 3)), IMAGE),
        "adaptive_avg_pool, odd": fn(
            lambda x: F.adaptive_avg_pool2d(x, (2, 3)), (1, 2, 5, 7), since=NEVER
        ),
        "pixel_shuffle": fn(lambda x: F.pixel_shuffle(x, 2), (1, 8, 2, 3)),
        "pixel_unshuffle": fn(lambda x: F.pixel_unshuffle(x, 2), IMAGE),
        "unfold": fn(lambda x: F.unfold(x, 2), IMAGE),
    },
    "resampling": {
        **{mode: resized(mode, align=None) for mode in ("nearest", "nearest-exact")},
        "bilinear": resized("bilinear", align=False),
        "bilinear, corners aligned": resized("bilinear", align=True),
        "bicubic": resized("bicubic", align=False),
        "bicubic, corners aligned": resized("bicubic", align=True),
        "grid, bilinear": sampled("bilinear", "zeros", align=False),
        "grid, bilinear, corners aligned": sampled("bilinear", "border", align=True),
        "grid, bilinear, reflected": sampled("bilinear", "reflection", align=False),
        "grid, nearest": sampled("nearest", "zeros", align=False),
        "grid, bicubic": sampled("bicubic", "zeros", align=True),
        "grid, bicubic, reflected": sampled("bicubic", "reflection", align=False),
    },
    "indexing": {
        "cumsum": fn(lambda x: torch.cumsum(x, 1), BATCH),
        "einsum": fn(lambda x, y: torch.einsum("bi,bj->ij", x, y), (2, 3), BATCH, since=12),
        "einsum of a diagonal": fn(lambda x: torch.einsum("bii->b", x), (2, 3, 3), since=12),
        "topk": fn(lambda x: torch.topk(x, 2, 1), BATCH),
        "sort": fn(lambda x: torch.sort(x, 1), BATCH),
        "gather": at(lambda x, i: torch.gather(x, 1, i), ROW_OF, BATCH),
        "index": at(lambda x, i: x[i], [1, 0, 1], BATCH),
        "embedding": at(lambda x, i: F.embedding(i, x), ROW_OF, (3, 4)),
        "index_put": at(lambda x, y, i: x.index_put((i,), y), [2, 0], (3, 4), BATCH),
        "scatter": at(lambda x, y, i: x.scatter(1, i, y), APART, BATCH, (2, 3)),
        "scatter_add": at(lambda x, y, i: x.scatter_add(1, i, y), ROW_OF, BATCH, (2, 3), since=16),
        **{
            f"scatter_reduce, {how}": at(
                lambda x, y, i, how=how: x.scatter_reduce(1, i, y, how),
                ROW_OF,
                BATCH,
                (2, 3),
                since=18,
            )
            for how in ("prod", "amax", "amin")
        },
    },
    "attention": {
        "of as many heads": attended(),
        "of grouped heads": attended(enable_gqa=True),
        "MultiheadAttention": Part(
            lambda: nn.MultiheadAttention(8, 2, batch_first=True), ((2, 3, 8),) * 3, 13, exact=False
        ),
    },
    "loss and branch": {
        "cross_entropy": at(F.cross_entropy, CLASSES, (3, 4), since=13),
        "cross_entropy, one class ignored": at(
            lambda x, i: F.cross_entropy(x, i, ignore_index=0, reduction="sum"),
            CLASSES,
            (3, 4),
            since=13,
        ),
        "nll_loss": at(lambda x, i: F.nll_loss(x, i, reduction="none"), CLASSES, (3, 4), since=13),
        "mse_loss": fn(F.mse_loss, SQUARE, SQUARE),
        "cond": fn(branch, (3,), since=NEVER),
        "cond, again": fn(branch, (4,), since=NEVER),
    },
}


class Parts(nn.Module):  # type: ignore[misc] # torch has no types here
    """Functions side by side, each of its own inputs; the results of all."""

    def __init__(self, parts: list[Part]) -> None:
        super().__init__()
        self.made = [part.make() for part in parts]
        self.kept = nn.ModuleList([f for f in self.made if isinstance(f, nn.Module)])
        self.counts = [len(part.shapes) for part in parts]

    def forward(self, *x: Any) -> Any:
        results: list[Any] = []
        for f, count in zip(self.made, self.counts, strict=True):
            y, x = f(*x[:count]), x[count:]
            results += y if isinstance(y, tuple) else (y,)
        return tuple(results)


@pytest.mark.parametrize(
    ("dynamo", "opset"),
    [(False, 11), (False, 13), (False, 17), (False, 20), (True, 18), (True, 23)],
)
@pytest.mark.parametrize("family", PARTS)
def test_autograd_agrees_on_operators(family: str, *, dynamo: bool, opset: int) -> None:
    if dynamo:
        pytest.importorskip("onnxscript", reason=NEWER)
    parts = [part for part in PARTS[family].values() if dynamo or part.since <= opset]
    if not parts:
        pytest.skip("torch's older exporter takes none of them at this opset")
    module, inputs = prepared(Parts(parts), [shape for part in parts for shape in part.shapes])
    data = exported(module, inputs, dynamo=dynamo, opset=opset, dynamic=False)
    exact = [part.exact for part in parts for _ in part.shapes]
    check(data, module, inputs, exact.__getitem__)


class Carried(nn.Module):  # type: ignore[misc] # torch has no types here
    """A recurrent network with its first state given: what torch makes itself is no opset 7."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Any, *state: Any) -> Any:
        y, last = self.network(x, state if len(state) > 1 else state[0])
        return (y, *last) if isinstance(last, tuple) else (y, last)


def convolutional() -> Any:
    before = [nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.PReLU(4), nn.MaxPool2d(2)]
    pool = nn.AvgPool2d(2, 2, padding=1, count_include_pad=False)
    return nn.Sequential(*before, nn.ConvTranspose2d(4, 3, 3, 2, 1, 1), nn.Dropout(), pool)


OLD = {
    "convolutional": Part(convolutional, ((2, 2, 6, 6),), 7, exact=False),
    "LSTM": Part(
        lambda: Carried(nn.LSTM(3, 4, bidirectional=True)), ((5, 2, 3), (2, 2, 4), (2, 2, 4)), 7
    ),
    "GRU": Part(lambda: Carried(nn.GRU(3, 4)), ((5, 2, 3), (1, 2, 4)), 7),
    "RNN": Part(lambda: Carried(nn.RNN(3, 4)), ((5, 2, 3), (1, 2, 4)), 7),
    "cut": fn(lambda x: torch.cat([x[:, 1:3], *x.split([1, 3], 1)], 1) ** 2, BATCH, since=7),
    "cut with a step": fn(lambda x: x[:, ::2], BATCH, since=10),
    "TopK": fn(lambda x: torch.topk(x, 2, 1)[0], BATCH, since=7),
    "Softmax": fn(lambda x: (F.softmax(x, 1), F.log_softmax(x, 2)), (2, 3, 4), since=7),
    "reductions": fn(
        lambda x: (x.sum(1), x.mean((1, 2), keepdim=True), x.max(2)[0], x.prod(1), x.norm(dim=1)),
        (2, 3, 4),
        since=7,
    ),
    "bounds": fn(
        lambda x: (x.clamp(-0.5, 0.5), x.clamp(min=0.125), F.hardtanh(x), F.relu6(x)),
        BATCH,
        since=7,
    ),
    "pairs": fn(
        lambda x, y: (x * y + x / y.exp(), torch.max(x, y), torch.min(x, y)), BATCH, BATCH, since=7
    ),
    "pads": fn(lambda x: (F.pad(x, (1, 2)), F.pad(x, (1, 1, 1, 1), "reflect")), IMAGE, since=7),
    "embedding": at(lambda x, i: F.embedding(i, x), ROW_OF, (3, 4), since=7),
    "LayerNorm": Part(lambda: nn.LayerNorm(4), (BATCH,), 7),
    "InstanceNorm": Part(lambda: nn.InstanceNorm2d(2, affine=True), (IMAGE,), 7),
    "Upsample": fn(lambda x: F.interpolate(x, scale_factor=2.0), IMAGE, since=9),
    "Where": fn(lambda x, y: torch.where(x > y, x, torch.erf(y)), BATCH, BATCH, since=9),
    "gather": at(lambda x, i: torch.gather(x, 1, i), ROW_OF, BATCH, since=9),
    "expand": fn(lambda x: x[:, None].expand(-1, 3, -1) * x[:, None], BATCH, since=9),
}
"""Networks and functions as the first readable opsets write them."""


@pytest.mark.parametrize("opset", [7, 8, 9, 10])
def test_autograd_agrees_at_the_oldest_opsets(opset: int) -> None:
    parts = [part for part in OLD.values() if part.since <= opset]
    module, inputs = prepared(Parts(parts), [shape for part in parts for shape in part.shapes])
    data = exported(module, inputs, dynamo=False, opset=opset, dynamic=False)
    exact = [part.exact for part in parts for _ in part.shapes]
    check(data, module, inputs, exact.__getitem__)


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_a_norm_of_zeros_has_slope_0_as_in_torch(p: float) -> None:
    module, x = Parts([fn(lambda x: torch.norm(x, p=p, dim=1), BATCH)]), torch.zeros(BATCH)
    data = exported(module, [x], dynamo=False, opset=17, dynamic=False)
    x.requires_grad_()
    (by_torch,) = torch.autograd.grad(module(x)[0].sum(), x)
    np.testing.assert_array_equal(by_torch.numpy(), np.zeros(BATCH))
    np.testing.assert_array_equal(api.vjp(data, np.zeros(BATCH), np.ones(2))["x0"], by_torch)
