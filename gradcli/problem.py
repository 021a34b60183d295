"""What is differentiated, with respect to what, at which point: the question to every method."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from gradcli import runtime
from gradcli.errors import InputError, UnsupportedError, UsageError
from gradcli.graph import DType, Graph, Node, Shape, Value, is_static
from gradcli.interpret import Evaluator
from gradcli.ops import OPS, Table
from gradcli.transform import Element, cast, depends, expose
from gradcli.transform.expose import needed_values
from gradcli.transform.rewrite import felt_values
from gradcli.transform.specialise import specialise

if TYPE_CHECKING:
    from gradcli.onnxfile import Model

OPERATORS = ("gradient", "jacobian", "jvp", "vjp")

JACOBIAN_ENTRIES = 1_000_000
JACOBIAN_ROWS = 1000

Key = tuple[str, str]
"""A block of a derivative: (of, wrt); of is "" for a gradient or vjp, wrt is "" for a jvp."""


@dataclass(frozen=True)
class Problem:
    """One question, put the same way to every method.

    Attributes:
        model: The file, for the primal by its original bytes.
        graph: The primal from `wrt` to `of`, shapes fixed, in the file's own widths.
        wrt: Names of the inputs of `graph` that are differentiated.
        of: Names of the outputs of `graph` that are differentiated.
        operator: `gradient`, `jacobian`, `jvp` or `vjp`.
        point: An array for each input of `graph`, in the file's own dtypes.
        tangents: For a jvp: an array of its shape for each of `wrt`, float64; else empty.
        cotangents: For a vjp: an array of its shape for each of `of`, float64; for a gradient ones;
            else empty.
        dtype: The width in which forward and reverse compute.
        threads: For onnxruntime.
        provider: onnxruntime's execution provider.
        seed: Of every random choice.
        feeds: An array for each input of the whole model, for running its original bytes.
        elements: For each of `of`: the model's tensor and the part of it.
        notes: What a report must say of how the question was completed (random inputs, cotangents).
        table: Cards; another table than OPS is for planting faults.
    """

    model: Model | None
    graph: Graph
    wrt: tuple[str, ...]
    of: tuple[str, ...]
    operator: str
    point: Mapping[str, np.ndarray]
    tangents: Mapping[str, np.ndarray]
    cotangents: Mapping[str, np.ndarray]
    dtype: DType
    threads: int = 1
    provider: str = "CPUExecutionProvider"
    seed: int = 0
    feeds: Mapping[str, np.ndarray] = field(default_factory=dict)
    elements: tuple[Element, ...] = ()
    notes: tuple[str, ...] = ()
    table: Table = OPS

    @cached_property
    def exact(self) -> Graph:
        """The primal with every float tensor in float64: what the saved function means.

        Also where the file computes a part in another width: mixed precision is no staircase.
        """
        return cast(self.graph, DType.FLOAT64, self.table, arithmetic=True)

    @cached_property
    def own(self) -> Graph:
        """The primal in the width that forward and reverse compute in."""
        if self.dtype is DType.FLOAT64:
            return self.exact
        widths = {v.dtype for v in self.graph.values() if v.dtype.is_float}
        return self.graph if widths <= {self.dtype} else cast(self.graph, self.dtype, self.table)

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {v.name: static(v) for v in (*self.graph.inputs, *self.graph.outputs)}

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor in `wrt` or `of`."""
        return self._shapes[name]

    @cached_property
    def keys(self) -> tuple[Key, ...]:
        """The blocks of the answer."""
        if self.operator == "jvp":
            return tuple((of, "") for of in self.of)
        if self.operator == "jacobian":
            return tuple((of, wrt) for of in self.of for wrt in self.wrt)
        return tuple(("", wrt) for wrt in self.wrt)

    def block_shape(self, key: Key) -> tuple[int, ...]:
        """The shape of one block: that of `of`, then that of `wrt`."""
        of, wrt = key
        return (*(self.shape(of) if of else ()), *(self.shape(wrt) if wrt else ()))

    @cached_property
    def columns(self) -> int:
        """How many numbers are differentiated with respect to."""
        return sum(int(np.prod(self.shape(name))) for name in self.wrt)

    @cached_property
    def rows(self) -> int:
        """How many numbers are differentiated."""
        return sum(int(np.prod(self.shape(name))) for name in self.of)


def static(value: Value) -> tuple[int, ...]:
    """The shape of a value, which must be known.

    Raises:
        UnsupportedError: When it is not known before the run.
    """
    shape: Shape | None = value.shape
    if shape is None or not is_static(shape):
        raise UnsupportedError(
            f"the shape of tensor {value.name!r} is not known before the run",
            "differentiate a tensor whose shape follows from the inputs' shapes",
        )
    return tuple(int(d) for d in shape)


# ---- posing --------------------------------------------------------------------------------------


def pose(
    model: Model,
    feeds: Mapping[str, np.ndarray],
    *,
    wrt: Sequence[str] | None = None,
    of: Sequence[str] | None = None,
    operator: str | None = None,
    dtype: DType | None = None,
    tangents: Mapping[str, np.ndarray] | None = None,
    cotangents: Mapping[str, np.ndarray] | None = None,
    threads: int = 1,
    provider: str = "CPUExecutionProvider",
    seed: int = 0,
    notes: Sequence[str] = (),
    table: Table = OPS,
) -> Problem:
    """Complete a question about a model at a point.

    Args:
        model: The file.
        feeds: An array for each of the model's inputs, checked by `check_feeds`.
        wrt: Tensor names; default: the float inputs.
        of: Tensor names or elements such as `y[0,3]`; default: the float outputs.
        operator: Default: one output element gives the gradient; a Jacobian of at most 1e6 entries
            and 1000 rows gives the Jacobian; anything else a vjp with a random cotangent.
        dtype: float32 or float64; default: the file's own.
        tangents: For a jvp; default: random, by the seed, and said in the notes.
        cotangents: For a vjp; likewise.
        threads: For onnxruntime.
        provider: onnxruntime's execution provider.
        seed: Of random directions.
        notes: What the caller already has to say of the point.
        table: Cards.

    Raises:
        UsageError: For an unknown name, with near ones.
        InputError: For directions that do not fit.
        UnsupportedError: For operators without a card between `wrt` and `of`: all of them at once.
    """
    graph = model.graph
    if given := {v: feeds[v.name] for v in graph.constants if v.name in feeds}:
        graph = replace(graph, constants={**graph.constants, **given})
    wrt_names = _wrt(graph, wrt)
    elements = _of(graph, of)
    late = depends(graph, wrt_names, table)
    shapes = {name: array.shape for name, array in feeds.items()}
    fixed = {
        v.name: feeds[v.name] for v in graph.inputs if not v.dtype.is_float and v.name in feeds
    }
    whole = specialise(graph, shapes, fixed, table, keep=wrt_names)
    # By now the branch of an If stands in its place, where the condition is known.
    _refuse_unknown(whole, set(wrt_names) - late, {e.tensor for e in elements}, table)
    point = _point(model, whole, wrt_names, feeds, table, threads, provider)
    if not all(is_static(v.shape) for v in map(whole.value, wrt_names) if v is not None):
        shapes |= {name: array.shape for name, array in point.items()}
        whole = specialise(graph, shapes, fixed, table, keep=wrt_names)
    if found := _shapes_at(whole, point, set(wrt_names) - late, elements, table):
        whole = specialise(graph, shapes | found, fixed, table, keep=wrt_names)
    for element in elements:
        _check_index(whole, element)
    part = expose(whole, wrt_names, elements, {name: point[name] for name in late}, table)
    names_of = tuple(v.name for v in part.outputs)
    sizes = {v.name: int(np.prod(static(v))) for v in (*part.inputs, *part.outputs)}
    said = [*notes, *_without_effect(part, wrt_names, table)]
    if operator is not None and operator not in OPERATORS:
        raise UsageError(f"there is no operator {operator!r}", f"choose {', '.join(OPERATORS)}")
    operator = operator or _default_operator(
        sum(sizes[n] for n in names_of), sum(sizes[n] for n in wrt_names), tangents, cotangents
    )
    rows = sum(sizes[n] for n in names_of)
    if operator == "gradient" and rows != 1:
        raise UsageError(
            f"a gradient is of one number, and {', '.join(names_of)} has {rows}",
            f"choose one element with --of '{names_of[0]}[0,...]', or --operator jacobian or vjp",
        )
    rng = np.random.default_rng(seed)
    given_dots = _directions(
        part.inputs, wrt_names, tangents, "tangent", operator == "jvp", rng, said
    )
    given_bars = _directions(
        part.outputs, names_of, cotangents, "cotangent", operator == "vjp", rng, said
    )
    if operator == "gradient":
        given_bars = {
            name: np.ones(static(v)) for name, v in zip(names_of, part.outputs, strict=True)
        }
    return Problem(
        model,
        part,
        tuple(wrt_names),
        names_of,
        operator,
        {v.name: point[v.name] for v in part.inputs},
        given_dots,
        given_bars,
        dtype or _own_dtype(part),
        threads,
        provider,
        seed,
        dict(feeds),
        tuple(replace(e, label=name) for e, name in zip(elements, names_of, strict=True)),
        tuple(said),
        table,
    )


def _own_dtype(graph: Graph) -> DType:
    """The width of the file: that of its float inputs, the widest when they differ.

    bfloat16 and narrower, in which runtimes store more than they compute, count as float32.
    """
    widths = {v.dtype for v in (*graph.inputs, *graph.outputs)}
    computed = (DType.FLOAT64, DType.FLOAT32, DType.FLOAT16)
    return next((d for d in computed if d in widths), DType.FLOAT32)


def _without_effect(graph: Graph, wrt: Sequence[str], table: Table) -> list[str]:
    """A note on those of `wrt` from which no derivative reaches the outputs."""
    felt, names = felt_values(graph, graph.outputs, table), set(wrt)
    none = [v.name for v in graph.inputs if v.name in names and v not in felt]
    if not none:
        return []
    of = ", ".join(v.name for v in graph.outputs)
    why = "there is no way between them, or only one by steps and indices"
    return [f"the derivative of {of} with respect to {', '.join(none)} is 0: {why}"]


def _default_operator(rows: int, columns: int, tangents: object, cotangents: object) -> str:
    if tangents is not None:
        return "jvp"
    if cotangents is not None:
        return "vjp"
    if rows == 1:
        return "gradient"
    if rows <= JACOBIAN_ROWS and rows * columns <= JACOBIAN_ENTRIES:
        return "jacobian"
    return "vjp"


def _wrt(graph: Graph, names: Sequence[str] | None) -> list[str]:
    if names:
        by_name = {v.name: v for v in graph.values()}
        for name in names:
            _known(name, by_name, "--wrt")
        return list(dict.fromkeys(names))
    found = [v.name for v in graph.inputs if v.dtype.is_float]
    if not found:
        candidates = [v.name for node in graph.nodes for v in node.makes() if v.dtype.is_float]
        listed = ", ".join(candidates[:5]) or "none"
        raise UsageError(
            "the model has no float input to differentiate with respect to",
            f"choose a float tensor inside it with --wrt; the first ones are: {listed}",
        )
    return found


_ELEMENT = re.compile(r"^(?P<tensor>.*)\[(?P<index>[^\[\]]*)\]$", re.DOTALL)


def _of(graph: Graph, names: Sequence[str] | None) -> list[Element]:
    by_name = {v.name: v for v in graph.values()}
    if not names:
        floats = (v.name for v in graph.outputs if v.dtype.is_float)
        found = [Element(name) for name in dict.fromkeys(floats)]
        if not found:
            raise UsageError(
                "the model has no float output to differentiate",
                "choose a float tensor inside it with --of",
            )
        return found
    elements = []
    for text in dict.fromkeys(names):
        match = _ELEMENT.match(text)
        if text in by_name or match is None:
            _known(text, by_name, "--of")
            elements.append(Element(text))
        else:
            _known(match["tensor"], by_name, "--of")
            elements.append(Element(match["tensor"], _index(match["index"], text), text))
    return elements


def _index(text: str, whole: str) -> tuple[int | slice, ...]:
    try:
        return tuple(_one_index(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--of {whole!r}: the index is not a list of integers and slices",
            "write it as 'NAME[0,3]' or 'NAME[:,2]'",
        ) from None


def _one_index(text: str) -> int | slice:
    if ":" not in text:
        return int(text)
    parts = [int(p) if p.strip() else None for p in text.split(":")]
    if len(parts) > 3 or parts[2:] == [0]:
        raise ValueError(text)
    return slice(*parts)


def _check_index(graph: Graph, element: Element) -> None:
    """Refuse an element that the tensor does not have.

    Raises:
        UsageError: Naming the tensor's shape.
        UnsupportedError: When that is not known before the run.
    """
    value = graph.value(element.tensor)
    if value is None or not element.index:
        return
    shape = static(value)
    fits = len(element.index) <= len(shape) and all(
        len(range(size)[at]) > 0 if isinstance(at, slice) else -size <= at < size
        for at, size in zip(element.index, shape, strict=False)
    )
    if not fits:
        raise UsageError(
            f"--of {element.name!r}: there is no such element; {element.tensor!r} has shape"
            f" {list(shape)}",
            "indices start at 0, one for each axis",
        )


def _known(name: str, by_name: Mapping[str, Value], option: str) -> None:
    value = by_name.get(name)
    if value is None:
        match = _ELEMENT.match(name)
        if option == "--wrt" and match is not None and match["tensor"] in by_name:
            raise UsageError(
                f"--wrt {name!r}: a derivative is with respect to whole tensors",
                f"choose --wrt {match['tensor']!r} and read the result at the element's index",
            )
        hint = _near(name, by_name) or "the model's tensors include " + ", ".join(list(by_name)[:5])
        raise UsageError(f"{option}: the model has no tensor called {name!r}", hint)
    if not value.dtype.is_float:
        raise UsageError(
            f"{option}: tensor {name!r} holds {value.dtype.value}, which has no derivative",
            "choose a float tensor",
        )


def _near(name: str, names: Iterable[str]) -> str:
    """A question with the names that look like this one, or nothing."""
    folded = {other.casefold(): other for other in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=4, cutoff=0.5)
    return f"did you mean {', '.join(folded[n] for n in near)}?" if near else ""


def _refuse_unknown(graph: Graph, cut: set[str], of: set[str], table: Table) -> None:
    """All nodes without a card that are needed for `of`, in one error."""
    needed = needed_values(graph, cut, of)
    unknown: dict[str, list[str]] = {}
    for node in graph.nodes:
        if any(v in needed for v in node.makes()) and not _has_card(node, table):
            unknown.setdefault(node.key, []).append(node.name)
    if unknown:
        listed = "; ".join(
            f"{key} (node {', '.join(map(repr, names))})" for key, names in sorted(unknown.items())
        )
        raise UnsupportedError(
            f"gradcli has no card for: {listed}",
            "differentiate a part of the model without them, with --wrt and --of",
        )


def _has_card(node: Node, table: Table) -> bool:
    return node.key in table and table[node.key].impl is not None


def _point(
    model: Model,
    graph: Graph,
    wrt: Sequence[str],
    feeds: Mapping[str, np.ndarray],
    table: Table,
    threads: int,
    provider: str,
) -> dict[str, np.ndarray]:
    """The value of every tensor that may become an input.

    A value inside the graph is the interpreter's, or onnxruntime's where it takes an operator that
    has no card.
    """
    point = dict(feeds)
    sought = set(wrt) - feeds.keys()
    inner = {v.name: v for v in graph.values() if v.name in sought}
    for value in [v for v in inner.values() if v in graph.constants]:
        point[value.name] = graph.constants[inner.pop(value.name)]
    if not inner:
        return point
    before = expose(graph, (), [Element(name) for name in inner], table=table)
    if all(_has_card(node, table) for node in before.nodes):
        values = Evaluator(cast(before, DType.FLOAT64, table), table=table).run(point)
    else:
        session = runtime.prepare(
            model, threads=threads, provider=provider, extra_outputs=sorted(inner)
        )
        values = session.run(feeds)
    for name, value in inner.items():
        point[name] = np.asarray(values[name]).astype(value.dtype.np)
    return point


def _shapes_at(
    graph: Graph,
    point: Mapping[str, np.ndarray],
    cut: set[str],
    elements: Sequence[Element],
    table: Table,
) -> dict[str, tuple[int, ...]]:
    """The shapes that hang on the values of floats, such as the depth of a OneHot, at the point."""
    needed = needed_values(graph, cut, {e.tensor for e in elements})
    if not (loose := [v.name for v in needed if not is_static(v.shape)]):
        return {}
    fed = [v.name for v in graph.values() if v.name in cut]
    before = expose(graph, fed, [Element(name) for name in loose], table=table)
    values = Evaluator(cast(before, DType.FLOAT64, table), table=table).run(point)
    return {name: np.shape(values[name]) for name in loose}


def check_directions(
    problem: Problem, given: Mapping[str, np.ndarray], what: str
) -> dict[str, np.ndarray]:
    """Tangents or cotangents for a problem, in float64.

    Args:
        problem: The question.
        given: Arrays by name; the empty name stands for the only tensor.
        what: `tangent` or `cotangent`.

    Raises:
        InputError: When one is missing, unknown, of another shape, or not finite.
    """
    graph = problem.graph
    values, names = (
        (graph.inputs, problem.wrt) if what == "tangent" else (graph.outputs, problem.of)
    )
    return _directions(values, names, given, what, True, np.random.default_rng(0), [])


def _directions(
    values: Sequence[Value],
    names: Sequence[str],
    given: Mapping[str, np.ndarray] | None,
    what: str,
    needed: bool,
    rng: np.random.Generator,
    said: list[str],
) -> dict[str, np.ndarray]:
    """Checked directions for these names, or random ones."""
    if not needed:
        if given is not None:
            raise UsageError(
                f"--{what} makes no sense for this operator",
                f"use --operator {'jvp' if what == 'tangent' else 'vjp'}",
            )
        return {}
    shapes = {v.name: static(v) for v in values}
    if given is None:
        said.append(f"the {what} is random (standard normal); give one with --{what} FILE")
        return {name: rng.standard_normal(shapes[name]) for name in names}
    out = {}
    if extra := given.keys() - set(names) - {""}:
        raise InputError(
            f"--{what}: {', '.join(sorted(extra))} is not differentiated here",
            f"it needs an array for each of: {', '.join(names)}",
        )
    for name in names:
        array = given.get(name, given.get("") if len(names) == 1 else None)
        if array is None:
            raise InputError(
                f"--{what}: there is no array for {name!r}",
                f"give a .npz with an array for each of: {', '.join(names)}",
            )
        array = np.asarray(array)
        if array.dtype.kind not in "fiu":
            raise InputError(f"--{what}: the array for {name!r} holds {array.dtype}, not floats")
        if array.shape != shapes[name]:
            raise InputError(
                f"--{what}: the array for {name!r} has shape {list(array.shape)};"
                f" the tensor has {list(shapes[name])}"
            )
        if not np.all(np.isfinite(array)):
            raise InputError(f"--{what}: the array for {name!r} holds NaN or infinity")
        out[name] = array.astype(np.float64)
    return out


# ---- the point -----------------------------------------------------------------------------------


def check_feeds(
    model: Model,
    given: Mapping[str, np.ndarray],
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """An array for each model input: the given ones checked, missing float ones drawn at random.

    Args:
        model: The file.
        given: Arrays by input name.
        shapes: For drawing: shapes by input name. Without one, a symbolic dimension is as large as
            in an input that has it too and is given, else 1.
        seed: Of the draw.

    Returns:
        The arrays, and what must be said about those that were drawn.

    Raises:
        InputError: For an unknown or missing name, a wrong shape or dtype, NaN or infinity.
    """
    inputs = {v.name: v for v in model.graph.inputs}
    shapes = dict(shapes or {})
    known = declared(model)
    for name in (*given, *shapes):
        if name not in known or (name in shapes and name not in inputs):
            raise InputError(
                f"the model has no input called {name!r}",
                _near(name, inputs) or f"its inputs are: {', '.join(inputs)}",
            )
    feeds: dict[str, np.ndarray] = {}
    drawn: list[str] = []
    rng = np.random.default_rng(seed)
    asked = {**shapes, **{name: np.shape(array) for name, array in given.items()}}
    sizes = {
        dim: int(size)
        for name, value in inputs.items()
        for dim, size in zip(value.shape or (), asked.get(name, ()), strict=False)
        if isinstance(dim, str)
    }
    for name, value in inputs.items():
        if name in given:
            feeds[name] = _fit(name, np.asarray(given[name]), value)
        elif value.dtype.is_float:
            shape = _drawn_shape(value, shapes.get(name), sizes)
            feeds[name] = rng.standard_normal(shape).astype(value.dtype.np)
            drawn.append(f"{name}{list(shape)}")
        else:
            raise InputError(
                f"input {name!r} holds {value.dtype.value} and cannot be drawn at random",
                f"give it with --input {name}=FILE.npy",
            )
    for name in given.keys() - inputs.keys():
        if not known[name].dtype.is_float:
            raise InputError(
                f"input {name!r} holds {known[name].dtype.value} and has a value in the model",
                "gradcli replaces such values where they are floats only: leave it out",
            )
        feeds[name] = _fit(name, np.asarray(given[name]), known[name])
    notes = []
    if drawn:
        notes.append(
            f"input {', '.join(drawn)} is random (standard normal, seed {seed}):"
            " give real data with --input"
        )
    return feeds, notes


def declared(model: Model) -> dict[str, Value]:
    """What a run may be given: the inputs, then the constants that are declared as inputs too."""
    defaults = (v for v in model.graph.constants if v.name in set(model.overridable))
    return {v.name: v for v in (*model.graph.inputs, *defaults)}


def _drawn_shape(
    value: Value, asked: Sequence[int] | None, sizes: Mapping[str, int]
) -> tuple[int, ...]:
    if asked is not None:
        shape = tuple(int(d) for d in asked)
        check_shape(value.name, shape, value, "--shape")
        return shape
    if value.shape is None:
        raise InputError(
            f"input {value.name!r} declares no shape",
            f"give one with --shape {value.name}=1,3,224,224, or an array with --input",
        )
    return tuple(d if isinstance(d, int) else sizes.get(d, 1) for d in value.shape)


def _fit(name: str, array: np.ndarray, value: Value) -> np.ndarray:
    check_shape(name, array.shape, value, "--input")
    want = value.dtype
    if want is DType.STRING:
        return array
    if want.is_float:
        if array.dtype.kind not in "fiuV":
            raise InputError(
                f"input {name!r} must hold {want.value}; the array holds {array.dtype}"
            )
        with np.errstate(over="ignore"):
            fitted = array.astype(want.np)
        bad = np.argwhere(~np.isfinite(fitted.astype(np.float64)))
        if len(bad):
            raise InputError(
                f"input {name!r} holds NaN or infinity, first at {[int(i) for i in bad[0]]}",
                "a derivative there means nothing; clean the data first",
            )
        return fitted
    if array.dtype != want.np:
        if (
            array.dtype.kind in "iu"
            and want.is_integer
            and np.array_equal(array.astype(want.np), array)
        ):
            return array.astype(want.np)
        raise InputError(
            f"input {name!r} must hold {want.value}; the array holds {array.dtype}",
            f"convert it with numpy's .astype({want.value!r})",
        )
    return array


def check_shape(name: str, shape: tuple[int, ...], value: Value, option: str) -> None:
    """Hold a shape against what the model declares.

    Raises:
        InputError: When it does not fit, naming the option it came by.
    """
    if value.shape is None:
        return
    fits = len(shape) == len(value.shape) and all(
        not isinstance(d, int) or d == s for d, s in zip(value.shape, shape, strict=False)
    )
    if not fits:
        want = "[" + ", ".join(map(str, value.shape)) + "]"
        raise InputError(
            f"{option}: input {name!r} has shape {list(shape)}; the model wants {want}",
        )
