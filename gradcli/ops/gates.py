"""Activations of recurrent networks: chosen by name, with their alpha and beta."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, Var
from gradcli.numbers import Array, Numbers
from gradcli.ops import activation as activations
from gradcli.ops import elementwise
from gradcli.ops.card import Card, Site

PLAIN = ("Relu", "Sigmoid", "Softplus", "Softsign", "Tanh")
WITH_ALPHA = {
    "Affine": 0.0,
    "Elu": 1.0,
    "HardSigmoid": 0.2,
    "LeakyRelu": 0.01,
    "ScaledTanh": 0.0,
    "ThresholdedRelu": 0.0,
}
"""What alpha is where a file gives none. The standard does not say it of Affine and ScaledTanh; all
are as onnxruntime has them, whose ThresholdedRelu has another default than the operator."""

WITH_BETA = {"Affine": 0.0, "HardSigmoid": 0.5, "ScaledTanh": 0.0}
CARDS = {card.op: card for card in (*elementwise.CARDS, *activations.CARDS)}
NAMES = {name.lower(): name for name in (*PLAIN, *WITH_ALPHA)}


SLOPES: dict[str, Callable[[Var], Var]] = {
    "Sigmoid": lambda y: y * (1.0 - y),
    "Tanh": lambda y: 1.0 - y * y,
}
"""Slopes of gates from their results. What 1 - y loses where a gate is shut is next to nothing
beside the slopes of other steps; exponentials of all gates again would cost as much as the rest."""


@dataclass(frozen=True)
class Activation:
    """outer * f(inner * z) + shift, of z limited to [-clip, clip].

    Attributes:
        f: An elementwise operator; empty for the identity.
        attrs: Its attributes.
        inner: Factor of the operand.
        outer: Factor of the result.
        shift: Added to the result.
        clip: The limit, if there is one.
    """

    f: str
    attrs: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    inner: float = 1.0
    outer: float = 1.0
    shift: float = 0.0
    clip: float | None = None

    def impl(self, n: Numbers, z: Array) -> Array:
        """The activation, in numbers."""
        if self.clip is not None:
            limit = n.full((), self.clip)
            z = n.maximum(n.minimum(z, limit), -limit)
        y = z if self.inner == 1 else z * self.inner
        if self.f:
            impl = _card(self.f).impl
            assert impl is not None
            y = impl(n, y, **self.attrs)
        return y * self.outer + self.shift if self.outer != 1 or self.shift else y

    def kinks(self, n: Numbers, z: Array) -> tuple[np.ndarray, np.ndarray]:
        """How far z is from the nearest kink, and which piece it is on."""
        margin, branch = np.full(z.shape, np.inf), np.zeros(z.shape, np.int64)
        if self.clip is not None:
            at = np.real(z)
            margin = np.abs(np.abs(at) - self.clip)
            branch = (at > self.clip).astype(np.int64) - (at < -self.clip)
            limit = n.full((), self.clip)
            z = n.maximum(n.minimum(z, limit), -limit)
        kinks = _card(self.f).kinks if self.f else None
        if kinks is not None:
            near, piece = kinks(n, z * self.inner, **self.attrs)
            margin = np.minimum(margin, near / abs(self.inner or 1.0))
            branch = 8 * branch + piece
        return margin, branch


class Applied:
    """An activation at a place in a graph.

    Args:
        activation: Which.
        b: Where nodes go.
        z: The operand.

    Attributes:
        y: The result.
    """

    def __init__(self, activation: Activation, b: Builder, z: Var) -> None:
        self._activation = activation
        self._sites: list[Site] = []
        a = activation
        if a.clip is not None:
            z = self._op(b, "Clip", z, b.like(-a.clip, z), b.like(a.clip, z))
        z = z * a.inner
        if a.f:
            z = self._op(b, a.f, z, **a.attrs)
        self.y = z * a.outer + a.shift

    def _op(self, b: Builder, op: str, *operands: Var, **attrs: float) -> Var:
        full = b.table.attributes(op, attrs)
        y = b.op(op, *operands, **full)
        self._sites.append(Site(b, op, operands, full, [y]))
        return y

    def times_slope(self, v: Var) -> Var:
        """v, of the result's shape, times the derivative: by the operators' own rules."""
        v = v * (self._activation.outer * self._activation.inner)
        for s in reversed(self._sites):
            if s.key in SLOPES:
                v = v * SLOPES[s.key](s.y)
                continue
            rule = _card(s.key).jvp
            assert rule is not None
            made = rule(s, [v, *(None for _ in s.inputs[1:])])[0]
            assert made is not None
            v = made
        return v


def choose(
    names: Sequence[str],
    alphas: Sequence[float] | None,
    betas: Sequence[float] | None,
    clip: float | None,
) -> list[Activation]:
    """The activations of these names; alphas and betas are used up in order by those that have one.

    Raises:
        UnsupportedError: When there is no such activation.
    """
    given = iter(alphas or ()), iter(betas or ())
    return [_named(name, *given, clip or None) for name in names]


def _named(
    given: str, alphas: Iterator[float], betas: Iterator[float], clip: float | None
) -> Activation:
    name = NAMES.get(given.lower())
    if name is None:
        raise UnsupportedError(
            f"there is no activation {given!r}", f"one of {', '.join(sorted(NAMES.values()))}"
        )
    alpha = next(alphas, WITH_ALPHA[name]) if name in WITH_ALPHA else 1.0
    beta = next(betas, WITH_BETA[name]) if name in WITH_BETA else 0.0
    if name == "Affine":
        return Activation("", outer=alpha, shift=beta, clip=clip)
    if name == "ScaledTanh":
        return Activation("Tanh", inner=beta, outer=alpha, clip=clip)
    attrs: dict[str, float] = {}
    if name in WITH_ALPHA:
        attrs["alpha"] = float(np.float32(alpha))
    if name in WITH_BETA:
        attrs["beta"] = float(np.float32(beta))
    return Activation(name, MappingProxyType(attrs), clip=clip)


def _card(op: str) -> Card:
    found = CARDS.get(op)
    if found is None:
        raise UnsupportedError(f"gradcli has no card for the activation {op}")
    return found
