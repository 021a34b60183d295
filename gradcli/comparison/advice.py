"""Which method to use, by what was measured here."""

from __future__ import annotations

from collections.abc import Sequence

from gradcli.comparison.facts import Advice, Cause, Judgement, Verdict
from gradcli.graph import DType

HORIZONS = (1, 1000, 1_000_000)
"""Numbers of evaluations that people have in mind."""

_TRUSTED = (Verdict.AGREE, Verdict.KINK)


def advise(methods: Sequence[Judgement]) -> tuple[Advice, ...]:
    """The cheapest trusted method for 1, 1000 and 1,000,000 evaluations, and the most accurate.

    A method is trusted when it agrees, or takes a convention on a kink, and computed the whole.
    What float32 is too coarse for is to be asked in float64.
    """
    agreeing = [m for m in methods if m.verdict in _TRUSTED and m.run is not None]
    trusted = [m for m in agreeing if not m.sampled]
    coarse = [m for m in methods if m.cause is Cause.ROUNDING and m.dtype != DType.FLOAT64.value]
    wider = (_wider(coarse),) if coarse else ()
    if not trusted:
        return wider
    cheapest = {n: min(trusted, key=lambda m: _cost(m, n)) for n in HORIZONS}
    out = []
    grouped: dict[str, list[int]] = {}
    for n, m in cheapest.items():
        grouped.setdefault(m.method, []).append(n)
    for name, horizons in grouped.items():
        best = next(m for m in trusted if m.method == name)
        out.append(_cheap(best, horizons))
    # On an active kink a value is a convention: it has no digits that could be right. Nor has the
    # reference itself.
    known = [m for m in trusted if m.correct_digits is not None]
    # Of equals none is the most accurate, as where the derivative is 0.
    if len(known) == 1 or len({m.correct_digits for m in known}) > 1:
        best = max(known, key=_accuracy)
        parts = [m for m in agreeing if m.sampled and _accuracy(m) > _accuracy(best)]
        out.append(_accurate(best, max(parts, key=_accuracy, default=None)))
    return (*out, *wider)


def _accuracy(m: Judgement) -> tuple[float, float]:
    """By correct digits; of equals the cheaper."""
    return m.correct_digits or 0.0, -_cost(m, 1)


def _cost(m: Judgement, evaluations: int) -> float:
    assert m.run is not None
    return (m.prepare or 0.0) + evaluations * m.run.median


def _cheap(m: Judgement, horizons: Sequence[int]) -> Advice:
    assert m.run is not None
    counts = " and ".join(", ".join(f"{n:,}" for n in horizons).rsplit(", ", 1))
    noun = "evaluation" if list(horizons) == [1] else "evaluations"
    times = "" if m.times_forward is None else f", {_times(m.times_forward)} a forward pass"
    evidence = {
        "prepare": m.prepare or 0.0,
        "run": m.run.median,
        **{f"total_{n}": _cost(m, n) for n in horizons},
    }
    if m.times_forward is not None:
        evidence["times_forward"] = m.times_forward
    agrees = "keeps within the kink" if m.verdict is Verdict.KINK else "agrees"
    return Advice(
        f"for {counts} {noun}, {m.method} is the cheapest that {agrees}: "
        f"{seconds(m.prepare or 0.0)} to prepare, {seconds(m.run.median)} each{times}",
        m.method,
        evidence,
    )


def _accurate(m: Judgement, part: Judgement | None) -> Advice:
    digits = m.correct_digits or 0.0
    among = "" if part is None else " that computed every element"
    also = "" if part is None else f"; {part.method} has {part.correct_digits:.1f} on its sample"
    return Advice(
        f"the most accurate{among} is {m.method}, with {digits:.1f} correct digits{also}",
        m.method,
        {"correct_digits": digits, "max_abs_error": m.max_abs_error or 0.0},
    )


def _wider(coarse: Sequence[Judgement]) -> Advice:
    names = ", ".join(m.method for m in coarse)
    return Advice(
        f"{coarse[0].dtype} is too coarse for {names} here: --dtype float64 computes the same graph"
        " in float64, which agrees",
        coarse[0].method,
        {"max_abs_error": coarse[0].max_abs_error or 0.0},
    )


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}×" if ratio >= 9.95 else f"{ratio:.1f}×"


def seconds(t: float) -> str:
    """A time for people: three digits and a unit."""
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if t >= unit:
            return f"{t / unit:.3g} {name}"
    return f"{t * 1e9:.3g} ns"
