"""Baselines: what models were, in a file to be kept beside them and read in a difference."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from gradcli import measure
from gradcli.api import Settings
from gradcli.comparison import Block, Comparison, Kept, Record, Snapshot, Speed, snapshot
from gradcli.comparison import elsewhere as differ
from gradcli.comparison.baseline import PRODUCTS, SMALL
from gradcli.deadline import until
from gradcli.engines import ENGINES, Program
from gradcli.engines.base import UNKNOWN, Environment
from gradcli.errors import GradcliError, UsageError
from gradcli.graph import DType
from gradcli.measure import Progress
from gradcli.measure.environment import environment
from gradcli.onnxfile import printable
from gradcli.problem import Problem

VERSION = 1
"""Raised when a field changes its meaning or goes; new fields do not raise it."""

MAX_BYTES = 1 << 26
"""Of a baseline: it is read as a whole."""

SHARE = 0.1
"""The part of a budget that costs may take, and that what is taken at kinks may."""

LONGEST = 1.0
"""Seconds that the turns of one method take at most."""

RESOLVED = 1e-6
"""An element less certain than this, relative to the largest, is one of two slopes."""

ROUNDING = 1e-10
"""What the float64 graph rounds at most, likewise, where no cancellation is looked for."""

ASK_AGAIN = "ask the same again, or save another baseline with --save-baseline"


@dataclass(frozen=True)
class Baseline:
    """What models were.

    Attributes:
        models: By name.
        environment: What all of it was measured with.
    """

    models: Mapping[str, Snapshot]
    environment: Environment = UNKNOWN


# ---- what is kept of one model -------------------------------------------------------------------


def question_of(problem: Problem, settings: Settings) -> dict[str, Any]:
    """What was asked, as plain data: the arrays by a digest."""
    return {
        "operator": problem.operator,
        "wrt": {name: list(problem.shape(name)) for name in problem.wrt},
        "of": {name: list(problem.shape(name)) for name in problem.of},
        "dtype": str(problem.dtype.value),
        "inputs": {name: _digest(array) for name, array in problem.feeds.items()},
        "tangents": {name: _digest(array) for name, array in problem.tangents.items()},
        "cotangents": {name: _digest(array) for name, array in problem.cotangents.items()},
        "straight_through": problem.straight_through,
        "nudged": settings.at_kink == "nudge",
        "step": settings.step,
    }


def _digest(array: np.ndarray) -> str:
    """Of an array's type, shape and numbers, the same on every machine."""
    ordered = np.ascontiguousarray(array)
    little = ordered.astype(ordered.dtype.newbyteorder("<"), copy=False)
    data = little.tobytes() if ordered.dtype.kind != "O" else repr(ordered.tolist()).encode()
    head = f"{ordered.dtype.kind}{ordered.dtype.itemsize}{list(np.shape(array))}".encode()
    return hashlib.sha256(head + data).hexdigest()[:16]


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In what two questions differ; empty where they are the same."""
    said = []
    for key in sorted({*then, *now}):
        a, b = then.get(key), now.get(key)
        if a == b:
            continue
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            names = [name for name in sorted({*a, *b}) if a.get(name) != b.get(name)]
            each = [(f"{key} {printable(str(n))}", a.get(n), b.get(n)) for n in names]
        else:
            each = [(key, a, b)]
        said += [f"{what} is {_told(now)}, and was {_told(then)}" for what, then, now in each]
    return said


def _told(x: Any) -> str:
    if x is None:
        return "absent"
    return "×".join(map(str, x)) or "a scalar" if isinstance(x, list) else printable(str(x))


def keep(
    problem: Problem,
    settings: Settings,
    comparison: Comparison,
    progress: Progress | None = None,
    before: Snapshot | None = None,
) -> Snapshot:
    """What to keep of a comparison, costs measured here and now.

    Args:
        problem: The question.
        settings: How it was answered.
        comparison: The answer, with its elements.
        progress: Called with a few words before each step.
        before: What it is to be held against: costs there are measured, even where that takes long.
    """
    return snapshot(
        by_convention(problem, settings, comparison),
        question_of(problem, settings),
        speeds(problem, settings, timed(comparison, settings), progress, timed_in(before)),
        forward(problem, settings),
    )


def timed(comparison: Comparison, settings: Settings) -> dict[str, float]:
    """Methods whose cost can be measured; by name, the seconds that one answer took."""
    return {
        j.method: j.run.median
        for j in comparison.methods
        if j.status == "computed"
        and j.run is not None
        and not j.sampled
        and j.run.median <= SHARE * settings.budget
    }


def timed_in(before: Snapshot | None) -> tuple[str, ...]:
    """Methods of which a cost was kept."""
    methods = before.methods if before is not None else {}
    return tuple(name for name, record in methods.items() if record.speed is not None)


def by_convention(problem: Problem, settings: Settings, comparison: Comparison) -> Comparison:
    """The comparison, elements that have two slopes at what gradcli takes there, in float64.

    Of these the reference says only between which numbers they lie: no change would be beyond that.
    """
    apart = any(kink.active for kink in comparison.kinks)
    if not apart or not comparison.elements or settings.at_kink == "nudge":
        return comparison
    try:
        with until(time.perf_counter() + SHARE * settings.budget):
            taken = Program(ENGINES["reverse"], replace(problem, dtype=DType.FLOAT64)).run()
    except GradcliError:
        return comparison  # it is in doubt then, and stays so
    blocks = zip(problem.keys, comparison.elements, strict=True)
    return replace(
        comparison, elements=tuple(_taken(block, taken.blocks[key]) for key, block in blocks)
    )


def _taken(block: Block, value: np.ndarray) -> Block:
    size = float(np.max(np.abs(value), initial=0.0))
    loose = ~(block.uncertainty <= RESOLVED * size)
    return replace(
        block,
        truth=np.where(loose, value, block.truth),
        uncertainty=np.where(loose, ROUNDING * size, block.uncertainty),
    )


def speeds(
    problem: Problem,
    settings: Settings,
    methods: Mapping[str, float],
    progress: Progress | None = None,
    needed: Collection[str] = (),
) -> dict[str, Speed]:
    """What these methods cost beside a forward pass.

    Args:
        problem: The question.
        settings: How it is answered.
        methods: By name, the seconds that one answer takes.
        progress: Called with a few words before each step.
        needed: Those that are waited for.
    """
    share = min(LONGEST, SHARE * settings.budget / max(len(methods), 1))
    turns = measure.ratios(
        problem, methods, settings.step, seconds=share, needed=needed, progress=progress
    )
    return {name: _speed(each) for name, each in turns.items()}


def forward(problem: Problem, settings: Settings) -> Speed | None:
    """What a forward pass costs beside a fixed piece of work."""
    turns = measure.forward_ratio(problem, min(LONGEST, SHARE * settings.budget))
    return _speed(turns) if turns else None


def _speed(turns: Sequence[float]) -> Speed:
    return Speed(*(float(f"{measure.percentile(turns, p):.4g}") for p in (0.1, 0.5, 0.9)))


# ---- the file ------------------------------------------------------------------------------------


def elsewhere(baseline: Baseline) -> tuple[str, ...]:
    """In what the machine and the libraries differ that costs there are of."""
    return tuple(map(printable, differ(baseline.environment, environment())))


def same_machine(baseline: Baseline) -> bool:
    """Whether costs there are of this machine and these libraries."""
    return not elsewhere(baseline)


def to_text(models: Mapping[str, Snapshot]) -> str:
    """The file: JSON in which a difference can be read. What it was measured with is told too."""
    content = {
        "gradcli_baseline": VERSION,
        "environment": asdict(environment()),
        "models": {
            name: {
                "sha256": s.sha256,
                "question": s.question,
                "reference": s.reference,
                "derivative": [_block(k) for k in s.derivative],
                "methods": {method: _record(r) for method, r in s.methods.items()},
                "forward": None if s.forward is None else asdict(s.forward),
            }
            for name, s in models.items()
        },
    }
    return _pretty(content) + "\n"


def _block(k: Kept) -> dict[str, Any]:
    values = [None if math.isnan(x) else x for x in k.values]
    return {
        "name": k.name,
        "shape": list(k.shape),
        "known": k.known,
        "norm": k.norm,
        "largest": k.largest,
        "elements" if k.whole else "products": values,
        "uncertainty": list(k.uncertainty),
    }


def _record(r: Record) -> dict[str, Any]:
    return {
        "dtype": r.dtype,
        "error": r.error,
        "uncertainty": r.uncertainty if math.isfinite(r.uncertainty) else None,
        "times_forward": None if r.speed is None else asdict(r.speed),
    }


def _pretty(x: Any, indent: str = "") -> str:
    """JSON with one line for each name, and for each array and table of plain values."""
    inner = indent + "  "
    if isinstance(x, Mapping) and any(isinstance(v, Mapping | list) for v in x.values()):
        lines = [f"{inner}{json.dumps(str(k))}: {_pretty(v, inner)}" for k, v in x.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(x, list) and any(isinstance(v, Mapping | list) for v in x):
        return "[\n" + ",\n".join(inner + _pretty(v, inner) for v in x) + f"\n{indent}]"
    return json.dumps(x, allow_nan=False)


def read(path: Path) -> Baseline:
    """The baseline in a file.

    Raises:
        UsageError: When it cannot be read, or is none.
    """
    shown = printable(str(path))
    again = "save it again with --save-baseline"
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise UsageError(
            f"{shown}: there is no such baseline", f"make it: --save-baseline {shown}"
        ) from error
    except OSError as error:
        raise UsageError(
            f"{shown}: cannot be read ({error.strerror})", "name a file of --save-baseline"
        ) from error
    except ValueError as error:  # a NUL in its name
        raise UsageError(f"{shown}: no file can be called so", "name another") from error
    try:
        if len(data) > MAX_BYTES:
            raise ValueError("it is too large")
        content = json.loads(data)
        version = content.get("gradcli_baseline")
        if type(version) is int and version > VERSION:
            raise UsageError(
                f"{shown}: was saved by a newer gradcli, which writes version {version} of"
                f" baselines; this one reads {VERSION}",
                f"use that gradcli, or {again} of this one",
            )
        return _from(content)
    except GradcliError:
        raise
    except KeyError as error:
        raise UsageError(
            f"{shown}: is no baseline of gradcli (it lacks {printable(str(error))})", again
        ) from error
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UsageError(
            f"{shown}: is no baseline of gradcli ({printable(str(error))})", again
        ) from error


def _from(content: Any) -> Baseline:
    if not isinstance(content, dict) or "gradcli_baseline" not in content:
        raise ValueError("it does not say gradcli_baseline")
    if content["gradcli_baseline"] != VERSION:
        raise ValueError(f"it is of version {content['gradcli_baseline']}, and not {VERSION}")
    known = {f.name for f in fields(Environment)}
    environment = {k: v for k, v in content["environment"].items() if k in known}
    return Baseline(
        {str(name): _snapshot(model) for name, model in content["models"].items()},
        Environment(**environment),
    )


def _snapshot(model: Mapping[str, Any]) -> Snapshot:
    return Snapshot(
        str(model["sha256"]),
        dict(model["question"]),
        str(model["reference"]),
        tuple(_kept(k) for k in model["derivative"]),
        {str(name): _record_of(r) for name, r in model["methods"].items()},
        _speed_of(model.get("forward"), "a forward pass"),
    )


def _kept(k: Mapping[str, Any]) -> Kept:
    whole = "elements" in k
    values = k["elements" if whole else "products"]
    made = Kept(
        str(k["name"]),
        tuple(int(d) for d in k["shape"]),
        str(k["known"]),
        tuple(math.nan if x is None else float(x) for x in values),
        tuple(float(u) for u in k["uncertainty"]),
        float(k["largest"]),
        float(k["norm"]),
        whole,
    )
    whole_size = math.prod(made.shape)
    if len(made.values) != (whole_size if whole else PRODUCTS) or whole != (whole_size <= SMALL):
        raise ValueError(f"block {made.name} has {len(made.values)} numbers of {whole_size}")
    if len(made.values) != len(made.uncertainty):
        raise ValueError(f"block {made.name} has other uncertainties than numbers")
    unknown = any(not math.isfinite(x) for x in made.values)
    if unknown and (made.known == "all" or not whole):
        raise ValueError(f"block {made.name} has numbers that are none")
    if not all(0 <= u < math.inf for u in (*made.uncertainty, made.largest, made.norm)):
        raise ValueError(f"block {made.name} has a size or an uncertainty that can be none")
    return made


def _record_of(r: Mapping[str, Any]) -> Record:
    numbers = [math.inf if x is None else float(x) for x in (r["error"], r["uncertainty"])]
    if not all(x >= 0 for x in numbers):
        raise ValueError(f"a method has the error {numbers[0]}, uncertain by {numbers[1]}")
    return Record(
        DType(r["dtype"]).value,
        None if r["error"] is None else numbers[0],
        numbers[1],
        _speed_of(r["times_forward"], "a method"),
    )


def _speed_of(speed: Mapping[str, Any] | None, what: str) -> Speed | None:
    if speed is None:
        return None
    low, median, high = (float(speed[k]) for k in ("low", "median", "high"))
    if not 0 < low <= median <= high < math.inf:
        raise ValueError(f"{what} costs {low} to {median} to {high}")
    return Speed(low, median, high)
