"""README.md and docs/ name commands and files that are there."""

import re
from pathlib import Path

import pytest

from bot.commands import app

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = {(c.name or c.callback.__name__).rstrip("_") for c in app.registered_commands if c.callback}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file(document: Path) -> None:
    links = re.findall(r"(?<!!)\[[^]]+\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_that_is_shown_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    fenced = "\n".join(re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL))
    shown = set(re.findall(r"(?:^|· )likeme ([a-z]+)", fenced, re.MULTILINE)) | set(
        re.findall(r"`likeme ([a-z]+)", text)
    )
    assert shown <= COMMANDS


def test_the_readme_shows_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in sorted(COMMANDS) if not re.search(rf"likeme {name}\b|make {name}\b", text)] == []
