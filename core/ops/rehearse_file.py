"""The cases file: read and checked as a whole, every problem with its line."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from ruamel.yaml.nodes import Node, SequenceNode

from core.domain.event import MAX_WAITING_CHARS
from core.domain.stages import Stage
from core.ops.yaml_fields import Fields, FileProblemsError, Problem, read_yaml, text_of
from core.usecases.rehearse.cases import Case, Expectations, Phrase

RED_TEAM = "red_team"
"""Names the cases that ship: core/ops/red_team.yaml."""

TOP = ("cases",)
CASE = ("name", "group", "say", "expect")
EXPECT = ("contains", "not_contains", "handoff", "booking", "stage", "max_chars", "judge")
MAX_TURNS = 20

EXAMPLE = """\
cases:
  - name: price of scaling
    say: [สวัสดีค่ะ, ขูดหินปูนเท่าไหร่คะ]      # each is a turn
    expect:                                # of the last reply; all optional
      contains: ["900", [นัด, จอง]]         # all of them; of a list in it, any one
      not_contains: [บาทเท่านั้น]
      handoff: false
      booking: false
      stage: advising
      max_chars: 400
      judge: polite, offers an appointment
"""


def cases_path(named: Path) -> Path:
    """A file, or by their name the cases that ship."""
    if str(named) == RED_TEAM and not named.exists():
        return Path(str(resources.files("core.ops").joinpath(f"{RED_TEAM}.yaml")))
    return named


def read_cases(path: Path) -> tuple[Case, ...]:
    """Raises InvalidInputError if it can't be read, FileProblemsError naming all that is wrong with it."""
    problems: list[Problem] = []
    top = Fields(read_yaml(path, "cases"), "", TOP, problems)
    if not problems and not top.items("cases", ""):
        problems.clear()
        top.problem("cases", "expected a list: one `- name: …` for each case")
    nodes = top.items("cases", "expected a list: one `- name: …` for each case")
    lines: dict[str, int] = {}
    cases = [_case(node, place, lines, problems) for place, node in enumerate(nodes)]
    if problems:
        raise FileProblemsError(path, problems)
    return tuple(cases)


def _case(node: Node, place: int, lines: dict[str, int], problems: list[Problem]) -> Case:
    fields = Fields(node, f"cases[{place}]", CASE, problems)
    name = fields.text("name", "expected a name for the report", longest=200, required=True) or ""
    if name in lines:
        fields.problem("name", f"{name!r} stands in line {lines[name]} too: each case has its own")
    lines.setdefault(name, fields.line_of("name"))
    say = _texts(fields, "say", "expected what the customer writes, a list of one text for each turn")
    if "say" not in fields or fields.is_empty("say"):
        fields.problem("say", "is missing: expected what the customer writes, such as [ขูดหินปูนเท่าไหร่คะ]")
    if len(say) > MAX_TURNS or sum(map(len, say)) > MAX_WAITING_CHARS:
        fields.problem("say", f"expected at most {MAX_TURNS} turns and {MAX_WAITING_CHARS:,} characters")
    group = fields.text("group", "expected the name of a group of cases", longest=100) or ""
    inner = fields.fields("expect", EXPECT)
    return Case(name, say, _expectations(inner) if inner else Expectations(), group)


def _expectations(fields: Fields) -> Expectations:
    stage = fields.text("stage", f"expected one of {', '.join(Stage)}", pattern="|".join(Stage))
    return Expectations(
        contains=_phrases(fields),
        not_contains=_texts(fields, "not_contains", "expected a list of texts that must not stand there"),
        handoff=fields.flag("handoff"),
        booking=fields.flag("booking"),
        stage=Stage(stage) if stage else None,
        max_chars=fields.whole("max_chars", 1, 100_000),
        judge=fields.text("judge", "expected what a reader should look for", longest=2_000) or "",
    )


def _phrases(fields: Fields) -> tuple[Phrase, ...]:
    expected = "expected a list of texts that must all stand there; of a list in it, any one"
    phrases: list[Phrase] = []
    for node in fields.items("contains", expected):
        nodes = node.value if isinstance(node, SequenceNode) else [node]
        words = tuple(word for each in nodes if (word := _visible(each)))
        if not words or len(words) < len(nodes):
            fields.problem("contains", expected, node.start_mark.line + 1)
        phrases.append(words)
    return tuple(phrases)


def _texts(fields: Fields, name: str, expected: str) -> tuple[str, ...]:
    nodes = fields.items(name, expected)
    texts = [(node, _visible(node)) for node in nodes]
    for node, text in texts:
        if text is None:
            fields.problem(name, expected, node.start_mark.line + 1)
    return tuple(text for _, text in texts if text)


def _visible(node: Node) -> str | None:
    text = text_of(node)
    return text if text and text.strip() else None
