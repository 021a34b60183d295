"""The answer to a question, complete and unrounded: what every report format is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from gradcli.engines.base import UNKNOWN, Environment, Times, Unsteady
from gradcli.ops.peers import Taken


class Verdict(StrEnum):
    """What can be said of a method, an output, an element."""

    AGREE = "AGREE"
    DISAGREE = "DISAGREE"
    KINK = "KINK"
    STAIRCASE = "STAIRCASE"
    INCONCLUSIVE = "INCONCLUSIVE"


class Cause(StrEnum):
    """Why a method disagrees."""

    RULE = "rule"
    """Its derivative is wrong in exact arithmetic too."""
    RUNTIME = "runtime"
    """The same graph in float64 agrees, and rounding does not explain the difference: a kernel."""
    ROUNDING = "rounding"
    """The same graph in float64 agrees; the narrow arithmetic is too coarse here."""
    STEP = "step"
    """A finite-difference step too long or too short, by its own estimate."""


@dataclass(frozen=True)
class Subject:
    """What was differentiated.

    Attributes:
        path: The model file, printable.
        sha256: Of the file's bytes.
        operator: gradient, jacobian, jvp or vjp.
        wrt: Shapes by name of what it was differentiated with respect to.
        of: Shapes by name of what was differentiated.
        dtype: Width in which forward and reverse computed.
        nodes: Operators between wrt and of.
        parameters: Numbers in constants between them.
        seed: Of all random choices.
        threads: Given to onnxruntime.
        provider: onnxruntime's execution provider.
        rtol: Relative tolerance by method dtype, e.g. {"float32": 3e-3, "float64": 1e-6}.
        atol: Absolute tolerance.
    """

    path: str
    sha256: str
    operator: str
    wrt: Mapping[str, tuple[int, ...]]
    of: Mapping[str, tuple[int, ...]]
    dtype: str
    nodes: int
    parameters: int
    seed: int
    threads: int
    provider: str
    rtol: Mapping[str, float]
    atol: float


@dataclass(frozen=True)
class Primal:
    """Whether gradcli computes the same function as the file.

    Attributes:
        matches: Whether onnxruntime on the original bytes and the float64 interpreter agree.
        max_abs_error: Their largest difference.
        max_rel_error: Relative to the largest output.
        output: The output tensor where it is largest.
        forward: Times of onnxruntime's forward pass on the original bytes.
        reason: Why it could not be compared, or what differs.
    """

    matches: bool
    max_abs_error: float
    max_rel_error: float
    output: str = ""
    forward: Times | None = None
    reason: str = ""


@dataclass(frozen=True)
class Reference:
    """What the methods were held against.

    Attributes:
        kind: `certified`; `float64-reverse`, for a jvp of many outputs `float64-forward`; or the
            witness's name where that was withdrawn or unavailable, or `none`.
        witness: The rule-free method that confirmed it.
        confirmed: Elements that the witness looked at.
        elements: Elements of the whole answer.
        reason: Why the float64 reverse graph was withdrawn, or why there is no reference.
        bits: Of a certified one: the precision that it took.
        digits: Of a certified one: those of its least certain element, which is not 0; infinite
            where it is exact.
        below: Of a certified one: elements of which it is certain only that they are nothing beside
            the largest.
        opened: Of a certified one: nodes where it is open which way a choice goes.
        uncertified: Why it is not certified; empty where that was not asked for.
    """

    kind: str
    witness: str
    confirmed: int
    elements: int
    reason: str = ""
    bits: int = 0
    digits: float = 0.0
    below: int = 0
    opened: tuple[str, ...] = ()
    uncertified: str = ""


@dataclass(frozen=True)
class Worst:
    """The element where a method is furthest off, in units of its band.

    On a kink, the element where the derivative jumps most: the same one for every method.

    Attributes:
        name: The block: `x`, or `y/x` of a Jacobian.
        index: Within the block; empty for a sampled direction.
        value: The method's.
        reference: The reference's.
        node: The user's node to look at, where known.
        sides: On a kink, the one-sided derivatives there, from below and from above.
    """

    name: str
    index: tuple[int, ...]
    value: float
    reference: float
    node: str = ""
    sides: tuple[float, float] | None = None


@dataclass(frozen=True)
class Part:
    """One method's numbers of one block: of one output with respect to one input.

    Attributes:
        name: The block: `x`, or `y/x` of a Jacobian.
        verdict: Of it.
        cause: Why it disagrees.
        counts: Elements by verdict.
        max_abs_error: As of the whole, and so on.
        max_rel_error: Likewise.
        correct_digits: Likewise.
        uncertainty: Likewise.
        zero: Elements that are zero within u.
        needed_rtol: Likewise.
    """

    name: str
    verdict: Verdict
    cause: Cause | None
    counts: Mapping[str, int]
    max_abs_error: float | None
    max_rel_error: float | None
    correct_digits: float | None
    uncertainty: float | None
    zero: int
    needed_rtol: float | None


@dataclass(frozen=True)
class Judgement:
    """One method's row.

    Attributes:
        method: Its name.
        status: `computed`, `skipped` or `failed`.
        reason: Why, when not computed.
        level: The way it took, where there are several.
        dtype: Its arithmetic.
        verdict: None when not computed, and of a derivative without elements.
        cause: Why it disagrees.
        detail: The cause in a sentence.
        max_abs_error: Against the reference.
        max_rel_error: Over the elements where the reference exceeds its uncertainty; None where
            there is no such element ("zero within u").
        correct_digits: -log10 of the norm-wise relative error, at most 17; None when unknown.
        uncertainty: The largest u of its elements (its own and the reference's).
        worst: Where it is furthest off.
        counts: Elements by verdict.
        zero: Elements whose reference is zero within u; they have no relative error.
        rtol: The relative tolerance that it was held to; None where it was not judged.
        needed_rtol: The smallest with which all its elements would agree, those on kinks and
            staircases aside; infinite where none would do.
        parts: The same of each output with respect to each input.
        prepare: Seconds.
        run: Times of whole answers, or of a sample.
        times_forward: Median run over the median forward pass.
        evaluations: Directions in one run.
        sampled: Whether only a sample was computed.
        notes: Oddities.
    """

    method: str
    status: str
    reason: str = ""
    level: str = ""
    dtype: str = ""
    verdict: Verdict | None = None
    cause: Cause | None = None
    detail: str = ""
    max_abs_error: float | None = None
    max_rel_error: float | None = None
    correct_digits: float | None = None
    uncertainty: float | None = None
    worst: Worst | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    zero: int = 0
    rtol: float | None = None
    needed_rtol: float | None = None
    parts: tuple[Part, ...] = ()
    prepare: float | None = None
    run: Times | None = None
    times_forward: float | None = None
    evaluations: int = 0
    sampled: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Jump:
    """The element of the answer where the derivative jumps most.

    Attributes:
        name: The block: `x`, or `y/x` of a Jacobian.
        index: Within the block.
        below: The derivative just behind the point, along that coordinate; of a jvp, the tangent.
        above: Just ahead of it.
        certified: Whether both are enclosed.
    """

    name: str
    index: tuple[int, ...]
    below: float
    above: float
    certified: bool


@dataclass(frozen=True)
class KinkAt:
    """A place near which the derivative jumps, or a domain edge.

    Attributes:
        node: The user's node.
        op: Its operator.
        index: The element of the node's operand or result.
        margin: How far the point is from the kink, in units of the operand, by float64; 0 on it.
        active: Whether what was asked for has two slopes because of it: whether it changes when
            this node alone goes to its other side; None when not decided.
        convention: What gradcli's rules take there.
        kind: `kink`, `edge` or `lost`; see `engines.base.Near`.
        what: For an edge: what lies there. Of what is lost: what becomes of it.
        decided: What exact arithmetic says: `on` it exactly, `off` it whatever float64 says, or
            `open`, a tie that is not excluded; empty where it was not asked.
        within: Where that is `off`, how far it really is; where `open`, at most.
        taken: What gradcli, PyTorch and JAX take for the slope of this operator.
        jump: On an active kink: where the derivative jumps most, and its two sides.
        ties: How many elements of the node are on a kink.
        many: How many of those matter.
        certified: Whether balls, and not only float64, say whether it is active.
        operand: Of an edge: the tensor that comes to it. Of what is lost: that it is made of.
        todo: Of either: what helps.
    """

    node: str
    op: str
    index: tuple[int, ...]
    margin: float
    active: bool | None
    convention: str
    kind: str = "kink"
    what: str = ""
    decided: str = ""
    within: float = 0.0
    taken: tuple[Taken, ...] = ()
    jump: Jump | None = None
    ties: int = 1
    many: int = 0
    certified: bool = False
    operand: str = ""
    todo: str = ""

    @property
    def touched(self) -> bool:
        """Whether the point lies on it in float64 or exactly, or may do so."""
        return self.margin == 0 or self.decided in ("on", "open")


@dataclass(frozen=True)
class Room:
    """How far an input may be moved before it meets a kink, to first order.

    Attributes:
        wrt: The input.
        distance: The length of the way, elements taken as coordinates.
        node: The user's node.
        op: Its operator.
        index: The element of the node's operand or result.
        margin: How far that is from the kink, in units of the operand.
        estimated: Whether another kink may be nearer: there were too many to look at each.
    """

    wrt: str
    distance: float
    node: str
    op: str
    index: tuple[int, ...]
    margin: float
    estimated: bool = False


@dataclass(frozen=True)
class Advice:
    """A recommendation and what it rests on.

    Attributes:
        text: A sentence.
        method: The method recommended, or empty.
        evidence: The measured numbers behind it, by name, raw.
    """

    text: str
    method: str
    evidence: Mapping[str, float]


class What(StrEnum):
    """What a node is to the error of a derivative."""

    RULE = "wrong rule"
    """A method's derivative of the node is wrong in exact arithmetic too."""
    KERNEL = "wrong kernel"
    """onnxruntime's result, or its derivative's, is off by more than rounding explains."""
    EDGE = "domain edge"
    """The node is exactly where its function ends, or its slope is infinite."""
    KINK = "kink"
    """The node is on a kink that makes two slopes of the answer: a convention decides."""
    STAIRCASE = "staircase"
    """Its result moves by jumps: no derivative leaves it."""
    CANCELLATION = "cancellation"
    """Its terms cancel: of their digits its result keeps few."""
    ROUNDING = "rounding"
    """It rounds as it must."""
    EXACT = "exact"
    """It adds no error."""


@dataclass(frozen=True)
class Blame:
    """What one node does to the answer, looked at by itself, on the operands that it has.

    Attributes:
        node: The user's node.
        op: Its operator.
        inner: Of what it is made of, the operator that is worst, where that is another one.
        what: What it is.
        todo: What to do about it.
        ulps: The largest error of its result by onnxruntime, in units of the last place.
        condition: How much larger a relative error its result has than its operands, as much as
            the answer hangs on each element.
        errors: By method, of its derivative of this node alone: the relative error along random
            directions, in its own arithmetic.
        exact: By method: likewise in exact arithmetic; None where that was not decided.
        shares: By method: the part of its error that this node adds; negative where it takes away.
        held: What it was held against: `balls` or `float64`.
    """

    node: str
    op: str
    inner: str
    what: What
    todo: str
    ulps: float
    condition: float
    errors: Mapping[str, float]
    exact: Mapping[str, float | None]
    shares: Mapping[str, float | None]
    held: str


@dataclass(frozen=True)
class Explanation:
    """Where the error of one element of the answer comes from.

    Attributes:
        of: The element.
        method: The method whose error is largest there; `outputs` where it is the primal that
            does not match, and is explained.
        errors: By method: its error there.
        explained: By method: the part of that which the nodes add up to, to first order; None
            where not known.
        nodes: Every node, worst first.
        left: Operators that there was no time for.
        notes: What could not be done.
        looked: Operators that were looked at, those included that nodes are written out in.
    """

    of: str
    method: str
    errors: Mapping[str, float | None]
    explained: Mapping[str, float | None]
    nodes: tuple[Blame, ...]
    left: int = 0
    notes: tuple[str, ...] = ()
    looked: int = 0


@dataclass(frozen=True)
class SweepPoint:
    """The errors of finite differences at one step.

    Each is that of the worst element, relative to the largest one; NaN where there is none.

    Attributes:
        step: Relative to max(1, |x|).
        forward: Of (f(x + h v) - f(x)) / h, along coordinates, or the only direction there is.
        forward_along: Likewise, along a random direction besides; NaN where that is the only one.
        central: Of (f(x + h v) - f(x - h v)) / 2h, along coordinates.
        central_along: Likewise, along a random direction.
        ahead: Whether, in any direction, a kink lies between x and x + h v.
        behind: Whether one lies between x and x - h v.
    """

    step: float
    forward: float
    forward_along: float
    central: float
    central_along: float
    ahead: bool
    behind: bool


@dataclass(frozen=True)
class Formula:
    """What a sweep says of one of the two formulas.

    Attributes:
        method: `finite-forward` or `finite-central`.
        best_step: The step of the smallest error; None where there is no error to be known.
        best_error: That error.
        textbook_step: The step that is always taken: a root of epsilon.
        textbook_error: Its error.
        order: The power of h by which errors of longer steps fall; None where that is not seen.
        kink: The shortest step that crosses a kink; None where none does.
    """

    method: str
    best_step: float | None
    best_error: float | None
    textbook_step: float
    textbook_error: float
    order: float | None
    kink: float | None


@dataclass(frozen=True)
class Sweep:
    """The error of finite differences against the step, in one arithmetic.

    Attributes:
        dtype: Of the arithmetic.
        directions: Coordinates that were gone along; 1, the tangent, for a jvp; 0 where there was
            time for the random direction only, and errors are of that.
        along: Random directions besides.
        elements: Elements of the answer that errors are of.
        size: The largest of them: what errors are relative to.
        floor: The reference's uncertainty, relative: errors below it are not known.
        noise: The rounding error of the function, relative, as it is over a step of 1: over h it is
            1 / h of that.
        ladder_step: The shortest step that the ladder of steps used, in the geometric mean of the
            elements; None where every step crosses a kink.
        ladder_error: The ladder's error.
        formulas: What is said of each.
        points: All of them, from long steps to short ones.
        sparse: Whether one direction takes so long that there are few steps, and in the ladder's
            place the central difference that agrees best with its neighbours.
    """

    dtype: str
    directions: int
    along: int
    elements: int
    size: float
    floor: float
    noise: float
    ladder_step: float | None
    ladder_error: float | None
    formulas: tuple[Formula, ...]
    points: tuple[SweepPoint, ...]
    sparse: bool = False


@dataclass(frozen=True, eq=False)
class Block:
    """Every element of one output's derivative with respect to one input.

    Attributes:
        name: The block: `x`, or `y/x` of a Jacobian.
        of: The output's shape; empty where the operator has no such axes.
        wrt: Likewise, the input's.
        truth: The reference, of the shape of both after each other; NaN where it is not known.
        uncertainty: Likewise, its uncertainty.
        values: What each method that computed something says; NaN where it did not.
    """

    name: str
    of: tuple[int, ...]
    wrt: tuple[int, ...]
    truth: np.ndarray
    uncertainty: np.ndarray
    values: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class At:
    """A comparison at one of several points.

    Attributes:
        label: Which point it is, in words.
        comparison: What came of it there.
    """

    label: str
    comparison: Comparison


@dataclass(frozen=True)
class Comparison:
    """The whole answer.

    Attributes:
        subject: What was differentiated.
        primal: Whether the function itself matches.
        reference: What methods were held against.
        methods: One judgement a method, in the order asked.
        kinks: Kinks and domain edges at or near the point.
        advice: Which method to use.
        notes: What was completed, sampled or odd.
        counts: Methods by verdict, and `skipped` and `failed`.
        verdict: Of the whole.
        exit_code: 0, 1 or 3; 70 when a method broke and none disagrees.
        unsteady: Programs whose results differ from run to run, or with the number of threads.
        room: How far each input may be moved before it meets a kink, where that is known.
        explanation: Node by node, where the error comes from; None where that was not asked for.
        sweeps: Finite differences over many steps, one for each arithmetic, where that was asked.
        unfinished: Methods that were asked for and are not done yet, or were interrupted.
        environment: What everything was measured with.
        points: Where it was asked at several points: what came of each. This is the worst of them.
        worst_point: Which of them this is.
        elements: Every number of the answer, for whoever draws it; empty where they were not asked
            to be kept.
    """

    subject: Subject
    primal: Primal
    reference: Reference
    methods: tuple[Judgement, ...]
    kinks: tuple[KinkAt, ...]
    advice: tuple[Advice, ...]
    notes: tuple[str, ...]
    counts: Mapping[str, int]
    verdict: Verdict
    exit_code: int
    unsteady: tuple[Unsteady, ...] = ()
    room: tuple[Room, ...] = ()
    explanation: Explanation | None = None
    sweeps: tuple[Sweep, ...] = ()
    unfinished: tuple[str, ...] = ()
    environment: Environment = UNKNOWN
    points: tuple[At, ...] = ()
    worst_point: int = 0
    elements: tuple[Block, ...] = field(default=(), repr=False, compare=False)
