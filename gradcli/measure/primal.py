"""What is differentiated, as onnxruntime computes it, and how far its rounding goes."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace

import numpy as np

from gradcli import runtime
from gradcli.engines.base import COARSE, Arrays, Times, Unsteady, shaken, spread, unsteady
from gradcli.errors import GradcliError
from gradcli.graph import DType
from gradcli.interpret import Evaluator
from gradcli.measure.clock import Clock, timed
from gradcli.ops import Table
from gradcli.problem import Problem

SHAKES = 4
"""Evaluations with random roundings."""


AGAIN = 0.02
"""The part of the budget that runs to see whether the results change may take, of one program."""


@dataclass(frozen=True)
class FilePrimal:
    """What onnxruntime makes of the file.

    Attributes:
        outputs: By name of `of`; empty where it failed.
        times: Of a run.
        reason: Why there are none.
        unsteady: What came out otherwise in another run.
    """

    outputs: Arrays
    times: Times | None = None
    reason: str = ""
    unsteady: tuple[Unsteady, ...] = ()


def timed_file_primal(problem: Problem, clock: Clock, runs: int, warmup: int) -> FilePrimal:
    """The file's own outputs, the time they take, and whether they are always the same."""
    if problem.model is None:
        return FilePrimal({}, reason="there is no file")
    try:
        start = time.perf_counter()
        session = runtime.prepare(problem.model, threads=problem.threads, provider=problem.provider)
        prepared = time.perf_counter() - start
        times = timed(lambda: session.run(problem.feeds), clock.left() * 0.05, runs, warmup)
        outputs = file_primal(problem, session)
        dear = 2 * (prepared + times.median) > AGAIN * clock.left()
        return FilePrimal(outputs, times, "", () if dear else _changes(problem, outputs, session))
    except GradcliError as error:
        return FilePrimal({}, reason=error.message)


def other_threads(problem: Problem) -> int:
    """One thread in the place of several, and several in the place of one."""
    return 1 if problem.threads > 1 else max(2, os.cpu_count() or 2)


def _changes(problem: Problem, first: Arrays, session: runtime.Session) -> tuple[Unsteady, ...]:
    """What two more runs give, one of them on other threads; the latter only if the first holds."""
    own, other = problem.threads, other_threads(problem)
    again = unsteady("primal", (own, own), first, file_primal(problem, session))
    if again is not None:
        return (again,)
    there = file_primal(replace(problem, threads=other))
    apart = unsteady("primal", (own, other), first, there)
    return () if apart is None else (apart,)


def file_primal(problem: Problem, session: runtime.Session | None = None) -> dict[str, np.ndarray]:
    """What onnxruntime gives for each of `of`, on the file's original bytes at `problem.feeds`.

    Args:
        problem: With a model.
        session: Of the model as it is, where one is at hand.

    Raises:
        GradcliError: When onnxruntime cannot run the file.
    """
    model = problem.model
    assert model is not None
    inner = {e.tensor for e in problem.elements} - {v.name for v in model.graph.outputs}
    # What is rewritten between a DequantizeLinear and a QuantizeLinear may come out a quantum off.
    quantised = any(node.op == "DequantizeLinear" for node in model.graph.nodes)
    if session is None or inner or quantised:
        session = runtime.prepare(
            model,
            threads=problem.threads,
            provider=problem.provider,
            extra_outputs=sorted(inner),
            optimisation="off" if quantised else None,
        )
    out = session.run(problem.feeds)
    return {e.name: np.asarray(out[e.tensor])[e.index] for e in problem.elements}


def primal_noise(problem: Problem, exact: Arrays, clock: Clock) -> dict[str, np.ndarray] | None:
    """The rounding errors of the primal in the file's widths; None when there is no time for it."""
    return None if SHAKES * clock.primal > clock.left() * 0.05 else rounding(problem, exact)


def exact_noise(problem: Problem, exact: Arrays, clock: Clock) -> dict[str, np.ndarray] | None:
    """Those of the primal in float64, as the interpreter evaluates it; None where time is short."""
    if SHAKES * clock.primal > clock.left() * 0.05:
        return None
    rng = np.random.default_rng(problem.seed)
    return _spread(problem, exact, shaken(problem.table, rng), problem.point)


def coarse_kernels(problem: Problem) -> tuple[str, ...]:
    """A note on the nodes that onnxruntime computes in float32 although the file has float64."""
    found = [
        f"{node.name!r} ({node.key})"
        for node in problem.graph.nodes
        if node.key in COARSE and any(v.dtype is DType.FLOAT64 for v in node.makes())
    ]
    if not found:
        return ()
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    said = f"onnxruntime computes node {', '.join(found[:3])}{more} in float32 inside"
    return (f"{said}, although the file has float64; its outputs are held to that",)


def rounding(problem: Problem, exact: Arrays, point: Arrays | None = None) -> dict[str, np.ndarray]:
    """Three standard deviations of the primal's rounding errors, in the widths of the file.

    Args:
        problem: The question.
        exact: Its primal in float64, inner values too where they are asked for.
        point: Another one than the problem's.
    """
    floats = (v.dtype for v in problem.graph.values() if v.dtype.is_float)
    # What rounds to 8 bits or fewer does so in the exact primal too.
    wide = (dtype.eps for dtype in floats if dtype.np.itemsize > 1)
    eps = max(wide, default=DType.FLOAT64.eps)
    rng = np.random.default_rng(problem.seed)
    restless = shaken(problem.table, rng, eps, kernels=True)
    return _spread(problem, exact, restless, point or problem.point)


def _spread(problem: Problem, exact: Arrays, table: Table, point: Arrays) -> dict[str, np.ndarray]:
    f = Evaluator(problem.exact, table=table)
    runs = [f.run(point, keep=tuple(exact)) for _ in range(SHAKES)]
    return {name: spread((run[name] for run in runs), y) for name, y in exact.items()}
