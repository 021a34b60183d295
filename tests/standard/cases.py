"""The standard's own test cases, and what gradcli must get right on each of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, version_converter
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

from gradcli import api, onnxfile, runtime
from gradcli.engines import ENGINES, Program
from gradcli.engines.base import survey
from gradcli.errors import CannotError, GradcliError, InputError, ModelError, UsageError
from gradcli.graph import DType, Graph
from gradcli.interpret import interpret
from gradcli.onnxfile import Model
from gradcli.ops import OPS
from gradcli.problem import Problem, declared
from gradcli.problem.posing import decide
from gradcli.transform import Element, cast, expose
from gradcli.transform.unroll import RESOLVE

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")

RTOL, ATOL = 1e-3, 1e-7
"""The standard's own tolerances."""

REFUSED = {
    "test_training_dropout*": "in training Dropout is random",
    "test_bernoulli*": "it draws at random: the standard itself can only run these",
}
"""Cases of operators with a card that gradcli refuses by one clear sentence, and why."""

WRONG = {
    "test_maxunpool_export_with_output_shape": "onnxruntime counts places as MaxPool does",
    "test_resize_downsample_scales_*_align_corners": (
        "stretched over scale * size, a fraction; the standard's text has the length of the result"
        " there, a whole number, and so have onnxruntime and gradcli"
    ),
    "test_dynamicquantizelinear": "an element half-way between quanta in float32, not in float64",
    "test_dynamicquantizelinear_expanded": "likewise",
    "test_cast_e8m0_*_to_FLOAT8E8M0": "powers of two have a rounding mode of their own",
}
"""Cases whose primal is not the standard's: known faults."""

NO_DERIVATIVE = {
    "test_reduce_*_empty_set*": "at the edge: logarithm, norm or extremum of nothing",
    "test_cast*_no_saturate_*": "what lies beyond the range becomes infinite or NaN",
    "test_attention_*qk_matmul_bias_*_mask_causal*": "an output is -inf",
}
"""Cases in which no point nearby has finite outputs: only the primal is looked at."""

OLDEST = 7
"""The opset from which on gradcli reads."""

Arrays = dict[str, np.ndarray]


class Fault(Exception):  # noqa: N818 # what was found, not what went wrong in finding it
    """gradcli got something wrong."""


@dataclass(frozen=True)
class Result:
    """What came of one case.

    Attributes:
        name: The case.
        status: `passed`, `failed`, `excluded` by the tables above, or `no card` where gradcli
            does not know all operators.
        detail: What failed, or which operators.
        done: What was looked at: primal, runtime, derivative, derivative in the runtime.
    """

    name: str
    status: str
    detail: str = ""
    done: tuple[str, ...] = ()


def load(kinds: Iterable[str] = KINDS) -> list[TestCase]:
    """All cases. Those of single nodes are computed on the spot, which takes seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [case for kind in kinds for case in load_model_tests(kind=kind)]


def operators(proto: onnx.ModelProto) -> set[str]:
    """Full names of the operators of a file, its bodies' too; calls of its functions apart."""
    local = {(f.domain, f.name) for f in proto.functions}

    def inside(nodes: Iterable[onnx.NodeProto]) -> Iterable[str]:
        for node in nodes:
            if (node.domain, node.op_type) not in local:
                domain = "" if node.domain == "ai.onnx" else node.domain
                yield f"{domain}::{node.op_type}" if domain else node.op_type
            for attribute in node.attribute:
                for body in (
                    *attribute.graphs,
                    *([attribute.g] if attribute.HasField("g") else []),
                ):
                    yield from inside(body.node)

    found = set(inside(proto.graph.node))
    for function in proto.functions:
        found |= set(inside(function.node))
    return found


RENAMED = {"Scatter": "ScatterElements", "Upsample": "Resize"}
"""Operators that the reader gives another name."""

READ = frozenset(("Constant", "ai.onnx.preview::FlexAttention", *RESOLVE))
"""Operators that the reader itself takes up, or that are decided at the point."""


def without_card(proto: onnx.ModelProto) -> set[str]:
    """The operators of a file that gradcli does not know."""
    return {op for op in operators(proto) if RENAMED.get(op, op) not in OPS} - READ


def data(case: TestCase, proto: onnx.ModelProto) -> list[tuple[list[Any], list[Any]]]:
    """The case's inputs and outputs."""
    if case.data_sets is not None:
        return [([plain(x) for x in xs], [plain(y) for y in ys]) for xs, ys in case.data_sets]
    sets = []
    for folder in sorted(Path(str(case.model_dir)).glob("test_data_set_*")):
        xs = [_tensor(folder / f"input_{k}.pb") for k in range(len(list(folder.glob("input_*"))))]
        ys = [_tensor(folder / f"output_{k}.pb") for k in range(len(list(folder.glob("output_*"))))]
        sets.append((xs, ys))
    return sets


def plain(x: Any) -> Any:
    if x is None or isinstance(x, list):
        return x and [plain(y) for y in x]
    return numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else np.asarray(x)


def _tensor(path: Path) -> np.ndarray:
    return numpy_helper.to_array(onnx.load_tensor(str(path)))


def check(case: TestCase) -> Result:
    """Look at everything that can be looked at in one case."""
    proto = case.model or onnx.load(str(Path(str(case.model_dir)) / "model.onnx"))
    if missing := without_card(proto):
        return Result(case.name, "no card", " ".join(sorted(missing)))
    old = [entry.version for entry in proto.opset_import if entry.domain == ""]
    if old and old[0] < OLDEST:
        # What the reader advises when it refuses them.
        proto = with_whole_slopes(version_converter.convert_version(proto, OLDEST))
    done: list[str] = []
    try:
        model = None
        for given, wanted in data(case, proto):
            whole, xs, ys = in_tensors(proto, given, wanted)
            if model is None or whole is not proto:
                model = onnxfile.read(whole.SerializeToString(), OPS, name=case.name)
            names = [v.name for v in whole.graph.input if v.name not in initialised(whole)]
            feeds = dict(zip(names, xs, strict=False))
            subject = Subject(model, feeds, smooth=not reason(case.name, NO_DERIVATIVE))
            done += subject.checked(dict(zip(outputs(whole), ys, strict=True)))
    except (Fault, GradcliError) as error:
        return judged(case.name, f"{type(error).__name__}: {error}", tuple(done))
    return judged(case.name, "", tuple(dict.fromkeys(done)))


def in_tensors(
    proto: onnx.ModelProto, xs: list[Any], ys: list[Any]
) -> tuple[onnx.ModelProto, list[np.ndarray], list[np.ndarray]]:
    """The same model, its sequences and optional values put together and taken apart inside it.

    So all that goes in and comes out are tensors; the operators between see what they did.
    """
    infos = [*proto.graph.input, *proto.graph.output]
    if all(v.type.WhichOneof("value") == "tensor_type" for v in infos):
        return proto, xs, ys
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    graph = made.graph
    del graph.node[:], graph.input[:], graph.output[:]
    feeds: list[np.ndarray] = []
    wanted: list[np.ndarray] = []
    for info, x in zip(proto.graph.input, xs, strict=True):
        _put_in(graph, info.name, info.type, x, feeds)
    graph.node.extend(proto.graph.node)
    for info, y in zip(proto.graph.output, ys, strict=True):
        _take_out(graph, info, y, wanted)
    return made, feeds, wanted


def _put_in(
    graph: onnx.GraphProto, name: str, kind: onnx.TypeProto, x: Any, feeds: list[np.ndarray]
) -> None:
    node = graph.node.add
    what = kind.WhichOneof("value")
    if what == "optional_type" and x is None:
        empty = helper.make_node("Optional", [], [name], type=kind.optional_type.elem_type)
        graph.node.append(empty)
    elif what == "optional_type":
        _put_in(graph, f"{name}_held", kind.optional_type.elem_type, x, feeds)
        node(op_type="Optional", input=[f"{name}_held"], output=[name])
    elif what == "sequence_type":
        inner = kind.sequence_type.elem_type
        parts = [f"{name}_{k}" for k in range(len(x))]
        for part, value in zip(parts, x, strict=True):
            _put_in(graph, part, inner, value, feeds)
        elements = inner.tensor_type.elem_type
        graph.node.append(
            helper.make_node("SequenceConstruct", parts, [name])
            if parts
            else helper.make_node("SequenceEmpty", [], [name], dtype=elements)
        )
    else:
        array = np.asarray(x)
        elements = kind.tensor_type.elem_type
        graph.input.append(helper.make_tensor_value_info(name, elements, array.shape))
        feeds.append(array.astype(helper.tensor_dtype_to_np_dtype(elements)))


def _take_out(
    graph: onnx.GraphProto, info: onnx.ValueInfoProto, y: Any, wanted: list[np.ndarray]
) -> None:
    kind, name = info.type, info.name
    if kind.WhichOneof("value") == "optional_type":
        graph.node.add(op_type="OptionalGetElement", input=[name], output=[f"{name}_held"])
        kind, name = kind.optional_type.elem_type, f"{name}_held"
    if kind.WhichOneof("value") == "tensor_type":
        graph.output.append(onnx.ValueInfoProto(name=name, type=kind))
        wanted.append(y)
        return
    count = onnx.ValueInfoProto(name=f"{name}_count")
    count.type.tensor_type.elem_type = onnx.TensorProto.INT64
    graph.node.add(op_type="SequenceLength", input=[name], output=[count.name])
    graph.output.append(count)
    wanted.append(np.array(len(y)))
    for k, part in enumerate(y):
        place, out = f"{name}_place_{k}", f"{name}_{k}"
        graph.initializer.append(numpy_helper.from_array(np.array(k), place))
        graph.node.add(op_type="SequenceAt", input=[name, place], output=[out])
        graph.output.append(onnx.ValueInfoProto(name=out, type=kind.sequence_type.elem_type))
        wanted.append(part)


def with_whole_slopes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Opset 6 has PRelu's slope by channel, opset 7 broadcasts it; the converter forgets that."""
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in proto.graph.input}
    held = {t.name: t for t in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "PRelu" and len(held[node.input[1]].dims) == 1:
            after = [1] * (ranks[node.input[0]] - 2)
            held[node.input[1]].dims.extend(after)
            for value in proto.graph.input:
                if value.name == node.input[1]:
                    for size in after:
                        value.type.tensor_type.shape.dim.add(dim_value=size)
    return proto


def judged(name: str, fault: str, done: tuple[str, ...]) -> Result:
    """A fault where one is known is an exclusion; where one is known and none is met, a failure."""
    why = reason(name, REFUSED) or reason(name, WRONG)
    if why:
        return Result(
            name, "excluded" if fault else "failed", (fault and why) or "passes by now", done
        )
    return Result(name, "failed" if fault else "passed", fault, done)


def reason(name: str, table: Mapping[str, str]) -> str:
    return next((why for pattern, why in table.items() if fnmatchcase(name, pattern)), "")


def initialised(proto: onnx.ModelProto) -> set[str]:
    return {t.name for t in proto.graph.initializer}


def outputs(proto: onnx.ModelProto) -> list[str]:
    return [v.name for v in proto.graph.output]


def close(got: Any, wanted: Any, what: str, rtol: float, atol: float) -> None:
    """Like elements, the absolute tolerance in units of the largest; NaN and infinities alike.

    Raises:
        Fault: Where they are not.
    """
    got, wanted = np.asarray(got), np.asarray(wanted)
    if got.shape != wanted.shape:
        raise Fault(f"{what}: shape {got.shape}, not {wanted.shape}")
    if wanted.dtype.kind in "OUS":
        if not (got == wanted).all():
            raise Fault(f"{what}: other strings")
        return
    a, b = got.astype(np.float64), wanted.astype(np.float64)
    finite = np.isfinite(b)
    scale = max(1.0, float(np.max(np.abs(b[finite]), initial=0.0)))
    if not np.allclose(a, b, rtol=rtol, atol=atol * scale, equal_nan=True):
        wrong = ~np.isclose(a, b, rtol=rtol, atol=atol * scale, equal_nan=True)
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise Fault(f"{what}{list(at)}: {a[at]!r}, not {b[at]!r} ({wrong.sum()} of {wrong.size})")


class Subject:
    """A model at a point."""

    def __init__(
        self, model: Model, feeds: Mapping[str, np.ndarray], *, smooth: bool = True
    ) -> None:
        self.model = model
        self.smooth = smooth
        self.feeds = dict(feeds)

    def checked(self, expected: Arrays) -> list[str]:
        """Check all there is to check, and say what that was."""
        self.check_primal(expected)
        done = ["primal"]
        runs = self.check_runtime()
        done += ["runtime"] * runs
        smooth = [v for v in self.model.graph.outputs if v.dtype.is_float]
        inputs = [v for v in declared(self.model).values() if v.dtype.is_float]
        if smooth and inputs and self.smooth:
            done += self.check_derivatives(runs)
        return done

    def check_primal(self, expected: Arrays) -> None:
        """The interpreter in float64 gives what the standard says."""
        graph = self.model.graph
        given = {v: np.asarray(self.feeds[v.name]) for v in graph.constants if v.name in self.feeds}
        graph = decided(replace(graph, constants={**graph.constants, **given}), self.feeds)
        out = interpret(cast(graph, DType.FLOAT64), self.feeds)
        for value, (name, y) in zip(graph.outputs, expected.items(), strict=True):
            rtol, atol = RTOL, ATOL
            if value.dtype.is_float and value.dtype.np.itemsize < 4:
                rtol, atol = 2 * epsilon(value.dtype), epsilon(value.dtype)
            close(out[value.name], y, f"primal {name}", rtol, atol)

    def check_runtime(self) -> bool:
        """onnxruntime gives the same on the file and on what was read, written again."""
        try:
            original = runtime.prepare(self.model).run(self.feeds)
        except (ModelError, InputError):
            return False
        graph = self.model.graph
        try:
            ours = runtime.prepare(graph).run(
                {v.name: self.feeds[v.name] for v in graph.inputs}
                if len(graph.inputs) < len(self.feeds)
                else self.feeds
            )
        except (ModelError, InputError) as error:
            raise Fault(f"the canonical graph does not run: {error}") from error
        if len(graph.inputs) == len(self.feeds):
            for value, name in zip(graph.outputs, original, strict=True):
                close(ours[value.name], original[name], f"canonical {name}", 1e-5, 1e-6)
        return True

    def check_derivatives(self, runs: bool) -> list[str]:
        """jvp and vjp each agree with a method that uses no rule, near the point."""
        problem = self.generic("jvp")
        if problem is None:
            return []
        witness, tolerance = self.witness(problem)
        forward = Program(ENGINES["forward"], problem).run()
        for key, wanted in witness.items():
            close(forward.blocks[key], wanted, f"jvp {key[0]}", 0.0, tolerance)
        self.check_vjp(problem, tolerance)
        done = ["derivative"]
        if runs:
            self.check_derivative_runtime(problem)
            done.append("derivative runs")
        return done

    def check_vjp(self, problem: Problem, tolerance: float) -> None:
        feeds = dict(problem.feeds)
        pulled = api.ask(
            self.model, feeds, wrt=problem.wrt, of=problem.of, operator="vjp", dtype="float64"
        )
        reverse = Program(ENGINES["reverse"], pulled).run()
        rng = np.random.default_rng(1)
        for _ in range(4):
            v = {name: rng.standard_normal(problem.shape(name)) for name in problem.wrt}
            pushed, _ = self.witness(replace(problem, tangents=v))
            got = [np.vdot(reverse.blocks["", name], v[name]) for name in problem.wrt]
            terms = [pulled.cotangents[of] * pushed[of, ""] for of, _ in pushed]
            size = sum(float(np.sum(np.abs(term))) for term in terms)
            wanted = sum(float(np.sum(term)) for term in terms)
            if not abs(sum(got) - wanted) <= tolerance * max(size, 1.0):
                raise Fault(f"vjp: {sum(got)!r}, not {wanted!r} along a direction")

    def witness(self, problem: Problem) -> tuple[dict[Any, np.ndarray], float]:
        try:
            program = Program(ENGINES["complex-step"], problem)
            tolerance = 1e-9
        except CannotError:
            program = Program(ENGINES["finite"], problem)
            tolerance = 1e-5
        return dict(program.run().blocks), tolerance

    def check_derivative_runtime(self, problem: Problem) -> None:
        for name in ("forward", "reverse"):
            operator = "jvp" if name == "forward" else "vjp"
            asked = api.ask(
                self.model, problem.feeds, wrt=problem.wrt, of=problem.of, operator=operator
            )
            if asked.dtype is DType.FLOAT64:
                asked = replace(asked, dtype=DType.FLOAT32)
            exact = Program(ENGINES[name], replace(asked, dtype=DType.FLOAT64)).run()
            try:
                got = Program(ENGINES[name], asked).run()
            except (CannotError, InputError) as error:
                raise Fault(f"{name} does not run in {asked.dtype.value}: {error}") from error
            bits = min(8 * v.dtype.np.itemsize for v in asked.graph.values() if v.dtype.is_float)
            tolerance = 1e-3 if bits >= 32 else 0.05
            for key, block in exact.blocks.items():
                close(
                    got.blocks[key], block, f"{name} in {asked.dtype.value} {key}", 0.0, tolerance
                )

    def generic(self, operator: str) -> Problem | None:
        """The question at a point beside the case's own: off kinks, where all is finite.

        None where nothing can be differentiated.
        """
        why: GradcliError | None = None
        for seed in range(6):
            feeds = self.moved(seed)
            try:
                problem = api.ask(self.model, feeds, operator=operator, dtype="float64", seed=seed)
                primal = interpret(problem.exact, problem.point)
                around = survey(problem)
            except UsageError:
                return None
            except GradcliError as error:
                why = error
                continue
            finite = all(np.isfinite(y).all() for y in primal.values() if y.dtype.kind == "f")
            # What becomes no number on the way, as a row that is masked as a whole, is dropped
            # again where what comes out is finite.
            near = [n for n in around.nearest if n.margin < 1e-6 and n.kind != "lost"]
            if finite and not near:
                return problem
            why = Fault(f"no generic point: finite {finite}, near {near[:2]}")  # type: ignore[assignment]
        assert why is not None
        raise why

    def moved(self, seed: int) -> Arrays:
        rng = np.random.default_rng(seed)

        def move(x: np.ndarray) -> np.ndarray:
            x = np.asarray(x)
            if not DType.of(x).is_float:
                return x
            wide = np.where(np.isfinite(x.astype(np.float64)), x.astype(np.float64), 1.0)
            if seed >= 3:
                wide = np.abs(wide) + 0.1
            size = np.maximum(np.abs(wide), 0.1)
            return (wide + 0.05 * size * rng.standard_normal(x.shape)).astype(x.dtype)

        fixed = self.sizing()
        return {name: x if name in fixed else move(x) for name, x in self.feeds.items()}

    def sizing(self) -> set[str]:
        """Inputs that are floats but decide sizes: a little less, and a dimension is gone."""
        scales = [n.inputs[2] for n in self.model.graph.nodes if n.key == "Resize" and n.inputs[2:]]
        return {value.name for value in scales if value is not None}


def decided(graph: Graph, feeds: Mapping[str, np.ndarray]) -> Graph:
    """The graph with its control flow as it goes at the point; itself if it has none."""
    if not any(node.key in RESOLVE for node in graph.nodes):
        return graph
    shapes = {name: np.shape(x) for name, x in feeds.items()}
    fixed = {v.name: feeds[v.name] for v in graph.inputs if not v.dtype.is_float}
    names = [v.name for v in graph.outputs]
    whole, _ = decide(graph, shapes, fixed, feeds, set(), set(names), OPS)
    return expose(whole, (), [Element(name) for name in names])


def epsilon(dtype: DType) -> float:
    return {DType.FLOAT16: 2.0**-10, DType.BFLOAT16: 2.0**-7}.get(dtype, 2.0**-2)
