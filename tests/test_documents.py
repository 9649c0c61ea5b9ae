"""What the documents in the repository name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TREE = Path(__file__).parent.parent
DOCUMENTS = [
    "README.md",
    "core/README.md",
    "core/DECISIONS.md",
    ".github/CONTRIBUTING.md",
    "terraform/README.md",
]
_PATH = re.compile(r"`((?:core|tests|functions|terraform|\.github|\.ci)/[\w./-]*\w)`")
_MADE_LATER = {TREE / "terraform/.terraform.lock.hcl"}  # by the user's first `terraform init`
_LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_path_and_link_leads_somewhere(name: str) -> None:
    document = TREE / name
    text = document.read_text("utf-8")
    links = [document.parent / link for link in _LINK.findall(text) if "://" not in link]
    named = [TREE / path for path in _PATH.findall(text)]
    assert [str(path) for path in {*links, *named} - _MADE_LATER if not path.exists()] == []


def test_the_readme_is_short() -> None:
    """At most 1,500 words besides tables and code."""
    prose = re.sub(r"```.*?```", "", (TREE / "README.md").read_text("utf-8"), flags=re.DOTALL)
    words = [word for line in prose.splitlines() if not line.startswith("|") for word in line.split()]
    assert len(words) <= 1_500
