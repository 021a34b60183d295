"""Whether a certificate is worth its price, and the certificate."""

from __future__ import annotations

import time
from typing import Literal

from gradcli.deadline import until
from gradcli.engines import certified
from gradcli.engines.base import Certificate, Probes
from gradcli.errors import GradcliError, MissingExtraError, OutOfTimeError
from gradcli.graph import Node, Value, is_static, size
from gradcli.measure.clock import Clock, Progress
from gradcli.problem import Problem

References = Literal["auto", "certified", "float64"]
"""Which reference: a certified one where it is to be had and fits, or surely, or not."""

SHARE = {"auto": 0.25, "certified": 0.7}
"""The part of the budget that certifying may take."""

ELEMENT = 2e-6
"""Seconds that an element of a tensor costs in balls, at the first precision."""

PRODUCT = 12e-9
"""Seconds of a multiplication and an addition in a matrix product of balls."""

PASSES = 6.0
"""Evaluations of the primal that a certificate is worth: two ahead, of two terms each, one back."""


def certificate(
    problem: Problem, sample: Probes, which: References, clock: Clock, tell: Progress
) -> tuple[Certificate | None, str]:
    """What is certain of an answer, or why nothing is.

    Args:
        problem: The question.
        sample: What to take where the whole is too much.
        which: The kind of reference that was asked for.
        clock: The budget.
        tell: Called with a few words before each step.

    Raises:
        MissingExtraError: When a certified reference was asked for, and python-flint is missing.
    """
    if which == "float64":
        return None, ""
    if problem.straight_through:
        return None, "the straight-through estimator is a convention, of which nothing is certain"
    share = min(clock.budget * SHARE[which], clock.left())
    if which == "auto" and (needed := price(problem)) > share:
        hint = "--reference certified, with a larger --budget, takes its time"
        return None, f"it would take some {needed:.0f} s: {hint}"
    try:
        with until(time.perf_counter() + share):
            return certified.certify(problem, sample, tell), ""
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


def price(problem: Problem) -> float:
    """Seconds that a certificate takes, roughly."""
    elements = sum(_size(v) for node in problem.exact.nodes for v in node.makes())
    products = sum(_products(node) for node in problem.exact.nodes)
    return PASSES * (ELEMENT * elements + PRODUCT * products)


def _products(node: Node) -> float:
    """Multiplications of a matrix product or a convolution; 0 for everything else."""
    if node.op not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return 0
    x, w = node.reads()[:2]
    y = node.makes()[0]
    if not x.shape or not w.shape or not w.shape[0]:
        return 0
    if node.op == "Conv":
        return _size(y) * _size(w) / int(w.shape[0])
    if node.op == "ConvTranspose":
        return _size(x) * _size(w) / int(w.shape[0])
    return _size(y) * int(x.shape[0 if node.attrs.get("transA") else -1])


def _size(value: Value) -> int:
    return size(value.shape) if value.shape is not None and is_static(value.shape) else 0
