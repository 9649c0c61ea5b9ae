"""`fairlane spend` for people: amounts in columns that are never cut, words in lines of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.text import Text

from core.domain.money import format_baht
from core.usecases.operate.spend_report import SpendRow, total

BAR_WIDTH = 10
_GAP = 2


@dataclass(frozen=True, slots=True)
class _Line:
    """A name and its cells (share, spent, held, turns), or a line of words without any."""

    name: str
    cells: tuple[Text, ...] = ()
    style: str = ""


def table(rows: list[SpendRow], width: int) -> Text:
    """Clinics by day with their models, the sum at the end. Where a name does not fit into `width` beside its
    amounts, they stand below it."""
    head = _Line("clinic", tuple(map(Text, ("share of the budget", "spent", "held", "turns"))), "bold")
    lines = [head]
    for place, row in enumerate(rows):
        if place == 0 or rows[place - 1].day != row.day:
            lines.append(_Line(shown_day(row.day), style="bold"))
        lines += _clinic(row.org_id, row)
        for model, counts in sorted(row.books.by_model.items()):
            lines += _model(model, counts)
    if len(rows) > 1:
        lines += _clinic("all", SpendRow("all", "", total(rows)), style="bold")
    filled = [line for line in lines if line.cells]
    columns = zip(*(line.cells for line in filled), strict=True)
    widths = [max(cell.cell_len for cell in column) for column in columns]
    room = width - sum(widths) - _GAP * len(widths)
    names = min(max(len(line.name) for line in filled), max(room, len(head.name)))
    return Text("\n").join(_shown(line, names, widths) for line in lines)


def _clinic(name: str, row: SpendRow, style: str = "") -> list[_Line]:
    books = row.books
    cells = (
        bar(books.committed, row.budget_micro_baht),
        Text(format_baht(books.spent)),
        Text(format_baht(books.held) if books.held else ""),
        Text(f"{books.turns:,}"),
    )
    counts = {"downgraded": books.downgraded, "stopped": books.stopped, "ambiguous": books.ambiguous}
    said = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    return [_Line(name, cells, style), *([_Line(f"  {said}", style="yellow")] if said else [])]


def _model(model: str, counts: Mapping[str, int]) -> list[_Line]:
    spent, turns = format_baht(counts["spent_micro_baht"]), f"{counts['turns']:,}"
    cells = tuple(map(Text, ("", spent, "", turns)))
    said = (
        [f"in {counts['input']:,} ({counts['cached']:,}) → {counts['output']:,}"] if counts["turns"] else []
    )
    if pictures := counts.get("pictures"):
        said.append(f"{pictures:,} picture{'' if pictures == 1 else 's'}")
    if audio_ms := counts.get("audio_ms"):
        said.append(f"{audio_ms / 60_000:,.1f} minutes heard")
    return [_Line(f"  {model}", cells, "dim"), *(_Line(f"    {each}", style="dim") for each in said)]


def _shown(line: _Line, names: int, widths: list[int]) -> Text:
    shown = Text(line.name, style=line.style)
    if not line.cells:
        return shown
    shown.append("\n" + " " * names if len(line.name) > names else " " * (names - len(line.name)))
    for place, (cell, width) in enumerate(zip(line.cells, widths, strict=True)):
        rest = " " * (width - cell.cell_len)
        shown.append(" " * _GAP)
        # The share begins where the others do, numbers end there.
        shown.append(cell).append(rest) if place == 0 else shown.append(rest).append(cell)
    return shown


def bar(committed: int, budget: int) -> Text:
    """`████░░░░ 41 % of ฿300.00`, red when used up."""
    share = committed / budget if budget else 1.0
    filled = min(BAR_WIDTH, int(share * BAR_WIDTH))
    colour = "red" if share >= 0.995 else "yellow" if share >= 0.8 else "green"
    text = Text("█" * filled, style=colour)
    text.append("░" * (BAR_WIDTH - filled), style="dim")
    text.append(f" {share:4.0%} of {format_baht(budget)}", style="default")
    return text


def shown_day(day: str) -> str:
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"
