"""docs/howto/ci.md, the pre-commit hook and the reusable workflow: what they say is run."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_package import PROJECT, ROOT, blocks

PAGE = (ROOT / "docs" / "howto" / "ci.md").read_text(encoding="utf-8")
WORKFLOW = ROOT / ".github" / "workflows" / "gradcli.yml"


def yaml():
    return pytest.importorskip("yaml", reason="reads YAML: pip install pyyaml")


@pytest.fixture
def project(tmp_path):
    """A folder with the page's configuration and models, and a `gradcli` on the PATH."""
    shutil.copytree(ROOT / "sample_models", tmp_path / "sample_models")
    (config,) = blocks("toml", PAGE)
    (tmp_path / "pyproject.toml").write_text(quick(config), encoding="utf-8")
    script(tmp_path / "bin" / "gradcli", f'exec "{sys.executable}" -m gradcli "$@"')
    return tmp_path


def quick(config):
    """The same configuration, answered by few methods in few runs."""
    said = 'budget = 5\nmethods = ["reverse", "finite"]\nruns = 1\nwarmup = 0\n'
    whole, _, models = config.partition("[[tool.gradcli.model]]")
    kept = re.sub(r"^(budget|runs) = .*\n", "", whole, flags=re.MULTILINE)
    table = kept if "[tool.gradcli]" in kept else f"{kept}[tool.gradcli]\n"
    return f"{table.rstrip()}\n{said}\n[[tool.gradcli.model]]{models}"


def script(path: Path, line: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def shell(text, cwd, **environment):
    """As a CI runs a step."""
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", text],
        cwd=cwd,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("GIT_")},
            "PATH": f"{cwd / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            **environment,
        },
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("number", range(len(blocks("bash", PAGE))))
def test_the_commands_of_the_page_run_in_their_order(number, project):
    result = shell(blocks("bash", PAGE)[number], project)
    assert result.returncode == 0, result.stdout + result.stderr


def test_readme_s_commands_run_with_readme_s_configuration(project):
    (config,), (commands,) = blocks("toml"), blocks("bash")
    (project / "pyproject.toml").write_text(quick(config), encoding="utf-8")
    result = shell(commands, project)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "no findings against baseline.json" in " ".join(result.stdout.split())


def test_the_keys_of_the_page_are_those_that_there_are():
    from gradcli.checks.keys import MODEL, WHOLE

    table = PAGE.partition("| key |")[2].partition("\n\n")[0]
    named = [
        name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])
    ]
    assert set(named) == {*MODEL, *WHOLE} - {"model"}
    assert len(named) == len(set(named))


def test_the_page_s_test_passes_and_its_models_are_tests(project):
    (test,) = blocks("python", PAGE)
    (project / "test_page.py").write_text(test, encoding="utf-8")
    words = f'"{sys.executable}" -m pytest -p no:cacheprovider -p gradcli.pytest_plugin'
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    result = shell(f"{words} --gradcli", project, **alone)
    assert result.returncode == 0, result.stdout
    assert "3 passed" in result.stdout


def test_what_gitlab_and_jenkins_run_runs(project):
    (job,) = [b for b in blocks("yaml", PAGE) if "script:" in b]
    gitlab = yaml().safe_load(job)["derivatives"]
    install, check = gitlab["script"]
    assert install.endswith('pip install "gradcli[certified]"')
    (jenkins,) = re.findall(r"sh '([^']+)'", PAGE)
    assert jenkins == check
    assert shell(check, project).returncode == 0
    assert (project / gitlab["artifacts"]["reports"]["junit"]).is_file()


# ---- pre-commit ----------------------------------------------------------------------------------


def hooks():
    found = yaml().safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    return {hook["id"]: hook for hook in found}


def test_both_hooks_do_the_same_when_a_model_or_the_configuration_changes():
    by_id = hooks()
    assert set(by_id) == {"gradcli", "gradcli-system"}
    assert by_id["gradcli"]["entry"] == by_id["gradcli-system"]["entry"]
    assert by_id["gradcli"]["language"] == "python"
    certified = PROJECT["optional-dependencies"]["certified"]
    assert by_id["gradcli"]["additional_dependencies"] == certified
    for hook in by_id.values():
        for path in ("a/b.onnx", "b.onnx.data", "b.onnx_data", "b.npz", "gradcli.toml"):
            assert re.search(hook["files"], path)
        assert re.search(hook["files"], "x/pyproject.toml")
        assert not re.search(hook["files"], "mygradcli.toml")
    (example,) = [b for b in blocks("yaml", PAGE) if "repos:" in b]
    (repo,) = yaml().safe_load(example)["repos"]
    assert [hook["id"] for hook in repo["hooks"]] == ["gradcli"]


GIT = "git -c user.name=a -c user.email=a@b.c -c init.defaultBranch=main -c commit.gpgsign=false"


def test_the_hook_runs_in_pre_commit(project, tmp_path_factory):
    """The one of language system: that of language python would install gradcli by network."""
    yaml()
    if shutil.which("pre-commit") is None:
        pytest.skip("needs pre-commit")
    definition = tmp_path_factory.mktemp("hooks")
    shutil.copy(ROOT / ".pre-commit-hooks.yaml", definition)
    made = shell(f"{GIT} init -q && {GIT} add -A && {GIT} commit -qm hooks", definition)
    assert made.returncode == 0, made.stderr
    assert shell(f"{GIT} init -q && {GIT} add -A", project).returncode == 0
    run = f"pre-commit try-repo {definition} gradcli-system --all-files --verbose"
    home = {"PRE_COMMIT_HOME": str(tmp_path_factory.mktemp("home"))}
    good = shell(run, project, **home)
    assert good.returncode == 0, good.stdout + good.stderr
    assert "Passed" in good.stdout
    assert "passed  2 models in" in good.stdout
    (project / "sample_models" / "kinked.onnx").write_bytes(b"nothing")
    bad = shell(run, project, **home)
    assert bad.returncode == 1
    assert "- exit code: 2" in bad.stdout


# ---- the workflow --------------------------------------------------------------------------------


def workflow():
    return yaml().safe_load(WORKFLOW.read_text(encoding="utf-8"))


def steps():
    return {step["name"]: step for step in workflow()["jobs"]["check"]["steps"] if "run" in step}


def test_inputs_reach_the_shell_as_variables_only():
    for step in steps().values():
        assert "${{" not in step["run"]
    inputs = workflow()[True]["workflow_call"]["inputs"]  # YAML 1.1 reads `on` as a truth value
    used = set(re.findall(r"inputs\.([\w-]+)", WORKFLOW.read_text(encoding="utf-8")))
    assert used == set(inputs)
    (example,) = [b for b in blocks("yaml", PAGE) if "uses:" in b]
    (job,) = yaml().safe_load(example)["jobs"].values()
    assert set(job["with"]) <= set(inputs)
    assert job["uses"].partition("@")[0].endswith(str(WORKFLOW.relative_to(ROOT).as_posix()))


def test_the_workflow_reads_only_and_its_actions_are_pinned():
    assert workflow()["permissions"] == {"contents": "read"}
    (job,) = workflow()["jobs"].values()
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert len(used) == 3
    for action in used:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action)
    kept = job["steps"][-1]["with"]["path"].split()
    run = steps()["Check derivatives"]["run"]
    assert kept == re.findall(r"--export \w+=(\S+)", run)


def test_the_step_that_installs_asks_pip_for_what_was_asked(project):
    script(project / "bin" / "python", 'printf "%s\\n" "$@"')
    result = shell(steps()["Install gradcli"]["run"], project, INSTALL="gradcli[certified]; x")
    assert result.stdout.splitlines() == ["-m", "pip", "install", "gradcli[certified]; x"]


@pytest.mark.parametrize("given", [{}, {"CONFIG": "my project/gradcli.toml", "BASELINE": "b.json"}])
def test_the_step_that_checks_runs(given, project):
    run = steps()["Check derivatives"]["run"]
    if given:
        (project / "my project").mkdir()
        shutil.copytree(project / "sample_models", project / "my project" / "sample_models")
        shutil.copy(project / "pyproject.toml", project / "my project" / "gradcli.toml")
        saved = shell('gradcli check --config "$CONFIG" --save-baseline b.json', project, **given)
        assert saved.returncode == 0, saved.stderr
    summary = {"GITHUB_STEP_SUMMARY": str(project / "summary.md"), "CONFIG": "", "BASELINE": ""}
    result = shell(run, project, **{**summary, **given})
    assert result.returncode == 0, result.stdout + result.stderr
    assert "::notice" in result.stdout
    assert (project / "gradcli.xml").is_file()
    assert (project / "gradcli.json").is_file()
    assert "| AGREE | physics |" in (project / "summary.md").read_text(encoding="utf-8")


def test_the_step_that_checks_fails_where_a_model_does(project):
    (project / "sample_models" / "physics.onnx").write_bytes(b"nothing")
    run = steps()["Check derivatives"]["run"]
    result = shell(run, project, CONFIG="", BASELINE="")
    assert result.returncode == 2
    assert "::error file=sample_models/physics.onnx" in result.stdout
