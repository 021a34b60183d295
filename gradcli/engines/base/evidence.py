"""Everything measured about one problem: what a judge needs, and no judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gradcli.engines.base.certificate import Certificate
from gradcli.engines.base.environment import UNKNOWN, Environment
from gradcli.engines.base.outcome import Outcome, Times
from gradcli.engines.base.program import Arrays, Estimate, Probes
from gradcli.engines.base.sides import Fans, Sides
from gradcli.engines.base.swept import Swept
from gradcli.engines.base.unsteady import Unsteady
from gradcli.engines.base.watch import Survey
from gradcli.problem import Problem


@dataclass(frozen=True)
class Nearby:
    """The primal at another point, a little way off.

    Attributes:
        file_primal: `of` by onnxruntime on the file's original bytes, and inner values by name.
        exact_primal: The same by the float64 interpreter.
        noise: Three standard deviations of the rounding errors of `file_primal`.
        steps: Whether the function rounds somewhere: where that ties, a point proves nothing.
    """

    file_primal: Arrays
    exact_primal: Arrays
    noise: Arrays
    steps: bool = False


@dataclass(frozen=True)
class Rounding:
    """How large rounding errors are in a graph, by its results under random ones in every node.

    Attributes:
        double: Three standard deviations, of relative errors of one float64 epsilon.
        narrow: Likewise, of one float32 epsilon.

    Either is None where it was not measured.
    """

    double: Estimate | None = None
    narrow: Estimate | None = None


@dataclass(frozen=True)
class Evidence:
    """What `measure` found.

    Attributes:
        problem: The question.
        outcomes: One a method, in the order asked.
        file_primal: `of` by onnxruntime on the file's original bytes; empty when that failed.
        exact_primal: `of` by the float64 interpreter.
        forward: Times of onnxruntime's forward pass on the original bytes.
        primal_reason: Why there is no `file_primal`.
        reference: The float64 reverse graph, for a jvp of many outputs the forward one; its
            uncertainty is three standard deviations of its results under random relative errors of
            one float64 epsilon in every node.
        witness: The rule-free method that is to confirm it.
        rounding: Three standard deviations of the reverse graph's results under random relative
            errors of one float32 epsilon in every node: how large such rounding errors are here.
        roundings: Of methods whose errors that, and what the reference tells of float64, do not
            explain: the rounding errors of their own graphs.
        twins: Methods of narrow width, the same graphs in float64.
        survey: Kinks and domain edges near the point.
        sides: One-sided derivatives, where the point lies on a kink.
        probes: The sample, when the witness or any method was not computed whole.
        notes: What did not fit.
        certificate: What is certain of the answer; None where nothing is.
        uncertified: Why nothing is.
        primal_noise: Three standard deviations of the rounding errors of `file_primal`; None when
            not measured.
        exact_noise: Likewise, of `exact_primal`; None when no difference was asked for either.
        unsteady: What of `file_primal` came out otherwise when it was run again, or on more or
            fewer threads.
        swept: Finite differences over many steps, one for each arithmetic, where that was asked.
        unswept: Why there are none although it was.
        unfinished: Methods that were asked for and are not among the outcomes yet.
        environment: What it was measured with.
        fans: What conventions may compose to; None where no tie matters, or nobody looked.
        nearby: The primal at points a little way off, where there was time for it.
    """

    problem: Problem
    outcomes: tuple[Outcome, ...]
    file_primal: Arrays
    exact_primal: Arrays
    forward: Times | None
    primal_reason: str
    reference: Outcome
    witness: Outcome
    rounding: Estimate | None
    twins: Mapping[str, Estimate]
    survey: Survey
    sides: Sides | None
    probes: Probes | None
    notes: tuple[str, ...] = ()
    primal_noise: Arrays | None = None
    certificate: Certificate | None = None
    uncertified: str = ""
    unsteady: tuple[Unsteady, ...] = ()
    swept: tuple[Swept, ...] = ()
    unswept: str = ""
    unfinished: tuple[str, ...] = ()
    environment: Environment = UNKNOWN
    fans: Fans | None = None
    nearby: tuple[Nearby, ...] = ()
    exact_noise: Arrays | None = None
    roundings: Mapping[str, Rounding] = field(default_factory=dict)

    def rounding_of(self, method: str) -> Rounding:
        """How large rounding errors are in a method's graph, as far as known the reference's."""
        if method in self.roundings:
            return self.roundings[method]
        made = self.reference.estimate
        spread = Estimate(made.uncertainty, made.known) if made and made.uncertainty else None
        return Rounding(spread, self.rounding)
