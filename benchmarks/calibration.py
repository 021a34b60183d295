"""Whether stated uncertainties hold: each method's u beside its true error, by certified truth.

    python benchmarks/calibration.py [--networks 300] [--budget 20] [--seed 0] [--misses 0]

Random networks, smooth and kinked, at random points of many sizes, and the sample models at random
inputs; Jacobians and gradients in float64. The truth is a certified derivative (extra `certified`).
Printed for each method: elements, the part of them whose error u covers, the median of u over the
error, and of the error over u the part that 999 of 1000 elements stay below, and the largest: above
1 it is a miss. Of an error nothing below half a unit in the last place of the truth can be known,
so it counts as that much; where u and the error are both 0 there is no ratio.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from gradcli import api
from gradcli.comparison.field import Field, field_of
from gradcli.comparison.truth import truth_of
from gradcli.engines.base import Estimate, Evidence
from gradcli.graph import Builder, DType, Var
from gradcli.measure import measure
from gradcli.ops import OPS
from gradcli.problem import Problem, static

METHODS = ("finite-forward", "finite-central", "finite", "complex-step")
MODEL = "float64 graph"

COVERED, WITHIN = 0.999, 30.0
"""What is asked of every method: the part that is covered, and the median of u over the error."""

HALF_ULP = 2.0**-53

SMOOTH = ("Tanh", "Sigmoid", "Softplus", "Erf", "Sin", "Gelu", "Mish", "Softsign", "Elu")
KINKED = ("Relu", "LeakyRelu", "Abs", "HardSigmoid", "HardSwish")

Body = Callable[[Builder, Var, np.random.Generator], Var]


def _dense(b: Builder, x: Var, rng: np.random.Generator, out: int = 0) -> Var:
    m, n = static(x.value)[-1], out or int(rng.integers(2, 8))
    weights = b.constant(rng.standard_normal((m, n)) / np.sqrt(m))
    return b.op("MatMul", x, weights) + b.constant(rng.standard_normal(n))


def _layers(activations: tuple[str, ...]) -> Body:
    def body(b: Builder, x: Var, rng: np.random.Generator) -> Var:
        for _ in range(int(rng.integers(1, 6))):
            x = b.op(str(rng.choice(activations)), _dense(b, x, rng))
        return x

    return body


def _quotient(b: Builder, x: Var, rng: np.random.Generator) -> Var:
    """What functions with steep places and far tails make of it."""
    x = _dense(b, x, rng)
    way = rng.integers(5)
    if way == 0:
        return x / (x * x + 0.1)
    if way == 1:
        return b.op("Exp", x * -0.5) * b.op("Sin", x * 3.0)
    if way == 2:
        return b.op("Log", x * x + 1.0) * b.op("Sigmoid", x)
    if way == 3:
        return b.op("Sqrt", x * x + 0.25) - x
    return b.op("Reciprocal", b.op("Exp", x) + 1.0) * x


def _normalised(b: Builder, x: Var, rng: np.random.Generator) -> Var:
    """Softmax, or a normalisation, between dense layers: terms cancel."""
    x = _dense(b, x, rng)
    if rng.integers(2):
        x = b.op("Softmax", x, axis=-1)
    else:
        x = b.op("LayerNormalization", x, b.constant(np.ones(static(x.value)[-1])), axis=-1)
    return b.op("Tanh", _dense(b, x, rng))


def _image(b: Builder, x: Var, rng: np.random.Generator) -> Var:
    """A convolution, ReLU and pooling."""
    x = b.op("Reshape", x, b.constant(np.array([1, 1, 4, -1])))
    kernel = b.constant(rng.standard_normal((2, 1, 3, 3)) / 3)
    x = b.op("Relu", b.op("Conv", x, kernel, pads=(1, 1, 1, 1)))
    x = b.op("MaxPool", x, kernel_shape=(2, 2), strides=(2, 2))
    return _dense(b, b.op("Flatten", x), rng, 2)


BODIES: dict[str, tuple[Body, int]] = {
    "smooth": (_layers(SMOOTH), 0),
    "kinked": (_layers(KINKED), 0),
    "mixed": (_layers(SMOOTH + KINKED), 0),
    "quotient": (_quotient, 0),
    "normalised": (_normalised, 0),
    "image": (_image, 16),
}


def network(kind: str, rng: np.random.Generator) -> Problem:
    """A random network of a kind, at a random point."""
    body, given = BODIES[kind]
    width = given or int(rng.integers(2, 8))
    b = Builder(OPS)
    y = b.rename(body(b, b.input("x", DType.FLOAT64, (1, width)), rng), "y")
    x = rng.standard_normal((1, width)) * 10.0 ** rng.uniform(-2.0, 1.0)
    graph = b.graph([y])
    return Problem(None, graph, ("x",), ("y",), "jacobian", {"x": x}, {}, {}, DType.FLOAT64)


def samples(rng: np.random.Generator) -> Iterator[tuple[str, Problem]]:
    """The sample models, at their own input and beside it."""
    for path in sorted((Path(__file__).parent.parent / "sample_models").glob("*.onnx")):
        with np.load(path.with_suffix(".npz")) as stored:
            given = {name: stored[name] for name in stored.files}
        yield path.stem, api.ask(path, given, dtype="float64")
        beside = {
            k: (x + 0.1 * np.std(x) * rng.standard_normal(x.shape)).astype(x.dtype)
            for k, x in given.items()
        }
        yield path.stem, api.ask(path, beside, dtype="float64")


def ratios(evidence: Evidence) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Of each method: u and the error, for the elements whose truth is certain."""
    certificate = evidence.certificate
    if certificate is None or not certificate.holds:
        return
    truth = field_of(
        evidence,
        Estimate(certificate.blocks, certificate.known, uncertainty=certificate.uncertainty),
    )
    fields = {o.method: o.estimate for o in evidence.outcomes if o.estimate is not None}
    for name, estimate in fields.items():
        yield name, *_beside(field_of(evidence, estimate), truth)
    model, reference = truth_of(replace(evidence, certificate=None))
    if model is not None and reference.kind.startswith("float64"):
        yield MODEL, *_beside(model, truth)


def _beside(own: Field, truth: Field) -> tuple[np.ndarray, np.ndarray]:
    known = own.known & truth.known & np.isfinite(truth.value) & (own.jumps == 0)
    error = np.abs(own.value - truth.value)[known]
    return own.u[known], np.maximum(error, HALF_ULP * np.abs(truth.value[known]))


class Tally:
    """What was seen of one method."""

    def __init__(self) -> None:
        self.u: list[np.ndarray] = []
        self.error: list[np.ndarray] = []

    def add(self, u: np.ndarray, error: np.ndarray) -> None:
        """Some more elements."""
        self.u.append(u)
        self.error.append(error)

    def line(self) -> tuple[int, float, float, float, float]:
        """Elements, the part covered, the median of u / error, and two quantiles of error / u."""
        u, error = np.concatenate(self.u), np.concatenate(self.error)
        some = (u > 0) | (error > 0)
        with np.errstate(divide="ignore"):
            over = u[some] / error[some]
            under = error[some] / u[some]
        high, most = np.quantile(under, [COVERED, 1.0], method="higher")
        return u.size, float(np.mean(u >= error)), float(np.median(over)), float(high), float(most)


def main() -> int:
    """Draw, compare, print; 1 where a method falls short."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=300)
    parser.add_argument("--budget", type=float, default=20.0, help="seconds for each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--misses", type=int, default=0, help="print so many misses as they occur")
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    drawn = ((k, network(k, rng)) for k, _ in zip(_turns(), range(asked.networks), strict=False))
    return report(calibrate((*drawn, *samples(rng)), asked.budget, asked.misses))


def calibrate(
    problems: Iterable[tuple[str, Problem]], budget: float, misses: int = 0
) -> dict[str, Tally]:
    """What was seen of each method on these problems; so many misses are printed as they occur."""
    tallies = {name: Tally() for name in (*METHODS, MODEL)}
    for kind, problem in problems:
        evidence = measure(problem, METHODS, budget=budget, runs=1, warmup=0, reference="certified")
        for name, u, error in ratios(evidence):
            tallies[name].add(u, error)
            bad = np.flatnonzero(u < error)
            if bad.size and misses > 0:
                misses -= 1
                print(f"{kind}: {name}: {bad.size} of {u.size}, {error[bad]} > {u[bad]}")
    return tallies


def _turns() -> Iterator[str]:
    while True:
        yield from BODIES


def report(tallies: dict[str, Tally]) -> int:
    """A line for each method."""
    short = 0
    print(f"{'':16}{'':9}{'':10}{'median':>9}{'error / u':>18}")
    print(f"{'method':16}{'elements':>9}{'covered':>10}{'u/error':>9}{'99.9 %':>9}{'most':>9}")
    for name, tally in tallies.items():
        if not tally.u:
            continue
        elements, covered, median, high, most = tally.line()
        short += covered < COVERED or median > WITHIN
        parts = f"{covered:>10.3%}{median:>9.1f}{high:>9.2f}{most:>9.2f}"
        print(f"{name:16}{elements:>9,}{parts}")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
