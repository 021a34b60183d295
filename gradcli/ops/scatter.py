"""ScatterElements and ScatterND, with every reduction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Type, Var
from gradcli.numbers import Array, Numbers
from gradcli.ops.axes import INDEX
from gradcli.ops.card import Site, Vars
from gradcli.ops.kinds import axis_of, custom, same
from gradcli.ops.places import (
    addressed,
    along_batch,
    as_column,
    as_rows,
    last_batch,
    places_in,
    ravel,
)

REDUCTIONS = ("none", "add", "mul", "max", "min")
LINEAR = ("none", "add")


def _infer(s: Site) -> Sequence[Type]:
    if s["reduction"] not in REDUCTIONS:
        raise UnsupportedError(f"gradcli does not know {s.key} with reduction {s['reduction']!r}")
    return same(s)


# ---- as numbers ----------------------------------------------------------------------------------

Places = tuple[np.ndarray, ...]


def _element_places(indices: np.ndarray, rank: int, axis: int) -> Places:
    places: list[np.ndarray] = list(np.indices(indices.shape, sparse=True))
    places[axis_of(axis, rank)] = indices
    return tuple(np.broadcast_arrays(*places))


def _nd_places(indices: np.ndarray) -> Places:
    return tuple(np.moveaxis(indices, -1, 0))


def _turns(at: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Places, each but once a turn, and which updates are due there, until none is left."""
    order = np.argsort(at, kind="stable")
    ranked = at[order]
    turn = np.arange(at.size) - np.searchsorted(ranked, ranked)
    for k in range(int(turn.max(initial=-1)) + 1):
        yield ranked[turn == k], order[turn == k]


def _rows(n: Numbers, x: Array, places: Places, updates: Array) -> tuple[Array, np.ndarray, Array]:
    """Data and updates as rows of slices, and the row of each update."""
    lead, count = x.shape[: len(places)], places[0].size
    rows = n.reshape(x, (int(np.prod(lead)), *x.shape[len(places) :]))
    at = ravel(places, lead).reshape(-1)
    return rows, at, n.reshape(updates, (count, *x.shape[len(places) :]))


def _scattered(n: Numbers, x: Array, places: Places, updates: Array, reduction: str) -> Array:
    if reduction in LINEAR:
        return n.scatter(x, places, updates, reduction)
    join: Callable[[Array, Array], Array] = {
        "mul": lambda a, b: a * b,
        "max": n.maximum,
        "min": n.minimum,
    }[reduction]
    y, at, rows = _rows(n, x, places, updates)
    for here, due in _turns(at):
        y = n.scatter(y, (here,), join(n.take(y, here, 0), n.take(rows, due, 0)), "none")
    return n.reshape(y, x.shape)


def _margins(
    n: Numbers, x: np.ndarray, places: Places, updates: np.ndarray, reduction: str
) -> tuple[np.ndarray, np.ndarray]:
    """How far the extremum of each place is from the next, and which it is: 0 for the data."""
    sign = {"max": 1.0, "min": -1.0}.get(reduction)
    if sign is None:
        return np.full(x.shape, np.inf), np.zeros(x.shape, np.int64)
    top, at, rows = _rows(n, sign * np.real(x), places, sign * np.real(updates))
    top, second, which = top.copy(), np.full(top.shape, -np.inf), np.zeros(top.shape, np.int64)
    for here, due in _turns(at):
        old, new = top[here], rows[due]
        above = new > old
        second[here] = np.maximum(second[here], np.minimum(old, new))
        name = due.reshape([-1, *[1] * (new.ndim - 1)]) + 1
        top[here], which[here] = np.maximum(old, new), np.where(above, name, which[here])
    return (top - second).reshape(x.shape), which.reshape(x.shape)


def _scatter_elements(
    n: Numbers, x: Array, indices: np.ndarray, updates: Array, *, axis: int, reduction: str
) -> Array:
    return _scattered(n, x, _element_places(indices, x.ndim, axis), updates, reduction)


def _element_kinks(
    n: Numbers, x: Array, indices: np.ndarray, updates: Array, *, axis: int, reduction: str
) -> tuple[np.ndarray, np.ndarray]:
    return _margins(n, x, _element_places(indices, x.ndim, axis), updates, reduction)


def _scatter_nd(
    n: Numbers, x: Array, indices: np.ndarray, updates: Array, *, reduction: str
) -> Array:
    return _scattered(n, x, _nd_places(indices), updates, reduction)


def _nd_kinks(
    n: Numbers, x: Array, indices: np.ndarray, updates: Array, *, reduction: str
) -> tuple[np.ndarray, np.ndarray]:
    return _margins(n, x, _nd_places(indices), updates, reduction)


# ---- reductions `none` and `add` are linear ------------------------------------------------------
#
# With `none` an index must not repeat (ONNX leaves the result open where one does), so every
# element of the result comes from one place. Files repeat one all the same, exporters' among them:
# then the last update stands, as in onnxruntime, and of a constant index that is known beforehand.


def _linear_jvp(s: Site, dots: Vars) -> Vars:
    data, _, updates = dots
    return [s.again(data or s.b.zeros_like(s.x), s.x1, updates or s.b.zeros_like(s.input(2)))]


def _linear_vjp(
    s: Site,
    y_bar: Var,
    gather: Callable[[Site, Var], Var],
    places: Callable[[np.ndarray], Places],
) -> Vars:
    """What was overwritten gets nothing, and what was written gets what stands there."""
    data_bar, updates_bar = None, None
    if s.wants(0):
        kept = s["reduction"] == "add"
        data_bar = y_bar if kept else s.again(y_bar, s.x1, s.b.zeros_like(s.input(2)))
    if s.wants(2):
        updates_bar = gather(s, y_bar)
        stands = _stands(s, places)
        if stands is not None and s["reduction"] == "none":
            lasting = np.reshape(stands, (*stands.shape, *[1] * (updates_bar.rank - stands.ndim)))
            updates_bar = s.b.where(s.b.constant(lasting), updates_bar, 0.0)
    return [data_bar, None, updates_bar]


def _stands(s: Site, places: Callable[[np.ndarray], Places]) -> np.ndarray | None:
    """Which updates no later one overwrites; None where all stand, or that is not known here."""
    indices, shape = s.x1.const, s.x.shape
    if indices is None or shape is None:
        return None
    at = places(indices)
    lead = tuple(d for d in shape[: len(at)] if isinstance(d, int))
    if len(lead) < len(at):
        return None
    flat = ravel(at, lead).reshape(-1)
    _, last = np.unique(flat[::-1], return_index=True)
    if last.size == flat.size:
        return None
    stands = np.zeros(flat.size, bool)
    stands[flat.size - 1 - last] = True
    return stands.reshape(at[0].shape)


# ---- ScatterElements -----------------------------------------------------------------------------


def _gathered(s: Site, x: Var) -> Var:
    """What stands in x at each update's place."""
    return s.b.op("GatherElements", x, s.x1, axis=s["axis"])


def _added(s: Site, updates: Var) -> Var:
    """Updates summed at their places, in the shape of the data."""
    return s.again(s.b.zeros_like(s.x), s.x1, updates, reduction="add")


def _product(s: Site, updates: Var) -> Var:
    """Updates multiplied at their places, 1 elsewhere."""
    return s.again(s.b.full_like(s.x, 1.0), s.x1, updates)


def _others(s: Site) -> Var:
    """For each update, the product of all other updates of the same place.

    Exact at zeros, whose derivative of second order this does not have.
    """
    b, updates = s.b, s.input(2)
    zero = b.op("Equal", updates, b.like(0.0, updates))
    factors, one = b.where(zero, 1.0, updates), b.cast(zero, updates.dtype)
    zeros = _gathered(s, _added(s, one)) - one
    return b.where(zeros > 0.5, 0.0, _gathered(s, _product(s, factors)) / factors)


def _winners(s: Site) -> tuple[Var, Var, Var]:
    """Where the data, and which updates, are the extremum; and how many there are at a place."""
    b, updates = s.b, s.input(2)
    data_won = b.op("Equal", s.x, s.y)
    updates_won = b.op("Equal", updates, _gathered(s, s.y))
    many = b.cast(data_won, s.x.dtype) + _added(s, b.cast(updates_won, s.x.dtype))
    return data_won, updates_won, many


def _elements_jvp(s: Site, dots: Vars) -> Vars:
    b, (data, _, updates) = s.b, dots
    if data is None and updates is None:
        return [None]
    if s["reduction"] in LINEAR:
        return _linear_jvp(s, dots)
    if s["reduction"] == "mul":
        terms = [
            None if data is None else data * _product(s, s.input(2)),
            None if updates is None else _added(s, updates * _others(s) * _gathered(s, s.x)),
        ]
        return [b.total(terms)]
    data_won, updates_won, many = _winners(s)
    total = b.total(
        [
            None if data is None else b.where(data_won, data, 0.0),
            None if updates is None else _added(s, b.where(updates_won, updates, 0.0)),
        ]
    )
    return [None if total is None else total / many]


def _elements_vjp(s: Site, bars: Vars) -> Vars:
    b, (y_bar,) = s.b, bars
    assert y_bar is not None
    if s["reduction"] in LINEAR:
        places = partial(_element_places, rank=s.x.rank, axis=s["axis"])
        return _linear_vjp(s, y_bar, _gathered, places)
    if s["reduction"] == "mul":
        data = y_bar * _product(s, s.input(2)) if s.wants(0) else None
        updates = _gathered(s, y_bar * s.x) * _others(s) if s.wants(2) else None
        return [data, None, updates]
    data_won, updates_won, many = _winners(s)
    share = y_bar / many
    return [
        b.where(data_won, share, 0.0) if s.wants(0) else None,
        None,
        b.where(updates_won, _gathered(s, share), 0.0) if s.wants(2) else None,
    ]


# ---- ScatterND -----------------------------------------------------------------------------------


def _as_elements(s: Site) -> Site:
    """A ScatterND as the ScatterElements of rows, whose kernel does not race."""
    place = places_in(s.b, s.x, s.x1)
    if place is None:
        raise UnsupportedError(f"ScatterND of the whole tensor with reduction {s['reduction']}")
    lead = addressed(s.x1)
    updates = as_rows(s.input(2), s.x1.rank - 1)
    operands = as_rows(s.x, lead), as_column(place, updates), updates
    attrs = {"axis": 0, "reduction": s["reduction"]}
    return Site(s.b, "ScatterElements", operands, attrs, (as_rows(s.y, lead),), s.wanted)


def _nd_jvp(s: Site, dots: Vars) -> Vars:
    data, _, updates = dots
    if data is None and updates is None:
        return [None]
    if s["reduction"] == "none" or not addressed(s.x1):
        return _linear_jvp(s, dots)
    t, lead = _as_elements(s), s.x1.rank - 1
    data = None if data is None else as_rows(data, addressed(s.x1))
    (y_dot,) = _elements_jvp(t, [data, None, None if updates is None else as_rows(updates, lead)])
    return [None if y_dot is None else s.b.reshape_like(y_dot, s.y)]


def _nd_vjp(s: Site, bars: Vars) -> Vars:
    (y_bar,) = bars
    assert y_bar is not None
    if s["reduction"] in LINEAR:
        return _linear_vjp(s, y_bar, lambda s, x: s.b.op("GatherND", x, s.x1), _nd_places)
    out = _elements_vjp(_as_elements(s), [as_rows(y_bar, addressed(s.x1))])
    return [
        None if x_bar is None or x is None else s.b.reshape_like(x_bar, x)
        for x_bar, x in zip(out, s.inputs, strict=True)
    ]


TIES = "of max and min, elements that tie share evenly"
SHARED: dict[str, Any] = {
    "inputs": ("data", "indices", "updates"),
    "infer": _infer,
    "flat": {"indices": INDEX},
    "convention": TIES,
    "rounds": lambda attrs: attrs["reduction"] in ("add", "mul"),
}

CARDS = (
    custom(
        "ScatterElements",
        _scatter_elements,
        _elements_jvp,
        _elements_vjp,
        attrs={"axis": 0, "reduction": "none"},
        batch=along_batch,
        kinks=_element_kinks,
        **SHARED,
    ),
    custom(
        "ScatterND",
        _scatter_nd,
        _nd_jvp,
        _nd_vjp,
        attrs={"reduction": "none"},
        batch=last_batch,
        kinks=_nd_kinks,
        **SHARED,
    ),
)
