"""Small networks: of clinical measurements, of a physical law, and one that stands on a kink."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn import datasets
from torch import Tensor, nn
from torch.nn import functional
from training import (
    SKLEARN_LICENCE,
    Facts,
    Sample,
    Split,
    check_same,
    fit,
    float32,
    hits,
    linear,
    run,
    share_right,
    split,
    tensor,
)
from writing import GraphWriter


def r_squared(predicted: ArrayLike, wanted: NDArray[np.float64]) -> float:
    """Return the share of the variance that a prediction explains."""
    error = np.asarray(predicted, dtype=np.float64) - wanted
    return 1 - float((error**2).mean() / wanted.var())


def linear_regression(parts: Split) -> NDArray[np.float64]:
    """Predict the held-out rows by least squares, as a yardstick."""
    train, test = (np.column_stack((x, np.ones(len(x)))) for x in (parts.train_x, parts.test_x))
    return test @ np.linalg.lstsq(train, parts.train_y, rcond=None)[0]


def make_diabetes() -> Sample:
    """Regress disease progression from ten raw clinical measurements; smooth everywhere."""
    data = datasets.load_diabetes(scaled=False)
    parts = split(data.data, data.target)
    mean, std = parts.train_x.mean(0), parts.train_x.std(0)
    centre, spread = float(parts.train_y.mean()), float(parts.train_y.std())
    net = nn.Sequential(
        nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 8), nn.Softplus(), nn.Linear(8, 1)
    )
    scaled_x = tensor((parts.train_x - mean) / std)
    scaled_y = tensor((parts.train_y - centre) / spread)[:, None]
    fit(net, functional.mse_loss, scaled_x, scaled_y, epochs=40, batch=32, rate=3e-3, decay=0.3)

    graph = GraphWriter("diabetes", opset=13)
    row = graph.input("patient", 10)
    centred = graph.node("Sub", "centred", row, graph.weight("feature_mean", mean))
    value = graph.node("Div", "standardised", centred, graph.weight("feature_std", std))
    value = graph.node("Tanh", "hidden1", graph.gemm("linear1", value, linear(net, 0)))
    value = graph.node("Softplus", "hidden2", graph.gemm("linear2", value, linear(net, 2)))
    value = graph.gemm("score", value, linear(net, 4))
    value = graph.node("Mul", "scaled_score", value, graph.weight("target_std", [spread]))
    value = graph.node("Add", "progression", value, graph.weight("target_mean", [centre]))
    model = graph.finish(value, 1)

    check_same(model, {row: parts.train_x}, net(scaled_x) * spread + centre)
    predicted = run(model, {row: parts.test_x})[:, 0]
    plain = linear_regression(parts)
    facts = Facts(
        what="10-16-8-1 MLP (tanh, softplus): raw clinical measurements to disease progression; "
        "standardisation inside the graph",
        data=f"load_diabetes(scaled=False), 442 patients ({SKLEARN_LICENCE})",
        training="AdamW, 40 epochs, mean squared error, 80/20 split",
        sample="first held-out patient",
        accuracy=f"R² {r_squared(predicted, parts.test_y):.3f} on {len(predicted)} held-out rows "
        f"(linear regression: {r_squared(plain, parts.test_y):.3f})",
    )
    return Sample(model, {row: float32(parts.test_x[:1])}, facts)


DIFFUSIVITY = 0.1
PHYSICS_UNITS = 6
PHYSICS_DECIMALS = 3
# Slopes are larger than values and would otherwise outweigh them.
VALUE_WEIGHT = 3.0
# Large weights that cancel each other would not survive rounding.
WEIGHT_PENALTY = 1e-6


def heat(x: Tensor, t: Tensor) -> Tensor:
    """Return u with u_t = DIFFUSIVITY * u_xx, u(x, 0) = sin(pi x), u = 0 at both ends."""
    return torch.exp(-DIFFUSIVITY * math.pi**2 * t) * torch.sin(math.pi * x)


def value_and_slopes(function: Callable[[Tensor, Tensor], Tensor], points: Tensor) -> Tensor:
    """Return u, u_x and u_t side by side at each (x, t) row."""
    x = points[:, :1].clone().requires_grad_()
    t = points[:, 1:].clone().requires_grad_()
    u = function(x, t)
    slopes = torch.autograd.grad(u.sum(), (x, t), create_graph=True)
    return torch.cat((u, *slopes), dim=1)


def grid(steps: int, margin: float) -> Tensor:
    """Return the points of a square grid on [margin, 1 - margin] in x and t."""
    line = torch.linspace(margin, 1 - margin, steps, dtype=torch.float64)
    return torch.cartesian_prod(line, line)


def fit_heat(net: nn.Sequential) -> None:
    """Fit value and slopes to the law, so that the derivatives mean something too."""
    points = grid(17, 0.0)
    wanted = value_and_slopes(heat, points).detach()
    importance = torch.tensor([VALUE_WEIGHT, 1.0, 1.0], dtype=torch.float64)
    optimizer = torch.optim.LBFGS(
        net.parameters(), max_iter=3000, max_eval=6000, tolerance_change=1e-12,
        tolerance_grad=1e-9, history_size=30, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        got = value_and_slopes(lambda x, t: net(torch.cat((x, t), dim=1)), points)
        penalty = sum(parameter.square().sum() for parameter in net.parameters())
        loss = ((got - wanted) * importance).square().mean() + WEIGHT_PENALTY * penalty
        loss.backward()
        return loss

    optimizer.step(closure)


def make_physics() -> Sample:
    """Imitate the heat equation on a rod with a network small enough to read."""
    net = nn.Sequential(nn.Linear(2, PHYSICS_UNITS), nn.Tanh(), nn.Linear(PHYSICS_UNITS, 1))
    net = net.double()
    fit_heat(net)
    # Short decimals keep the closed-form derivative on one screen.
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(parameter.round(decimals=PHYSICS_DECIMALS))

    graph = GraphWriter("physics", opset=13)
    x, t = graph.input("x", 1), graph.input("t", 1)
    value = graph.node("Concat", "point", x, t, axis=1)
    value = graph.node("Tanh", "hidden", graph.gemm("linear", value, linear(net, 0)))
    model = graph.finish(graph.gemm("u", value, linear(net, 2)), 1)

    # Cell centres lie off the training grid.
    points = grid(16, 1 / 32)
    x_column, t_column = points.numpy()[:, :1], points.numpy()[:, 1:]
    check_same(model, {"x": x_column, "t": t_column}, net(points))
    got = value_and_slopes(lambda x, t: net(torch.cat((x, t), dim=1)), points)
    worst = (got - value_and_slopes(heat, points)).abs().amax(0).tolist()
    facts = Facts(
        what=f"2-{PHYSICS_UNITS}-1 tanh network: position x and time t to temperature u of a rod",
        data="no data set: a physical law, the heat equation u_t = 0.1 u_xx with "
        "u(x, 0) = sin(pi x) and u = 0 at both ends, on the unit square",
        training=f"L-BFGS in float64 on u, u_x and u_t at 17x17 points, then weights rounded to "
        f"{PHYSICS_DECIMALS} decimals",
        sample="x = 0.25, t = 0.5",
        accuracy="worst error at 256 points between the training points: "
        "u {:.4f}, u_x {:.3f}, u_t {:.3f}".format(*worst),
    )
    return Sample(model, {"x": float32([[0.25]]), "t": float32([[0.5]])}, facts)


KINKED_UNITS = 6
HIDDEN_STEP = 2.0**-8
LOGIT_STEP = 2.0**-4
MIN_SLOPE_JUMP = 0.1
MIN_OTHER_GAP = 0.25


@dataclass(frozen=True)
class KinkedWeights:
    """Weights of a one-hidden-layer ReLU network, all multiples of a power of two."""

    hidden: NDArray[np.float64]
    hidden_bias: NDArray[np.float64]
    logits: NDArray[np.float64]
    logits_bias: NDArray[np.float64]

    def pre_activation(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the hidden pre-activations; exact for integer rows."""
        return x @ self.hidden.T + self.hidden_bias

    def output(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logits."""
        return np.maximum(self.pre_activation(x), 0) @ self.logits.T + self.logits_bias


def to_step(value: Tensor | NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Round to multiples of `step`."""
    data = value.detach().numpy() if isinstance(value, Tensor) else value
    return np.round(data.astype(np.float64) / step) * step


def fit_kinked(parts: Split) -> KinkedWeights:
    """Train on standardised rows, fold the scaling into the weights and round them."""
    mean, std = parts.train_x.mean(0), parts.train_x.std(0)
    net = nn.Sequential(nn.Linear(4, KINKED_UNITS), nn.ReLU(), nn.Linear(KINKED_UNITS, 3))
    fit(
        net, functional.cross_entropy, tensor((parts.train_x - mean) / std),
        tensor(parts.train_y, dtype=torch.long), epochs=150, batch=16, rate=1e-2, decay=1e-2,
    )  # fmt: skip
    hidden = linear(net, 0).weight.detach().numpy() / std
    bias = linear(net, 0).bias.detach().numpy() - hidden @ mean
    return KinkedWeights(
        to_step(hidden, HIDDEN_STEP),
        to_step(bias, HIDDEN_STEP),
        to_step(linear(net, 2).weight, LOGIT_STEP),
        to_step(linear(net, 2).bias, LOGIT_STEP),
    )


def place_kink(weights: KinkedWeights, parts: Split) -> tuple[KinkedWeights, int]:
    """Move one bias by the least amount that puts a held-out row exactly on a kink.

    Args:
        weights: Rounded weights.
        parts: The data; rows of integers.

    Returns:
        The weights with one hidden bias changed, and the index of the held-out row.
    """
    pre = weights.pre_activation(parts.test_x)
    distance = np.abs(pre)
    jump = np.abs(weights.logits).max(0) * np.abs(weights.hidden).max(1)
    right = hits(weights.output(parts.test_x).astype(np.float32), parts.test_y)
    others = np.sort(distance, axis=1)[:, 1]
    # A kink is worth showing where it bends the output visibly and no second unit is near its own.
    usable = (jump >= MIN_SLOPE_JUMP)[None, :] & (right & (others >= MIN_OTHER_GAP))[:, None]
    cost = np.where(usable, distance, np.inf)
    row, unit = np.unravel_index(int(cost.argmin()), cost.shape)
    if not np.isfinite(cost[row, unit]):
        raise RuntimeError("kinked: no held-out row can be put on a kink")
    bias = weights.hidden_bias.copy()
    bias[unit] -= pre[row, unit]
    return replace(weights, hidden_bias=bias), int(row)


def make_kinked() -> Sample:
    """Classify irises with a ReLU network and stop exactly on one of its kinks."""
    data = datasets.load_iris()
    # Millimetres are whole numbers, so that every product and sum is exact in float32.
    parts = split(np.round(10 * data.data), data.target)
    weights, chosen = place_kink(fit_kinked(parts), parts)

    graph = GraphWriter("kinked", opset=13)
    value = flower = graph.input("flower_mm", 4)
    for name, weight, bias in (
        ("pre_activation", weights.hidden, weights.hidden_bias),
        ("logits", weights.logits, weights.logits_bias),
    ):
        names = graph.weight(f"{name}.weight", weight), graph.weight(f"{name}.bias", bias)
        value = graph.node("Gemm", name, value, *names, transB=1)
        value = graph.node("Relu", "hidden", value) if name == "pre_activation" else value
    model = graph.finish(value, 3)

    sample = parts.test_x[chosen : chosen + 1]
    zeros = int((weights.pre_activation(sample) == 0).sum())
    if zeros != 1:
        raise RuntimeError(f"kinked: {zeros} pre-activations are zero, one is wanted")
    check_same(model, {flower: parts.test_x}, torch.tensor(weights.output(parts.test_x)))
    facts = Facts(
        what=f"4-{KINKED_UNITS}-3 ReLU network: sepal and petal sizes in millimetres to 3 class "
        "logits; the input puts one pre-activation at exactly zero",
        data=f"load_iris(), 150 flowers, centimetres turned into whole millimetres "
        f"({SKLEARN_LICENCE})",
        training="AdamW, 150 epochs, cross entropy, 80/20 split; weights rounded to multiples of "
        "2^-8 and 2^-4, then one hidden bias moved to place the kink",
        sample="a held-out flower, the one that needs the smallest move of a bias",
        accuracy=share_right(run(model, {flower: parts.test_x}), parts.test_y),
    )
    return Sample(model, {flower: float32(sample)}, facts)
