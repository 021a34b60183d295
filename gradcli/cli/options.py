"""What compare and grad share: the options of a question, and how they become a Problem."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gradcli.cli.completing import Tensor
from gradcli.cli.shell import say
from gradcli.errors import InputError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from gradcli.cli.files import Stdin
    from gradcli.cli.images import Recipe
    from gradcli.cli.stored import Stored
    from gradcli.graph import Value
    from gradcli.onnxfile import Model
    from gradcli.problem import Problem

F = TypeVar("F", bound=Callable[..., Any])

METHODS = (
    "forward",
    "reverse",
    "symbolic",
    "symbolic-plain",
    "finite-forward",
    "finite-central",
    "finite",
    "complex-step",
)
"""Named here for the help, which must not import them; a test holds the two lists together."""


class Number(click.ParamType):  # type: ignore[type-arg] # generic from click 8.4 on only
    """A finite number, of at least (or above) some bound.

    Args:
        least: The bound.
        above: Whether the bound itself is refused.
    """

    name = "number"

    def __init__(self, least: float, *, above: bool = False) -> None:
        self._least = least
        self._above = above

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number in a word."""
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number", param, ctx)
        low = number <= self._least if self._above else number < self._least
        if low or not math.isfinite(number):
            bound = "above" if self._above else "at least"
            self.fail(f"{value} is not a finite number {bound} {self._least:g}", param, ctx)
        return number


class Shape(click.ParamType):  # type: ignore[type-arg] # likewise
    """NAME=1,15,64."""

    name = "shape"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        """The name and the sizes."""
        name, _, sizes = str(value).rpartition("=")
        try:
            shape = tuple(int(size) for size in sizes.split(",") if sizes)
        except ValueError:
            shape = (-1,)
        if not name or min(shape, default=0) < 0:
            self.fail(f"{value!r} is not of the form NAME=1,15,64", param, ctx)
        return name, shape


_POINT = (
    click.argument("model", metavar="MODEL", type=click.Path()),
    click.option(
        "--input",
        "-i",
        "inputs",
        multiple=True,
        metavar="[NAME=]FILE",
        type=Tensor("inputs", "="),
        help="The point: a .npy for the only input, NAME=x.npy (repeat it), or a .npz by name;"
        " also .csv (a row is a point), .json, .pb (TensorProto), .png and .jpg; or NAME=0.5, a"
        " number for every place. '-' is stdin. Float inputs that are missing are drawn at random.",
    ),
    click.option(
        "--image",
        metavar="HOW",
        help="How pixels become numbers: 'default' (times 1/255), 'imagenet', or items like"
        " size=224x224,layout=NCHW,channels=BGR,scale=1/255,mean=0.5:0.5:0.5,std=0.5. Size and"
        " layout are the model's unless given.",
    ),
    click.option(
        "--shape",
        "shapes",
        multiple=True,
        type=Shape(),
        metavar="NAME=1,15,64",
        help="Shape of an input drawn at random; without it unknown dimensions are 1, or the least"
        " of 8, 32, 128, 224, 512 that the model can take.",
    ),
    click.option(
        "--wrt",
        multiple=True,
        type=Tensor("all"),
        metavar="NAME",
        help="Differentiate with respect to this tensor (repeat it). [default: the float inputs]",
    ),
    click.option(
        "--of",
        multiple=True,
        type=Tensor("all"),
        metavar="NAME",
        help="Differentiate this tensor, or elements of it: 'NAME[0,3]' (repeat it). [default: the"
        " float outputs]",
    ),
)

dtype_option = click.option(
    "--dtype",
    type=click.Choice(["float32", "float64"]),
    help="Arithmetic of forward and reverse. [default: the model's own]",
)

_STRAIGHT_THROUGH = click.option(
    "--straight-through",
    is_flag=True,
    help="Ask for the straight-through estimator instead: a convention that takes rounding and"
    " quantising for the identity, within their range.",
)

_SEED = click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of every random choice.",
)

_OPERATOR = (
    click.option(
        "--operator",
        type=click.Choice(["gradient", "jacobian", "jvp", "vjp"]),
        help="[default: gradient of one output element, the Jacobian if it is small, else a vjp"
        " with a random cotangent]",
    ),
    click.option(
        "--tangent",
        metavar="FILE",
        type=click.Path(),
        help="For a jvp: a .npy, or a .npz by name of wrt. [default: random]",
    ),
    click.option(
        "--cotangent",
        metavar="FILE",
        type=click.Path(),
        help="For a vjp: a .npy, or a .npz by name of of. [default: random]",
    ),
)

_QUESTION = (
    *_POINT,
    click.option(
        "--points",
        multiple=True,
        metavar="[NAME=]FILE",
        help="Several points: the rows of a .csv, the leading axis of the arrays in a .npy, .npz or"
        " .json. The worst point is reported. What --input gives is the same at all.",
    ),
    *_OPERATOR,
    dtype_option,
    click.option(
        "--step",
        type=Number(0, above=True),
        metavar="H",
        help="Step of finite differences, relative to max(1, |x|).",
    ),
    _STRAIGHT_THROUGH,
    click.option(
        "--threads",
        type=click.IntRange(1, 1024),
        default=1,
        show_default=True,
        help="For onnxruntime.",
    ),
    click.option(
        "--provider",
        default="CPUExecutionProvider",
        show_default=True,
        help="onnxruntime's execution provider.",
    ),
    _SEED,
)


def question_options(command: F) -> F:
    """Add MODEL and the options of a question."""
    return _decorated(command, _QUESTION)


def where_options(command: F) -> F:
    """Add MODEL and those options that say of what, by what and at which point."""
    return _decorated(command, _POINT)


def operator_options(command: F) -> F:
    """Add which operator it is, and along what."""
    return _decorated(command, _OPERATOR)


def _decorated(command: F, options: Sequence[Callable[[F], F]]) -> F:
    for decorate in reversed(options):
        command = decorate(command)
    return command


def point_options(command: F) -> F:
    """Add MODEL and the options of a question whose answer is no number."""
    return _decorated(command, (*_POINT, _STRAIGHT_THROUGH, _SEED))


def point(
    model: str,
    inputs: Sequence[str],
    image: str | None,
    shapes: Sequence[tuple[str, tuple[int, ...]]],
    stdin: Stdin | None = None,
) -> tuple[Model, dict[str, np.ndarray]]:
    """The model and the inputs that a command line gives."""
    from gradcli.cli.files import Stdin
    from gradcli.cli.images import recipe

    stdin = stdin or Stdin()
    loaded = load(model, stdin)
    how = None if image is None else recipe(image)
    return loaded, _feeds(loaded, inputs, stdin, how, dict(shapes))


def ask(model: str, *, points: Sequence[str] = (), **question: Any) -> Problem:
    """The Problem that a command line describes at one point. See `asked`."""
    if points:
        raise UsageError("this command takes one point", "give it with --input")
    ((_, problem),) = asked(model, points=points, **question)[1]
    return problem


def asked(
    model: str,
    *,
    inputs: Sequence[str],
    shapes: Sequence[tuple[str, tuple[int, ...]]],
    tangent: str | None,
    cotangent: str | None,
    points: Sequence[str] = (),
    image: str | None = None,
    drawn: bool = True,
    warn: Callable[[str], None] = say,
    **question: Any,
) -> tuple[int, Iterator[tuple[str, Problem]]]:
    """The Problems that a command line describes; what was completed is told on stderr, once.

    Args:
        model: A path, or `-`.
        inputs: As given to --input.
        shapes: As given to --shape.
        tangent: A path, or None.
        cotangent: Likewise.
        points: As given to --points.
        image: As given to --image.
        drawn: Whether it matters that inputs were drawn at random where nothing hangs on them.
        warn: Is told what was completed.
        question: The other arguments of `api.ask`.

    Returns:
        How many there are, and each with what its point is called: made when it is asked for,
        from files that were read and checked before.
    """
    from gradcli import api
    from gradcli.cli.files import Stdin
    from gradcli.cli.images import recipe
    from gradcli.problem import DRAWN

    stdin = Stdin()
    loaded = load(model, stdin)
    how = None if image is None else recipe(image)
    feeds = _feeds(loaded, inputs, stdin, how, dict(shapes))
    at = _points(loaded, points, stdin, feeds) if points else [("", {})]
    more = {
        "shapes": dict(shapes),
        "tangent": directions(tangent, "--tangent", stdin),
        "cotangent": directions(cotangent, "--cotangent", stdin),
        **question,
    }

    def each() -> Iterator[tuple[str, Problem]]:
        told: set[str] = set()
        for label, point in at:
            problem = api.ask(loaded, {**feeds, **point}, **more)
            for note in problem.notes:
                if note not in told and (drawn or problem.branches or DRAWN not in note):
                    warn(f"warning: {note}")
                told.add(note)
            yield label, problem

    return len(at), each()


def _points(
    model: Model, given: Sequence[str], stdin: Any, feeds: Mapping[str, np.ndarray]
) -> list[tuple[str, Mapping[str, np.ndarray]]]:
    """Every --points, all of it read and checked."""
    from gradcli.cli.files import open_arrays
    from gradcli.cli.points import points_of
    from gradcli.problem import declared

    values = declared(model)
    stored: dict[str, Stored] = {}
    for text in given:
        name, path = split_input(text, values, model.real_names, "--points")
        found = open_arrays(path, "--points", stdin)
        for given_as, array in _named(name, found, [v.name for v in model.graph.inputs]).items():
            key = model.shown(given_as)
            if key in stored:
                raise UsageError(f"--points gives {key!r} twice", "give each input once")
            stored[key] = array
    return [(p.label, p.feeds) for p in points_of(stored, values, feeds)]


def load(model: str, stdin: Stdin) -> Model:
    """The model at a path, or on stdin for `-`."""
    from gradcli import api

    return api.load(stdin.read("MODEL"), name="<stdin>") if model == "-" else api.load(model)


def _feeds(
    model: Model,
    given: Sequence[str],
    stdin: Any,
    image: Recipe | None,
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, np.ndarray]:
    """Every --input, read after its header was held against the model."""
    from gradcli.cli.files import open_arrays
    from gradcli.onnxfile import printable
    from gradcli.problem import check_shape, declared

    values = declared(model)
    feeds: dict[str, np.ndarray] = {}
    for text in given:
        name, path = split_input(text, values, model.real_names)
        filled = _filled(path, values.get(model.shown(name)), shapes.get(name))
        stored = filled or open_arrays(path, "--input", stdin, image)
        for given_as, array in _named(name, stored, [v.name for v in model.graph.inputs]).items():
            key = model.shown(given_as)
            if key in feeds:
                raise UsageError(f"--input gives {key!r} twice", "give each input once")
            if key not in values:
                raise InputError(
                    f"--input {printable(path)}: the model has no input called {given_as!r}",
                    _meant(given_as, [v.name for v in model.graph.inputs], path, len(stored)),
                )
            fitted = array.fitted(values[key])
            check_shape(key, fitted.shape, values[key], array.where)
            if shapes.get(key, fitted.shape) != fitted.shape:
                raise InputError(
                    f"{array.where} gives input {key!r} the shape {list(fitted.shape)}, --shape"
                    f" {list(shapes[key])}",
                    "leave --shape out: it is for inputs without an array",
                )
            feeds[key] = fitted.read()
    return feeds


def _filled(
    text: str, value: Value | None, asked: Sequence[int] | None
) -> dict[str, Stored] | None:
    """An input with one number in every place; None where the text is no number, or is a file."""
    import numpy as np

    from gradcli.cli.stored import here

    whole = re.fullmatch(r"[+-]?\d{1,18}", text) is not None
    try:
        number = int(text) if whole else float(text)
    except ValueError:
        return None
    if value is None or Path(text).exists():
        return None
    shape = [d if isinstance(d, int) else 1 for d in value.shape or ()] if asked is None else asked
    boolean = value.dtype.np == np.bool_ and number in (0, 1)
    array = np.full(shape, number, bool if boolean else None)
    return {"": here(f"--input {value.name}={text}", array)}


def _meant(name: str, inputs: Sequence[str], path: str, arrays: int) -> str:
    """What may have been meant by an array of a file that is called as no input."""
    from gradcli.problem.names import near

    known = near(name, inputs) or f"its inputs are: {', '.join(inputs)}"
    whatever = f"; whatever the array is called: --input {' or '.join(inputs[:1])}={path}"
    return known + whatever * (arrays == 1 == len(inputs))


def split_input(
    text: str, names: Mapping[str, object], real_names: Iterable[str] = (), option: str = "--input"
) -> tuple[str, str]:
    """`name=path` after the longest matching input name; just a path gives an empty name.

    Args:
        text: What was given.
        names: The inputs, as they are shown.
        real_names: Names of the file that are not shown as they are.
        option: The option it was given to, for messages.

    Raises:
        InputError: When there is no such input, and no such file either.
    """
    found = [name for name in (*names, *real_names) if text.startswith(f"{name}=")]
    if found:
        name = max(found, key=len)
        return name, text[len(name) + 1 :]
    before, equals, _ = text.partition("=")
    if equals and not Path(text).exists():
        import difflib

        near = difflib.get_close_matches(before, names, 3, 0.4)
        raise InputError(
            f"{option} {text}: the model has no input called {before!r}, and there is no such file",
            f"did you mean {' or '.join(near)}?" if near else f"its inputs are: {', '.join(names)}",
        )
    return "", text


def _named(name: str, stored: Mapping[str, Stored], inputs: Sequence[str]) -> dict[str, Stored]:
    """Arrays under the names of the inputs that they are for."""
    from gradcli.cli.texts import by_column

    if not name and "" not in stored:
        return dict(stored)
    if not name:
        only = stored[""]
        if len(inputs) > 1 and only.columns and set(only.columns) == set(inputs):
            return by_column(only, inputs)
        if len(inputs) != 1 and only.name in inputs:
            return {only.name: only}
        if len(inputs) != 1:
            raise InputError(
                f"{stored[''].where}: the model has {len(inputs)} inputs",
                f"say for which it is: --input NAME=FILE, of {', '.join(inputs)}",
            )
        return {inputs[0]: stored[""]}
    if name in stored or len(stored) == 1:
        return {name: stored.get(name) or next(iter(stored.values()))}
    raise InputError(
        f"--input {name}: the archive has {len(stored)} arrays, none of that name",
        f"it has: {', '.join(list(stored)[:8])}",
    )


def directions(path: str | None, option: str, stdin: Stdin) -> dict[str, np.ndarray] | None:
    """What --tangent or --cotangent gives, by name."""
    if path is None:
        return None
    from gradcli.cli.files import open_arrays

    return {name: stored.read() for name, stored in open_arrays(path, option, stdin).items()}
