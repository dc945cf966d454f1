"""The words of every language: none is missing, none is idle, and what stands in them agrees."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

from bot.texts import LANGUAGES, Markup, Reader, duration, say, words, writing_to
from training.evaluation import gate

BOT = Path(__file__).resolve().parents[2] / "bot"
ENGLISH = words("en")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_text_and_no_other(language: str) -> None:
    assert words(language).keys() == ENGLISH.keys()
    assert all(text.strip() for text in words(language).values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_text_takes_the_same_values_and_markup_in_every_language(language: str) -> None:
    for key, text in words(language).items():
        assert set(fields(text)) == set(fields(ENGLISH[key])), key
        assert sorted(re.findall(r"</?\w+>", text)) == sorted(re.findall(r"</?\w+>", ENGLISH[key])), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_plural_has_the_forms_that_its_language_needs(language: str) -> None:
    from babel import Locale

    needed = {*Locale(language).plural_form.tags, "other"}
    for key, text in words(language).items():
        for spec in re.findall(r":((?:zero|one|two|few|many|other) [^}]*)", text):
            assert {form.split(" ", 1)[0] for form in spec.split("|")} in (needed, {"other"}), key


def test_every_text_that_is_said_exists_and_every_text_is_said() -> None:
    literal, patterns, strings = set(), set(), set()
    for path in BOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                strings.add(node.value)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "named":
                kind = node.args[0]
                assert isinstance(kind, ast.Constant)
                patterns.add(rf"{kind.value}_\w+")
            for asked in keys_of(node):
                if isinstance(asked, ast.Constant):
                    literal.add(asked.value)
                elif isinstance(asked, ast.JoinedStr):
                    parts = [re.escape(v.value) if isinstance(v, ast.Constant) else r"\w+" for v in asked.values]
                    patterns.add("".join(map(str, parts)))
    for pattern in patterns:
        assert any(re.fullmatch(pattern, key) for key in ENGLISH), pattern
    for page in BOT.glob("*.j2"):
        source = page.read_text(encoding="utf-8")
        literal.update(re.findall(r"say\(\"(\w+)\"", source))
        patterns.update(rf"{kind}_\w+" for kind in re.findall(r"named\(\"(\w+)\"", source))
    assert literal <= ENGLISH.keys()
    idle = {key for key in ENGLISH if key not in strings | literal and not any(re.fullmatch(p, key) for p in patterns)}
    assert idle == set()


def test_the_gate_says_in_english_what_the_model_server_says() -> None:
    assert {f"gate_{why}": sentence for why, sentence in gate.SENTENCES.items()}.items() <= ENGLISH.items()


def keys_of(node: ast.AST) -> Iterator[ast.expr]:
    """What stands where `say` wants a key, also as one of two."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "say":
        key = node.args[0]
        yield from (key.body, key.orelse) if isinstance(key, ast.IfExp) else (key,)


def fields(text: str) -> Iterator[str]:
    return (name for _, name, _, _ in Formatter().parse(text) if name)


def test_words_of_people_are_escaped_where_a_text_has_markup() -> None:
    assert say("card_done", head=Markup("<b>A</b>"), words="1 < 2 & 3", name="<i>") == (
        "<b>A</b>\n\n1 &lt; 2 &amp; 3\n\n<i>Sent to &lt;i&gt;.</i>"
    )
    assert say("card_skipped", name="<i>") == "<i>: skipped."


def test_a_reader_reads_his_own_language_and_the_others_theirs() -> None:
    with writing_to(Reader("en")):
        assert duration(3700) == "1 hr 1 min"
    assert say("chats", chats=1, on=1, page=1, pages=1).startswith("1 chat, ")
    assert say("chats", chats=1234, on=1, page=1, pages=1).startswith("1,234 chats, ")
