"""Whether a certificate is worth its price, and the certificate."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Literal

import numpy as np

from gradcli.deadline import until
from gradcli.engines import certified
from gradcli.engines.base import Arrays, Certificate, Probes, Sides
from gradcli.errors import GradcliError, MissingExtraError, OutOfTimeError
from gradcli.graph import Node, Value, is_static, size
from gradcli.measure.clock import Clock, Progress
from gradcli.problem import Key, Problem

References = Literal["auto", "certified", "float64"]
"""Which reference: a certified one where it is to be had and fits, or surely, or not."""

SHARE = {"auto": 0.25, "certified": 0.7}
"""The part of the budget that certifying may take."""

ELEMENT = 2e-6
"""Seconds that an element of a tensor costs in balls, at the first precision."""

PRODUCT = 12e-9
"""Seconds of a multiplication and an addition in a matrix product of balls."""

LEFT = 0.7
"""The part that it may take of what is left: the methods are still to be run."""

HALF = 10.0 * 2.0**-26
"""Of the largest output: half of the digits of float64, less one."""

ROUNDED_AWAY = (
    "in exact arithmetic the outputs are others than in floats, in which they lose what is added to"
    " far greater numbers"
)

PASSES = 6.0
"""Evaluations of the primal that a certificate is worth: two ahead, of two terms each, one back."""


def certificate(
    problem: Problem,
    sample: Probes,
    which: References,
    clock: Clock,
    tell: Progress,
    in_floats: Arrays,
) -> tuple[Certificate | None, str]:
    """What is certain of an answer, or why nothing is.

    Args:
        problem: The question.
        sample: What to take where the whole is too much.
        which: The kind of reference that was asked for.
        clock: The budget.
        tell: Called with a few words before each step.
        in_floats: The outputs in float64.

    Raises:
        MissingExtraError: When a certified reference was asked for, and python-flint is missing.
    """
    if which == "float64":
        return None, ""
    if problem.straight_through:
        return None, "the straight-through estimator is a convention, of which nothing is certain"
    share = min(clock.budget * SHARE[which], LEFT * clock.left())
    if which == "auto" and (needed := price(problem)) > share:
        hint = "--reference certified, with a larger --budget, takes its time"
        return None, f"it would take some {needed:.0f} s: {hint}"
    try:
        with until(time.perf_counter() + share):
            found = certified.certify(problem, sample, tell)
    except MissingExtraError as error:
        if which == "certified":
            raise
        return None, f"{error.message}: {error.hint}"
    except OutOfTimeError:
        return None, f"its share of the budget, {share:.2g} s, was over: raise --budget"
    except GradcliError as error:
        return None, error.message
    except MemoryError:
        return None, "it does not fit into memory"
    except Exception as error:  # noqa: BLE001 # a rule that breaks is a method's fault, told there
        return None, f"{type(error).__name__}: {error}"
    kept = of_the_same_function(problem, found, in_floats)
    return (kept, "") if kept.elements or not found.elements else (None, ROUNDED_AWAY)


def of_the_same_function(problem: Problem, found: Certificate, in_floats: Arrays) -> Certificate:
    """The certificate without outputs that floats have lost.

    What is added to -3.4e38 is there in exact arithmetic, and not in floats: a Softmax of a row
    that is masked like this as a whole is another function. No method is held against that.
    """
    lost = {of: _lost(x, in_floats[of]) for of, x in found.primal.items()}
    if not any(map(np.any, lost.values())):
        return found

    def gone(key: Key) -> np.ndarray:
        of, wrt = key
        if of:
            ones = (1,) * len(problem.shape(wrt)) if wrt else ()
            return lost[of].reshape((*lost[of].shape, *ones))
        bars = problem.cotangents
        return np.array(any(np.any(mask & (bars[of] != 0)) for of, mask in lost.items()))

    sides = found.sides and Sides(
        *(
            {k: np.where(gone(k), np.nan, x) for k, x in part.items()}
            for part in vars(found.sides).values()
        )
    )
    known = {key: mask & ~gone(key) for key, mask in found.known.items()}
    return replace(found, known=known, sides=sides)


def _lost(exact: np.ndarray, in_floats: np.ndarray) -> np.ndarray:
    """Outputs of which float64 has not even half of the digits, or that are no finite number."""
    size = float(np.max(np.abs(exact), where=np.isfinite(exact), initial=0.0))
    with np.errstate(invalid="ignore"):
        return np.asarray(~(np.abs(exact - in_floats) <= HALF * size))


def price(problem: Problem) -> float:
    """Seconds that a certificate takes, roughly."""
    elements = sum(size_of(v) for node in problem.exact.nodes for v in node.makes())
    products = sum(products_of(node) for node in problem.exact.nodes)
    return PASSES * (ELEMENT * elements + PRODUCT * products)


def products_of(node: Node) -> float:
    """Multiplications of a matrix product or a convolution; 0 for everything else."""
    if node.op not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return 0
    x, w = node.reads()[:2]
    y = node.makes()[0]
    if not x.shape or not w.shape or not w.shape[0]:
        return 0
    if node.op == "Conv":
        return size_of(y) * size_of(w) / int(w.shape[0])
    if node.op == "ConvTranspose":
        return size_of(x) * size_of(w) / int(w.shape[0])
    return size_of(y) * int(x.shape[0 if node.attrs.get("transA") else -1])


def size_of(value: Value) -> int:
    """Elements of a tensor; 0 where that is not known."""
    return size(value.shape) if value.shape is not None and is_static(value.shape) else 0
