"""Old forms of operators brought to the form of opset 21: one table by (operator, since_version).

A row is a function from the node as the file has it to the same node in canonical form; it may
emit helper nodes and constants before it. An operator that only grew in types and in attributes
with defaults needs no row. Attributes born after opset 21 stay, unless they hold their default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from gradcli.errors import ModelError
from gradcli.graph import CANONICAL_OPSET, DType, Var, is_static
from gradcli.onnxfile import schemas
from gradcli.onnxfile.batch import scan_8
from gradcli.onnxfile.call import Call
from gradcli.onnxfile.draft import Draft
from gradcli.onnxfile.flex import flex_attention

Upgrade = Callable[[Draft, Call], Call | tuple[Call, ...]]


def upgrade(d: Draft, call: Call, form: schemas.Form) -> tuple[Call, ...]:
    """The node in canonical form, as one or more nodes that together make its results.

    Args:
        d: Where helper nodes go.
        call: The node in the file's form.
        form: That form.

    Raises:
        ModelError: When this form, or this use of it, has no canonical counterpart.
    """
    if call.domain == "ai.onnx.ml":
        return _ml(d, call, form)
    if (call.domain, call.op) == ("ai.onnx.preview", "FlexAttention"):
        return (flex_attention(d, call),)
    if call.domain:
        return (call,)
    rule = TABLE.get((call.op, form.since))
    if rule is not None:
        made = rule(d, call)
        return made if isinstance(made, tuple) else (made,)
    if form.since > CANONICAL_OPSET:
        return (_without_later_defaults(call),)
    _check_same_form(call, form)
    return (call,)


def _without_later_defaults(call: Call) -> Call:
    later = schemas.later_defaults(call.op, call.opset)
    if not later.keys() & call.attrs.keys():
        return call
    kept = {k: v for k, v in call.attrs.items() if k not in later or v != later[k]}
    return replace(call, attrs=kept)


def _check_same_form(call: Call, form: schemas.Form) -> None:
    now = schemas.canonical(call.op, "", call.opset)
    if now is None or now.since == form.since:
        return
    if form.deprecated or not call.attrs.keys() <= now.attributes.keys():
        raise _unknown_form(call)


def _unknown_form(call: Call) -> ModelError:
    return call.refuse(
        "is in an old form that gradcli does not know",
        f"Export the model again with opset {CANONICAL_OPSET}.",
    )


# ---- attributes that became inputs ---------------------------------------------------------------


def _axes_to_input(d: Draft, call: Call) -> Call:
    """Squeeze, Unsqueeze and every Reduce: no axes and an empty list both mean all of them."""
    attrs = dict(call.attrs)
    axes = attrs.pop("axes", None)
    return call.having(call.x, d.ints(axes) if axes else None, **attrs)


def _slice_1(d: Draft, call: Call) -> Call:
    starts, ends, axes = (call.attrs.get(name) for name in ("starts", "ends", "axes"))
    if len(starts or ()) != len(ends or ()) or (axes and len(axes) != len(starts or ())):
        raise call.refuse("has starts, ends and axes of different lengths", "")
    at = range(len(starts or ())) if axes is None else axes
    return call.having(call.x, d.ints(starts or ()), d.ints(ends or ()), d.ints(list(at)))


def _pad_2(d: Draft, call: Call) -> Call:
    value = call.attrs.get("value", 0.0)
    mode = call.attrs.get("mode", "constant")
    fill = d.like(value, call.x) if value and mode == "constant" else None
    return call.having(call.x, d.ints(call.attrs["pads"]), fill, mode=mode)


def _clip_6(d: Draft, call: Call) -> Call:
    # The old defaults are float32's own limits: they bound nothing.
    least, most = (call.attrs.get(name) for name in ("min", "max"))
    limit = float(np.finfo(np.float32).max)
    low = None if least is None or least <= -limit else d.like(least, call.x)
    high = None if most is None or most >= limit else d.like(most, call.x)
    return call.having(call.x, low, high)


def _split_2(d: Draft, call: Call) -> Call:
    axis = call.attrs.get("axis", 0)
    sizes = call.attrs.get("split")
    if sizes:
        return call.having(call.x, d.ints(sizes), axis=axis)
    return call.having(call.x, axis=axis, num_outputs=len(call.outputs))


def _split_13(_d: Draft, call: Call) -> Call:
    if len(call.inputs) > 1 and call.inputs[1] is not None:
        return call
    return call.having(call.x, num_outputs=len(call.outputs), **call.attrs)


def _topk_1(d: Draft, call: Call) -> Call:
    return call.having(call.x, d.ints([call.attrs["k"]]), axis=call.attrs.get("axis", -1))


def _dropout_7(d: Draft, call: Call) -> Call | tuple[Call, ...]:
    """Forms 7 and 10: always inference; before 10 the mask is of x's type instead of boolean."""
    ratio = d.like(call.attrs.get("ratio", 0.5), call.x)
    y, mask = (*call.outputs, None)[:2]
    if call.opset >= 10 or mask is None:
        return call.having(call.x, ratio)
    _, kept = d.ops("Dropout", call.x, ratio, outputs=2)
    cast = call.having(kept, op="Cast", to=call.x.dtype.value)
    return (
        replace(call.having(call.x, ratio), outputs=(y,)),
        replace(cast, outputs=(mask,), name=mask),
    )


def _dft_17(d: Draft, call: Call) -> Call:
    attrs = dict(call.attrs)
    axis = d.b.constant(np.int64(attrs.pop("axis", 1)))
    length = call.inputs[1] if len(call.inputs) > 1 else None
    return call.having(call.x, length, axis, **attrs)


# ---- meanings that changed -----------------------------------------------------------------------


def _flattening(d: Draft, call: Call) -> Call:
    """Softmax, LogSoftmax, Hardmax before 13: over all axes from `axis` on, taken as one."""
    x, axis = call.x, call.attrs.get("axis", 1)
    rank = None if x.shape is None else len(x.shape)
    if rank is not None and not -rank <= axis <= rank:
        raise call.refuse(f"has axis {axis}, but its operand has {rank} dimensions", "")
    if rank is not None and axis % rank == rank - 1 and axis < rank:
        return call.having(x, axis=-1)
    flat = d.op(call.op, d.op("Flatten", x, axis=axis), axis=-1)
    if is_static(x.shape) and 0 not in (x.shape or ()):
        return call.having(flat, d.ints(x.shape), op="Reshape")  # type: ignore[arg-type] # static
    return call.having(flat, d.op("Shape", x), op="Reshape", allowzero=1)


def _batchnorm_7(d: Draft, call: Call) -> Call:
    attrs = dict(call.attrs)
    if attrs.pop("spatial", 1):
        return _batchnorm_9(d, replace(call, attrs=attrs))
    _check_inference(call)
    x, scale, bias, mean, var = (call.operand(k) for k in range(5))
    # Statistics of every element instead of every channel: plain arithmetic says it.
    eps = d.like(attrs.get("epsilon", 1e-5), x)
    deviation = d.op("Sqrt", d.op("Add", var, eps))
    centred = d.op("Div", d.op("Sub", x, mean), deviation)
    return call.having(d.op("Mul", centred, scale), bias, op="Add")


def _batchnorm_9(_d: Draft, call: Call) -> Call:
    _check_inference(call)
    return replace(call, outputs=call.outputs[:1])


def _check_inference(call: Call) -> None:
    # Before opset 14, asking for the statistics is what said "training".
    if any(name is not None for name in call.outputs[1:]):
        raise call.refuse(
            "is in training mode: it gives back its running statistics",
            "Export the model for inference (model.eval() in PyTorch).",
        )


def _upsample(d: Draft, call: Call) -> Call:
    scales = call.attrs.get("scales")
    factor = call.operand(1) if scales is None else d.b.constant(np.array(scales, np.float32))
    return _old_resize(call, factor, "floor")


def _resize_10(d: Draft, call: Call) -> Call | tuple[Call, ...]:
    """Nearest rounds towards the sample that shrinking meets first, as onnxruntime does.

    Where some axes shrink and others grow, or nobody knows, one Resize does the one and a second
    the other.
    """
    scales = call.operand(1)
    known = scales.const
    if call.attrs.get("mode", "nearest") != "nearest" or (known is not None and (known >= 1).all()):
        return _old_resize(call, scales, "floor")
    if known is not None and (known <= 1).all():
        return _old_resize(call, scales, "ceil")
    one = d.b.constant(np.float32(1))
    shrunk = _old_resize(call, d.op("Min", scales, one), "ceil")
    (between,) = (d.b.name(f"{call.name or 'node'}/Resize"),)
    (x,) = d.emit(replace(shrunk, outputs=(between,), name=between), call.name)
    assert x is not None
    return _old_resize(replace(call, inputs=(x,)), d.op("Max", scales, one), "floor")


def _old_resize(call: Call, scales: Var, nearest: str) -> Call:
    mode = call.attrs.get("mode", "nearest")
    return call.having(
        call.x,
        None,
        scales,
        op="Resize",
        mode={"bilinear": "linear"}.get(mode, mode),
        coordinate_transformation_mode="asymmetric",
        nearest_mode=nearest,
    )


def _resize_11(_d: Draft, call: Call) -> Call:
    inputs = [None if x is None or _is_empty(x) else x for x in call.inputs[1:]]
    call = replace(call, inputs=(call.x, *inputs))
    attrs = dict(call.attrs)
    if attrs.get("coordinate_transformation_mode") != "tf_half_pixel_for_nn":
        return call
    if (attrs.get("mode", "nearest"), attrs.get("nearest_mode")) != ("nearest", "floor"):
        raise _unknown_form(call)
    # What stands half an element further on, rounded down, is rounded to the nearest here.
    attrs["coordinate_transformation_mode"] = "half_pixel"
    attrs["nearest_mode"] = "round_prefer_ceil"
    return replace(call, attrs=attrs)


def _is_empty(x: Var) -> bool:
    return x.shape is not None and 0 in x.shape


def _grid_sample_16(_d: Draft, call: Call) -> Call:
    mode = call.attrs.get("mode", "bilinear")
    names = {"bilinear": "linear", "bicubic": "cubic"}
    return replace(call, attrs={**call.attrs, "mode": names.get(mode, mode)})


def _roi_align_10(_d: Draft, call: Call) -> Call:
    mode = "output_half_pixel"
    return replace(call, attrs={**call.attrs, "coordinate_transformation_mode": mode})


def _group_norm_18(d: Draft, call: Call) -> Call:
    """Scale and bias of each group become those of each channel."""
    x, groups = call.x, call.attrs["num_groups"]
    if x.shape is not None and len(x.shape) > 1 and isinstance(x.shape[1], int):
        if groups < 1 or x.shape[1] % groups:
            raise call.refuse(f"has {x.shape[1]} channels in {groups} groups", "")
        wide = d.ints([groups, x.shape[1] // groups])
    else:
        channels = d.op("Shape", x, start=1, end=2)
        each = d.op("Div", channels, d.ints([groups]))
        wide = d.op("Concat", d.ints([groups]), each, axis=0)

    def spread(v: Var) -> Var:
        column = d.op("Reshape", v, d.ints([-1, 1]))
        return d.op("Reshape", d.op("Expand", column, wide), d.ints([-1]))

    return call.having(x, spread(call.operand(1)), spread(call.operand(2)), **call.attrs)


def _space_to_depth_28(d: Draft, call: Call) -> Call:
    """In the order CRD the blocks' places change sides with the channels."""
    attrs = dict(call.attrs)
    if attrs.pop("mode", "DCR") == "DCR":
        return replace(call, attrs=attrs)
    x, size = call.x, attrs["blocksize"]
    y = d.op("SpaceToDepth", x, blocksize=size)
    channels = d.op("Shape", x, start=1, end=2)
    split = d.op("Concat", d.ints([0, size * size]), channels, d.ints([-1]), axis=0)
    wide = d.op("Reshape", y, split)
    moved = d.op("Transpose", wide, perm=(0, 2, 1, 3))
    return call.having(moved, d.op("Shape", y), op="Reshape")


def _quantize_23(d: Draft, call: Call) -> Call:
    """The precision of the division is that of its operands."""
    attrs = dict(call.attrs)
    x, scale, *zero = call.inputs
    if precision := attrs.pop("precision", None):
        x, scale = (None if v is None else d.op("Cast", v, to=precision) for v in (x, scale))
    return call.having(x, scale, *zero, **attrs)


def _dequantize_23(d: Draft, call: Call) -> Call:
    """The type of the result is that of the scale."""
    attrs = dict(call.attrs)
    x, scale, *zero = call.inputs
    made = attrs.pop("output_dtype", None)
    if made and scale is not None and made != scale.dtype.value:
        scale = d.op("Cast", scale, to=made)
    return call.having(x, scale, *zero, **attrs)


def _batch_first(d: Draft, call: Call) -> Call | tuple[Call, ...]:
    """Layout 1 of a recurrent operator, which onnxruntime does not run: transposed around."""
    if not call.attrs.get("layout", 0):
        return call
    attrs = {k: v for k, v in call.attrs.items() if k != "layout"}
    turned = [
        d.op("Transpose", x, perm=(1, 0, 2)) if x is not None and k in (0, 5, 6) else x
        for k, x in enumerate(call.inputs)
    ]
    made = d.ops(call.op, *turned, outputs=len(call.outputs), **attrs)
    perms = ((2, 0, 1, 3), (1, 0, 2), (1, 0, 2))
    return tuple(
        replace(call.having(v, op="Transpose", perm=perm), outputs=(name,), name=name)
        for v, perm, name in zip(made, perms, call.outputs, strict=False)
        if name is not None
    )


def _renamed(op: str) -> Upgrade:
    return lambda _d, call: replace(call, op=op)


# ---- ai.onnx.ml ----------------------------------------------------------------------------------

_TAKES_NUMBERS = frozenset(
    (
        *("FeatureVectorizer", "LinearClassifier", "LinearRegressor", "Normalizer", "Scaler"),
        *("SVMClassifier", "SVMRegressor", "TreeEnsembleClassifier", "TreeEnsembleRegressor"),
    )
)
"""Operators that take integers for numbers, and whose numbers come out in float32 always."""


def _ml(d: Draft, call: Call, form: schemas.Form) -> tuple[Call, ...]:
    if call.op == "ZipMap":
        # A list of maps has no derivative; the tensor in it has.
        return (replace(call.having(call.x, op="Identity"), domain="", opset=CANONICAL_OPSET),)
    if call.op == "LabelEncoder" and form.since == 1:
        return (_label_encoder_1(call),)
    if call.op not in _TAKES_NUMBERS:
        return (call,)
    single = DType.FLOAT32.value
    numbers = [
        d.op("Cast", x, to=single) if x is not None and x.dtype.is_integer else x
        for x in call.inputs
    ]
    call = replace(call, inputs=tuple(numbers))
    if all(x is None or x.dtype is DType.FLOAT32 for x in call.inputs):
        return (call,)
    inner = [None if name is None else d.b.name(f"{name}/wide") for name in call.outputs]
    made = d.emit(replace(call, outputs=tuple(inner)), call.name)
    narrow = call.having(op="Cast", to=single)
    same = call.having(op="Identity")
    return tuple(
        replace(
            narrow if x.dtype.is_float else same,
            domain="",
            opset=CANONICAL_OPSET,
            inputs=(x,),
            outputs=(name,),
            name=name or "",
        )
        for x, name in zip(made, call.outputs, strict=True)
        if x is not None
    )


def _label_encoder_1(call: Call) -> Call:
    classes = tuple(call.attrs.get("classes_strings", ()))
    places = tuple(range(len(classes)))
    kept = {k: v for k, v in call.attrs.items() if k != "classes_strings"}
    if call.x.dtype is DType.STRING:
        return call.having(call.x, keys_strings=classes, values_int64s=places, **kept)
    return call.having(call.x, keys_int64s=places, values_strings=classes, **kept)


# ---- the table -----------------------------------------------------------------------------------


def _rows(ops: str, versions: Iterable[int], rule: Upgrade) -> dict[tuple[str, int], Upgrade]:
    return {(op, version): rule for op in ops.split() for version in versions}


_REDUCE = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd"
    " ReduceSumSquare"
)

TABLE: dict[tuple[str, int], Upgrade] = {
    **_rows(_REDUCE, (1, 11, 13), _axes_to_input),
    **_rows("ReduceMax ReduceMin", (12,), _axes_to_input),
    **_rows("ReduceSum Squeeze Unsqueeze", (1, 11), _axes_to_input),
    **_rows("Softmax LogSoftmax Hardmax", (1, 11), _flattening),
    **_rows("Slice", (1,), _slice_1),
    **_rows("Pad", (2,), _pad_2),
    **_rows("Clip", (6,), _clip_6),
    **_rows("Split", (2, 11), _split_2),
    **_rows("Split", (13,), _split_13),
    **_rows("TopK", (1,), _topk_1),
    **_rows("Dropout", (7, 10), _dropout_7),
    **_rows("DFT", (17,), _dft_17),
    **_rows("BatchNormalization", (7,), _batchnorm_7),
    **_rows("BatchNormalization", (9,), _batchnorm_9),
    **_rows("Upsample", (7, 9, 10), _upsample),
    **_rows("Resize", (10,), _resize_10),
    # From 18 on the standard has none for nearest of TensorFlow's kind; files and onnxruntime have.
    **_rows("Resize", (11, 13, 18, 19), _resize_11),
    **_rows("GridSample", (16,), _grid_sample_16),
    **_rows("RoiAlign", (10,), _roi_align_10),
    **_rows("GroupNormalization", (18,), _group_norm_18),
    **_rows("SpaceToDepth", (28,), _space_to_depth_28),
    **_rows("QuantizeLinear", (23, 24, 25, 28), _quantize_23),
    **_rows("DequantizeLinear", (23, 24, 25, 28), _dequantize_23),
    **_rows("Scatter", (9, 11), _renamed("ScatterElements")),
    **_rows("RNN GRU LSTM", (14, 22), _batch_first),
    **_rows("Scan", (8,), scan_8),
}
"""Every form, reachable from opset 7 on, that reads differently from the canonical one."""
