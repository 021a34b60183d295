"""Places that indices name: what gathers and scatters share.

Transposes of gathers add at repeated indices. ScatterElements does so, and not ScatterND, which is
faster: onnxruntime's CPU kernel of ScatterND(add) races when it runs on several threads and an
index repeats, and loses updates without a word (measured with 1.32: wrong in 30 runs of 30).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, Var
from gradcli.ops.axes import (
    dims,
    directions,
    product,
    shape_part,
    stretch,
    unstretch,
    with_directions,
)
from gradcli.ops.card import Site
from gradcli.ops.kinds import axis_of

# ---- as numbers ----------------------------------------------------------------------------------


def full_places(indices: np.ndarray, batch_dims: int) -> tuple[np.ndarray, ...]:
    """One index array for each axis that ND indices address, the batch axes' own among them."""
    lead: list[np.ndarray] = list(np.indices(indices.shape[:batch_dims], sparse=True))
    width = indices.ndim - 1 - batch_dims
    own = [np.reshape(i, (*i.shape, *[1] * width)) for i in lead]
    return tuple(np.broadcast_arrays(*own, *np.moveaxis(indices, -1, 0)))


def ravel(places: tuple[np.ndarray, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Index arrays, possibly negative, as one index into the flattened axes."""
    for place, size in zip(places, shape, strict=True):
        if np.any((place < -size) | (place >= size)):
            raise IndexError(f"an index is outside an axis of {size}")
    inside = tuple(np.where(p < 0, p + d, p) for p, d in zip(places, shape, strict=True))
    return np.ravel_multi_index(inside, shape)


# ---- as graphs -----------------------------------------------------------------------------------


def places_in(b: Builder, x: Var, indices: Var, batch_dims: int = 0) -> Var | None:
    """ND indices as indices into the flattened axes that they address; None where there are none.

    Raises:
        UnsupportedError: Where the number of these axes is known only at run time.
    """
    axes, width = addressed(indices, batch_dims), indices.rank - 1 - batch_dims
    place: Var | None = None
    for axis in range(axes):
        size = b.op("Squeeze", shape_part(b, x, axis, axis + 1), b.ints([0]))
        if axis < batch_dims:
            steps = b.op("Range", b.constant(np.int64(0)), size, b.constant(np.int64(1)))
            at = b.reshape(steps, [-1, *[1] * (batch_dims - axis - 1 + width)])
        else:
            at = b.op("Gather", indices, b.constant(np.int64(axis - batch_dims)), axis=-1)
            at = b.where(at < 0, at + size, at)
        place = at if place is None else place * size + at
    return place


def addressed(indices: Var, batch_dims: int = 0) -> int:
    """How many leading axes ND indices address, the batch axes among them."""
    if indices.shape is None or not isinstance(indices.shape[-1], int):
        raise UnsupportedError("ND indices whose length is computed at run time")
    return batch_dims + indices.shape[-1]


def as_rows(x: Var, lead: int) -> Var:
    """x with its first axes as one."""
    rows = product(x.b, shape_part(x.b, x, 0, lead))
    return x.b.op("Reshape", x, dims(x.b, rows, shape_part(x.b, x, lead, x.rank)), allowzero=1)


def as_column(place: Var, like: Var) -> Var:
    """Places of rows as places of all their elements, in the shape of rows `like`."""
    column = place.b.reshape(place, [-1, *[1] * (like.rank - 1)])
    return place.b.expand_like(column, like)


# ---- many directions at once ---------------------------------------------------------------------


def along_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    """Operands that carry no directions, the indices among them, are repeated for each."""
    count = directions(s, batched)
    operands = [
        x if x is None or is_batched else with_directions(s.b, x, count)
        for x, is_batched in zip(s.inputs, batched, strict=True)
    ]
    rank = s.x.rank - 1 if batched[0] else s.x.rank
    return [s.again(*operands, axis=axis_of(s["axis"], rank) + 1)]


def last_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    """Directions go last, where an indexed slice carries them along, and come back to the front."""
    b, count = s.b, directions(s, batched)

    def behind(x: Var | None, is_batched: bool) -> Var | None:
        if x is None or is_batched:
            return None if x is None else unstretch(b, x)
        return b.op("Expand", b.unsqueeze(x, [x.rank]), dims(b, [1] * x.rank, count))

    operands = [
        x if k == 1 else behind(x, is_batched)
        for k, (x, is_batched) in enumerate(zip(s.inputs, batched, strict=True))
    ]
    return [stretch(b, s.again(*operands))]
