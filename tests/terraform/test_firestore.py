"""The emulator indexes everything; the real database what Terraform says. So the queries are compared."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TREE = Path(__file__).parents[2]
FIRESTORE = (TREE / "terraform" / "firestore.tf").read_text(encoding="utf-8")


def _indexed() -> dict[str, set[str]]:
    body = re.search(r"^  indexed_fields = \{\n(.*?)^  \}", FIRESTORE, re.MULTILINE | re.DOTALL)
    assert body
    lists = re.findall(r"^    (\w+) += \[(.*)\]$", body[1], re.MULTILINE)
    return {collection: set(re.findall(r'"(\w+)"', fields)) for collection, fields in lists}


def _queried() -> Iterator[str]:
    """Fields that any query filters or orders by; the local stack's own never reach the real database."""
    for path in sorted({*(TREE / "core").rglob("*.py")} - {*(TREE / "core" / "local").rglob("*.py")}):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            if isinstance(node.func, ast.Name) and node.func.id == "Where":
                yield ast.literal_eval(node.args[0])
            for keyword in node.keywords:
                if keyword.arg == "order_by" and isinstance(keyword.value, ast.Constant):
                    yield str(keyword.value.value)


def test_every_field_that_a_query_uses_has_an_index() -> None:
    assert set(filter(None, _queried())) - set().union(*_indexed().values()) == set()


def test_retention_applies_to_customers_words_and_to_charges() -> None:
    ttl = re.search(r'"expire_at" \{\n  for_each = toset\(\[(.*)\]\)', FIRESTORE)
    assert ttl
    kept = {
        "turns",
        "turn_events",
        "customer_memory",
        "bookings",
        "booked_chats",
        "questions",
        "notices",
        "charges",
    }
    assert set(re.findall(r'"(\w+)"', ttl[1])) == kept
