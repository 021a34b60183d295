import csv
import json
import logging
import re
from xml.etree import ElementTree as ET

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import gradcli
from gradcli.contrast.judge import beyond
from gradcli.errors import InputError
from gradcli.report import contrast_text
from tests.cli.support import PHYSICS, POINT, SAMPLES, cli, refused, save_model

FLOAT = int(TensorProto.FLOAT)
NAMES = ("attention", "diabetes", "digits", "kinked", "physics", "sequence")


def model_of(name):
    return str(SAMPLES / f"{name}.onnx")


def point_of(name):
    with np.load(SAMPLES / f"{name}.npz") as point:
        return dict(point)


def changed(name, path, factor=1.001):
    """One weight of the largest tensor times a factor; and the tensor's name."""
    model = onnx.load(model_of(name))
    weights = [t for t in model.graph.initializer if t.data_type == FLOAT and len(t.dims) > 1]
    one = max(weights, key=lambda t: int(np.prod(t.dims)))
    array = numpy_helper.to_array(one).copy()
    array.flat[np.argmax(np.abs(array))] *= factor
    one.CopyFrom(numpy_helper.from_array(array, one.name))
    onnx.save(model, path)
    return one.name


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_the_same_as_itself(name):
    found = gradcli.diff(model_of(name), model_of(name), point_of(name))
    assert (found.verdict, found.exit_code) == ("SAME", 0)
    assert all(b.difference == 0 for b in (*found.primal, *found.derivative))
    assert (found.value, found.cotangent) == (None, None)


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED"])
@pytest.mark.parametrize("name", NAMES)
def test_onnxruntime_s_optimiser_keeps_the_derivative(name, level, tmp_path):
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(tmp_path / "o.onnx")
    ort.InferenceSession(model_of(name), options, providers=["CPUExecutionProvider"])
    assert gradcli.diff(model_of(name), tmp_path / "o.onnx", point_of(name)).verdict == "SAME"


@pytest.mark.parametrize("name", [n for n in NAMES if n != "kinked"])
def test_one_weight_by_a_thousandth_is_found_with_its_node(name, tmp_path):
    weight = changed(name, tmp_path / "w.onnx")
    found = gradcli.diff(model_of(name), tmp_path / "w.onnx", point_of(name))
    assert (found.verdict, found.exit_code) == ("DIFFER", 1)
    assert found.value is not None
    reads = {n.name: n for n in onnx.load(model_of(name)).graph.node}
    assert weight in reads[found.value.node].input
    for block in found.derivative:
        assert block.cosine > 0.9999


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["attention", "digits", "physics", "sequence"])
def test_float16_rounds_and_is_allowed_to(name, tmp_path):
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(model_of(name))), tmp_path / "h.onnx")
    found = gradcli.diff(model_of(name), tmp_path / "h.onnx", point_of(name))
    assert found.verdict == "SAME"
    assert max(b.share for b in found.derivative) > 1e-5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("static", [False, True])
def test_a_quantised_copy_differs_and_straight_through_says_by_how_much(static, tmp_path):
    from onnxruntime.quantization import CalibrationDataReader, quantize_dynamic, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc] # onnxruntime has no types
        def __init__(self):
            self.left = [point_of("digits")]

        def get_next(self):
            return self.left.pop() if self.left else None

    path = str(tmp_path / "q.onnx")
    logging.disable(logging.WARNING)
    try:
        if static:
            quantize_static(model_of("digits"), path, Reader())
        else:
            quantize_dynamic(model_of("digits"), path)
    finally:
        logging.disable(logging.NOTSET)
    plain = gradcli.diff(model_of("digits"), path, point_of("digits"))
    assert plain.verdict == "DIFFER"
    assert any("--straight-through" in note for note in plain.notes)
    through = gradcli.diff(model_of("digits"), path, point_of("digits"), straight_through=True)
    for parted in (plain.value, through.value):
        assert parted is not None
        assert parted.other == ("QuantizeLinear" if static else "DynamicQuantizeLinear")
    (block,) = through.derivative
    assert block.cosine > 0.99
    assert not plain.derivative[0].cosine > 0.9
    loose = gradcli.diff(
        model_of("digits"), path, point_of("digits"), straight_through=True, rtol=0.5
    )
    assert loose.verdict == "SAME"


@pytest.mark.filterwarnings("ignore")
def test_a_composite_that_makes_an_output_besides_is_looked_into(tmp_path):
    from onnxruntime.quantization import quantize_dynamic

    rng = np.random.default_rng(0)
    w, r = (rng.standard_normal((1, 16, n)).astype(np.float32) for n in (3, 4))
    copy = str(tmp_path / "q.onnx")
    path = save_model(
        tmp_path / "a.onnx",
        [
            helper.make_node("LSTM", ["x", "w", "r"], ["s", "hn", "c"], "lstm", hidden_size=4),
            helper.make_node("Tanh", ["s"], ["y"]),
        ],
        {"x": (FLOAT, [5, 1, 3])},
        {"y": (FLOAT, [5, 1, 1, 4]), "hn": (FLOAT, [1, 1, 4])},
    )
    model = onnx.load(path)
    model.graph.initializer.extend(
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(r, "r")]
    )
    onnx.save(model, path)
    logging.disable(logging.WARNING)
    try:
        quantize_dynamic(path, copy)
    finally:
        logging.disable(logging.NOTSET)
    found = gradcli.diff(path, copy)
    assert found.value is not None
    assert (found.value.node, found.value.other) == ("lstm", "com.microsoft::DynamicQuantizeLSTM")


def test_other_names_and_another_order_are_the_same_model(tmp_path):
    model = onnx.load(model_of("digits"))
    new = {}
    for tensor in model.graph.initializer:
        new[tensor.name] = tensor.name = f"w_{tensor.name}"
    for info in (*model.graph.input, *model.graph.output):
        new[info.name] = info.name = f"other_{info.name}"
    for k, node in enumerate(model.graph.node):
        node.name = f"n{k}"
        for names in (node.input, node.output):
            names[:] = [new.get(n, f"t_{n}") if n else n for n in names]
    shuffled = list(model.graph.initializer)[::-1]
    del model.graph.initializer[:]
    model.graph.initializer.extend(shuffled)
    onnx.save(model, tmp_path / "r.onnx")
    found = gradcli.diff(model_of("digits"), tmp_path / "r.onnx", point_of("digits"))
    assert found.verdict == "SAME"
    assert sum("by position" in note for note in found.notes) == 2


def renamed(path):
    """All that has a name but the inputs and outputs gets another."""
    model = onnx.load(path)
    new: dict[str, str] = {}
    kept = {info.name for info in (*model.graph.input, *model.graph.output)}
    for tensor in model.graph.initializer:
        new[tensor.name] = tensor.name = f"w{len(new)}"
    for k, node in enumerate(model.graph.node):
        node.name = f"node{k}"
        node.input[:] = [new.get(name, name) for name in node.input]
        new |= {name: f"t{len(new)}_{i}" for i, name in enumerate(node.output) if name not in kept}
        node.output[:] = [new.get(name, name) for name in node.output]
    del model.graph.value_info[:]
    onnx.save(model, path)


@pytest.mark.parametrize("level", [None, "BASIC", "EXTENDED"])
@pytest.mark.parametrize("name", [n for n in NAMES if n != "kinked"])
def test_where_a_copy_without_a_name_in_common_parts_is_found_by_its_numbers(name, level, tmp_path):
    path = str(tmp_path / "w.onnx")
    weight = changed(name, path)
    renamed(path)
    if level is not None:
        options = ort.SessionOptions()
        options.graph_optimization_level = getattr(
            ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}"
        )
        options.optimized_model_filepath = path = str(tmp_path / "o.onnx")
        ort.InferenceSession(str(tmp_path / "w.onnx"), options, providers=["CPUExecutionProvider"])
    found = gradcli.diff(model_of(name), path, point_of(name))
    assert found.verdict == "DIFFER"
    assert found.value is not None
    reads = {n.name: n for n in onnx.load(model_of(name)).graph.node}
    assert weight in reads[found.value.node].input
    if level is None:
        assert found.value.constants == (weight,)
        assert found.common > 0


def written(path, nodes, shape, out, **weights):
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info("y", FLOAT, out)],
        [numpy_helper.from_array(np.asarray(w), k) for k, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, path)
    return str(path)


def images(path, weight, last):
    """A convolution net; from its second node on with channels last, and other names."""
    w = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    turn = [helper.make_node("Transpose", ["c"], ["t"], perm=[0, 2, 3, 1])] if last else []
    k = "k" if last else "n"
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], f"{k}1", pads=[1] * 4),
        *turn,
        helper.make_node("Tanh", ["t" if last else "c"], ["a"], f"{k}2"),
        helper.make_node("Exp", ["a"], ["e"], f"{k}3"),
        helper.make_node("ReduceMean", ["e", "axes"], ["m"], f"{k}4", keepdims=0),
        helper.make_node("MatMul", ["m", "v"], ["y"], f"{k}5"),
    ]
    axes = np.array([1, 2] if last else [2, 3])
    return written(path, nodes, [1, 3, 6, 6], [1, 2], w=w, v=weight, axes=axes)


def test_tensors_are_known_with_their_axes_in_another_order(tmp_path):
    v = np.random.default_rng(1).standard_normal((4, 2)).astype(np.float32)
    other = v.copy()
    other[0, 0] *= 1.001
    one, two = images(tmp_path / "a.onnx", v, False), images(tmp_path / "b.onnx", other, True)
    found = gradcli.diff(one, two)
    assert found.value is not None
    assert (found.value.node, found.value.other_node, found.value.after) == ("n5", "k5", "m")
    assert found.value.constants == ("v",)
    assert found.common == 4
    assert gradcli.diff(one, images(tmp_path / "c.onnx", v, True)).verdict == "SAME"


def test_where_values_are_equal_and_slopes_are_not(tmp_path):
    """Where x is whole, x and its rounding are one number, of slopes 1 and 0."""
    square = helper.make_node("Mul", ["h", "h"], ["y"], "square")
    one = [helper.make_node("Identity", ["x"], ["h"], "same"), square]
    other = [helper.make_node("Round", ["x"], ["h"], "round"), square]
    models = [
        written(tmp_path / f"{k}.onnx", nodes, [2], [2]) for k, nodes in enumerate((one, other))
    ]
    found = gradcli.diff(models[0], models[1], np.array([2.0, 3.0], np.float32))
    assert found.verdict == "DIFFER"
    assert all(block.same for block in found.primal)
    assert found.value is not None
    assert found.value.what == "slope"
    assert re.search("^slopes part", contrast_text(found), re.MULTILINE)


def test_what_is_no_number_in_both_is_neither_the_same_nor_not(tmp_path):
    nodes = [helper.make_node("Sqrt", ["x"], ["y"])]
    path = written(tmp_path / "a.onnx", nodes, [2], [2])
    found = gradcli.diff(path, path, np.array([-1.0, -2.0], np.float32))
    assert (found.verdict, found.exit_code) == ("UNDECIDED", 3)
    some = gradcli.diff(path, path, np.array([-1.0, 2.0], np.float32))
    assert some.verdict == "SAME"
    assert any("no finite numbers" in note for note in some.notes)


def test_among_equals_no_order_is_told(tmp_path):
    """Twelve equal slopes: which ten of them are the largest hangs on nothing."""
    ones = np.ones(12, np.float32)
    other = ones.copy()
    other[::2] += np.float32(1e-3)
    paths = [
        written(
            tmp_path / f"{k}.onnx",
            [helper.make_node("Mul", ["x", "w"], ["z"]), helper.make_node("ReduceSum", ["z"], ["y"],
                                                                         keepdims=0)],
            [12],
            [],
            w=w,
        )
        for k, w in enumerate((other, ones))
    ]  # fmt: skip
    (block,) = gradcli.diff(*paths).derivative
    assert (block.same, block.top, block.overlap) == (False, 10, 10)
    zero = written(tmp_path / "z.onnx", [helper.make_node("Mul", ["x", "w"], ["z"]),
                   helper.make_node("ReduceSum", ["z"], ["y"], keepdims=0)], [12], [],
                   w=0 * ones)  # fmt: skip
    (block,) = gradcli.diff(zero, paths[1]).derivative
    assert (block.top, block.overlap) == (0, 0)
    assert np.isnan(block.cosine)


def test_inputs_of_other_names_in_another_order_are_matched_by_their_shapes(tmp_path):
    one = product(tmp_path / "a.onnx", "Mul", a=(FLOAT, [2]), b=(FLOAT, [1]))
    two = product(tmp_path / "b.onnx", "Mul", c=(FLOAT, [1]), d=(FLOAT, [2]))
    found = gradcli.diff(one, two)
    assert found.verdict == "SAME"
    assert found.notes[0].startswith(
        "inputs are matched by shape: a is d, b is c; where that is wrong"
    )


def test_another_layout_is_said_of_the_model_that_has_it(tmp_path):
    node = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)
    one = written(tmp_path / "a.onnx", [node], [1, 3, 4, 4], [])
    two = written(tmp_path / "b.onnx", [node], [1, 4, 4, 3], [])
    with pytest.raises(InputError, match=r"float32\[1,3,4,4\] in the first.*float32\[1,4,4,3\]"):
        gradcli.diff(one, two)


def test_an_output_of_another_shape_is_compared_in_the_order_of_its_elements(tmp_path):
    keep = helper.make_node("Reshape", ["x", "s"], ["y"])
    one = written(tmp_path / "a.onnx", [keep], [4], [2, 2], s=np.array([2, 2]))
    two = written(tmp_path / "b.onnx", [keep], [4], [4, 1], s=np.array([4, 1]))
    found = gradcli.diff(one, two)
    assert found.verdict == "SAME"
    assert any("y has shape [2, 2]" in note for note in found.notes)


MATMUL = helper.make_node("MatMul", ["x", "w"], ["h"], "product")
WEIGHT = np.array([[1, 2], [3, 4]], np.float32)


def network(path, last, rows=3, outputs=None, w=WEIGHT):
    """tanh(x w), by a node that makes y of it."""
    outputs = outputs or {"y": (FLOAT, [rows, 2])}
    path = save_model(
        path, [MATMUL, helper.make_node("Tanh", ["h"], ["z"]), *last], {"x": (FLOAT, [rows, 2])},
        outputs,
    )  # fmt: skip
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(w, "w"))
    onnx.save(model, path)
    return path


SAME = helper.make_node("Identity", ["z"], ["y"])


def test_an_output_that_only_one_has_is_left_out_and_said(tmp_path):
    one = network(tmp_path / "a.onnx", [SAME])
    outputs = {"y": (FLOAT, [3, 2]), "h": (FLOAT, [3, 2])}
    two = network(tmp_path / "b.onnx", [SAME], outputs=outputs)
    for first, second, which in ((one, two, "second"), (two, one, "first")):
        found = gradcli.diff(first, second)
        assert [block.of for block in found.primal] == ["y"]
        assert f"left out, as only the {which} model has it: h" in found.notes
        assert gradcli.diff(first, second, of="h").verdict == "SAME"


def test_a_shape_that_one_leaves_open_is_the_other_s(tmp_path):
    opened = network(tmp_path / "a.onnx", [SAME], rows="N")
    fixed = network(tmp_path / "b.onnx", [SAME])
    for first, second in ((opened, fixed), (fixed, opened)):
        found = gradcli.diff(first, second)
        assert (found.verdict, found.primal[0].shape) == ("SAME", (3, 2))
    with pytest.raises(InputError, match=r"in the second model: .*\[2, 2\].*wants \[3, 2\]"):
        gradcli.diff(opened, fixed, np.ones((2, 2), np.float32))


@pytest.mark.parametrize("operator", ["vjp", "jacobian", "jvp"])
def test_an_output_of_another_shape_or_size(operator, tmp_path):
    one = network(tmp_path / "a.onnx", [SAME])
    flat = helper.make_node("Flatten", ["z"], ["y"], axis=0)
    other = network(tmp_path / "b.onnx", [flat], outputs={"y": (FLOAT, [1, 6])})
    assert gradcli.diff(one, other, operator=operator).verdict == "SAME"
    wide = np.array([[1, 2, 0], [3, 4, 0]], np.float32)
    large = network(tmp_path / "c.onnx", [SAME], outputs={"y": (FLOAT, [3, 3])}, w=wide)
    with pytest.raises(InputError, match=r"y has shape \[3, 2\] in the first model and \[3, 3\]"):
        gradcli.diff(one, large, operator=operator)
    assert gradcli.diff(one, large, of="y[0,0]").verdict == "SAME"
    touched = network(tmp_path / "d.onnx", [flat], outputs={"y": (FLOAT, [1, 6])}, w=WEIGHT * 1.01)
    found = gradcli.diff(one, touched, operator=operator)
    assert found.verdict == "DIFFER"
    assert found.value is not None
    assert found.value.node == "product"


def test_zero_derivatives_are_the_same_and_said_to_be_zero(tmp_path):
    zero = network(tmp_path / "a.onnx", [SAME], w=0 * WEIGHT)
    found = gradcli.diff(zero, zero)
    assert found.verdict == "SAME"
    assert any("zero in both" in note for note in found.notes)


def test_a_number_that_the_second_cannot_hold_is_named(tmp_path):
    one = product(tmp_path / "a.onnx", "Add", a=(FLOAT, [2]), b=(FLOAT, [2]))
    half = int(TensorProto.FLOAT16)
    node = helper.make_node("Add", ["a", "b"], ["y"])
    kinds: dict[str, tuple[int, list[int | str]]] = {"a": (half, [2]), "b": (half, [2])}
    other = save_model(tmp_path / "b.onnx", [node], kinds, {"y": (half, [2])})
    ones = np.ones(2, np.float32)
    assert gradcli.diff(one, other, {"a": ones / 3, "b": ones}).verdict == "SAME"
    with pytest.raises(InputError, match=r"'a' holds 70000, which is no number in .* float16"):
        gradcli.diff(one, other, {"a": 70000 * ones, "b": ones})


def test_what_rounding_alone_explains_is_not_the_same_where_it_is_large(tmp_path):
    """exp(x) - exp(0.999 x) cancels three digits, and float16 has little more."""
    half = int(TensorProto.FLOAT16)
    w = np.array([0.999], np.float16)

    def cancels(path, w):
        nodes = [
            helper.make_node("Exp", ["x"], ["a"]),
            helper.make_node("Mul", ["x", "w"], ["v"]),
            helper.make_node("Exp", ["v"], ["b"]),
            helper.make_node("Sub", ["a", "b"], ["y"]),
        ]
        save_model(path, nodes, {"x": (half, [1])}, {"y": (half, [1])})
        model = onnx.load(path)
        model.graph.initializer.append(numpy_helper.from_array(w, "w"))
        onnx.save(model, path)
        return path

    one = cancels(tmp_path / "a.onnx", w)
    other = cancels(tmp_path / "b.onnx", np.nextafter(w, np.float16(0), dtype=np.float16))
    point = np.array([1.0], np.float16)
    found = gradcli.diff(one, other, point)
    assert (found.verdict, found.exit_code) == ("UNDECIDED", 3)
    assert "rounding alone" in found.undecided
    assert any(block.unclear for block in (*found.primal, *found.derivative))
    assert gradcli.diff(one, other, point, rtol=1.0).verdict == "SAME"
    assert gradcli.diff(one, one, point).verdict == "SAME"


def test_what_is_beyond_all_that_is_allowed_is_infinite_without_a_warning():
    assert list(beyond(np.array([1e10, 0.0]), np.zeros(2))) == [np.inf, 0.0]


def product(path, op, **inputs):
    return save_model(
        path, [helper.make_node(op, list(inputs), ["y"])], inputs, {"y": (FLOAT, [2])}
    )


def test_signs_that_change_are_counted(tmp_path):
    one = product(tmp_path / "a.onnx", "Add", a=(FLOAT, [2]), b=(FLOAT, [2]))
    other = product(tmp_path / "b.onnx", "Sub", a=(FLOAT, [2]), b=(FLOAT, [2]))
    found = gradcli.diff(one, other, operator="jacobian")
    a, b = found.derivative
    assert (a.wrt, a.same, a.sign_changes) == ("a", True, 0)
    assert (b.wrt, b.same, b.sign_changes) == ("b", False, 2)
    assert b.cosine == pytest.approx(-1.0)
    assert (b.first, b.second, b.difference) == (1.0, -1.0, 2.0)


def test_models_of_other_inputs_are_refused(tmp_path):
    one = product(tmp_path / "a.onnx", "Add", a=(FLOAT, [2]), b=(FLOAT, [2]))
    other = product(tmp_path / "b.onnx", "Abs", a=(FLOAT, [2]))
    with pytest.raises(InputError, match="same inputs"):
        gradcli.diff(one, other)


def test_on_a_kink_a_difference_decides_nothing(tmp_path):
    """Abs and Max(x, -x) are one function; at 0 each has its own slope."""
    x: dict[str, tuple[int, list[int | str]]] = {"x": (FLOAT, [1])}
    one = save_model(tmp_path / "a.onnx", [helper.make_node("Abs", ["x"], ["y"])], x,
                     {"y": (FLOAT, [1])})  # fmt: skip
    nodes = [
        helper.make_node("Relu", ["x"], ["p"]),
        helper.make_node("Neg", ["x"], ["m"]),
        helper.make_node("Max", ["x", "m"], ["y"]),
    ]
    other = save_model(tmp_path / "b.onnx", nodes[1:], x, {"y": (FLOAT, [1])})
    away = gradcli.diff(one, other, np.array([2.0], np.float32))
    assert away.verdict == "SAME"
    nodes[2] = helper.make_node("Sub", ["twice", "x"], ["y"])
    nodes[1] = helper.make_node("Add", ["p", "p"], ["twice"])
    third = save_model(tmp_path / "c.onnx", nodes, x, {"y": (FLOAT, [1])})
    assert gradcli.diff(one, third, np.array([2.0], np.float32)).verdict == "SAME"
    found = gradcli.diff(one, third, np.array([0.0], np.float32))
    assert (found.verdict, found.exit_code) == ("UNDECIDED", 3)


def test_the_report_reads_at_80_columns_and_exits_by_the_verdict(tmp_path):
    path = str(tmp_path / "w.onnx")
    changed("physics", path)
    same = cli("diff", PHYSICS, PHYSICS, "-i", POINT)
    assert (same.exit_code, same.stderr) == (0, "")
    assert same.stdout.startswith("SAME  outputs and gradient are the same, but for rounding")
    differ = cli("diff", PHYSICS, path, "-i", POINT, COLUMNS="80")
    assert differ.exit_code == 1
    assert max(map(len, differ.stdout.splitlines())) <= 80
    assert differ.stdout.startswith("DIFFER  outputs and gradient differ, from node linear (")
    for word in ("node linear (Gemm)", "cosine", "allowed"):
        assert word in differ.stdout
    made = json.loads(cli("diff", PHYSICS, path, "-i", POINT, "--format", "json").stdout)
    assert (made["verdict"], made["exit_code"], made["value"]["node"]) == ("DIFFER", 1, "linear")
    assert {block["wrt"] for block in made["derivative"]} == {"x", "t"}


def test_it_has_the_reports_of_a_comparison(tmp_path):
    path = str(tmp_path / "w.onnx")
    changed("physics", path)
    files = {form: tmp_path / f"r.{form}" for form in ("junit", "markdown", "csv", "github")}
    exports = [x for form, file in files.items() for x in ("--export", f"{form}={file}")]
    asked = ("diff", PHYSICS, path, "-i", POINT)
    quiet = cli(*asked, "-q", "--exit-zero", *exports)
    assert (quiet.exit_code, quiet.stderr) == (0, "")
    assert quiet.stdout.count("\n") == 1
    suite = ET.parse(files["junit"]).getroot()
    assert suite.attrib["failures"] == "3"
    assert len(list(csv.DictReader(files["csv"].read_text().splitlines()))) == 3
    assert files["github"].read_text().count("::error ") == 4
    assert files["markdown"].read_text().startswith("### DIFFER: outputs and gradient differ")
    assert "output u" not in cli(*asked, "--failures-only", "--rtol", "0.1").stdout
    refused(cli(*asked, "--export", str(tmp_path / "r.html")), "writes no html")
    refused(cli(*asked, "-o", str(tmp_path / "r.html")), "writes no html")
    made = cli(*asked, "-o", str(tmp_path / "r.json"))
    assert (made.exit_code, made.stdout) == (1, "")
    assert json.loads((tmp_path / "r.json").read_text())["command"].startswith("gradcli diff")


def test_what_cannot_be_said_counts_as_asked(tmp_path):
    nodes = [helper.make_node("Sqrt", ["x"], ["y"])]
    path = written(tmp_path / "a.onnx", nodes, [2], [2])
    asked = ("diff", path, path, "-i", "x=-1")
    assert cli(*asked).exit_code == 3
    warned = cli(*asked, "--inconclusive", "warn")
    assert warned.exit_code == 0
    assert "warning: nothing could be decided" in warned.stderr
    assert (cli(*asked, "--inconclusive", "ok").stderr, cli(*asked, "--exit-zero").exit_code) == (
        "",
        0,
    )


def test_it_says_what_it_does_until_the_end(tmp_path):
    changed("digits", tmp_path / "w.onnx")
    told: list[str] = []
    gradcli.diff(model_of("digits"), tmp_path / "w.onnx", point_of("digits"), progress=told.append)
    steps = list(dict.fromkeys(getattr(what, "what", what) for what in told))
    assert steps == [
        "the models' own outputs",
        "the derivatives",
        "what rounding does",
        "the tensors inside",
        "tensors that have an equal",
        "where they part",
    ]
    assert [str(what) for what in told if what.startswith("the tensors")][-1].endswith("6 of 6")


def test_directions_may_be_given(tmp_path):
    along = tmp_path / "v.npz"
    np.savez(along, x=[[2.0]], t=[[0.0]])
    asked = ("diff", PHYSICS, PHYSICS, "-i", POINT, "--tangent", str(along), "--format", "json")
    made = json.loads(cli(*asked, "--operator", "jvp").stdout)
    assert made["derivative"][0]["first"] == pytest.approx(2 * 1.3568340103734802, rel=1e-12)
    refused(cli(*asked, "--operator", "gradient"), "--tangent makes no sense")


def test_what_is_no_model_is_refused(tmp_path):
    refused(cli("diff", PHYSICS, str(tmp_path / "none.onnx")), "no such file")
    refused(cli("diff", PHYSICS, model_of("digits")), "same inputs")
