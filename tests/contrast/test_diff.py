import json
import logging

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import gradcli
from gradcli.errors import InputError
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
    assert max(b.difference / b.size for b in found.derivative) > 1e-5


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
    (block,) = through.derivative
    assert block.cosine > 0.99
    assert not plain.derivative[0].cosine > 0.9
    loose = gradcli.diff(
        model_of("digits"), path, point_of("digits"), straight_through=True, rtol=0.5
    )
    assert loose.verdict == "SAME"


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
    assert found.common == 0
    assert sum("by position" in note for note in found.notes) == 2


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
    for word in ("'linear'", "cosine", "allowed"):
        assert word in differ.stdout
    made = json.loads(cli("diff", PHYSICS, path, "-i", POINT, "--format", "json").stdout)
    assert (made["verdict"], made["exit_code"], made["value"]["node"]) == ("DIFFER", 1, "linear")
    assert {block["wrt"] for block in made["derivative"]} == {"x", "t"}


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
