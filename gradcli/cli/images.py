"""PNG and JPEG images as the numbers that a model takes. The only importer of Pillow."""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcli.cli.stored import Stored, here
from gradcli.errors import InputError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from gradcli.graph import Value

MAX_PIXELS = 1 << 26
"""Of an image before it is resized: what is behind a header of a few bytes."""

MAX_BYTES = 1 << 28

KINDS = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
"""Formats by how their files begin."""

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_DEEP = ("I;16", "I;16B", "I;16L", "I")
"""Modes of one channel of 16 bits."""

_PRESETS = {
    "default": "",
    "imagenet": "scale=1/255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225",
}
USAGE = (
    "--image default (pixels times 1/255), imagenet, or like"
    " size=224x224,layout=NCHW,channels=BGR,scale=1/255,mean=0.5:0.5:0.5,std=0.5"
)


@dataclass(frozen=True)
class Recipe:
    """How pixels of 0 to 255 become numbers: (scale * pixel - mean) / std.

    Attributes:
        size: Height and width to resize to; None for what the model takes.
        layout: `NCHW` or `NHWC`; empty for what the model's shape suggests.
        bgr: Whether blue comes first.
        scale: A factor.
        mean: One number, or one for each channel in their order.
        std: Likewise.
    """

    size: tuple[int, int] | None = None
    layout: str = ""
    bgr: bool = False
    scale: float = 1.0 / 255.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


def recipe(text: str) -> Recipe:
    """The recipe that --image describes.

    Raises:
        UsageError: When it describes none.
    """
    made = Recipe()
    for item in filter(None, _PRESETS.get(text, text).split(",")):
        preset = _PRESETS.get(item)
        if preset is not None:
            made = recipe(preset)
            continue
        key, _, value = item.partition("=")
        try:
            made = replace(made, **_setting(key.strip(), value.strip()))
        except (ValueError, ZeroDivisionError) as error:
            raise UsageError(f"--image: {item!r} says nothing that is known", USAGE) from error
    return made


def _setting(key: str, value: str) -> dict[str, Any]:
    match key:
        case "size":
            width, height = (int(n) for n in value.split("x"))
            if min(width, height) < 1 or width * height > MAX_PIXELS:
                raise ValueError(value)
            return {"size": (height, width)}
        case "layout" if value.upper() in ("NCHW", "NHWC"):
            return {"layout": value.upper()}
        case "channels" if value.upper() in ("RGB", "BGR"):
            return {"bgr": value.upper() == "BGR"}
        case "scale":
            return {"scale": _number(value)}
        case "mean" | "std":
            numbers = tuple(_number(n) for n in value.split(":"))
            if key == "std" and not all(numbers):
                raise ValueError(value)
            return {key: numbers}
    raise ValueError(key)


def _number(text: str) -> float:
    above, _, below = text.partition("/")
    number = float(above) / float(below or 1)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def open_image(source: Path | bytes, where: str, kind: str, how: Recipe | None) -> Stored:
    """An image, to be fitted to the input that it is for.

    Args:
        source: The file, or its content.
        where: What to call it.
        kind: `PNG` or `JPEG`.
        how: What --image says.

    Raises:
        InputError: When nothing says how its pixels become numbers, or it is damaged or too large.
        MissingExtraError: When Pillow is not installed.
    """
    if how is None:
        raise InputError(
            f"{where}: is a {kind} image, and nothing says how its pixels become numbers",
            f"add {USAGE}",
        )
    try:
        import PIL.Image
    except ImportError as error:
        raise MissingExtraError(
            f"{where}: images need Pillow, which is not installed", 'pip install "gradcli[image]"'
        ) from error
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size > MAX_BYTES:
        raise InputError(f"{where}: {size:,} bytes are too many for an image", "make it smaller")
    file = io.BytesIO(source if isinstance(source, bytes) else source.read_bytes())
    with warnings.catch_warnings():
        # Pillow warns of what may be a bomb; the limit here is lower.
        warnings.simplefilter("ignore")
        try:
            image = PIL.Image.open(file, formats=[kind])
        except PIL.Image.DecompressionBombError as error:
            raise _bomb(where) from error
        except Exception as error:
            raise _damaged(where, kind) from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _bomb(where)

    def fit(value: Value) -> Stored:
        return here(where, _pixels(image, where, kind, how, value))

    shape = (height, width, len(image.getbands()))
    return Stored(where, shape, np.dtype(np.uint8), lambda: np.empty(0), fit=fit)


def _bomb(where: str) -> InputError:
    return InputError(
        f"{where}: claims more than {MAX_PIXELS:,} pixels", "make the image smaller before"
    )


def _damaged(where: str, kind: str) -> InputError:
    return InputError(f"{where}: is no {kind} image that can be read", "save it again")


def _pixels(image: Any, where: str, kind: str, how: Recipe, value: Value) -> np.ndarray:
    """The image in the shape of an input."""
    import PIL.Image
    import PIL.ImageOps

    try:
        image = PIL.ImageOps.exif_transpose(image)
        layout, (channels, height, width) = _layout(image, where, how, value)
        made = _deep(image) if image.mode in _DEEP else image.convert(_MODES[channels])
    except InputError:
        raise
    except Exception as error:
        raise _damaged(where, kind) from error
    if made.size != (width, height):
        made = made.resize((width, height), PIL.Image.Resampling.BILINEAR)
    pixels = np.asarray(made).reshape(height, width, -1)
    if pixels.shape[2] < channels:
        grey = np.repeat(pixels, min(channels, 3), axis=2)
        opaque = np.full((height, width, channels - grey.shape[2]), 255.0)
        pixels = np.concatenate([grey, opaque], axis=2)
    if how.bgr:
        pixels = pixels[:, :, [2, 1, 0, *range(3, channels)][:channels] if channels > 1 else [0]]
    if value.dtype.is_float:
        for numbers, name in ((how.mean, "mean"), (how.std, "std")):
            if len(numbers) not in (1, channels):
                raise UsageError(
                    f"--image: {name} has {len(numbers)} numbers for {channels} channels",
                    "give one, or one for each channel",
                )
        pixels = (how.scale * pixels.astype(np.float64) - np.array(how.mean)) / np.array(how.std)
    else:
        pixels = np.rint(pixels).astype(np.uint8)
    if layout == "NCHW":
        pixels = pixels.transpose(2, 0, 1)
    rank = 4 if value.shape is None else len(value.shape)
    array = np.ascontiguousarray(pixels)
    return array[None] if rank == 4 else array.reshape(height, width) if rank == 2 else array


def _deep(image: Any) -> Any:
    """Grey of 16 bits as numbers of 0 to 255 that need not be whole; Pillow would clip them."""
    import PIL.Image

    return PIL.Image.fromarray(np.asarray(image).astype(np.float32) / np.float32(257.0))


def _layout(image: Any, where: str, how: Recipe, value: Value) -> tuple[str, tuple[int, int, int]]:
    """Layout, and channels, height and width, by the recipe, the input's shape and the image."""
    dims: list[int | str] = list(value.shape or ("N", "C", "H", "W"))
    if len(dims) not in (2, 3, 4):
        raise InputError(
            f"{where}: is an image, and the input {value.name!r} has {len(dims)} dimensions",
            "an image is for an input of 2 (one channel), 3 or 4 (a batch)",
        )
    if len(dims) == 2:
        dims = [1, *dims]
    dims = dims[-3:]
    # Where both ends may count channels, it is the one that is as many as the image has.
    bands = len(image.getbands())
    first = dims[0] in _MODES and (dims[0] == bands or dims[2] != bands)
    suggested = "NHWC" if dims[2] in _MODES and not first else "NCHW"
    layout = (
        "NCHW" if value.shape is not None and len(value.shape) == 2 else how.layout or suggested
    )
    c, h, w = dims if layout == "NCHW" else (dims[2], dims[0], dims[1])
    height, width = how.size or (
        h if isinstance(h, int) else image.size[1],
        w if isinstance(w, int) else image.size[0],
    )
    channels = c if isinstance(c, int) else 1 if image.mode in ("1", "L") else 3
    if channels not in _MODES:
        raise InputError(
            f"{where}: the input {value.name!r} has {channels} channels in layout {layout}",
            "an image has 1, 3 or 4: say --image layout=NHWC or NCHW, or give an array",
        )
    return layout, (channels, height, width)
