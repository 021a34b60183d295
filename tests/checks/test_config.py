"""Configurations: what they say, where they are found, and what is told of their mistakes."""

from pathlib import Path

import pytest

from gradcli.api import Settings
from gradcli.checks import find, read
from gradcli.errors import UsageError

LEAST = '[[tool.gradcli.model]]\npath = "a.onnx"\n'


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text, name="pyproject.toml"):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def wrong(text, name="pyproject.toml"):
    with pytest.raises(UsageError) as error:
        read(write(text, name))
    assert name in error.value.message
    return f"{error.value.message} | {error.value.hint}"


def test_everything_that_a_model_may_say():
    config = read(
        write(
            """
            [tool.gradcli]
            rtol = 1e-3
            baseline = "base.json"
            threads = 2

            [[tool.gradcli.model]]
            name = "first"
            path = "models/a.onnx"
            inputs = { x = "x.npy", t = "t.npy" }
            shapes = { noise = [1, 3], scalar = [] }
            wrt = "x"
            of = ["y[0]", "z"]
            operator = "vjp"
            cotangent = "bar.npz"
            methods = ["forward", "finite"]
            dtype = "float64"
            rtol = 0
            atol = 1e-9
            step = 1e-4
            runs = 3
            warmup = 0
            budget = 5
            reference = "float64"
            at_kink = "skip"
            inconclusive = "ok"
            straight_through = true
            seed = 3
            """
        )
    )
    (model,) = config.models
    assert config.baseline == "base.json"
    assert model.name == "first"
    assert model.path == str(Path("models/a.onnx"))
    assert model.inputs == (("x", "x.npy"), ("t", "t.npy"))
    assert model.shapes == (("noise", (1, 3)), ("scalar", ()))
    assert model.question == {
        "wrt": ("x",),
        "of": ("y[0]", "z"),
        "operator": "vjp",
        "dtype": "float64",
        "threads": 2,
        "seed": 3,
        "straight_through": True,
    }
    assert (model.tangent, model.cotangent) == (None, "bar.npz")
    assert model.settings == Settings(
        ("forward", "finite"), 0.0, 1e-9, 1e-4, 3, 0, 5.0, "float64", "skip", narrow=True
    )
    assert model.inconclusive == "ok"


def test_a_model_s_own_key_goes_before_the_one_above():
    config = read(
        write(
            "[tool.gradcli]\nseed = 1\nbudget = 9\n"
            + LEAST
            + '[[tool.gradcli.model]]\npath = "b.onnx"\nseed = 2\n'
        )
    )
    assert [m.question["seed"] for m in config.models] == [1, 2]
    assert [m.settings.budget for m in config.models] == [9.0, 9.0]


def test_gradcli_toml_has_the_keys_at_its_top():
    config = read(write('seed = 4\n[[model]]\npath = "a.onnx"\ninputs = "a.npz"', "gradcli.toml"))
    (model,) = config.models
    assert (model.name, model.inputs, model.question) == ("a", (("", "a.npz"),), {"seed": 4})
    nested = read(write(LEAST, "gradcli.toml"))
    assert [m.path for m in nested.models] == ["a.onnx"]


def test_a_pattern_is_a_model_for_each_file():
    for name in ("b", "a"):
        write("", f"models/{name}.onnx")
    write("", "models/c.txt")
    write('[[model]]\npath = "models/*.onnx"\ninputs = "points/{stem}.npz"', "gradcli.toml")
    config = read(Path("gradcli.toml"))
    assert [m.name for m in config.models] == ["a", "b"]
    assert [m.inputs for m in config.models] == [
        (("", str(Path(f"points/{name}.npz"))),) for name in "ab"
    ]
    write('[[model]]\nname = "set"\npath = "models/*.onnx"', "gradcli.toml")
    assert [m.name for m in read(Path("gradcli.toml")).models] == ["set-a", "set-b"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file():
    write("", "a[1].onnx")
    (model,) = read(write('[[model]]\npath = "a[1].onnx"', "gradcli.toml")).models
    assert (model.name, model.path) == ("a[1]", "a[1].onnx")


def test_paths_are_from_the_file_s_folder(here, monkeypatch):
    write('[[model]]\npath = "a.onnx"\ninputs = "in/a.npz"', "sub/gradcli.toml")
    (model,) = read(Path("sub/gradcli.toml")).models
    assert model.path == str(Path("sub/a.onnx"))
    monkeypatch.chdir(here / "sub")
    (model,) = read(find(Path.cwd())).models
    assert model.path == "a.onnx"
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    (model,) = read(here / "sub" / "gradcli.toml").models
    assert Path(model.path) == here / "sub" / "a.onnx"


def test_a_dash_is_a_file_and_not_standard_input():
    (model,) = read(write('[[model]]\npath = "-"', "gradcli.toml")).models
    assert model.path != "-"


# ---- finding it ----------------------------------------------------------------------------------


def test_the_nearest_configuration_is_found_above(here):
    write(LEAST)
    deep = here / "one" / "two"
    deep.mkdir(parents=True)
    assert find(deep) == here / "pyproject.toml"
    write('[project]\nname = "x"\n', "one/pyproject.toml")
    assert find(deep) == here / "pyproject.toml", "one without [tool.gradcli] is none"
    write("[[model]]\npath='a.onnx'", "one/gradcli.toml")
    write(LEAST, "one/pyproject.toml")
    assert find(deep) == here / "one" / "gradcli.toml", "its own file goes first"


def test_where_there_is_none_the_least_is_shown(here):
    with pytest.raises(UsageError) as error:
        find(here)
    assert "gradcli.toml" in error.value.message
    assert "[[tool.gradcli.model]]" in error.value.hint


# ---- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rtoll = 1", ["there is no key 'rtoll'", "did you mean rtol"]),
        ("rtol = '1e-3'", ["rtol is '1e-3', a string", "number of at least 0", "rtol = 1e-6"]),
        ("rtol = -1", ["rtol is -1, an integer", "at least 0"]),
        ("rtol = nan", ["rtol is nan"]),
        (f"rtol = {'9' * 400}", ["rtol is 99999", "a number of at least 0"]),
        ("threads = 99999999999", ["threads is 99999999999", "from 1 to 1024"]),
        ("name = ' '", ["name is ' '", "not empty"]),
        ("rtol = true", ["rtol is True, a truth value"]),
        ("runs = 0", ["runs is 0", "at least 1"]),
        ("runs = 2.0", ["runs is 2.0, a number", "an integer"]),
        ("seed = true", ["seed is True"]),
        ("budget = 0", ["budget is 0", "above 0"]),
        ("operator = 'hessian'", ["'hessian'", "gradient, jacobian, jvp or vjp"]),
        ("dtype = 'float16'", ["float32 or float64"]),
        ("at_kink = 'ignore'", ["report, skip, fail or nudge"]),
        ("inconclusive = 'no'", ["fail, warn or ok"]),
        ("reference = 'x'", ["auto, certified or float64"]),
        ("methods = 'revers'", ["no method called 'revers'", "did you mean reverse"]),
        ("methods = []", ["methods is []", "an array"]),
        ("wrt = [1]", ["wrt is [1]", "strings"]),
        ("inputs = 3", ["inputs is 3", "table of paths"]),
        ("inputs = { x = 3 }", ["inputs is", "a table"]),
        ("shapes = { x = 3 }", ["shapes is", "[1, 3]"]),
        ("shapes = { x = [-1] }", ["shapes is"]),
        ("straight_through = 1", ["true or false"]),
        ("name = ''", ["name is ''", "not empty"]),
        ("path = 3", ["path is 3", "an .onnx file"]),
    ],
)
def test_a_mistake_is_told_with_its_file_table_and_key(line, words):
    path = "" if line.startswith("path") else "path = 'net.onnx'\n"
    said = wrong(f"{LEAST}[[tool.gradcli.model]]\n{path}{line}\n")
    assert "[[tool.gradcli.model]] 2" in said
    assert [word for word in words if word not in said] == [], said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[tool.gradcli]\nmodell = 1\n" + LEAST, ["[tool.gradcli]: there is no key 'modell'"]),
        ("[tool.gradcli]\nwrt = 'x'\n" + LEAST, ["[tool.gradcli]: there is no key 'wrt'"]),
        ("[tool.gradcli]\nseed = 1\n", ["names no model", "[[tool.gradcli.model]]"]),
        ("[tool]\ngradcli = 3\n", ["is no table"]),
        ("[tool.gradcli]\nmodel = [3]\n", ["[[tool.gradcli.model]] 1: is no table"]),
        ("[tool.gradcli]\nmodel = 3\n", ["model is 3", "an array of tables"]),
        ("[tool.gradcli.model]\npath = 'a.onnx'\n", ["an array of tables", "[[tool.gradcli"]),
        ("[[tool.gradcli.model]]\nseed = 1\n", ["says no path"]),
        (LEAST + LEAST, ["two models are called 'a'"]),
        ("[[tool.gradcli.model]]\npath = 'x/*.onnx'\n", ["'x/*.onnx'", "no such file"]),
        ("[[tool.gradcli.model]]\npath = '**x'\n", ["'**x'"]),
        ("[[tool.gradcli.model]\n", ["is no TOML", "line 1"]),
        (f"[tool.gradcli]\nseed = {'9' * 5000}\n", ["is no TOML", "5000 digits"]),
        ("[project]\nname = 'x'\n", ["has no [tool.gradcli]"]),
    ],
)
def test_a_mistake_of_the_whole_is_told(text, words):
    said = wrong(text)
    assert [word for word in words if word not in said] == [], said


@pytest.mark.parametrize("text", ["", "model = 3\n", "[model]\npath = 'a.onnx'\n", "model = [3]"])
def test_hints_are_as_the_file_itself_would_say_it(text):
    for name in ("gradcli.toml", "other.toml"):
        assert "[[model]]\npath = " in wrong(text, name)
        assert "tool.gradcli" not in wrong(text, name)


def test_its_own_file_that_cannot_be_read_is_not_passed_over(here):
    write(LEAST)
    (here / "gradcli.toml").mkdir()
    with pytest.raises(UsageError, match=r"gradcli\.toml: cannot be read"):
        read(find(here))
    (here / "gradcli.toml").rmdir()
    (here / "gradcli.toml").symlink_to("gradcli.toml")
    with pytest.raises(UsageError, match=r"gradcli\.toml: cannot be read"):
        read(find(here))


def test_in_its_own_file_no_key_is_passed_over():
    said = wrong("runs = 1\n" + LEAST, "gradcli.toml")
    assert "'runs' stands outside of it" in said
    assert read(write(LEAST, "gradcli.toml")).models[0].name == "a"
    assert read(write("runs = 1\n" + LEAST, "other.toml")).models[0].name == "a"


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b"\r\n", b"# \xc3\xa9\r\n"])
def test_files_of_windows_are_read(start):
    path = Path("gradcli.toml")
    path.write_bytes(start + b"[[model]]\r\npath = 'a.onnx'\r\nruns = 3\r\n")
    assert read(path).models[0].settings.runs == 3


def test_what_is_long_is_quoted_shortly():
    long = "n" * 5000
    for text in (
        f"{long} = 1\n",
        f"name = '{long}'\nrtol = -1\n",
        f"rtol = '{long}'\n",
        f"name = '{long}'\n[[tool.gradcli.model]]\npath='b.onnx'\nname = '{long}'\n",
    ):
        assert len(wrong(LEAST + text)) < 500


def test_a_model_is_called_something():
    (model,) = read(write('[[model]]\npath = "."', "gradcli.toml")).models
    assert model.name == "."


def test_a_file_that_cannot_be_read_is_told(here):
    with pytest.raises(UsageError, match="there is no such file"):
        read(Path("nowhere.toml"))
    with pytest.raises(UsageError, match="cannot be read"):
        read(here)
    with pytest.raises(UsageError, match="is no TOML"):
        read(Path("a\0b"))
    Path("bad.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="is no TOML"):
        read(Path("bad.toml"))


def test_models_are_chosen_by_name():
    config = read(write(LEAST + '[[tool.gradcli.model]]\npath = "bee.onnx"\n'))
    assert [m.name for m in config.chosen(())] == ["a", "bee"]
    assert [m.name for m in config.chosen(("bee", "a"))] == ["a", "bee"], "in the file's order"
    with pytest.raises(UsageError) as error:
        config.chosen(("be",))
    assert "'be'" in error.value.message
    assert "bee" in error.value.hint
