"""Kinks and domain edges near the point, as sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gradcli.comparison import Jump, KinkAt, Room
from gradcli.report.cells import LISTED, Fact, listed_names, scientific, value

SHOWN = 3
"""Nodes on kinks that do not matter that are named."""

NEAR = 1e-6
"""How near a kink or a domain edge must be to be odd, in units of its operand."""


def kinks_near(kinks: Sequence[KinkAt], room: Sequence[Room]) -> Iterator[Fact]:
    """Those at the point that matter, in full; of those further off only the nearest."""
    near = [k for k in kinks if k.margin <= NEAR or k.touched]
    idle = [k for k in near if k.kind == "kink" and k.active is False]
    at = sorted((k for k in near if k not in idle), key=lambda k: not k.active)
    for kink in at[:LISTED]:
        yield Fact(kink.kind, kink_sentence(kink), "odd" if kink.active else "plain")
    if (extra := len(at) - LISTED) > 0:
        yield Fact("kink", f"and {extra:,} more; --format json lists them all")
    if idle:
        yield Fact("kink", idle_sentence(idle))
    jumping = next((k for k in kinks if k.jump), None)
    if jumping is not None and jumping.jump is not None:
        text = jump_sentence(jumping.jump)
        slopes = "the slopes on both sides of it differ "
        yield Fact("jump", f"{slopes * bool(jumping.what)}{text}", "odd")
    off = [] if any(k.kind == "kink" for k in near) else [k for k in kinks if k.kind == "kink"]
    for r in room[:LISTED]:
        index = f", element [{', '.join(map(str, r.index))}]" if r.index else ""
        where = f"node {r.node} ({r.op}){index}"
        about = "about " if r.estimated else ""
        a = "another" if any(k.kind == "kink" and k.touched for k in near) else "a"
        yield Fact(
            "room", f"{r.wrt} meets {a} kink after {about}{scientific(r.distance)}, at {where}"
        )
    if off and not room:
        yield Fact("kink", f"nearest: {kink_sentence(min(off, key=lambda k: k.margin))}")


def idle_sentence(kinks: Sequence[KinkAt]) -> str:
    """Those at the point that what was asked for does not feel, in one line."""
    ties = sum(k.ties for k in kinks)
    names = listed_names([f"{k.node} ({k.op})" for k in kinks], SHOWN)
    if len(kinks) == 1 and ties == 1:
        return f"node {names}: on it, and the derivative is smooth here all the same"
    elements = f"{ties:,} element{'s' * (ties != 1)}"
    nodes = f"{len(kinks):,} node{'s' * (len(kinks) != 1)}"
    return f"{elements} of {nodes} on it, and smooth here all the same: {names}"


def kink_sentence(kink: KinkAt) -> str:
    """Where it is, how near, and whether it matters here."""
    index = f", element [{', '.join(map(str, kink.index))}]" if kink.index else ""
    at = f"node {kink.node} ({kink.op}){index}"
    near = _nearness(kink)
    helps = f"; {kink.operand}: {kink.todo}" if kink.operand and kink.todo else ""
    if kink.kind == "lost":
        return f"{at}: {kink.what}{helps}"
    if kink.kind == "edge":
        slopes = _slopes(kink) if kink.margin == 0 else ""
        return f"{at}: {near}{': ' + kink.what if kink.what else ''}{slopes}{helps}"
    if not kink.touched:
        return f"{at}: {near}"
    many = (
        f" ({kink.many:,} of {kink.ties:,} tied elements matter)"
        if kink.active and kink.ties > 1 and kink.many
        else ""
    )
    if kink.active and kink.what:
        return f"{at}: {near}; {kink.what}"
    matters = {
        True: f"the one-sided derivatives of the output with respect to the input differ{many}",
        False: "the derivative of the output with respect to the input is smooth here all the same",
        None: "whether the one-sided derivatives differ was not decided",
    }[kink.active]
    convention = f"; convention: {kink.convention}" if kink.convention else ""
    return f"{at}: {near}; {matters}{_slopes(kink) or convention}"


def _nearness(kink: KinkAt) -> str:
    """How near the point is, by float64 and exactly."""
    if kink.decided == "on":
        return "exactly on it"
    if kink.decided == "open":
        return f"within {scientific(kink.within)} of it, a tie not excluded"
    if kink.decided == "off":
        far = f"within {scientific(kink.within)} of it, not on it"
        return f"{far}: a tie of float64 alone" if kink.margin == 0 else far
    return "on it" if kink.margin == 0 else f"{scientific(kink.margin)} away"


def _slopes(kink: KinkAt) -> str:
    """The slopes that are taken there, side by side."""
    places = []
    for t in kink.taken:
        known = (("gradcli", t.gradcli), ("PyTorch", t.pytorch), ("JAX", t.jax))
        places.append(
            f"{t.at} "
            + ", ".join(f"{who} {slope:.4g}" for who, slope in known if slope is not None)
        )
    return f"; slope {'; '.join(places)}" if places else ""


def jump_sentence(jump: Jump) -> str:
    """Where the derivative jumps most, and between what."""
    at = f"{jump.name}[{', '.join(map(str, jump.index))}]" if jump.index else jump.name
    sure = ", both certified" if jump.certified else ""
    return f"most at {at}: {value(jump.below)} from below, {value(jump.above)} from above{sure}"
