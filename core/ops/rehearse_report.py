"""What came of a rehearsal, as JSON, as JUnit XML, and as one HTML page that needs nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from importlib import resources
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from core.domain.money import format_baht
from core.usecases.rehearse.cases import CaseResult, Exchange, Outcome

Replies = Mapping[tuple[str, str], list[str]]
"""By clinic and case, turn by turn."""

_COMPARED = "Beside each reply stands what was answered before; what has changed is marked."
_DATA = re.compile(r'<script type="application/json" id="replies">(.*?)</script>', re.DOTALL)


def to_json(outcome: Outcome) -> dict[str, Any]:
    """Money in micro-baht. `old_reply`: what was once answered to the last turn, where a journal has it."""
    return {
        "passed": outcome.passed,
        "stopped": bool(outcome.not_run),
        "budget_micro_baht": outcome.budget_micro_baht,
        "spent_micro_baht": outcome.spent_micro_baht,
        "cases": [_case_json(result) for result in outcome.results],
        "not_run": list(outcome.not_run),
    }


def _case_json(result: CaseResult) -> dict[str, Any]:
    case = result.case
    return {
        "org_id": result.org_id,
        "name": case.name,
        "group": case.group,
        "passed": result.passed,
        "failures": list(result.failures),
        "notes": list(result.notes),
        "turns": [{"said": e.said, "reply": e.reply, "failure": e.failure} for e in result.exchanges],
        "old_reply": case.old_reply,
        "cost_micro_baht": result.cost_micro_baht,
        "seconds": round(result.seconds, 3),
    }


def to_junit(outcome: Outcome) -> str:
    suites = Element("testsuites", name="fairlane rehearse")
    for org_id, results in _by_clinic(outcome):
        failures = sum(not result.passed for result in results)
        seconds = sum(result.seconds for result in results)
        suite = SubElement(
            suites,
            "testsuite",
            name=org_id,
            tests=str(len(results)),
            failures=str(failures),
            time=f"{seconds:.3f}",
        )
        for result in results:
            group = f"{org_id}.{result.case.group}" if result.case.group else org_id
            case = SubElement(
                suite,
                "testcase",
                classname=group,
                name=_printable(result.case.name),
                time=f"{result.seconds:.3f}",
            )
            if not result.passed:
                failure = SubElement(case, "failure", message=_printable("; ".join(result.failures)))
                failure.text = _printable("\n".join(f"{e.said}\n→ {e.reply}" for e in result.exchanges))
    if outcome.not_run:
        left = str(len(outcome.not_run))
        suite = SubElement(suites, "testsuite", name="not run", tests=left, errors=left)
        for name in outcome.not_run:
            case = SubElement(suite, "testcase", classname="not run", name=_printable(name))
            SubElement(case, "error", message="the budget had no room for it")
    indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(suites, encoding="unicode")}\n'


def _printable(text: str) -> str:
    """XML has no control characters."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def earlier_replies(report: Path) -> Replies:
    """Of the page that stands there already; none if there is no page, or another one."""
    try:
        found = _DATA.search(report.read_text("utf-8"))
        raw = json.loads(found[1]) if found else []
        return {(str(org), str(name)): list(map(str, replies)) for org, name, replies in raw}
    except (FileNotFoundError, UnicodeDecodeError, ValueError, TypeError):
        return {}


def to_html(outcome: Outcome, old: Replies) -> str:
    template = Template(resources.files("core.ops").joinpath("rehearse_report.html").read_text("utf-8"))
    kept = [
        (result.org_id, result.case.name, [exchange.reply for exchange in result.exchanges])
        for result in outcome.results
    ]
    # A reply can't end the script that it stands in.
    data = json.dumps(kept, ensure_ascii=False).replace("<", "\\u003c")
    return template.substitute(
        verdict_class="passed" if outcome.passed else "failed",
        verdict=escape(_verdict(outcome)),
        compared=_COMPARED if old or any(result.case.old_reply for result in outcome.results) else "",
        sections="\n".join(_sections(outcome, old)),
        data=data,
    )


def _verdict(outcome: Outcome) -> str:
    failed, ran = len(outcome.failed), len(outcome.results)
    spent, most = format_baht(outcome.spent_micro_baht), format_baht(outcome.budget_micro_baht)
    text = f"All of {ran} cases passed. " if not failed else f"{failed} of {ran} cases failed. "
    if outcome.not_run:
        text += f"The budget ended it: {len(outcome.not_run)} were not run. "
    return f"{text}{spent} of {most} spent."


def _by_clinic(outcome: Outcome) -> Iterator[tuple[str, list[CaseResult]]]:
    for org_id, results in groupby(outcome.results, lambda result: result.org_id):
        yield org_id, list(results)


def _sections(outcome: Outcome, old: Replies) -> Iterator[str]:
    for org_id, results in _by_clinic(outcome):
        failed = sum(not result.passed for result in results)
        yield f"<h2>{escape(org_id)}<span>{len(results) - failed} passed, {failed} failed</span></h2>"
        pairs = [(result, _before(result, old)) for result in results]
        # What failed comes first, then what has changed: it is what the page is opened for.
        for result, before in sorted(pairs, key=lambda pair: (pair[0].passed, not _changed(*pair))):
            yield _case_html(result, before)
    if outcome.not_run:
        names = "".join(f"<li>{escape(name)}</li>" for name in outcome.not_run)
        yield f"<h2>Not run</h2><ul>{names}</ul>"


def _before(result: CaseResult, old: Replies) -> list[str]:
    """What was answered to each turn; "" where nobody knows."""
    count = len(result.exchanges)
    if result.case.old_reply is not None:
        return [*[""] * (count - 1), result.case.old_reply]
    return [*old.get((result.org_id, result.case.name), []), *[""] * count][:count]


def _changed(result: CaseResult, before: list[str]) -> bool:
    return any(was and was != e.reply for was, e in zip(before, result.exchanges, strict=True))


def _case_html(result: CaseResult, before: list[str]) -> str:
    case = result.case
    verdict = "passed" if result.passed else "failed"
    whys = "".join(f'<li class="why">{escape(why)}</li>' for why in result.failures)
    whys += "".join(f"<li>{escape(note)}</li>" for note in result.notes)
    turns = "".join(
        _exchange_html(exchange, was) for exchange, was in zip(result.exchanges, before, strict=True)
    )
    group = f"<small>{escape(case.group)}</small>" if case.group else ""
    shown = "" if result.passed and not _changed(result, before) else " open"
    return (
        f'<details class="{verdict}"{shown}><summary><b>{verdict}</b> {escape(case.name)}{group}</summary>'
        f"<ul>{whys}</ul>{turns}</details>"
    )


def _exchange_html(exchange: Exchange, old: str) -> str:
    changed = " changed" if old and old != exchange.reply else ""
    before = f'<div class="reply old"><i>before</i>{escape(old)}</div>' if old else ""
    new = escape(exchange.reply) or "<em>no reply</em>"
    return (
        f'<div class="said">{escape(exchange.said)}</div>'
        f'<div class="replies{changed}">{before}<div class="reply new"><i>now</i>{new}</div></div>'
    )
