"""How a comparison is made: all that is not the question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from gradcli import comparison, measure
from gradcli.api.asking import engine
from gradcli.errors import UsageError


@dataclass(frozen=True)
class Settings:
    """How methods are run, what they are held against and how they are judged.

    Attributes:
        methods: Names of methods, in the order of rows; all where it is empty.
        rtol: Relative tolerance; default: by each method's arithmetic and formula.
        atol: Absolute tolerance.
        step: Step of finite differences, relative to max(1, |x|); default: the formula's best.
        runs: Timed runs of each method, fewer where the budget ends first.
        warmup: Untimed runs before those.
        budget: Seconds for everything together.
        reference: See `gradcli.compare`.
        at_kink: Likewise.
        explain: Whether to look at every node by itself.
        sweep: Whether finite differences are taken over many steps as well.
        narrow: Whether those are taken in the problem's own width too.
        elements: Whether every number of the answer is kept, for pictures.

    Raises:
        UsageError: When a name is none that there is, or a number makes no sense.
    """

    methods: tuple[str, ...] = ()
    rtol: float | None = None
    atol: float = 0.0
    step: float | None = None
    runs: int = measure.RUNS
    warmup: int = measure.WARMUP
    budget: float = measure.BUDGET
    reference: measure.References = "auto"
    at_kink: comparison.AtKink = "report"
    explain: bool = False
    sweep: bool = False
    narrow: bool = False
    elements: bool = False

    def __post_init__(self) -> None:
        for name in self.methods:
            engine(name)
        for option, known in (("reference", measure.References), ("at_kink", comparison.AtKink)):
            value, among = getattr(self, option), get_args(known)
            if value not in among:
                raise UsageError(f"{option} is {value!r}", f"one of {', '.join(among)}")
