"""Comparisons made by hand, with times injected: what the reports are tested on."""

from __future__ import annotations

import math
from dataclasses import replace

from gradcli.comparison import (
    Advice,
    At,
    Blame,
    Cause,
    Comparison,
    Explanation,
    Formula,
    Judgement,
    Jump,
    KinkAt,
    Part,
    Primal,
    Reference,
    Room,
    Subject,
    Sweep,
    SweepPoint,
    Verdict,
    What,
    Worst,
    worst_of,
)
from gradcli.engines.base import Environment, Times, Unsteady
from gradcli.ops.peers import Taken

MACHINE = Environment(
    *("1.2.3", "CPython 3.13.1", "1.32.0", "2.3.0", "1.21.0", "0.9.0"),
    *("Linux-6.1-x86_64", "x86_64", "A CPU @ 2.00GHz", 2),
)
"""What they were made with."""


def smooth() -> Comparison:
    """Everything agrees, on a tiny network."""
    return Comparison(
        subject=Subject(
            path="sample_models/physics.onnx",
            sha256="8f14e45fceea167a5a36dedd4bea2543" * 2,
            operator="gradient",
            wrt={"xt": (1, 2)},
            of={"u": (1, 1)},
            dtype="float32",
            nodes=5,
            parameters=25,
            seed=0,
            threads=1,
            provider="CPUExecutionProvider",
            rtol={"float32": 3e-3, "float64": 1e-6},
            atol=0.0,
        ),
        primal=Primal(True, 2.9e-8, 1.2e-7, "u", Times((9.1e-6, 9.3e-6, 8.8e-6))),
        reference=Reference("float64-reverse", "complex-step", 2, 2),
        methods=(
            agreeing("forward", "float32", 7.02, 1.1e-7, 2.4e-8, 3.2e-3, 1.83e-5, 2.01, 2),
            agreeing("reverse", "float32", 6.9, 1.3e-7, 2.4e-8, 4.1e-3, 1.21e-5, 1.33, 1),
            agreeing("symbolic", "float64", 16.2, 1e-16, 1e-16, 1.8, 3.9e-5, 4.29, 1, "expanded"),
            agreeing("finite-forward", "float64", 7.4, 4.1e-8, 1e-7, 4e-4, 2.2e-4, 24.2, 2),
            agreeing("finite-central", "float64", 10.1, 8e-11, 2e-10, 4e-4, 4.4e-4, 48.4, 2),
            agreeing("finite", "float64", 11.9, 1.2e-12, 3e-12, 4e-4, 3.1e-3, 340.7, 2),
            agreeing("complex-step", "float64", 15.9, 1.2e-16, 2e-16, 4e-4, 3e-4, 33.0, 2),
        ),
        kinks=(),
        advice=(
            Advice(
                "for 1 evaluation: finite-forward, 7.4 digits in 620 µs with its preparation",
                "finite-forward",
                {"evaluations": 1, "total": 6.2e-4},
            ),
            Advice(
                "for 1,000,000 evaluations: reverse, 6.9 digits at 1.3× a forward pass",
                "reverse",
                {"evaluations": 1e6, "total": 12.1},
            ),
        ),
        notes=(),
        counts={"AGREE": 7},
        verdict=Verdict.AGREE,
        exit_code=0,
    )


def swept() -> Comparison:
    """The V of both formulas in float64, with a kink, and a sweep of which little is known."""
    steps = [2.0**-k for k in range(1, 51)]
    points = tuple(
        SweepPoint(h, h + 1e-16 / h, h, h * h + 1e-16 / h, h * h, h >= 0.125, h >= 0.25)
        for h in steps
    )
    formulas = (
        Formula("finite-forward", 1.5e-8, 1.5e-8, 1.49e-8, 1.5e-8, 1.0, 0.125),
        Formula("finite-central", 3.8e-6, 4.1e-11, 6.06e-6, 5.3e-11, 1.998, None),
    )
    known = Sweep("float64", 2, 1, 2, 0.84, 1.1e-16, 1e-16, 3.9e-3, 1e-13, formulas, points)
    nothing = tuple(
        SweepPoint(h, math.nan, math.nan, math.nan, math.nan, True, True) for h in steps
    )
    unknown = (
        Formula("finite-forward", None, None, 1.49e-8, math.nan, None, 1e-15),
        Formula("finite-central", 1e-3, 1e-5, 6.06e-6, math.nan, None, 0.25),
    )
    narrow = Sweep("float32", 2, 1, 0, 1.0, 0.0, 1e-7, None, None, unknown, nothing)
    return replace(smooth(), sweeps=(known, narrow))


def certified() -> Comparison:
    """All but a few elements enclosed; of the rest a choice stayed open."""
    reference = Reference(
        "certified",
        "series",
        600,
        640,
        "40 of its elements are those of float64-reverse",
        bits=1536,
        digits=21.7,
        below=3,
        opened=("pool",),
    )
    return replace(smooth(), reference=reference)


def blamed() -> Comparison:
    """Nodes of every kind, with an awkward name, and more than a table shows."""

    def node(name: str, op: str, what: What, share: float | None, todo: str = "") -> Blame:
        errors = {"forward": 1.2e-8, "reverse": 9.5e-3 if what is What.RULE else 3e-8}
        exact = {"forward": 0.0, "reverse": 0.0095 if what is What.RULE else None}
        shares = {"forward": None, "reverse": share}
        return Blame(name, op, "", what, todo, 0.4, 1.2, errors, exact, shares, "balls")

    rule = "look at the rule of reverse for Tanh"
    kernel = "onnxruntime and gradcli compute different results: check its kernel"
    kink = "a convention decides: move the point, or take one side"
    power = "/model/spectrum/stack/layer.0/power_1/ReduceSum"
    double = "float64 for it, or reformulate it"
    nodes = (
        replace(node("/layer1/act/Tanh_3", "Mish", What.RULE, 0.9712, rule), inner="Tanh"),
        replace(node("[bold]conv", "Conv", What.KERNEL, -0.02, kernel), ulps=123456.7),
        node("/head/kept", "Relu", What.KINK, 0.0, kink),
        replace(
            node(power, "ReduceSum", What.CANCELLATION, 0.04, double),
            condition=2.5e5,
            held="float64",
        ),
        *(node(f"/many/{k}", "MatMul", What.ROUNDING, 1e-4) for k in range(9)),
        replace(node("/shape", "Reshape", What.EXACT, None), ulps=0.0),
    )
    found = Explanation(
        "x[0, 3]",
        "reverse",
        {"forward": 1e-9, "reverse": 0.0312},
        {"forward": None, "reverse": 0.993},
        nodes,
        3,
        ("there was no time for 3 operators' rules: raise --budget",),
        looked=12,
    )
    whole = smooth()
    wrong = replace(whole.methods[1], verdict=Verdict.DISAGREE, cause=Cause.RULE)
    return replace(whole, methods=(wrong, *whole.methods[2:]), explanation=found)


def agreeing(
    method: str,
    dtype: str,
    digits: float,
    error: float,
    uncertainty: float,
    prepare: float,
    run: float,
    times_forward: float,
    evaluations: int,
    level: str = "",
) -> Judgement:
    return Judgement(
        method,
        "computed",
        level=level,
        dtype=dtype,
        verdict=Verdict.AGREE,
        max_abs_error=error / 10,
        max_rel_error=error,
        correct_digits=digits,
        uncertainty=uncertainty,
        worst=Worst("xt", (0, 1), -0.5432112, -0.5432111),
        counts={"AGREE": 2},
        prepare=prepare,
        run=Times((run, run * 1.5, run * 0.5)),
        times_forward=times_forward,
        evaluations=evaluations,
    )


def odd() -> Comparison:
    """One of everything that a report can say, with awkward names."""
    return Comparison(
        subject=Subject(
            path="models/[bold]красный[/bold].onnx",
            sha256="0123456789abcdef" * 4,
            operator="jacobian",
            wrt={"image": (1, 3, 224, 224), **{f"layer.{i}.weight": (64, 64) for i in range(9)}},
            of={"logits[0,3]": (), "[link=https://example.org]x": (1, 10)},
            dtype="float32",
            nodes=1234,
            parameters=11_689_512,
            seed=7,
            threads=2,
            provider="CPUExecutionProvider",
            rtol={"float32": 3e-3, "float64": 1e-6},
            atol=1e-9,
        ),
        primal=Primal(
            False, 0.25, 0.0123, "logits", Times((0.1,)), "a kernel of onnxruntime differs"
        ),
        reference=Reference(
            "finite", "", 40, 150528, "the float64 reverse graph is off by 3.1e-2 at image[0,1,2,3]"
        ),
        methods=(
            Judgement(
                "reverse",
                "computed",
                dtype="float32",
                verdict=Verdict.DISAGREE,
                cause=Cause.RULE,
                detail="its derivative is wrong in float64 too",
                max_abs_error=0.03,
                max_rel_error=0.031,
                correct_digits=1.5,
                uncertainty=1.3e-9,
                worst=Worst("logits[0,3]/image", (0, 1, 2, 3), 1.031, 1.0, "/layer1/Tanh_3"),
                counts={"AGREE": 39, "DISAGREE": 1, "KINK": 0},
                zero=2,
                rtol=3e-3,
                needed_rtol=0.03051,
                parts=(
                    Part(
                        "logits[0,3]/image",
                        Verdict.DISAGREE,
                        Cause.RULE,
                        {"AGREE": 19, "DISAGREE": 1},
                        max_abs_error=0.03,
                        max_rel_error=0.031,
                        correct_digits=1.5,
                        uncertainty=1.3e-9,
                        zero=0,
                        needed_rtol=0.03051,
                    ),
                    Part(
                        "logits[0,3]/layer.0.weight",
                        Verdict.AGREE,
                        None,
                        {"AGREE": 20},
                        max_abs_error=1e-9,
                        max_rel_error=None,
                        correct_digits=None,
                        uncertainty=1e-9,
                        zero=2,
                        needed_rtol=1e-4,
                    ),
                ),
                prepare=0.81,
                run=Times((12.5,)),
                times_forward=125.0,
                evaluations=150528,
                sampled=True,
                notes=("2 of 40 probes fell on a plateau",),
            ),
            Judgement(
                "finite-forward",
                "computed",
                dtype="float64",
                verdict=Verdict.INCONCLUSIVE,
                max_abs_error=math.inf,
                max_rel_error=None,
                correct_digits=None,
                uncertainty=math.nan,
                worst=Worst("image", (), math.nan, -math.inf),
                counts={"INCONCLUSIVE": 40},
                prepare=0.0,
                run=Times((1e-9, 2e-9)),
                times_forward=None,
                evaluations=1,
            ),
            Judgement(
                "symbolic", "skipped", "150 528 inputs are more than it expands within the budget"
            ),
            Judgement("complex-step", "failed", "ValueError: Abs is not holomorphic"),
            Judgement(
                "finite",
                "computed",
                dtype="float64",
                verdict=Verdict.KINK,
                max_abs_error=0.5,
                max_rel_error=1.0,
                correct_digits=0.0,
                uncertainty=1e-12,
                worst=Worst("image", (0, 0, 0, 0), 0.5, 1.0, "/relu/Relu", (0.0, 1.0)),
                counts={"AGREE": 39, "KINK": 1},
                prepare=250.0,
                run=Times((1234.5,)),
                times_forward=12345.6,
                evaluations=40,
            ),
        ),
        kinks=(
            KinkAt(
                *("/relu/Relu", "Relu", (0, 3), 0.0, True, "0 at 0"),
                decided="on",
                taken=(Taken("at 0", 0.0, 0.0, 1.0), Taken("at 6", 0.25, None, math.inf)),
                jump=Jump("image", (0, 2), -0.5, 1.25, certified=True),
            ),
            KinkAt("/pool/MaxPool", "MaxPool", (0, 0, 1, 1), 3.2e-9, None, "the first largest"),
            KinkAt(
                *("/max", "Max", (0,), 2.3e-17, True, "equal shares among ties"),
                decided="open",
                within=1e-300,
            ),
            KinkAt(
                *("/min", "Min", (0,), 0.0, False, "equal shares among ties"),
                decided="off",
                within=4.5e-20,
            ),
            KinkAt("/abs", "Abs", (), 0.0, None, ""),
            KinkAt("/Log_1", "Log", (2,), 0.0, None, "", "edge", "the logarithm of 0"),
            *(KinkAt(f"/many/{i}", "Relu", (i,), 0.0, False, "0 at 0") for i in range(7)),
        ),
        advice=(Advice("no method agrees with a witness: use none", "", {"methods": math.nan}),),
        notes=("input image[1, 3, 224, 224] is random: give real data with --input",),
        counts={
            "DISAGREE": 1,
            "KINK": 1,
            "STAIRCASE": 0,
            "INCONCLUSIVE": 1,
            "skipped": 1,
            "failed": 1,
        },
        verdict=Verdict.DISAGREE,
        exit_code=1,
        room=(Room("image", 3.4e-4, "/relu/Relu", "Relu", (0, 5), 1.2e-3),),
        unsteady=(
            Unsteady("primal", (1, 1), "logits", (0, 3), 0.25, 0.5, 1),
            Unsteady("reverse", (2, 1), "logits[0,3]/image", (0, 1, 2, 3), 1.2e-7, math.inf, 12345),
        ),
        unfinished=("complex-step",),
        environment=MACHINE,
    )


def pointed() -> Comparison:
    """Asked at two points."""
    return worst_of([At("point 0 (line 2)", smooth()), At("point 1 (line 3)", odd())])
