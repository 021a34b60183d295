"""The kinds of card, so that a rule is never derived by hand twice.

elementwise   jvp: partial * tangent          vjp: partial * cotangent, broadcast undone
linear        jvp: the operator itself        vjp: its transpose
bilinear      jvp: one term for each factor   vjp: one transpose for each factor
composite     both: of its expansion into other operators
custom        both written out
flat          both absent, with the reason
opaque        both refused, with the reason
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

from gradcli.graph import Builder, DType, Type, Var, broadcast
from gradcli.ops.card import Batch, Card, Expand, Infer, Partial, Site, Vars, Vjp

# ---- types --------------------------------------------------------------------------------------


def same(s: Site) -> Sequence[Type]:
    """The first operand's dtype and shape."""
    return [(s.x.dtype, s.x.shape)]


def joint(s: Site) -> Sequence[Type]:
    """The first operand's dtype, and the shape to which all operands broadcast."""
    return [(s.x.dtype, broadcast(*(x.shape for x in s.inputs if x is not None)))]


def truth(s: Site) -> Sequence[Type]:
    """bool, and the shape to which all operands broadcast."""
    return [(DType.BOOL, broadcast(*(x.shape for x in s.inputs if x is not None)))]


def axis_of(axis: int, rank: int) -> int:
    """A possibly negative axis as a non-negative one.

    Raises:
        ValueError: When there is no such axis.
    """
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of a tensor with {rank} dimensions")
    return axis % rank


def same_with_axis(s: Site) -> Sequence[Type]:
    """The first operand's dtype and shape, in which there is the attribute's axis."""
    if s.x.shape is not None:
        axis_of(s["axis"], s.x.rank)
    return same(s)


# ---- batching: a leading axis of directions on the operands that are linear ---------------------


def lead(b: Builder, x: Var, rank: int) -> Var:
    """x, which carries a leading batch axis, with 1s after it so that the rest has this rank."""
    missing = rank - (x.rank - 1)
    return b.unsqueeze(x, range(1, 1 + missing)) if missing > 0 else x


def batch_elementwise(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    """Align ranks, so that the batch axis stands in front of the widest operand."""
    rank = s.y.rank
    aligned = [
        lead(s.b, x, rank) if x is not None and is_batched else x
        for x, is_batched in zip(s.inputs, batched, strict=True)
    ]
    return [s.again(*aligned)]


def batch_axis(attribute: str) -> Batch:
    """For one operand and an attribute that names an axis: the axis moves one to the right."""

    def batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
        axis = axis_of(s[attribute], s.x.rank - 1)
        return [s.again(s.x, *s.inputs[1:], **{attribute: axis + 1})]

    return batch


def batch_fold(rest: int = 1) -> Batch:
    """For operators over [N, ...] that treat samples alike: the directions are folded into N.

    Args:
        rest: How many leading operands carry N (the others, weights, must not be batched).
    """

    def batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
        if any(batched[rest:]) or not all(batched[:rest]):
            raise NotImplementedError(f"{s.key} with a batch on its weights")
        folded = [fold(s.b, x) for x in s.inputs[:rest] if x is not None]
        return [unfold(s.b, s.again(*folded, *s.inputs[rest:]), s.x)]

    return batch


def fold(b: Builder, x: Var) -> Var:
    """[B, N, ...] as [B*N, ...]."""
    if x.rank < 2:
        raise NotImplementedError("nothing to fold the directions into")
    shape = b.shape_of(x)
    tail = b.op("Slice", shape, b.ints([2]), b.ints([x.rank]), b.ints([0]))
    return b.op("Reshape", x, _dims(b, b.ints([-1]), tail))


def unfold(b: Builder, y: Var, like: Var) -> Var:
    """[B*N, ...] as [B, N, ...], with the B of `like`."""
    size = b.op("Slice", b.shape_of(like), b.ints([0]), b.ints([1]), b.ints([0]))
    tail = b.op("Slice", b.shape_of(y), b.ints([1]), b.ints([y.rank]), b.ints([0]))
    return b.op("Reshape", y, _dims(b, size, b.ints([-1]), tail))


def _dims(b: Builder, *parts: Var) -> Var:
    return b.op("Concat", *parts, axis=0)


# ---- the kinds ----------------------------------------------------------------------------------


def elementwise(
    op: str,
    impl: Callable[..., Any],
    *partials: Partial,
    inputs: Sequence[str] = ("X",),
    infer: Infer | None = None,
    each: Callable[[Site, int], Var | float | None] | None = None,
    **facets: Any,
) -> Card:
    """A function of each element alone, operands broadcast.

    Args:
        op: Operator name.
        impl: The primal.
        *partials: For each operand, dy/dx there: a number, a rule on the Site that gives a value of
            y's shape or narrower, or None where nothing flows. A rule that gives a boolean value is
            a mask: the tangent passes where it holds and is 0 elsewhere, whatever it was there
            (a product with 0 would turn infinities into NaN). An operand beyond the last partial
            uses the last.
        inputs: Operand names.
        infer: Types, when not simply those of the broadcast operands.
        each: The partial of operand k, instead of `partials`, where k makes a difference.
        **facets: Any other field of Card.
    """

    def partial(s: Site, k: int) -> Var | float | None:
        if each is not None:
            return each(s, k)
        rule = partials[min(k, len(partials) - 1)]
        return rule(s) if callable(rule) else rule

    def jvp(s: Site, dots: Vars) -> Vars:
        terms = [scale(s.b, dot, partial(s, k)) for k, dot in enumerate(dots) if dot is not None]
        y_dot = s.b.total(terms)
        return [None if y_dot is None else s.b.expand_like(y_dot, s.y)]

    def vjp(s: Site, bars: Vars) -> Vars:
        (y_bar,) = bars
        assert y_bar is not None
        out: list[Var | None] = []
        for k, x in enumerate(s.inputs):
            slope = partial(s, k) if s.wants(k) else None
            term = scale(s.b, y_bar, slope, s.dropped)
            if slope is not None:
                s.drop(k, either(s.dropped, s.b.op("Not", slope) if is_mask(slope) else None))
            out.append(None if term is None or x is None else s.b.unbroadcast(term, like=x))
        return out

    return Card(
        op,
        "elementwise",
        tuple(inputs),
        infer or (same if len(inputs) == 1 and not inputs[0].endswith("*") else joint),
        impl,
        jvp=jvp,
        vjp=vjp,
        batch=batch_elementwise,
        **facets,
    )


def scale(
    b: Builder, x: Var, partial: Var | float | None, dropped: Var | None = None
) -> Var | None:
    """A tangent or cotangent times a partial derivative; a boolean partial is a mask.

    Args:
        b: The Builder.
        x: The tangent or cotangent.
        partial: The partial derivative; None where there is none.
        dropped: Where x is 0 and the partial derivative does not matter; None: nowhere.
    """
    if partial is None:
        return None
    if is_mask(partial):
        return b.where(partial, x, 0.0)
    y = x * partial
    known = not isinstance(partial, Var) or partial.const is not None
    return y if known else without(b, dropped, y)


def is_mask(x: Var | float | None) -> TypeGuard[Var]:
    """Whether a partial derivative is a value of true and false."""
    return isinstance(x, Var) and x.dtype is DType.BOOL


def without(b: Builder, dropped: Var | None, x: Var) -> Var:
    """0 where a mask holds, whatever x may be there, infinite or not a number; else x.

    In this order: a Where with the 0 last may be made a product by whoever makes graphs faster.
    """
    return x if dropped is None else b.where(dropped, 0.0, x)


def either(one: Var | None, other: Var | None) -> Var | None:
    """Where one of two masks holds; None is a mask that holds nowhere."""
    if one is None or other is None:
        return one or other
    return one.b.op("Or", one, other)


def linear(
    op: str,
    impl: Callable[..., Any],
    transpose: Callable[[Site, Var], Var | Vars],
    *,
    inputs: Sequence[str],
    infer: Infer,
    batch: Batch,
    over: Sequence[int] | None = (0,),
    in_place: bool = False,
    moves: bool = False,
    **facets: Any,
) -> Card:
    """An operator that is linear in some operands together, the others being fixed.

    Args:
        op: Operator name.
        impl: The primal.
        transpose: From the cotangent of the result: that of the one linear operand, or a list of
            cotangents, one for each operand (None where `s.wants` does not ask).
        inputs: Operand names.
        infer: Types.
        batch: How directions along a leading axis go through.
        over: Places of the linear operands; None for all of them. A tangent that is absent while
            another is there counts as zeros.
        in_place: Whether each element of the result comes from the one at its place.
        moves: Whether each comes from a place of its own, to which the transpose brings it back,
            be it a number or a truth value.
        **facets: Any other field of Card.
    """

    def jvp(s: Site, dots: Vars) -> Vars:
        places = set(range(len(s.inputs)) if over is None else over)
        if all(dots[k] is None for k in places if k < len(dots)):
            return [None]
        operands: list[Var | None] = list(s.inputs)
        for k in places:
            if s.has(k):
                operands[k] = dots[k] or s.b.zeros_like(s.input(k))
        return [s.again(*operands)]

    def vjp(s: Site, bars: Vars) -> Vars:
        (y_bar,) = bars
        assert y_bar is not None
        out = transpose(s, y_bar)
        if isinstance(out, Var):
            (place,) = over or (0,)
            if in_place:
                s.drop(place, s.dropped)
            elif moves and s.dropped is not None:
                back = transpose(s, s.b.expand_like(s.dropped, s.y))
                assert isinstance(back, Var)
                s.drops[place] = back
            return [out if k == place else None for k in range(len(s.inputs))]
        return out

    return Card(op, "linear", tuple(inputs), infer, impl, jvp=jvp, vjp=vjp, batch=batch, **facets)


def bilinear(
    op: str,
    impl: Callable[..., Any],
    transposes: tuple[Callable[[Site, Var], Var], Callable[[Site, Var], Var]],
    *,
    inputs: Sequence[str],
    infer: Infer,
    batch: Batch,
    bias: Callable[[Site, Var], Var] | None = None,
    unbias: Callable[[Site, Var], Var] | None = None,
    **facets: Any,
) -> Card:
    """An operator linear in each of its first two operands, with an optional third that is added.

    Args:
        op: Operator name.
        impl: The primal.
        transposes: From the cotangent of the result to that of the first, and of the second
            operand.
        inputs: Operand names.
        infer: Types.
        batch: How directions along a leading axis of one factor go through.
        bias: What the third operand's tangent, alone, adds to the result, in the result's shape.
        unbias: The third operand's cotangent.
        **facets: Any other field of Card.
    """

    def jvp(s: Site, dots: Vars) -> Vars:
        first, second, third = (*dots, None, None, None)[:3]
        terms = [
            None if first is None else s.again(first, s.x1),
            None if second is None else s.again(s.x, second),
            None if third is None or bias is None else bias(s, third),
        ]
        return [s.b.total(terms)]

    def vjp(s: Site, bars: Vars) -> Vars:
        (y_bar,) = bars
        assert y_bar is not None
        out: list[Var | None] = [
            rule(s, y_bar) if s.wants(k) else None for k, rule in enumerate(transposes)
        ]
        if len(s.inputs) > 2:
            out.append(unbias(s, y_bar) if unbias is not None and s.wants(2) else None)
        return out

    return Card(op, "bilinear", tuple(inputs), infer, impl, jvp=jvp, vjp=vjp, batch=batch, **facets)


def composite(
    op: str,
    impl: Callable[..., Any],
    expand: Expand,
    *,
    inputs: Sequence[str],
    infer: Infer,
    **facets: Any,
) -> Card:
    """An operator whose derivatives are those of its expansion into other operators."""
    return Card(op, "composite", tuple(inputs), infer, impl, expand=expand, **facets)


def custom(
    op: str,
    impl: Callable[..., Any],
    jvp: Callable[[Site, Vars], Vars],
    vjp: Vjp,
    *,
    inputs: Sequence[str],
    infer: Infer,
    **facets: Any,
) -> Card:
    """An operator whose rules are written out, its expansion being their oracle if it has one."""
    return Card(op, "custom", tuple(inputs), infer, impl, jvp=jvp, vjp=vjp, **facets)


def flat(
    op: str,
    impl: Callable[..., Any],
    reason: str,
    *,
    inputs: Sequence[str],
    infer: Infer,
    **facets: Any,
) -> Card:
    """An operator whose derivative is 0 wherever it exists: steps, comparisons, shapes, indices."""
    return Card(op, "flat", tuple(inputs), infer, impl, reason=reason, **facets)


def opaque(op: str, reason: str, *, inputs: Sequence[str], infer: Infer, **facets: Any) -> Card:
    """An operator that gradcli cannot differentiate or evaluate, by name and with the reason."""
    return Card(op, "opaque", tuple(inputs), infer, None, reason=reason, **facets)
