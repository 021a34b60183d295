import re
import shutil

import pytest

import gradcli
from gradcli.cli import sample
from tests.cli.support import SAMPLES, cli, process, refused

NAMES = {"attention", "diabetes", "digits", "kinked", "physics", "sequence"}


def test_every_sample_is_listed_with_what_it_is():
    result = cli("sample")
    assert result.exit_code == 0
    assert set(re.findall(r"^(\w+)  +\S", result.stdout, re.MULTILINE)) == NAMES
    assert "self-attention" in result.stdout


def test_the_list_is_the_files():
    assert sample.descriptions(SAMPLES).keys() == {p.stem for p in SAMPLES.glob("*.onnx")} == NAMES


@pytest.mark.parametrize(
    ("output", "files"),
    [
        (None, ["physics.npz", "physics.onnx"]),
        (".", ["physics.npz", "physics.onnx"]),
        ("rod.onnx", ["rod.npz", "rod.onnx"]),
    ],
)
def test_a_sample_is_written_out_with_its_input(output, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = cli("sample", "physics", *(["-o", output] if output else []))
    assert result.exit_code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == files
    for name in files:
        original = SAMPLES / f"physics{name[name.index('.') :]}"
        assert (tmp_path / name).read_bytes() == original.read_bytes()
    assert f"gradcli compare {files[1]} --input {files[0]}" in result.stdout


def test_writing_it_again_is_fine_and_a_file_of_one_s_own_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli("sample", "physics").exit_code == 0
    assert cli("sample", "physics").exit_code == 0
    (tmp_path / "physics.npz").write_bytes(b"mine")
    (tmp_path / "physics.onnx").unlink()
    refused(cli("sample", "physics"), "physics.npz", "other content")
    assert (tmp_path / "physics.npz").read_bytes() == b"mine"
    assert [p.name for p in tmp_path.iterdir()] == ["physics.npz"]


def test_an_unknown_sample():
    refused(cli("sample", "digit"), "'digit'", "digits")


def test_a_place_without_a_name(tmp_path):
    refused(cli("sample", "-o", str(tmp_path)), "NAME")


def test_a_place_that_cannot_be_written(tmp_path):
    refused(cli("sample", "physics", "-o", str(tmp_path / "no" / "where.onnx")), "no directory")


def test_an_installed_package_has_them_inside(tmp_path, monkeypatch):
    inside = tmp_path / "gradcli" / "sample_models"
    shutil.copytree(SAMPLES, inside)
    monkeypatch.setattr(gradcli, "__file__", str(tmp_path / "gradcli" / "__init__.py"))
    assert sample.folder() == inside.resolve()
    shutil.rmtree(inside)
    refused(cli("sample"), "missing from this installation", code=70)


def test_listing_from_any_directory(tmp_path):
    result = process("sample", cwd=tmp_path)
    assert result.returncode == 0
    assert b"physics" in result.stdout
