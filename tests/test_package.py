"""The package as a whole: what README promises, what a start costs, that its papers agree."""

import importlib.metadata
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import gradcli
from tests.installed import DRAWS, need_every_form

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]

# Their doors open when something is computed, never before: a start must not pay for them.
HEAVY = ["onnx", "onnxruntime", "scipy", "sympy", "flint", "numpy", "rich", "torch", "jax"]


def run(*command: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def readme_command(number: int) -> subprocess.CompletedProcess[str]:
    return run(".ci/readme_command.py", str(number))


INSTALL = "python -m pip install . && "
COMPARE = "gradcli compare sample_models/physics.onnx --input sample_models/physics.npz"
TEST = 'python -m pip install -e ".[test]" && python -m pytest -n auto'


@pytest.mark.parametrize(("number", "command"), [(1, INSTALL + COMPARE), (2, TEST)])
def test_ci_runs_readme_s_first_two_commands_as_they_stand(number, command):
    assert readme_command(number).stdout == command + "\n"
    fences = re.findall(
        r"^```.*?^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert fences[number - 1] == f"```sh\n{command}\n```"
    assert f"\nreadme {number}\n" in (ROOT / ".ci/run").read_text(encoding="utf-8")


README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def checkout(tmp_path):
    """A folder where README's commands find what they name, and may write."""
    shutil.copytree(ROOT / "sample_models", tmp_path / "sample_models")
    return tmp_path


COMMANDS = [line for block in blocks("sh")[2:] for line in block.splitlines()]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_in_readme_runs(line, checkout):
    program, *words = shlex.split(line)
    assert program == "gradcli"
    if ".html" in line and not DRAWS:
        pytest.skip("needs the extra `html`")
    result = run("-m", "gradcli", *words, cwd=checkout)
    assert result.returncode == 0, result.stderr
    if "-o" in words:
        assert (checkout / words[words.index("-o") + 1]).exists()
    else:
        assert result.stdout


def test_the_page_of_operators_is_what_the_cards_say():
    need_every_form()
    page = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")
    made = run("-m", "gradcli", "ops", "--format", "markdown").stdout
    assert page == made, "stale: gradcli ops -o docs/operators.md writes it anew"


def test_pages_that_readme_names_are_there():
    named = re.findall(r"\]\((docs/[^)]+|[A-Z]+(?:\.md)?)\)", README)
    assert len(named) >= 4
    assert [name for name in named if not (ROOT / name.partition("#")[0]).is_file()] == []


def test_readme_s_python_runs(checkout):
    (code,) = blocks("python")
    result = run("-c", code, cwd=checkout)
    assert result.returncode == 0, result.stderr
    first, *others = result.stdout.splitlines()
    assert first.startswith("AGREE [('reverse', ")
    assert len(others) == 3
    # What the comments say is what comes.
    told = {"gradient": ["x", "t"], "along": ["u"], "back": ["x", "t"], "block": ["u/x"]}
    shown = run(
        "-c", f"{code}\nprint({{k: list(globals()[k]) for k in {list(told)}}})", cwd=checkout
    )
    assert shown.stdout.splitlines()[-1] == str(told)
    assert all(f'"{name}"' in code for names in told.values() for name in names)


def without_timings(screen: str) -> list[str]:
    """What a report says, without what differs between machines and runs."""
    above, _, _ = screen.partition("\nadvice")
    numbers = re.compile(r"\d[\d.,]*(e-?\d+)?( [nµm]?s\b)?|[▏▎▍▌▋▊▉█]+")
    return re.sub(r"\s+", " ", numbers.sub("#", above)).split()


def test_the_run_that_readme_shows_is_what_the_first_command_prints(tmp_path):
    shown, *_ = blocks("text")
    command = shlex.split(COMPARE)[1:]
    # The first command installs no extra.
    (tmp_path / "flint.py").write_text("raise ImportError", encoding="utf-8")
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    result = run(
        "-m", "gradcli", *command, COLUMNS="80", PYTHONIOENCODING="utf-8", PYTHONPATH=paths
    )
    assert result.returncode == 0, result.stderr
    assert without_timings(shown) == without_timings(result.stdout)
    assert len(without_timings(shown)) > 150


def test_the_formulas_that_readme_shows_are_written():
    shown = blocks("text")[1:3]
    models = [ROOT / "sample_models" / f"{name}.onnx" for name in ("physics", "kinked")]
    found = [gradcli.formula(models[0]), gradcli.formula(models[1], form="matrix")]
    for block, written in zip(shown, found, strict=True):
        parts = [part for part in block.split("...\n") if part]
        assert len(parts) == 2
        assert all(part in written for part in parts)


def test_what_contributing_shows_of_a_card_and_its_row_is_what_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = re.findall(r"^ {3}```python\n(.*?)^ {3}```$", text, re.MULTILINE | re.DOTALL)
    assert len(shown) == 2
    places = ("gradcli/ops/activation.py", "tests/ops/rows/activation.py")
    for block, place in zip(shown, places, strict=True):
        code = "".join((ROOT / place).read_text(encoding="utf-8").split())
        for part in block.split("\n\n"):
            assert "".join(part.split()) in code


def test_a_code_block_that_is_no_command_is_refused():
    result = readme_command(1000)
    assert result.returncode == 1
    assert "there is no number 1000" in result.stderr


def test_the_files_that_readme_s_first_command_names_are_there():
    names = re.findall(r"sample_models/\S+", readme_command(1).stdout)
    assert len(names) == 2
    assert [name for name in names if not (ROOT / name).is_file()] == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no executable bit")
@pytest.mark.parametrize("script", [".ci/run", ".ci/lowest"])
def test_ci_scripts_can_be_executed(script):
    assert (ROOT / script).stat().st_mode & stat.S_IXUSR


def test_the_installed_version_is_the_package_s():
    try:
        installed = importlib.metadata.version("gradcli")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("run from a checkout that is not installed: there is no second version")
    assert installed == gradcli.__version__


def test_the_build_reads_the_version_from_the_package():
    path = ROOT / PYPROJECT["tool"]["hatch"]["version"]["path"]
    assert path.samefile(gradcli.__file__)
    assert f'__version__ = "{gradcli.__version__}"' in path.read_text(encoding="utf-8")


def test_the_command_knows_its_version():
    result = run("-m", "gradcli", "--version")
    assert (result.returncode, result.stderr) == (0, "")
    assert gradcli.__version__ in result.stdout


def test_the_changelog_has_unreleased_first_and_no_version_beyond_the_package_s():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert headings[1:2] in ([], [gradcli.__version__])


def test_every_core_dependency_has_a_lower_bound_and_nothing_else():
    # .ci/lowest turns each bound into a pin, so it must be able to read them.
    assert [r for r in PROJECT["dependencies"] if not re.fullmatch(r"[a-z]+>=[\d.]+", r)] == []


def test_readme_and_contributing_name_only_extras_that_exist():
    text = "".join((ROOT / f).read_text(encoding="utf-8") for f in ("README.md", "CONTRIBUTING.md"))
    named = {name for group in re.findall(r'"\.\[([\w,]+)\]"', text) for name in group.split(",")}
    assert {"test", "lint", "certified"} <= named <= set(PROJECT["optional-dependencies"])


HELP = """
import sys
from gradcli.cli import main
sys.argv = ["gradcli", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


@pytest.mark.parametrize("code", ["import gradcli", HELP], ids=["import", "help"])
def test_starting_loads_no_heavy_library(code):
    probe = f"import sys; print('loaded:', *[m for m in {HEAVY} if m in sys.modules])"
    result = run("-c", f"{code}\n{probe}")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "loaded:"
