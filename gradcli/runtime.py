"""onnxruntime: a graph, or a model file's own bytes, prepared once and run many times.

The only door to onnxruntime, which is imported when something is prepared. It never opens a file
by itself: external tensors are handed to it as the very maps that the reader checked.
"""

from __future__ import annotations

import ctypes
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from gradcli import onnxfile
from gradcli.errors import InputError, KernelError, ModelError, UsageError
from gradcli.graph import DType, Graph, Value, is_static
from gradcli.onnxfile import Model

Optimisation = Literal["all", "extended", "basic", "off"]

CPU = "CPUExecutionProvider"

MOST_THREADS = 1024
"""Beyond what any machine has use for, onnxruntime fails without a word."""

_LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "off": "ORT_DISABLE_ALL",
}

LONG = 10_000
"""Nodes above which a graph runs as it stands. onnxruntime's time to rewrite it grows with the
square: of a recurrence of 20,000 nodes a session takes 1.2 s without and 4.9 s with it, of 60,000
4.7 s and 54 s, and its runs are none the faster."""

_EMBED_TOTAL = 2**28
"""Up to here all constants lie in the file, where onnxruntime folds and pre-packs them."""

_EMBED_EACH = 2**20
"""Beyond it, only constants of so many bytes do; the others are mapped, which costs nothing."""

_UNSEEN: dict[DType, tuple[int, np.dtype[Any]]] = {
    DType.BFLOAT16: (16, np.dtype(np.uint16)),
    DType.FLOAT8E4M3FN: (17, np.dtype(np.uint8)),
    DType.FLOAT8E4M3FNUZ: (18, np.dtype(np.uint8)),
    DType.FLOAT8E5M2: (19, np.dtype(np.uint8)),
    DType.FLOAT8E5M2FNUZ: (20, np.dtype(np.uint8)),
}
"""Element types that onnxruntime has but cannot exchange with NumPy: their numbers and carriers."""

_RUNNING = re.compile(
    r"Non-zero status code .* while running (\S+) node. Name:'(.*?)' Status Message: "
)
_PLACE = re.compile(r"\S+\.(?:cc|cpp|cu|h):\d+ ")


class Session:
    """A prepared model. Made by `prepare`.

    Attributes:
        inputs: What a run must be given.
        outputs: Names of what a run gives back, in order.
        provider: The execution provider that onnxruntime runs it on.
    """

    def __init__(
        self,
        native: Any,
        inputs: Sequence[Value],
        outputs: Sequence[Value | str],
        optional: Mapping[str, str],
        fixed: Mapping[str, np.ndarray],
        provider: str,
    ) -> None:
        self._native = native
        self.inputs = tuple(inputs)
        self.outputs = tuple(v if isinstance(v, str) else v.name for v in outputs)
        self.provider = provider
        # By place: a name that had to be made printable differs from the file's own.
        given = [i.name for i in native.get_inputs()]
        self._feeds = {v.name: name for v, name in zip(self.inputs, given, strict=False)}
        self._feeds.update(optional)
        self._types = {v.name: v for v in self.inputs}
        self._fetches = [o.name for o in native.get_outputs()]
        self._fixed = {name: _shareable(array) for name, array in fixed.items()}
        known = [v.dtype for v in (*inputs, *outputs) if isinstance(v, Value)]
        self._bound_only = any(dtype in _UNSEEN for dtype in known)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs by name, in fresh arrays.

        Args:
            feeds: An array for every input, of its dtype. Constants that the file declares as
                inputs may be given too.

        Raises:
            InputError: When names, dtypes or shapes do not fit the model.
            KernelError: When the run fails.
        """
        if self._bound_only:
            return Bound(self, self._check(feeds)).run()
        try:
            named: dict[str, Any] = {self._feeds[k]: np.asarray(x) for k, x in feeds.items()}
            named.update(self._fixed)
            results = self._native.run(self._fetches, named)
        except Exception as error:
            # onnxruntime looks at names, types and shapes itself; looking first would cost a tiny
            # network as much as the run. What is wrong is found out when something is.
            self._check(feeds)
            raise _failure(error) from error
        return dict(zip(self.outputs, results, strict=True))

    def bind(self, feeds: Mapping[str, np.ndarray]) -> Bound:
        """A run of fixed shapes, made ready to be repeated: a third of the overhead of `run`.

        Raises:
            InputError: When names, dtypes or shapes do not fit the model.
        """
        return Bound(self, self._check(feeds))

    def _check(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if missing := [v.name for v in self.inputs if v.name not in feeds]:
            raise InputError(
                f"no value is given for input {', '.join(map(repr, missing))}",
                f"The model's inputs are: {', '.join(map(repr, self.inputs))}.",
            )
        arrays = {}
        for name, given in feeds.items():
            if name not in self._feeds:
                near = difflib.get_close_matches(name, self._feeds, 3)
                raise InputError(
                    f"the model has no input {onnxfile.printable(name)!r}",
                    f"Did you mean {' or '.join(map(repr, near))}?"
                    if near
                    else f"Its inputs are: {', '.join(map(repr, self.inputs))}.",
                )
            array = np.asarray(given)
            value = self._types.get(name)
            if value is not None:
                _check_fits(array, value)
            arrays[name] = array
        return arrays


class Bound:
    """A run with its arrays in place. Made by `Session.bind`.

    Attributes:
        inputs: The arrays that a run reads, by name. Write into them to change what is run.
    """

    def __init__(self, session: Session, arrays: Mapping[str, np.ndarray]) -> None:
        self._session = session
        self._native = session._native
        self._binding = self._native.io_binding()
        self.inputs = {
            name: np.array(array, order="C", copy=True) for name, array in arrays.items()
        }
        self._kept: list[Any] = []
        try:
            for name, array in self.inputs.items():
                self._bind_input(session._feeds[name], array)
            for name, array in session._fixed.items():
                self._bind_input(name, array)
            for name in session._fetches:
                self._binding.bind_output(name)
        except Exception as error:
            raise _failure(error) from error

    def _bind_input(self, name: str, array: np.ndarray) -> None:
        ortvalue = _ortvalue(array)
        self._kept.append(ortvalue)
        self._binding.bind_ortvalue_input(name, ortvalue)

    def execute(self) -> None:
        """Run, and leave the outputs where onnxruntime puts them: what a clock should see.

        Raises:
            KernelError: When the run fails.
        """
        try:
            self._native.run_with_iobinding(self._binding)
        except Exception as error:
            raise _failure(error) from error

    def run(self) -> dict[str, np.ndarray]:
        """The outputs by name, in fresh arrays.

        Raises:
            KernelError: When the run fails.
        """
        self.execute()
        if self._session._bound_only:
            results = [_array(value) for value in self._binding.get_outputs()]
        else:
            results = self._binding.copy_outputs_to_cpu()
        return dict(zip(self._session.outputs, results, strict=True))


def prepare(
    source: Graph | Model,
    *,
    threads: int = 1,
    provider: str = CPU,
    optimisation: Optimisation | None = None,
    embed: bool | int | None = None,
    extra_outputs: Iterable[str] = (),
) -> Session:
    """Make a graph, or a model file as it was read, ready to run in onnxruntime.

    Args:
        source: A Graph is written as a file first. A Model runs its original bytes.
        threads: Threads within one operator.
        provider: Execution provider; a clear short form such as `cpu` or `cuda` will do.
        optimisation: How far onnxruntime rewrites the graph; None rewrites it as far as it can,
            unless it is so long that this would take longer than all that may be won by it.
        embed: For a Graph, which constants lie in the file (`onnxfile.write`); None embeds all
            unless they are very large together.
        extra_outputs: For a Model, names of intermediate values to give back as well.

    Raises:
        ModelError: When onnxruntime refuses the model.
        UsageError: When the provider, or a value of `extra_outputs`, does not exist.
    """
    ort = _onnxruntime()
    chosen = _provider(provider, ort.get_available_providers())
    graph = source if isinstance(source, Graph) else source.graph
    level = optimisation or ("all" if len(graph.nodes) <= LONG else "off")
    options = _options(ort, threads, level)
    fixed: dict[str, np.ndarray] = {}
    optional: dict[str, str] = {}
    outputs: list[Value | str]
    if isinstance(source, Graph):
        if embed is None:
            total = sum(array.nbytes for array in source.constants.values())
            embed = True if total <= _EMBED_TOTAL else _EMBED_EACH
        fixed = {v.name: source.constants[v] for v in onnxfile.left_out(source, embed)}
        data, where = onnxfile.write(source, embed=embed), source.name or "graph"
        inputs, outputs = source.inputs, list(dict.fromkeys(source.outputs))
    else:
        extra = tuple(extra_outputs)
        data, where = onnxfile.runnable(source, extra), source.path
        inputs = source.graph.inputs
        outputs = [*source.graph.outputs, *extra]
        optional = {name: _raw(source, name) for name in source.overridable}
        _hand_over_external(options, source)
    try:
        native = _native(ort, data, options, chosen, again=isinstance(source, Graph))
    except Exception as error:
        raise ModelError(
            f"{onnxfile.printable(where)}: onnxruntime refuses the model: {_first_line(error)}",
            "Check the file with onnx.checker, or try another onnxruntime.",
        ) from error
    if native.get_providers()[0] != chosen:
        raise ModelError(
            f"{chosen} cannot be started on this machine", "Choose CPUExecutionProvider."
        )
    try:
        return Session(native, inputs, outputs, optional, fixed, chosen)
    except UnicodeDecodeError as error:
        raise ModelError(
            f"{onnxfile.printable(where)}: an input or output has a name that is no UTF-8, which"
            " onnxruntime's Python interface cannot speak of",
            "Rename it, for example with onnx.compose or onnx_graphsurgeon.",
        ) from error


def providers() -> tuple[str, ...]:
    """The execution providers that the installed onnxruntime has."""
    return tuple(_onnxruntime().get_available_providers())


def check_provider(name: str) -> None:
    """Refuse an execution provider that the installed onnxruntime does not have.

    Raises:
        UsageError: Naming those that it has.
    """
    _provider(name, providers())


def _onnxruntime() -> Any:
    import onnxruntime

    # Everything worth saying arrives as an exception; the log goes to stderr and repeats it.
    onnxruntime.set_default_logger_severity(4)
    return onnxruntime


def _provider(name: str, available: Sequence[str]) -> str:
    short = {p.lower(): p for p in available}
    short |= {p.removesuffix("ExecutionProvider").lower(): p for p in available}
    if name.lower() in short:
        return short[name.lower()]
    near = difflib.get_close_matches(name.lower(), short, 1, 0.5)
    raise UsageError(
        f"onnxruntime has no execution provider {onnxfile.printable(name)!r} here",
        f"Did you mean {short[near[0]]}?" if near else f"Available: {', '.join(available)}.",
    )


def _options(ort: Any, threads: int, optimisation: str) -> Any:
    if optimisation not in _LEVELS:
        raise UsageError(
            f"there is no optimisation level {optimisation!r}", f"Choose {', '.join(_LEVELS)}."
        )
    if not 1 <= threads <= MOST_THREADS:
        raise UsageError(
            f"{threads} threads cannot run anything", f"Give at least 1 and at most {MOST_THREADS}."
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[optimisation])
    # Half the peak memory at the same speed.
    options.enable_mem_pattern = False
    options.log_severity_level = 4
    # Two spinning threads on a busy machine are slower than one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _native(ort: Any, data: bytes, options: Any, provider: str, again: bool) -> Any:
    """onnxruntime's session; where its optimiser fails and `again` holds, one without that.

    It runs some graphs that it cannot optimise: it names a tensor as one is called already, where
    the names are those of a file that it has once optimised itself.
    """
    how: dict[str, Any] = {
        "providers": [provider] if provider == CPU else [provider, CPU],
        # Falling back would print, and time another provider than the one asked for.
        "enable_fallback": 0,
        # A file must not choose the options it is run with.
        "read_config_from_model": 0,
    }
    try:
        return ort.InferenceSession(data, options, **how)
    except Exception:
        off = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if not again or options.graph_optimization_level == off:
            raise
        options.graph_optimization_level = off
        return ort.InferenceSession(data, options, **how)


def _hand_over_external(options: Any, model: Model) -> None:
    if not model.mapped:
        return
    names = [_raw(model, name) for name in model.mapped]
    options.add_external_initializers(names, [_ortvalue(a) for a in model.mapped.values()])


def _raw(model: Model, name: str) -> str:
    raw = model.raw_names.get(name, name)
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw


def _shareable(array: np.ndarray) -> np.ndarray:
    """The array itself where onnxruntime can read it in place, else a copy."""
    if array.flags.c_contiguous and array.flags.aligned:
        return array
    return np.array(array, order="C", copy=True)


def _ortvalue(array: np.ndarray) -> Any:
    import onnxruntime as ort

    array = _shareable(array)
    carrier = _UNSEEN.get(DType.of(array))
    if carrier is None:
        return ort.OrtValue.ortvalue_from_numpy(array)
    number, dtype = carrier
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(dtype), number)


def _array(value: Any) -> np.ndarray:
    carrier = next((pair for pair in _UNSEEN.items() if pair[1][0] == value.element_type()), None)
    if carrier is None:
        result: np.ndarray = value.numpy()
        return result
    dtype = carrier[0].np
    shape = tuple(value.shape())
    result = np.empty(shape, dtype)
    if result.nbytes:
        ctypes.memmove(result.ctypes.data, value.data_ptr(), result.nbytes)
    return result


def _check_fits(array: np.ndarray, value: Value) -> None:
    try:
        dtype = DType.of(array)
    except ValueError as error:
        raise InputError(f"input {value.name!r} cannot hold elements of {array.dtype}") from error
    if dtype is not value.dtype:
        raise InputError(
            f"input {value.name!r} is of {dtype.value}, but the model takes {value.dtype.value}",
            f"Convert it with array.astype({value.dtype.value!r}).",
        )
    shape = value.shape
    if shape is None:
        return
    fits = len(shape) == array.ndim and all(
        d == n for d, n in zip(shape, array.shape, strict=True) if isinstance(d, int)
    )
    if not fits:
        wanted = ", ".join(map(str, shape))
        raise InputError(
            f"input {value.name!r} has shape {list(array.shape)}, but the model takes [{wanted}]",
            "Reshape or slice the array." if is_static(shape) else "",
        )


def _failure(error: Exception) -> KernelError:
    return KernelError(
        f"onnxruntime cannot run the model on this input: {_first_line(error)}",
        "Check the shapes and values of the inputs.",
    )


def _first_line(error: Exception) -> str:
    """What onnxruntime says, without the places in its own source that it says it at."""
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    # The line starts with the library, the code and its name, each followed by " : ".
    line = line.split(" : ", 3)[-1].strip() if line.startswith("[ONNXRuntimeError]") else line
    node = ""
    if running := _RUNNING.search(line):
        name = f" {running[2]!r}" if running[2] else ""
        node, line = f"{running[1]} node{name}: ", line[running.end() :]
    if _PLACE.match(line):
        line = _PLACE.sub("", line.rpartition(" was false. ")[2], count=1)
    return onnxfile.printable(node + line.strip())
