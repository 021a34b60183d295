"""What came of running a method: facts, no judgement."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Literal

from gradcli.engines.base.program import Estimate
from gradcli.engines.base.unsteady import Unsteady
from gradcli.graph import DType


@dataclass(frozen=True)
class Times:
    """Repeated wall-clock times of one thing, in seconds."""

    times: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.times)

    @property
    def mean(self) -> float:
        """The average."""
        return statistics.fmean(self.times)

    @property
    def stddev(self) -> float:
        """The sample standard deviation; 0 for a single run."""
        return statistics.stdev(self.times) if len(self.times) > 1 else 0.0


@dataclass(frozen=True)
class Outcome:
    """One method's run on one problem.

    Attributes:
        method: The engine's name.
        status: `computed`, `skipped` (out of its depth or of budget) or `failed` (it broke).
        reason: Why, when not computed.
        estimate: What it says the derivative is.
        level: For a method with several ways: the one it took.
        dtype: The arithmetic it computed in.
        prepare: Seconds of preparation.
        run: Times of whole answers; of a sample when `sampled`.
        evaluations: Directions pushed or pulled in one run.
        sampled: Whether only a sample was computed.
        unsteady: What came out otherwise when it was run again, or on more or fewer threads.
        reach: The accuracy that its formula of a difference comes to at its best step; 0 for other
            methods. Where the step is the user's nothing is said of it beyond that it is one.
    """

    method: str
    status: Literal["computed", "skipped", "failed"]
    reason: str = ""
    estimate: Estimate | None = None
    level: str = ""
    dtype: DType = DType.FLOAT64
    prepare: float = 0.0
    run: Times | None = None
    evaluations: int = 0
    sampled: bool = False
    unsteady: tuple[Unsteady, ...] = ()
    reach: float = 0.0
