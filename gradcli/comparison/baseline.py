"""What is kept of a comparison, and what has changed since beyond the uncertainty of both.

Of a derivative with few elements all are kept. Of a larger one, its norms and its inner products
with a few fixed arrays of signs: when the elements change by d, such a product changes by |d|_2 in
the root of its mean square, and that all of them hardly move is as good as impossible (Johnson and
Lindenstrauss, 1984).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from gradcli.comparison.facts import Block, Comparison, Judgement
from gradcli.engines.base import Environment
from gradcli.graph import DType

SMALL = 64
"""Elements of a block up to which each is kept."""

PRODUCTS = 8
"""Inner products that are kept of a larger one."""

SEED = 20_240_229
"""Of the signs. It never changes: kept products are with these."""

SAFETY = 4.0
"""How far two derivatives may be apart, in units of their uncertainties' sum. Those cover 99.9 % of
elements, and of many some are beyond."""

KEPT = 12
"""Significant digits that are kept of a number: what another machine's rounding leaves alone."""

TRIFLE = 1e-11
"""A difference that counts for nothing, relative to the block's largest element or norm."""

ARITHMETIC = 8.0
"""Errors below so many epsilons of a method's arithmetic are chance."""

TENFOLD = 10.0
"""The least change of an error that counts: one digit."""

SAME_MACHINE, OTHER_MACHINE = 1.5, 3.0
"""The least change of a speed ratio that counts, as a factor."""

FORWARD = "a forward pass"
"""What is called so where methods are named."""

YARDSTICK = "times a fixed piece of work"
"""What it is measured in."""

Kind = Literal["derivative", "error", "speed"]


@dataclass(frozen=True)
class Kept:
    """One block of a derivative, or what tells it from others.

    Attributes:
        name: The block: `x`, or `y/x` of a Jacobian.
        shape: Of it.
        known: Which elements are known: `all`, or a digest of them.
        values: Its elements where they are few, NaN where one is not known; else its products.
        uncertainty: Of each of those.
        largest: Its largest element.
        norm: Its Euclidean norm.
        whole: Whether `values` are the elements.
    """

    name: str
    shape: tuple[int, ...]
    known: str
    values: tuple[float, ...]
    uncertainty: tuple[float, ...]
    largest: float
    norm: float
    whole: bool


@dataclass(frozen=True)
class Speed:
    """Processor time of one derivative over that of one forward pass, taken by turns.

    Attributes:
        low: The tenth percentile of the turns.
        median: Of them.
        high: The ninetieth.
    """

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Record:
    """How one method did.

    Attributes:
        dtype: Its arithmetic.
        error: Of its whole answer, relative, in the Euclidean norm; None where not known.
        uncertainty: What is not known of its elements, relative to the largest.
        speed: What it costs; None where that was not measured.
    """

    dtype: str
    error: float | None
    uncertainty: float
    speed: Speed | None = None

    @property
    def floor(self) -> float:
        """The error that means anything at the least."""
        return max(self.uncertainty, ARITHMETIC * DType(self.dtype).eps)


@dataclass(frozen=True)
class Snapshot:
    """What is kept of one comparison.

    Attributes:
        sha256: Of the file's bytes.
        question: What was asked, as plain data: with another question nothing can be compared.
        reference: What the methods were held against.
        derivative: Its blocks.
        methods: How each did, by name.
        forward: What a forward pass costs beside a fixed piece of work; None where not measured.
    """

    sha256: str
    question: Mapping[str, Any]
    reference: str
    derivative: tuple[Kept, ...]
    methods: Mapping[str, Record]
    forward: Speed | None = None

    @property
    def timeless(self) -> Snapshot:
        """Without what depends on the machine."""
        methods = {name: replace(r, speed=None) for name, r in self.methods.items()}
        return replace(self, methods=methods, forward=None)


@dataclass(frozen=True)
class Change:
    """Something that is not what it was, by more than is uncertain.

    Attributes:
        what: A derivative, a method's error, or its speed.
        where: The block, or the method.
        text: It in a sentence.
        was: The number before; of a derivative of many elements, its norm.
        now: The number; of a derivative of many elements, its norm.
        by: How much it changed: of a derivative, the absolute difference; else the factor.
        uncertainty: What it had to exceed, likewise.
        fails: Whether that is a failure. What became better is none.
    """

    what: Kind
    where: str
    text: str
    was: float
    now: float
    by: float
    uncertainty: float
    fails: bool = True


# ---- what is kept --------------------------------------------------------------------------------


def snapshot(
    comparison: Comparison,
    question: Mapping[str, Any],
    speeds: Mapping[str, Speed],
    forward: Speed | None = None,
) -> Snapshot:
    """What to keep of a comparison.

    Args:
        comparison: With its elements.
        question: What was asked, as plain data.
        speeds: By method, where they were measured.
        forward: Of a forward pass.
    """
    size = max((_largest(block) for block in comparison.elements), default=0.0)
    return Snapshot(
        comparison.subject.sha256,
        question,
        comparison.reference.kind,
        tuple(kept(block) for block in comparison.elements),
        {
            j.method: _record(j, size, speeds.get(j.method))
            for j in comparison.methods
            if j.status == "computed"
        },
        forward,
    )


def kept(block: Block) -> Kept:
    """What to keep of one block."""
    known = np.isfinite(block.truth) & np.isfinite(block.uncertainty)
    value = np.where(known, block.truth, 0.0).ravel()
    u = np.where(known, block.uncertainty, 0.0).ravel()
    digest = hashlib.sha256(np.packbits(known).tobytes()).hexdigest()[:16]
    name, shape = block.name, (*block.of, *block.wrt)
    whole = value.size <= SMALL
    if whole:
        values = np.where(known.ravel(), value, np.nan)
    else:
        values = np.array([sign @ value for sign in _signs(value.size)])
        u = np.full(PRODUCTS, float(u.sum()))
    return Kept(
        name,
        shape,
        "all" if np.all(known) else digest,
        tuple(map(rounded, values.tolist())),
        tuple(float(f"{x:.1e}") for x in u.tolist()),
        rounded(float(np.max(np.abs(value), initial=0.0))),
        rounded(float(np.linalg.norm(value))),
        whole,
    )


def rounded(x: float) -> float:
    """A number to as many digits as are kept."""
    return float(f"{x:.{KEPT - 1}e}")


def _signs(size: int) -> Iterator[np.ndarray]:
    """Arrays of -1 and 1, the same ones for ever: NumPy keeps the bits of its generators."""
    bits = np.random.PCG64(SEED)
    for _ in range(PRODUCTS):
        words = np.asarray(bits.random_raw(-(-size // 64)), "<u8")
        yield np.unpackbits(words.view(np.uint8))[:size] * 2.0 - 1.0


def _largest(block: Block) -> float:
    finite = np.abs(block.truth[np.isfinite(block.truth)])
    return float(np.max(finite, initial=0.0))


def _record(j: Judgement, size: float, speed: Speed | None) -> Record:
    error = None if j.correct_digits is None else float(f"{10.0**-j.correct_digits:.2e}")
    u = j.uncertainty if j.uncertainty is not None else math.inf
    relative = u / size if size > 0 else 0.0
    return Record(j.dtype, error, float(f"{relative:.1e}"), speed)


# ---- what has changed ----------------------------------------------------------------------------


def changes(before: Snapshot, after: Snapshot, *, same_machine: bool = True) -> tuple[Change, ...]:
    """All that is not what it was, the derivative first.

    Args:
        before: What was kept.
        after: To the same question.
        same_machine: Whether speeds are of one machine and one set of libraries.
    """
    found: list[Change] = []
    then = {k.name: k for k in before.derivative}
    for now in after.derivative:
        if now.name in then and _comparable(then[now.name], now):
            found += _of_block(then[now.name], now)
    least = SAME_MACHINE if same_machine else OTHER_MACHINE
    for name, record in after.methods.items():
        if name in before.methods:
            found += _of_error(name, before.methods[name], record)
            pair = (before.methods[name].speed, record.speed)
            found += _of_speed(name, *pair, least, "forward passes")
    # The same file takes as long as it did, and what machines do best differs between them.
    if before.sha256 != after.sha256 and same_machine:
        found += _of_speed(FORWARD, before.forward, after.forward, least, YARDSTICK)
    return tuple(found)


def uncompared(before: Snapshot, after: Snapshot) -> tuple[str, ...]:
    """Names of the blocks of which not all that was known then is held against what is now."""
    now = {k.name: k for k in after.derivative}
    return tuple(
        then.name
        for then in before.derivative
        if then.name not in now
        or not _comparable(then, now[then.name])
        or np.any(np.isnan(now[then.name].values) & ~np.isnan(then.values))
    )


def beside(before: Snapshot, after: Snapshot) -> tuple[str, ...]:
    """What else is to be said: what could not be compared, and whether the file is the same."""
    said = []
    if other := uncompared(before, after):
        said.append(
            f"{', '.join(other)}: not all of it could be compared, because other elements are known"
            " now than then; with a larger budget all may be known"
        )
    if before.sha256 != after.sha256:
        moved = any(change.what == "derivative" for change in changes(before, after))
        same = "" if moved or other else "; at this point its derivative is what it was"
        said.append(
            f"the file is another one: sha256 {after.sha256[:12]}, and was {before.sha256[:12]}"
            f"{same}"
        )
    if gone := [name for name in before.methods if name not in after.methods]:
        said.append(f"not computed now, and then: {', '.join(gone)}")
    slow = [n for n, r in before.methods.items() if r.speed and n in after.methods]
    if untimed := [name for name in slow if after.methods[name].speed is None]:
        said.append(f"too slow now for its cost to be measured: {', '.join(untimed)}")
    if new := [name for name in after.methods if name not in before.methods]:
        said.append(f"computed now, and not then: {', '.join(new)}")
    return tuple(said)


def elsewhere(then: Environment, now: Environment) -> tuple[str, ...]:
    """In what machines and libraries differ that speeds depend on; empty where they are alike."""
    names = ("cpu", "machine", "cores", "onnxruntime", "numpy", "python", "gradcli")
    pairs = [(name, getattr(then, name), getattr(now, name)) for name in names]
    return tuple(f"{name} was {a} and is {b}" for name, a, b in pairs if str(a) != str(b))


def succeeded(before: Snapshot, after: Snapshot) -> Snapshot:
    """What to save in the place of an older one to the same question, on the same machine.

    Where nothing has changed beyond its uncertainty that is the older one: many small losses then
    add up to one that is found, and do not each become the new normal.
    """
    alike = (
        before.question == after.question
        and before.reference == after.reference
        and before.methods.keys() == after.methods.keys()
        and [(k.name, k.known) for k in before.derivative]
        == [(k.name, k.known) for k in after.derivative]
    )
    if not alike or changes(before, after):
        return after
    return replace(before, sha256=after.sha256)


def _comparable(then: Kept, now: Kept) -> bool:
    """Whether two blocks' numbers are of the same; of elements, those that both know."""
    return then.shape == now.shape and (then.known == now.known or (then.whole and now.whole))


def _of_block(then: Kept, now: Kept) -> Iterator[Change]:
    a, b = np.array(then.values), np.array(now.values)
    trifle = TRIFLE * max(then.largest if now.whole else then.norm, 0.0)
    u = SAFETY * (np.array(then.uncertainty) + np.array(now.uncertainty)) + trifle
    gap = np.where(np.isnan(a) | np.isnan(b), 0.0, np.abs(b - a))
    off = gap > u
    if not np.any(off):
        return
    if not now.whole:
        by = float(np.sqrt(np.mean(gap**2)))
        relative = f"{by / then.norm:.1e} of its norm" if then.norm else f"{by:.1e}"
        text = (
            f"the derivative {now.name} changed by about {relative}, in {PRODUCTS} products with"
            f" random signs; {_share(float(u[0]), then.norm)} is uncertain"
        )
        yield Change("derivative", now.name, text, then.norm, now.norm, by, float(u[0]))
        return
    k = int(np.argmax(gap / np.maximum(u, np.finfo(float).tiny)))
    at = ", ".join(str(i) for i in np.unravel_index(k, now.shape))
    where = f"{now.name}[{at}]" if at else now.name
    text = (
        f"the derivative {where} is {b[k]:.9g} and was {a[k]:.9g}: it changed by {gap[k]:.1e}, and"
        f" {u[k]:.1e} is uncertain; {int(off.sum())} of {off.size} elements changed"
    )
    yield Change("derivative", where, text, a[k], b[k], float(gap[k]), float(u[k]))


def _share(u: float, norm: float) -> str:
    return f"{u / norm:.1e} of it" if norm else f"{u:.1e}"


def _of_error(name: str, then: Record, now: Record) -> Iterator[Change]:
    if then.error is None or now.error is None:
        return
    floor = max(then.floor, now.floor)
    a, b = max(then.error, floor), max(now.error, floor)
    if not math.isfinite(floor) or max(a, b) <= TENFOLD * min(a, b):
        return
    worse = b > a
    text = (
        f"{name} has {_digits(now.error)} correct digits and had {_digits(then.error)}: its error"
        f" is {now.error:.1e} and was {then.error:.1e}, and {floor:.1e} of it is uncertain"
    )
    yield Change("error", name, text, then.error, now.error, b / a, TENFOLD, fails=worse)


def _digits(error: float) -> str:
    return f"{-math.log10(error):.1f}" if error > 0 else "all"


def _of_speed(
    name: str, then: Speed | None, now: Speed | None, least: float, unit: str
) -> Iterator[Change]:
    if then is None or now is None:
        return
    slower = now.median > least * then.median and now.low > then.high
    faster = then.median > least * now.median and then.low > now.high
    if not slower and not faster:
        return
    text = (
        f"{name} costs {_ratio(now)} {unit} and cost {_ratio(then)}: changes of less than"
        f" {least:g} times count for nothing"
    )
    by = now.median / then.median
    yield Change("speed", name, text, then.median, now.median, by, least, fails=slower)


def _ratio(s: Speed) -> str:
    return f"{s.median:.3g} ({s.low:.3g} to {s.high:.3g})"
