"""The report as JUnit's XML, which every CI shows: a test case a method.

The elements and attributes are those of Jenkins' schema (junit-10.xsd), in its order.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from xml.etree import ElementTree as ET

from gradcli.comparison import Comparison, Judgement, Policy, Standing, Verdict, at_points
from gradcli.report.encoding import visible
from gradcli.report.headline import headline
from gradcli.report.rows import question, why
from gradcli.report.terminal import table

WHOLE = "comparison"
"""The test case of what no single method answers for."""


def junit(
    comparison: Comparison, *, policy: Policy | None = None, command: str | None = None
) -> str:
    """A document of one suite, of several points one for each: see `suite_of`.

    Args:
        comparison: As judged.
        policy: What counts as what.
        command: The command line that asks the same again.
    """
    asked = f"{comparison.subject.path}: {question(comparison.subject)}"
    return document(
        [
            suite_of(
                at.comparison,
                policy=policy,
                command=command,
                name=f"{asked}, {at.label}" if at.label else "",
                point=at.label,
            )
            for at in at_points(comparison)
        ]
    )


def suite_of(
    comparison: Comparison,
    *,
    policy: Policy | None = None,
    command: str | None = None,
    name: str = "",
    point: str = "",
) -> ET.Element:
    """One suite: a test case a method, and one of the whole where that is at fault by itself.

    A method that disagrees is a failure, one that broke an error, and so is one that has not been
    run yet, or a CI would take half a report for a good one. One that was skipped, or that nothing
    could be decided of, is skipped.

    Args:
        comparison: As judged.
        policy: What counts as what.
        command: The command line that asks the same again.
        name: What to call the suite; by default the file, and what was asked.
        point: Which of several it is of: a CI tells cases by their names.
    """
    policy = policy or Policy()
    c = comparison
    named = visible_xml(name or f"{c.subject.path}: {question(c.subject)}")
    suite = ET.Element("testsuite", name=named)
    there = f", {point}" if point else ""
    properties = ET.SubElement(suite, "properties")
    for key, value in _properties(c, command).items():
        ET.SubElement(properties, "property", name=key, value=visible_xml(value))
    for judgement in c.methods:
        case = _case(suite, c, judgement.method + there, _seconds(judgement))
        say(case, policy.standing(judgement), *_told(judgement))
    for method in c.unfinished:
        say(_case(suite, c, method + there, 0.0), "broken", "unfinished", "it has not been run")
    whole = policy.of_whole(c)
    if whole != "passed":
        said = headline(c)
        say(
            _case(suite, c, WHOLE + there, 0.0), whole, str(c.verdict), f"{said.label}: {said.text}"
        )
    ET.SubElement(suite, "system-out").text = visible_xml(table(policy.applied(c), width=100))
    return suite


def document(given: Sequence[ET.Element]) -> str:
    """Suites as a file, their cases counted."""
    suites = ET.Element("testsuites", name="gradcli")
    suites.extend(given)
    for element in (suites, *given):
        within = "testsuite/" if element is suites else ""
        time = sum(float(case.attrib["time"]) for case in element.iter("testcase"))
        counts = {
            "tests": len(element.findall(f"{within}testcase")),
            "failures": len(element.findall(f"{within}testcase/failure")),
            "errors": len(element.findall(f"{within}testcase/error")),
            "skipped": len(element.findall(f"{within}testcase/skipped")),
        }
        # Jenkins' schema counts skipped ones in a suite only.
        known = {k: v for k, v in counts.items() if element is not suites or k != "skipped"}
        element.attrib.update({k: str(v) for k, v in known.items()}, time=f"{time:.6f}")
    ET.indent(suites)
    # In ASCII it is the same bytes in every console's encoding.
    data: bytes = ET.tostring(suites, "us-ascii", xml_declaration=True)
    return f"{data.decode('ascii')}\n"


def _case(suite: ET.Element, c: Comparison, name: str, time: float) -> ET.Element:
    return case(suite, (c.subject.path, c.subject.operator), name, time)


def case(suite: ET.Element, place: tuple[str, str], name: str, time: float) -> ET.Element:
    """A case of a suite.

    Args:
        suite: The suite.
        place: The model's file, and what was asked of it.
        name: The case's.
        time: Seconds.
    """
    # A CI makes folders of dots.
    model = PurePath(place[0]).stem.replace(".", "_") or "model"
    within = visible_xml(f"gradcli.{model}.{place[1]}")
    return ET.SubElement(
        suite, "testcase", classname=within, name=visible_xml(name), time=f"{time:.6f}"
    )


def say(case: ET.Element, standing: Standing, kind: str, message: str) -> None:
    """Put into a case what it is, with a message that a list can show and all of it below."""
    if standing == "passed":
        return
    short = visible_xml(message)
    if standing in ("skipped", "undecided"):
        # Its only attribute: readers know no type of it.
        ET.SubElement(case, "skipped", message=short)
        return
    found = ET.SubElement(case, "error" if standing == "broken" else "failure", message=short)
    found.set("type", visible_xml(kind))
    found.text = short


def _told(j: Judgement) -> tuple[str, str]:
    """The kind and the message of one method."""
    if j.verdict is None:
        return j.status, j.reason or j.detail
    kind = f"{j.verdict}.{j.cause}" if j.cause else str(j.verdict)
    return kind, f"{j.verdict}: {why(j)}" if j.verdict is not Verdict.AGREE else str(j.verdict)


def _seconds(j: Judgement) -> float:
    """All that was spent on it: preparing, and every timed run."""
    return (j.prepare or 0.0) + (sum(j.run.times) if j.run else 0.0)


def _properties(c: Comparison, command: str | None) -> dict[str, str]:
    s, machine = c.subject, c.environment
    found = {
        "model": s.path,
        "sha256": s.sha256,
        "operator": s.operator,
        "verdict": str(c.verdict),
        "reference": c.reference.kind,
        **{name: str(value) for name, value in vars(machine).items() if value},
        "command": command or "",
    }
    return {name: value for name, value in found.items() if value}


def visible_xml(text: str) -> str:
    """The text, with what XML 1.0 cannot hold, not even as a reference, as visible escapes."""
    return "\n".join(map(visible, text.split("\n")))
