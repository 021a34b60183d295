import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcli.comparison import Cause, KinkAt, Reference, Room, Verdict, Worst
from gradcli.problem import DRAWN
from gradcli.report.cells import (
    ABSENT,
    apart,
    bar,
    percent,
    ratio,
    scientific,
    seconds,
    tally,
    tensor,
)
from gradcli.report.headline import headline
from gradcli.report.kinks import kinks_near
from gradcli.report.rows import question, screen, why
from tests.report import examples


@pytest.mark.parametrize(
    ("t", "text"),
    [
        (None, "–"),
        (0.0, "0 ns"),
        (3.4e-8, "34 ns"),
        (9.99e-7, "999 ns"),
        (9.996e-7, "1.00 µs"),
        (1.234e-5, "12.3 µs"),
        (9.996e-4, "1.00 ms"),
        (0.1, "100 ms"),
        (0.9996, "1.00 s"),
        (59.96, "60.0 s"),
        (12345.6, "12346 s"),
    ],
)
def test_seconds(t, text):
    assert seconds(t) == text


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (1.25e-7, "1.2e-7"),
        (math.inf, "inf"),
        (math.nan, "nan"),
        (1, "1.0"),
        (9.99, "10"),
        (12.3, "12"),
        (123, "1.2e2"),
        (0.95, "9.5e-1"),
    ],
)
def test_scientific(x, text):
    assert scientific(x) == text


@pytest.mark.parametrize(
    ("x", "text"), [(None, "–"), (2.014, "2.01"), (33.04, "33.0"), (340.7, "341"), (9.996, "10.0")]
)
def test_ratio(x, text):
    assert ratio(x) == text


@given(st.floats(1e-9, 1e6))
def test_a_time_is_within_half_a_percent_of_what_is_shown(t):
    number, unit = seconds(t).split()
    scale = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}[unit]
    assert float(number) * scale == pytest.approx(t, rel=5.1e-3, abs=0.51e-9)


@given(st.floats(1e-300, 1e300))
def test_an_error_is_within_five_percent_of_what_is_shown(x):
    assert float(scientific(x)) == pytest.approx(x, rel=0.0501)


@pytest.mark.parametrize("operator", ["gradient", "jacobian", "jvp", "vjp"])
def test_every_question_is_the_derivative_of_the_output_with_respect_to_the_input(operator):
    text = question(replace(examples.smooth().subject, operator=operator))
    assert "the derivative of the output u (1×1) with respect to the input xt (1×2)" in text
    assert text.lower().startswith(operator)


def test_many_names_are_counted():
    text = question(examples.odd().subject)
    assert text.count("layer.") == 7
    assert "and 2 more" in text


def test_a_scalar_has_no_shape_to_show():
    assert tensor("y[0,3]", ()) == "y[0,3]"


def test_the_tally_is_in_words():
    assert tally(examples.odd().counts) == (
        "1 disagrees, 1 at a kink, 1 inconclusive, 1 skipped, 1 failed"
    )
    assert tally({"AGREE": 0, "INCONCLUSIVE": 1234}) == "1,234 inconclusive"


def texts(comparison, label, detail="normal"):
    return [fact.text for fact in screen(comparison, detail).below if fact.label == label]


def test_what_disagrees_is_named_with_its_cause_and_its_worst_element():
    (text,) = texts(examples.odd(), "DISAGREE")
    for part in ("reverse", "rule", "logits[0,3]/image[0, 1, 2, 3]", "1.031", "/layer1/Tanh_3"):
        assert part in text


def test_what_was_not_computed_is_named_with_its_reason():
    assert texts(examples.odd(), "skipped")[0].startswith("symbolic: 150 528 inputs")
    assert texts(examples.odd(), "failed")[0].startswith("complex-step: ValueError")


def test_kinks_at_the_point_are_listed_and_of_those_further_off_only_the_nearest():
    far = [KinkAt(f"far{i}", "Relu", (i,), 0.1 * i, None, "") for i in (3, 1, 2)]
    edge = KinkAt("log", "Log", (), 0.5, None, "", "edge", "the logarithm of 0")
    comparison = replace(examples.odd(), kinks=(*far, edge), room=())
    assert texts(comparison, "kink") == ["nearest: node far1 (Relu), element [1]: 1.0e-1 away"]
    assert texts(comparison, "edge") == []
    close = KinkAt("close", "Relu", (4,), 1e-8, None, "")
    assert texts(replace(comparison, kinks=(*far, close)), "kink") == [
        "node close (Relu), element [4]: 1.0e-8 away"
    ], "none is nearest beside those that are nearer"


def test_an_error_without_a_size_says_that_all_is_zero_within_u():
    assert texts(examples.odd(), "zero") == [
        "finite-forward: every element of the reference is zero within u"
    ]


def test_notes_stand_with_the_question():
    notes = [fact.text for fact in screen(examples.odd()).above if fact.label == "note"]
    assert notes == list(examples.odd().notes)


def test_methods_of_which_the_same_is_said_share_a_line():
    first, *others = examples.smooth().methods
    methods = (first, replace(first, method="twin"), *others)
    noted = [replace(j, notes=("the same", "the same"), level="") for j in methods]
    said = replace(examples.smooth(), methods=tuple(noted))
    (note,) = texts(said, "note", "verbose")
    assert note == f"{', '.join(j.method for j in methods)}: the same"


def test_numbers_that_look_alike_get_the_digits_that_tell_them_apart():
    assert apart(1.5, 1.25) == "1.5 against 1.25"
    assert apart(1.0, 1.0) == "1 against 1"
    assert apart(1.0, 1.0 + 2**-52) == "1 against 1.0000000000000002"


def test_a_witness_in_the_reference_s_place_is_not_confirmed_by_itself():
    alone = Reference("finite", "finite", 3, 40, "the float64 reverse graph broke")
    (fact,) = [
        fact
        for fact in screen(replace(examples.smooth(), reference=alone)).above
        if fact.label == "reference"
    ]
    assert fact.text == "finite on 3 of 40 elements: the float64 reverse graph broke"


def test_a_certified_reference_says_how_certain_it_is():
    (text,) = [f.text for f in screen(examples.certified()).above if f.label == "reference"]
    assert text.startswith("certified: 600 of 640 elements")
    assert "21 digits at 1536 bits" in text
    assert "open which way pool goes" in text
    assert text.endswith("; 40 of its elements are those of float64-reverse")
    exact = replace(examples.certified().reference, digits=math.inf)
    (text,) = [
        f.text
        for f in screen(replace(examples.smooth(), reference=exact)).above
        if f.label == "reference"
    ]
    assert "exactly at 1536 bits" in text


def test_of_a_method_that_agrees_less_is_said():
    first, *others = examples.smooth().methods
    noted = replace(examples.smooth(), methods=(replace(first, notes=("remarkable",)), *others))
    assert (texts(noted, "note"), texts(noted, "way")) == ([], [])
    assert texts(noted, "note", "verbose") == ["forward: remarkable"]
    assert texts(noted, "way", "verbose") == ["symbolic: expanded"]
    wrong = replace(first, notes=("remarkable",), verdict=Verdict.DISAGREE)
    assert texts(replace(noted, methods=(wrong, *others)), "note") == ["forward: remarkable"]


def test_failures_alone():
    shown = screen(examples.odd(), failures_only=True)
    assert [row.cells["verdict"] for row in shown.rows] == [
        *("DISAGREE", "INCONCLUSIVE", "failed", "KINK"),
    ]
    assert {"skipped", "advice"}.isdisjoint(fact.label for fact in shown.below)
    assert screen(examples.smooth(), failures_only=True).rows == ()


@pytest.mark.parametrize(
    ("x", "text"), [(0.0, "▏"), (1e-9, "▏"), (0.5, "████"), (43 / 64, "█████▍"), (2.0, "█" * 8)]
)
def test_a_bar_is_as_long_as_its_number(x, text):
    assert bar(x) == text


def test_bars_of_time_reach_to_the_next_power_of_ten():
    slow = [j.times_forward for j in examples.smooth().methods]
    assert max(filter(None, slow)) == 340.7
    *_, column = screen(examples.smooth()).columns
    assert column.heading == ("1    1e3",)
    (finite,) = [r for r in screen(examples.smooth()).rows if r.cells["method"] == "finite"]
    assert finite.cells["time_bar"] == bar(math.log10(340.7) / 3)


def first(comparison):
    said = headline(comparison)
    return f"{said.label} {said.text}"


def test_the_headline_is_the_answer():
    assert first(examples.smooth()) == (
        "AGREE 7 methods agree with float64-reverse and complex-step (exit 0)"
    )
    only = replace(examples.smooth(), methods=examples.smooth().methods[:1], counts={"AGREE": 1})
    assert first(only).startswith("AGREE forward agrees with float64-reverse")
    assert "with the certified derivative" in first(examples.certified())


def test_the_headline_names_the_worst_element_and_its_node():
    matching = replace(examples.odd(), primal=examples.smooth().primal)
    assert first(matching) == (
        "DISAGREE reverse is off by 3.1e-2 relative at"
        " logits[0,3]/image[0, 1, 2, 3]: 1.031 against 1, node /layer1/Tanh_3, cause rule;"
        " 1 at a kink, 1 inconclusive, 1 skipped, 1 failed (exit 1)"
    )
    assert first(examples.odd()).startswith(
        "DISAGREE gradcli and onnxruntime compute different outputs from this file; 1 disagrees, 1"
    )


def test_of_several_that_disagree_the_headline_tells_the_gravest():
    wrong = examples.odd().methods[0]
    mild = replace(wrong, method="mild", cause=Cause.ROUNDING, max_rel_error=1e9)
    grave = replace(wrong, method="grave", max_rel_error=1.0)
    said = replace(
        examples.odd(), primal=examples.smooth().primal, methods=(mild, wrong, grave), counts={}
    )
    assert first(said).startswith("DISAGREE 3 methods disagree; grave is off by 3.1e-2 relative at")


def test_what_the_headline_tells_is_of_the_element_that_it_names():
    wrong = replace(
        examples.odd().methods[0],
        max_rel_error=2.5,
        worst=Worst("x", (3,), 1.5, 1.0),
    )
    said = replace(examples.odd(), primal=examples.smooth().primal, methods=(wrong,), counts={})
    assert "is off by 5.0e-1 relative at x[3]: 1.5 against 1" in first(said)


def test_that_all_of_a_derivative_is_0_is_told_first():
    c = examples.smooth()
    zero = replace(c.methods[0], counts={"AGREE": 2}, zero=2, max_rel_error=None)
    assert ", which is 0 here" in first(replace(c, methods=(zero,)))
    assert texts(replace(c, methods=(zero,)), "zero") == [], "and not again"
    some = replace(zero, zero=1)
    assert "which is 0" not in first(replace(c, methods=(some,)))
    part = replace(zero, sampled=True)
    assert "which is 0" not in first(replace(c, methods=(part,)))


def test_zeros_at_a_random_point_send_to_real_data_where_kinks_are_in_reach():
    c = examples.smooth()
    zero = replace(c.methods[0], counts={"AGREE": 2}, zero=2, max_rel_error=None)
    room = (Room("x", 1.8, "clip", "Clip", (0,), 0.5, estimated=False),)
    drawn = (f"input x[1] {DRAWN}, seed 0)",)
    found = replace(c, methods=(zero,), room=room, notes=drawn)
    assert texts(found, "advice")[0].startswith("the derivative is 0 at this random point")
    for other in ({"room": ()}, {"notes": ()}, {"methods": c.methods}):
        assert "random point" not in " ".join(texts(replace(found, **other), "advice"))


def test_an_error_beyond_the_tolerance_of_what_agrees_is_explained():
    c = examples.smooth()
    j = replace(c.methods[0], verdict=Verdict.AGREE, rtol=3e-3, max_rel_error=2.5, needed_rtol=1e-4)
    small = [f.text for f in screen(replace(c, methods=(j,))).below if f.label == "small"]
    text = (
        "next to 0 a max rel error is large and tells nothing; relative to at least 1.0e-3 of the"
        " largest, as verdicts take it: "
    )
    assert small == [f"{text}{j.method} 1.0e-4"]
    two = replace(c, methods=(j, replace(j, method="other", needed_rtol=2e-4)))
    assert texts(two, "small") == [f"{text}{j.method} 1.0e-4, other 2.0e-4"], "in one sentence"
    j = replace(j, max_rel_error=3e-3)
    assert not [f for f in screen(replace(c, methods=(j,))).below if f.label == "small"]


def test_every_verdict_and_cause_that_was_given_is_put_in_plain_words():
    c, j = examples.smooth(), examples.smooth().methods[0]
    given = [(v, None) for v in Verdict] + [(Verdict.DISAGREE, cause) for cause in Cause]
    for verdict, cause in given:
        one = replace(c, verdict=verdict, methods=(replace(j, verdict=verdict, cause=cause),))
        (means,) = [f.text for f in screen(one).below if f.label == "means"]
        assert means.startswith(f"{verdict}, cause {cause}: " if cause else f"{verdict}: ")


@pytest.mark.parametrize(
    ("changes", "also"),
    [
        ({}, ""),
        ({"verdict": Verdict.DISAGREE, "cause": Cause.ROUNDING}, " and --dtype float64"),
        ({"verdict": Verdict.DISAGREE, "cause": Cause.RULE}, " and --method symbolic"),
    ],
)
def test_how_to_get_the_numbers_is_told_last(changes, also):
    c = examples.smooth()
    methods = tuple(
        replace(j, dtype="float32", **changes) if j.method == "reverse" else j for j in c.methods
    )
    *_, last = screen(replace(c, methods=methods)).below
    assert (
        last.text == f"the derivative itself: gradcli grad, with the same model and options{also}"
    )


def test_of_several_points_those_that_fail_are_told_one_by_one():
    c = examples.pointed()
    bad = [at.label for at in c.points if at.comparison.exit_code]
    assert bad
    normal, verbose = screen(c), screen(c, "verbose")
    for shown, wanted in ((normal, bad), (verbose, [at.label for at in c.points])):
        told = [f.text for f in shown.points]
        assert [text.partition(":")[0] for text in told] == wanted


def test_the_headline_of_a_kink_tells_both_sides():
    kinked = replace(
        examples.odd(), primal=examples.smooth().primal, verdict=Verdict.KINK, exit_code=0
    )
    assert first(kinked).startswith(
        "KINK the derivative has two sides here: image[0, 2] is -0.5 or 1.25, by node /"
    )


def test_the_headline_of_a_jump_speaks_of_no_sides():
    kinked = replace(
        examples.odd(), primal=examples.smooth().primal, verdict=Verdict.KINK, exit_code=0
    )
    kinks = tuple(replace(k, what="an output jumps there") if k.jump else k for k in kinked.kinks)
    assert first(replace(kinked, kinks=kinks)).startswith("KINK an output jumps here, at node /")
    lines = [f.text for f in kinks_near(kinks, ()) if f.label == "jump"]
    assert lines[0].startswith("the slopes on both sides of it differ most at image[0, 2]: -0.5")


def test_the_headline_where_only_conventions_differ_speaks_of_no_sides():
    kinked = replace(
        examples.odd(), primal=examples.smooth().primal, verdict=Verdict.KINK, kinks=()
    )
    at = next(j.method for j in kinked.methods if j.verdict is Verdict.KINK)
    assert first(kinked).startswith(f"KINK only conventions at ties differ here, in {at}")


@pytest.mark.parametrize(
    ("at", "sides", "text"),
    [
        (0.0, (1.0, -0.0), "0 at x[0], between one-sided 1 and 0"),
        (2.0, (1.0, 1.0), "2 at x[0], beside one-sided 1 on both sides"),
    ],
)
def test_what_a_convention_takes_lies_between_the_sides_or_beside_them(at, sides, text):
    kinked = next(j for j in examples.odd().methods if j.verdict is Verdict.KINK)
    assert text in why(replace(kinked, worst=Worst("x", (0,), at, 1.0, sides=sides)))


def test_the_headline_of_what_is_not_decided_names_the_methods():
    undecided = replace(
        examples.odd(), primal=examples.smooth().primal, verdict=Verdict.INCONCLUSIVE, exit_code=3
    )
    assert first(undecided).startswith(
        "INCONCLUSIVE nothing could be decided by finite-forward; 1 disagree"
    )


@pytest.mark.parametrize(
    ("x", "text"),
    [(-0.0004, "0.0 %"), (0.0, "0.0 %"), (-0.02, "-2.0 %"), (0.5, "50 %"), (None, ABSENT)],
)
def test_a_share_has_no_sign_of_a_zero(x, text):
    assert percent(x) == text


@pytest.mark.parametrize(("reason", "told"), [("out of time: too slow", True), ("no rule", False)])
def test_without_a_reference_for_want_of_time_it_says_what_helps(reason, told):
    nothing = Reference("none", "", 0, 3, reason)
    shown = screen(replace(examples.smooth(), reference=nothing), "normal")
    (said,) = [fact.text for fact in shown.above if fact.label == "reference"]
    assert said.startswith(f"none: {reason}")
    assert ("raise --budget" in said) is told
