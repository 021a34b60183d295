"""pytest's door: an assertion about derivatives, and a project's models as tests of their own.

pytest imports this at every start. So it imports nothing but pytest; gradcli follows on first use.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gradcli.api import Given, Source
    from gradcli.checks import Baseline, Entry
    from gradcli.comparison import Checked, Comparison, Inconclusive

WIDTH = 100
"""Columns of what is said of a failure."""


# ---- the assertion -------------------------------------------------------------------------------


def assert_derivatives_agree(
    model: Source,
    inputs: Given | str | os.PathLike[str] = None,
    *,
    inconclusive: Inconclusive = "fail",
    at_kink: Any = "report",
    keep: str | os.PathLike[str] | None = None,
    **how: Any,
) -> Comparison:
    """Fail a test unless all methods agree on the derivative of a model.

    Args:
        model: As of `gradcli.compare`.
        inputs: Likewise; or the path of a file that `--input` takes.
        inconclusive: What it counts as when nothing could be decided: `fail`, `warn` or `ok`.
        at_kink: As of `gradcli.compare`: with `fail`, a kink is a failure.
        keep: A folder for the inputs of a failure, to ask the same again from the command line.
        how: Any other argument of `gradcli.compare`: `wrt`, `of`, `methods`, `rtol`, ...

    Returns:
        The comparison, to look at.

    Raises:
        AssertionError: With the report, and how to ask the same again.
    """
    __tracebackhide__ = True
    from gradcli import api
    from gradcli.comparison import Policy
    from gradcli.report import table

    loaded = api.load(model)
    arrays = _read(inputs) if isinstance(inputs, str | os.PathLike) else inputs
    found = api.compare(loaded, arrays, at_kink=at_kink, **how)
    applied = Policy(inconclusive, at_kink).applied(found)
    if applied.exit_code == 0:
        return found
    report = table(applied, width=WIDTH, failures_only=True)
    again = _again(loaded.path, inputs, keep, {"at_kink": at_kink, **how})
    raise AssertionError(f"the derivatives do not agree\n\n{report}\n{again}")


@pytest.fixture(name="assert_derivatives_agree")
def _asserting(tmp_path: Path) -> Callable[..., Comparison]:
    """`gradcli.pytest_plugin.assert_derivatives_agree`, which keeps the inputs of a failure."""

    def assert_agreement(model: Source, inputs: Any = None, **how: Any) -> Comparison:
        __tracebackhide__ = True
        return assert_derivatives_agree(model, inputs, **{"keep": tmp_path, **how})

    return assert_agreement


def _read(path: str | os.PathLike[str]) -> Given:
    """The arrays of a file; a single one where it has no names."""
    from gradcli.cli.files import Stdin, open_arrays

    stored = open_arrays(os.fspath(path), "inputs", Stdin())
    arrays = {name: array.read() for name, array in stored.items()}
    return arrays.get("", arrays)


OPTIONS = {"methods": "--method", "shapes": "--shape"}
"""Arguments whose options are called otherwise."""


def _again(
    path: str,
    inputs: Given | str | os.PathLike[str],
    keep: str | os.PathLike[str] | None,
    how: Mapping[str, Any],
) -> str:
    """How to ask the same again: a command line, and how its files come about."""
    import shlex

    import numpy as np

    from gradcli.cli.files import npz_bytes

    words, before = ["gradcli", "compare", path], []
    given = {"input": inputs, **{k: how[k] for k in ("tangent", "cotangent") if k in how}}
    for name, arrays in given.items():
        if arrays is None:
            continue
        if isinstance(arrays, str | os.PathLike):
            words += [f"--{name}", os.fspath(arrays)]
            continue
        named = isinstance(arrays, Mapping)
        file = Path(keep or ".") / f"{name}.{'npz' if named else 'npy'}"
        words += [f"--{name}", str(file)]
        if keep is None:
            save = f"savez({str(file)!r}, **{name})" if named else f"save({str(file)!r}, {name})"
            before.append(f"numpy.{save}")
        elif isinstance(arrays, Mapping):
            file.write_bytes(npz_bytes({k: np.asarray(a) for k, a in arrays.items()}))
        else:
            np.save(file, np.asarray(arrays))
    for key, value in how.items():
        if key not in given and key not in ("progress", "elements") and value is not None:
            words += _option(OPTIONS.get(key, f"--{key.replace('_', '-')}"), value)
    first = f"in Python, {'; '.join(before)}\nthen " if before else ""
    return f"to ask the same again:\n{first}{shlex.join(words)}"


def _option(option: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [option] if value else []
    if isinstance(value, Mapping):
        return [w for k, v in value.items() for w in (option, f"{k}={','.join(map(str, v))}")]
    each = [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
    return [word for item in each for word in (option, str(item))]


# ---- the models of a project ---------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("gradcli")
    group.addoption(
        "--gradcli",
        action="store_true",
        help="Also check the models that [tool.gradcli] in pyproject.toml, or gradcli.toml, names.",
    )
    group.addoption("--gradcli-config", metavar="FILE", help="The configuration of --gradcli.")
    group.addoption(
        "--gradcli-baseline",
        metavar="FILE",
        help="Find what has changed since `gradcli check --save-baseline FILE`.",
    )


CONFIGURED = pytest.StashKey[Path]()
"""The configuration, whole; not there without --gradcli."""


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", "gradcli: a model that [tool.gradcli] names")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """With --gradcli, put the configuration among what is collected; before xdist tells workers."""
    config = session.config
    if not config.getoption("gradcli"):
        return
    path = config.stash[CONFIGURED] = _configured(config)
    named = [arg.split("::")[0] for arg in config.args]
    if not any(name and _same(name, path) for name in named):
        config.args.append(str(path))


def _configured(config: pytest.Config) -> Path:
    """The configuration, whole: the one that is named, or the nearest above where pytest started.

    Raises:
        pytest.UsageError: When there is none.
    """
    from gradcli import checks
    from gradcli.errors import GradcliError

    given = config.getoption("gradcli_config")
    if given:
        if not Path(given).is_file():
            raise pytest.UsageError(f"--gradcli-config {given}: there is no such file")
        return Path(given).absolute()
    started = config.invocation_params.dir
    try:
        within = started.is_relative_to(config.rootpath)
        return checks.find(started if within else config.rootpath).absolute()
    except GradcliError as error:
        hint = error.hint.replace("--config", "--gradcli-config")
        raise pytest.UsageError(f"--gradcli: {error.message}\nhint: {hint}") from error


def _same(a: str | Path, b: str | Path) -> bool:
    return os.path.realpath(a) == os.path.realpath(b)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Models | None:
    """The configuration as a file of tests, where --gradcli asks for it."""
    configured = parent.config.stash.get(CONFIGURED, None)
    if configured is None or file_path.name != configured.name or not _same(file_path, configured):
        return None
    models: Models = Models.from_parent(parent, path=file_path)
    return models


class Models(pytest.File):
    """A configuration: each of its models is a test."""

    def collect(self) -> Iterator[ModelItem]:
        """The models, in the file's order."""
        from gradcli import checks
        from gradcli.errors import GradcliError
        from gradcli.onnxfile import printable

        held = self.config.getoption("gradcli_baseline")
        try:
            config = checks.read(self.path)
            held = held or config.baseline
            before = checks.read_baseline(Path(held)) if held else None
        except GradcliError as error:
            raise self.CollectError(f"{error.message}\nhint: {error.hint}") from error
        for entry in config.models:
            # Two colons would end the name where a test is asked for by it.
            name = printable(entry.name).replace("::", ":")
            yield ModelItem.from_parent(self, name=name, entry=entry, before=before)


class ModelItem(pytest.Item):
    """A model, which passes where `gradcli check` would.

    Args:
        entry: The model, and how it is checked.
        before: What the models were, or None.
        given: See pytest.Item.
    """

    def __init__(self, *, entry: Entry, before: Baseline | None, **given: Any) -> None:
        super().__init__(**given)
        self.entry = entry
        self.before = before
        self.add_marker("gradcli")

    def runtest(self) -> None:
        """Check it.

        Raises:
            ModelFailed: When that is a failure.
        """
        from gradcli.checks import same_machine
        from gradcli.cli.checking import check

        then = self.before
        if then is not None and self.entry.name not in then.models:
            pytest.fail(f"the baseline has no model called {self.entry.name}", pytrace=False)
        checked, _ = check(
            self.entry,
            None if then is None else then.models[self.entry.name],
            same_machine=then is None or same_machine(then),
        )
        if checked.comparison is not None:
            self.user_properties.append(("verdict", str(checked.comparison.verdict)))
        if checked.exit_code:
            raise ModelFailed(checked)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The report of the failure, and not where in gradcli it was raised."""
        if not isinstance(excinfo.value, ModelFailed):
            return super().repr_failure(excinfo, style)
        from gradcli.comparison import Report
        from gradcli.report import Dress, checked

        model = excinfo.value.checked
        config = os.path.relpath(self.path, self.config.invocation_params.dir)
        text = checked(Report(config, (model,)), "table", Dress(width=WIDTH, failures_only=True))
        again = f"gradcli check {self.entry.name} --config {config}"
        return f"{text}\nto ask the same again: {again}"

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where it is from, for pytest's reports."""
        return self.path, None, f"gradcli: {self.name}"


class ModelFailed(Exception):  # noqa: N818 # what happened to a model, and no error of gradcli
    """A model did not pass.

    Attributes:
        checked: What came of it.
    """

    def __init__(self, checked: Checked) -> None:
        super().__init__(checked.error or str(checked.exit_code))
        self.checked = checked
