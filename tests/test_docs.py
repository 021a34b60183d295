"""The pages under docs/: their commands and their Python run, and their links lead somewhere."""

import html
import re
import runpy
import shlex
import shutil

import pytest

from tests.test_package import ROOT, blocks, run, without_timings

PAGES = sorted(p for p in (ROOT / "docs").rglob("*.md") if "adr" not in p.parts)
TEXT = {str(page.relative_to(ROOT / "docs")): page.read_text(encoding="utf-8") for page in PAGES}

COMMANDS = {
    (name, line): None
    for name, text in TEXT.items()
    for block in re.findall(r"^ *```sh\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    for line in map(str.strip, block.splitlines())
    if line.startswith("gradcli ")
}


@pytest.fixture
def checkout(tmp_path):
    shutil.copytree(ROOT / "sample_models", tmp_path / "sample_models")
    return tmp_path


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_every_command_in_the_docs_runs(page, line, checkout):
    result = run("-m", "gradcli", *shlex.split(line)[1:], cwd=checkout, COLUMNS="80")
    assert result.returncode == 0, result.stderr
    assert result.stdout or "-o" in line
    # What a page shows right after a command is how its output starts.
    after = TEXT[page].partition(line)[2]
    shown = re.match(r"\n```\n\n```text\n(.*?)^```$", after, re.MULTILINE | re.DOTALL)
    if shown:
        wanted = without_timings(shown[1])
        assert without_timings(result.stdout)[: len(wanted)] == wanted


WRITTEN = {"howto/formula.md": "the page's commands write what its Python imports"}


@pytest.mark.parametrize(
    "page", [name for name, text in TEXT.items() if "```python" in text and name not in WRITTEN]
)
def test_the_python_of_a_page_runs_from_its_first_line_to_its_last(page, checkout):
    result = run("-c", "\n".join(blocks("python", TEXT[page])), cwd=checkout)
    assert result.returncode == 0, result.stderr


def test_the_files_of_inputs_md_are_taken(checkout):
    pytest.importorskip("PIL", reason="images need the extra image")
    text = TEXT["howto/inputs.md"]
    assert run("-c", "\n".join(blocks("python", text)), cwd=checkout).returncode == 0
    lines = [line for block in blocks("bash", text) for line in block.splitlines()]
    assert len(lines) == 4
    for line in lines:
        result = run("-m", "gradcli", *shlex.split(line)[1:], cwd=checkout, COLUMNS="80")
        assert result.returncode == 0, result.stderr
        assert result.stdout or (checkout / line.split()[-1]).stat().st_size


def test_the_programs_of_formula_md_are_what_it_says(checkout):
    text = TEXT["howto/formula.md"]
    for line in (line for block in blocks("bash", text) for line in block.splitlines()):
        result = run("-m", "gradcli", *shlex.split(line)[1:], cwd=checkout)
        assert result.returncode == 0, result.stderr
    result = run("-c", "\n".join(blocks("python", text)), cwd=checkout, PYTHONPATH=".")
    assert "1.3568" in result.stdout, result.stderr
    (declared,) = blocks("c", text)
    assert declared.strip().rstrip(";") in (checkout / "physics.c").read_text(encoding="utf-8")
    assert "function formula(" in (checkout / "physics.jl").read_text(encoding="utf-8")


def test_the_copies_of_two_models_md_are_told_apart(checkout):
    text = TEXT["howto/two-models.md"]
    assert run("-c", "\n".join(blocks("python", text)), cwd=checkout).returncode == 0
    lines = [line for block in blocks("bash", text) for line in block.splitlines()]
    results = [run("-m", "gradcli", *shlex.split(line)[1:], cwd=checkout) for line in lines]
    assert [result.returncode for result in results] == [0, 1, 1, 0]
    assert [result.stdout.split()[0] for result in results] == ["SAME", "DIFFER", "DIFFER", "SAME"]
    assert "conv1" in results[1].stdout
    assert "conv1.weight" in results[1].stdout
    *_, row = (line for line in results[2].stdout.splitlines() if line.startswith("gradient image"))
    assert "1-2e-" in row


def test_pages_have_commands_and_python():
    assert len({page for page, _ in COMMANDS}) >= 5
    assert "```python" in TEXT["tutorial.md"]


def test_every_page_is_in_the_site_s_index_and_every_link_leads_somewhere():
    index = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [name for name in TEXT if f": {name}\n" not in index] == []
    links = [
        (name, target)
        for name, text in TEXT.items()
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    ]
    assert len(links) > 10
    broken = [
        (name, to) for name, to in links if not (ROOT / "docs" / name).parent.joinpath(to).is_file()
    ]
    assert broken == []


def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip(
        "zensical", reason='the site is built by zensical: pip install -e ".[docs]"'
    )
    for part in ("docs", "mkdocs.yml"):
        source = ROOT / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / part)
    result = run("-m", "zensical", "build", "--strict", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    page = (tmp_path / "site" / "tutorial" / "index.html").read_text(encoding="utf-8")
    loaded = re.findall(r"<(?:script|img|iframe)[^>]+src=.?(https?:[^\s>]+)", page)
    loaded += re.findall(
        r"<link[^>]+rel=.?(?:stylesheet|preconnect)[^>]+href=.?(https?:[^\s>]+)", page
    )
    assert loaded == []


@pytest.mark.parametrize("page", ["cli.md", "python.md"])
def test_the_reference_is_what_the_code_says(page):
    made = runpy.run_path(str(ROOT / "docs" / "reference.py"))["PAGES"][page]()
    assert TEXT[page] == made, "stale: python docs/reference.py writes it anew"


def test_the_picture_in_readme_shows_what_its_command_prints(tmp_path):
    pytest.importorskip("flint", reason="the picture shows a certified reference: python-flint")
    picture = (ROOT / "docs" / "report.svg").read_text(encoding="utf-8")
    assert "](docs/report.svg)" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"(?:href|src|url)=.?https?:|@import|@font-face", picture) == []
    command = runpy.run_path(str(ROOT / "docs" / "picture.py"))["COMMAND"]
    printed = run("-m", "gradcli", *command, COLUMNS="80", PYTHONIOENCODING="utf-8").stdout
    lines: dict[float, list[tuple[float, str]]] = {}
    for tag, text in re.findall(r"<text class=.report-r\d+. ([^>]*)>([^<]*)</text>", picture):
        place = dict(re.findall(r'\b([xy])="([\d.]+)"', tag))
        lines.setdefault(float(place["y"]), []).append((float(place["x"]), html.unescape(text)))
    shown = "\n".join(" ".join(t for _, t in sorted(lines[y])) for y in sorted(lines))
    words = without_timings(shown.replace("\xa0", " "))
    assert words == without_timings(printed)
    assert len(words) > 150
