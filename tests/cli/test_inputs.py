"""Inputs from CSV, JSON, TensorProto and images: the numbers that they hold, or why not."""

import io
import json
import struct
import sys
import zlib

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from gradcli.cli.files import Stdin, open_arrays
from gradcli.cli.images import recipe
from gradcli.cli.stored import MAX_TEXT
from gradcli.errors import InputError, MissingExtraError, UsageError
from gradcli.graph import DType, Value
from tests.cli.support import DIABETES, PHYSICS, SAMPLES, cli, refused, save_model, two_inputs

ROW = [59.0, 2.0, 32.1, 101.0, 157.0, 93.2, 38.0, 4.0, 4.8598, 87.0]
NAMES = "age,sex,bmi,bp,s1,s2,s3,s4,s5,s6"
TYPED = ",".join(map(str, ROW))


def grad(path, *more):
    """The gradient at what the file holds, as text that is parsed back."""
    result = cli("grad", DIABETES, "-i", str(path), "--operator", "jacobian", *more)
    assert result.exit_code == 0, result.stderr
    return np.load(io.BytesIO(result.stdout_bytes), allow_pickle=False)


@pytest.fixture
def want(tmp_path):
    np.save(tmp_path / "want.npy", np.array([ROW], np.float32))
    return grad(tmp_path / "want.npy")


def proto(array, name=""):
    return numpy_helper.from_array(np.asarray(array), name).SerializeToString()


FILES = {
    "x.csv": TYPED.encode(),
    "header.csv": f"{NAMES}\n{TYPED}\n".encode(),
    "excel.csv": b"\xef\xbb\xbf" + f"{NAMES}\r\n{TYPED}\r\n\r\n".replace(",", ";").encode(),
    "x.tsv": TYPED.replace(",", "\t").encode(),
    "x.json": json.dumps([ROW]).encode(),
    "named.json": json.dumps({"patient": [ROW]}).encode(),
    "x.pb": proto(np.array([ROW], np.float32)),
    "named.pb": proto(np.array([ROW], np.float64), "whatever"),
}


@pytest.mark.parametrize("name", FILES)
def test_all_kinds_of_files_give_the_same_point(name, tmp_path, want):
    (tmp_path / name).write_bytes(FILES[name])
    np.testing.assert_array_equal(grad(tmp_path / name), want)


@pytest.mark.parametrize("name", ["x.csv", "x.json"])
def test_text_comes_by_stdin_too(name, want):
    result = cli("grad", DIABETES, "-i", "-", "--operator", "jacobian", stdin=FILES[name])
    np.testing.assert_array_equal(np.load(io.BytesIO(result.stdout_bytes)), want)


def test_rows_are_a_batch(tmp_path):
    (tmp_path / "x.csv").write_text(f"{TYPED}\n{TYPED}\n")
    assert grad(tmp_path / "x.csv").shape == (2, 1, 2, 10)


def test_a_number_is_for_every_place(tmp_path):
    (tmp_path / "x.json").write_text('{"x": [[0.25]], "t": [[0.5]]}')
    one = cli("grad", PHYSICS, "-i", "x=0.25", "-i", "t=5e-1", "--format", "json")
    other = cli("grad", PHYSICS, "-i", str(tmp_path / "x.json"), "--format", "json")
    assert json.loads(one.stdout)["derivative"] == json.loads(other.stdout)["derivative"]
    many = cli("grad", DIABETES, "-i", "patient=2", "--shape", "patient=3,10", "--format", "json")
    (block,) = json.loads(many.stdout)["derivative"]
    assert block["shape"][-2:] == [3, 10]
    refused(cli("grad", PHYSICS, "-i", "x=nan"), "'x' holds NaN or infinity")
    refused(cli("grad", PHYSICS, "-i", "0.25"), "there is no such file")


def test_a_file_called_like_a_number_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "7").write_bytes(b"")
    refused(cli("grad", PHYSICS, "-i", "x=7"), "is not a .npy or .npz file")


def test_whole_numbers_that_are_missing_are_asked_for_by_what_to_type(tmp_path):
    path = save_model(
        tmp_path / "picked.onnx",
        [helper.make_node("Gather", ["x", "k"], ["y"], axis=1)],
        {"x": (TensorProto.FLOAT, [1, 4]), "k": (TensorProto.INT64, [1])},
        {"y": (TensorProto.FLOAT, [1, 1])},
    )
    refused(cli("grad", str(path)), "'k' holds int64", "--input k=1")
    assert cli("grad", str(path), "--input", "k=1").exit_code == 0
    refused(cli("grad", str(path), "--input", "k=0.5"), "'k' must hold int64")


def test_columns_called_as_the_inputs_are_those(tmp_path):
    (tmp_path / "x.csv").write_text("t,x\n0.5,0.25\n")
    result = cli("grad", PHYSICS, "-i", str(tmp_path / "x.csv"), "--format", "json")
    one = cli("grad", PHYSICS, "-i", str(SAMPLES / "physics.npz"), "--format", "json")
    assert result.exit_code == one.exit_code == 0
    assert json.loads(result.stdout)["derivative"] != []
    (tmp_path / "x.json").write_text('{"x": [[0.25]], "t": [[0.5]]}')
    same = cli("grad", PHYSICS, "-i", str(tmp_path / "x.json"), "--format", "json")
    assert json.loads(result.stdout)["derivative"] == json.loads(same.stdout)["derivative"]


def test_a_tensor_that_says_its_name_is_for_that_input(tmp_path):
    model = two_inputs(tmp_path / "m.onnx")
    for name in ("a", "a=b"):
        (tmp_path / f"{len(name)}.pb").write_bytes(proto(np.ones(2, np.float32), name))
    given = ["-i", str(tmp_path / "1.pb"), "-i", str(tmp_path / "3.pb")]
    result = cli("grad", model, *given, "--operator", "jacobian", "--format", "json")
    assert (result.exit_code, result.stderr) == (0, "")


def stored(tmp_path, name, data, how=None):
    (tmp_path / name).write_bytes(data)
    return open_arrays(str(tmp_path / name), "--input", Stdin(), how)


@pytest.mark.parametrize(
    ("shape", "text", "fitted"),
    [
        (("N", 4), "1,2,3,4", (1, 4)),
        ((4,), "1,2,3,4", (4,)),
        ((1, 2, 2), "1,2,3,4", (1, 2, 2)),
        (("N", 2, 2), "1,2,3,4\n5,6,7,8", (2, 2, 2)),
        ((2, 1, 2), "1,2,3,4", (2, 1, 2)),
        ((3, 4), "1,2,3,4", (1, 4)),
        ((), "1", ()),
        (None, "1,2", (1, 2)),
    ],
)
def test_a_row_takes_the_shape_of_the_input(shape, text, fitted, tmp_path):
    found = stored(tmp_path, "x.csv", text.encode())[""]
    made = found.fitted(Value("x", DType.FLOAT32, shape)).read()
    assert made.shape == fitted
    np.testing.assert_array_equal(made.reshape(-1), np.arange(1, made.size + 1))


def test_whole_numbers_stay_whole(tmp_path):
    assert stored(tmp_path, "x.csv", b"1,-2\n3,4")[""].dtype == np.int64
    assert stored(tmp_path, "y.csv", b"1,2\n3,4.0")[""].dtype == np.float64
    assert stored(tmp_path, "x.json", b"[[1, 2]]")[""].dtype == np.int64


# ---- refusals ------------------------------------------------------------------------------------

BAD = [
    ("x.csv", b"1,2\n3\n", ("line 2", "1 values", "have 2")),
    ("x.csv", b"a,b\n1,2\n3,4,5\n", ("line 3", "3 values")),
    ("x.csv", b"a,b\n1,2\n3,oops\n", ("line 3, column 2 (b)", "'oops'")),
    ("x.csv", b"1,2\n3,nan\n", ("line 2, column 2", "'nan' is no finite")),
    ("x.csv", b"1,2\n3,inf\n", ("line 2, column 2", "no finite")),
    ("x.csv", b"1,2\n3,\n", ("line 2, column 2", "there is no number")),
    ("x.csv", b"1,1_0\n", ("line 1, column 2", "'1_0'")),
    ("x.csv", b"a,b\n", ("holds no numbers",)),
    ("x.csv", b"\xff\xfe1,2", ("not UTF-8",)),
    ("x.csv", b'"1,2\n', ("no CSV",)),
    ("x.csv", b"1," + b"9" * 200_000, ("no CSV",)),
    ("x.json", b"[[1, 2], [3]]", ("ragged", "[1]", "have 2")),
    ("x.json", b"[[1, 2], 3]", ("ragged", "no list")),
    ("x.json", b'[[1, "2"]]', ("text at [0, 1]", "not a number")),
    ("x.json", b"[[1, null]]", ("null at [0, 1]",)),
    ("x.json", b"[[1, NaN]]", ("NaN is no finite number",)),
    ("x.json", b"[[1, 1e999]]", ("[0, 1]", "not finite")),
    ("x.json", b"[1, 2", ("no JSON",)),
    ("x.json", b"{}", ("holds no arrays",)),
    ("x.json", b"[" * 100_000, ("nested too deeply",)),
    ("x.json", b"[" * 500 + b"]" * 500, ("no array of numbers",)),
    ("x.json", b'{"patient": {"a": 1}}', ("'patient'", "an object")),
    ("x.json", b"[" + b"9" * 30 + b"]", ("not numbers",)),
    ("x.pb", b"hello", ("no TensorProto",)),
    ("x.pb", TensorProto(data_type=1, dims=[1 << 40]).SerializeToString(), ("x.pb",)),
    ("x.pb", TensorProto(data_type=1, dims=[2], raw_data=b"1234").SerializeToString(), ("x.pb",)),
    (
        "x.pb",
        TensorProto(data_type=1, data_location="EXTERNAL").SerializeToString(),
        ("another file",),
    ),
    ("x.csv", b"", ("it is empty",)),
]


@pytest.mark.parametrize(("name", "data", "words"), BAD)
def test_what_is_wrong_with_a_file_is_said_with_its_place(name, data, words, tmp_path):
    (tmp_path / name).write_bytes(data)
    refused(cli("grad", DIABETES, "--input", str(tmp_path / name)), name, *words, "hint")


def test_a_shape_that_does_not_fit_names_the_file(tmp_path):
    (tmp_path / "x.csv").write_text("1,2,3\n")
    text = refused(cli("grad", DIABETES, "-i", str(tmp_path / "x.csv")), "x.csv", "[1, 3]")
    assert "[N, 10]" in text


@pytest.mark.parametrize("name", ["x.csv", "x.json", "x.pb"])
def test_a_huge_file_is_refused_before_it_is_read(name, tmp_path):
    with (tmp_path / name).open("wb") as file:
        file.write(b"1,2\n")
        file.truncate(1 << 40)
    refused(cli("grad", DIABETES, "-i", str(tmp_path / name)), name, f"{MAX_TEXT:,}", "numpy.save")


# ---- images --------------------------------------------------------------------------------------


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels, claims=None):
    """A PNG of uint8[h, w] or [h, w, 3]; its header may claim another width and height."""
    height, width = pixels.shape[:2]
    header = struct.pack(
        ">IIBBBBB", *(claims or (width, height)), 8, 0 if pixels.ndim == 2 else 2, 0, 0, 0
    )
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


PIXELS = np.random.default_rng(0).integers(0, 256, (2, 3, 3), np.uint8)


@pytest.fixture
def pillow():
    return pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def pixels(tmp_path, how, shape, data=None, dtype=DType.FLOAT32):
    found = stored(tmp_path, "x.png", data or png(PIXELS), recipe(how))[""]
    return found.fitted(Value("x", dtype, shape)).read()


@pytest.mark.usefixtures("pillow")
class TestImages:
    def test_layout_and_batch_follow_the_model(self, tmp_path):
        want = PIXELS / 255
        made = pixels(tmp_path, "default", ("N", 3, "H", "W"))
        np.testing.assert_allclose(made, want.transpose(2, 0, 1)[None])
        np.testing.assert_allclose(pixels(tmp_path, "default", (1, 2, 3, 3)), want[None])
        np.testing.assert_allclose(pixels(tmp_path, "default", (3, 2, 3)), want.transpose(2, 0, 1))
        made = pixels(tmp_path, "layout=NHWC", ("N", "H", "W", 3))
        np.testing.assert_allclose(made, want[None])

    def test_normalising(self, tmp_path):
        mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        want = ((PIXELS / 255 - mean) / std).transpose(2, 0, 1)[None]
        np.testing.assert_allclose(pixels(tmp_path, "imagenet", (1, 3, 2, 3)), want)
        made = pixels(tmp_path, "scale=1,mean=127.5,std=2", (1, 3, 2, 3))
        np.testing.assert_allclose(made[0], (PIXELS.transpose(2, 0, 1) - 127.5) / 2)

    def test_channel_order(self, tmp_path):
        rgb = pixels(tmp_path, "default", (1, 3, 2, 3))
        np.testing.assert_array_equal(pixels(tmp_path, "channels=BGR", (1, 3, 2, 3)), rgb[:, ::-1])

    def test_resizing(self, tmp_path):
        assert pixels(tmp_path, "default", (1, 3, 8, 5)).shape == (1, 3, 8, 5)
        assert pixels(tmp_path, "size=7x4", (1, 3, "H", "W")).shape == (1, 3, 4, 7)
        flat = png(np.full((4, 4), 51, np.uint8))
        np.testing.assert_allclose(pixels(tmp_path, "default", (1, 1, 8, 8), flat), 0.2)

    def test_where_both_ends_may_count_channels_it_is_the_one_the_image_has(self, tmp_path):
        tall = np.random.default_rng(1).integers(0, 256, (4, 5, 3), np.uint8)
        made = pixels(tmp_path, "default", (1, 4, 5, 3), png(tall))
        np.testing.assert_allclose(made, tall[None] / 255)
        made = pixels(tmp_path, "default", (1, 3, 5, 4), png(tall))
        assert made.shape == (1, 3, 5, 4)

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_grey_of_16_bits_keeps_them(self, channels, tmp_path, pillow):
        deep = np.random.default_rng(1).integers(0, 65536, (2, 3)).astype(np.uint16)
        file = io.BytesIO()
        pillow.fromarray(deep).save(file, "PNG")
        made = pixels(tmp_path, "default", (1, channels, 2, 3), file.getvalue())
        for k in range(min(channels, 3)):
            np.testing.assert_allclose(made[0, k], deep / 65535, rtol=1e-6)
        np.testing.assert_array_equal(made[0, 3:], np.ones((max(channels - 3, 0), 2, 3)))
        whole = pixels(tmp_path, "default", (1, 1, 2, 3), file.getvalue(), DType.UINT8)
        np.testing.assert_array_equal(whole[0, 0], np.rint(deep / 257))

    def test_a_photograph_is_turned_as_its_camera_says(self, tmp_path, pillow):
        flat = np.zeros((16, 8, 3), np.uint8)
        flat[:8] = 200
        image = pillow.fromarray(flat)
        exif = image.getexif()
        exif[0x112] = 6  # to be turned a quarter clockwise
        file = io.BytesIO()
        image.save(file, "JPEG", quality=100, exif=exif)
        made = pixels(tmp_path, "default", (1, 3, "H", "W"), file.getvalue())
        want = np.rot90(flat, -1).transpose(2, 0, 1)[None] / 255
        np.testing.assert_allclose(made, want, atol=4 / 255)

    def test_one_channel(self, tmp_path):
        grey = png(PIXELS[:, :, 0])
        made = pixels(tmp_path, "default", (1, 1, 2, 3), grey)
        np.testing.assert_allclose(made[0, 0], PIXELS[:, :, 0] / 255)
        assert pixels(tmp_path, "default", (2, 3), grey).shape == (2, 3)

    def test_whole_numbers_stay_pixels(self, tmp_path):
        made = pixels(tmp_path, "default", (1, 2, 3, 3), dtype=DType.UINT8)
        np.testing.assert_array_equal(made[0], PIXELS)

    def test_jpeg(self, tmp_path, pillow):
        file = io.BytesIO()
        pillow.fromarray(np.full((8, 8, 3), 128, np.uint8)).save(file, "JPEG")
        found = stored(tmp_path, "x.jpg", file.getvalue(), recipe("default"))[""]
        made = found.fitted(Value("x", DType.FLOAT32, (1, 3, 8, 8))).read()
        np.testing.assert_allclose(made, 128 / 255, atol=2 / 255)

    def test_from_the_command_line(self, tmp_path):
        image = np.random.default_rng(1).integers(0, 17, (8, 8), np.uint8)
        (tmp_path / "digit.png").write_bytes(png(image))
        np.save(tmp_path / "digit.npy", image[None, None].astype(np.float32))
        more = ("--of", "logits[0,3]")
        digits = str(SAMPLES / "digits.onnx")
        given = ("-i", str(tmp_path / "digit.png"), "--image", "scale=1")
        one = cli("grad", digits, *given, *more)
        other = cli("grad", digits, "-i", str(tmp_path / "digit.npy"), *more)
        assert one.exit_code == 0, one.stderr
        assert one.stdout_bytes == other.stdout_bytes

    def test_a_bomb_is_refused_by_its_header(self, tmp_path):
        data = png(PIXELS, claims=(60_000, 60_000))
        with pytest.raises(InputError, match="claims more than 67,108,864 pixels"):
            pixels(tmp_path, "default", (1, 3, 8, 8), data)
        with pytest.raises(InputError):
            pixels(tmp_path, "default", (1, 3, 8, 8), png(PIXELS, claims=(8000, 8000)))

    @pytest.mark.parametrize("cut", [9, 20, 40, 60])
    def test_a_damaged_image(self, cut, tmp_path):
        with pytest.raises(InputError, match=r"x\.png: is no PNG image"):
            pixels(tmp_path, "default", (1, 3, 2, 3), png(PIXELS)[:cut])

    def test_what_no_image_fits(self, tmp_path):
        with pytest.raises(InputError, match="has 5 dimensions"):
            pixels(tmp_path, "default", (1, 1, 3, 2, 3))
        with pytest.raises(InputError, match="7 channels"):
            pixels(tmp_path, "default", (1, 7, 2, 5))
        with pytest.raises(UsageError, match="2 numbers for 3 channels"):
            pixels(tmp_path, "mean=1:2", (1, 3, 2, 3))


def test_an_image_without_a_recipe_is_refused(tmp_path):
    (tmp_path / "x.png").write_bytes(png(PIXELS))
    digits = str(SAMPLES / "digits.onnx")
    refused(cli("grad", digits, "-i", str(tmp_path / "x.png")), "x.png", "--image default")


def test_without_pillow_the_line_to_type_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError) as found:
        stored(tmp_path, "x.png", png(PIXELS), recipe("default"))
    assert found.value.hint == 'pip install "gradcli[image]"'


@pytest.mark.parametrize(
    "how",
    [
        *("sharpen", "size=0x3", "size=3", "layout=NC", "std=0", "scale=1/0", "mean=nan"),
        "size=99999x99999",
    ],
)
def test_a_recipe_that_says_nothing_known(how):
    with pytest.raises(UsageError, match="says nothing that is known"):
        recipe(how)


def test_text_in_place_of_numbers_is_no_input_of_a_model_of_strings(tmp_path):
    text = int(TensorProto.STRING)
    node = helper.make_node("Identity", ["s"], ["y"])
    model = save_model(tmp_path / "m.onnx", [node], {"s": (text, [1])}, {"y": (text, [1])})
    (tmp_path / "x.json").write_text('["a"]')
    refused(cli("grad", model, "-i", str(tmp_path / "x.json")), "x.json", "text")


def claiming_npy(shape):
    """A .npy file that is all header."""
    file = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()
