"""Every word the bot sends, in the language of whoever reads it. The words themselves stand in words/*.toml."""

import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from html import escape
from importlib.resources import files
from string import Formatter
from typing import Any

from babel import Locale
from babel.dates import format_datetime
from babel.numbers import format_decimal, format_percent
from babel.units import format_unit

LANGUAGES = ("en", "ru", "de", "tr")  # the first also where another one is spoken

_NUMBER = re.compile(r"(,?)(?:\.(\d)f)?")
_PLURAL = re.compile(r"(?:zero|one|two|few|many|other) .*", re.DOTALL)


@dataclass(slots=True)
class Reader:
    """Somebody the bot writes to. His language may change while tasks that write to him are running."""

    language: str = LANGUAGES[0]


_ENGLISH = Reader()  # a terminal, and whoever was not named
_reader: ContextVar[Reader] = ContextVar("reader", default=_ENGLISH)


def write_to(reader: Reader) -> None:
    """From here on, in this task and in those it starts, words are for `reader`."""
    _reader.set(reader)


@contextmanager
def writing_to(reader: Reader) -> Iterator[None]:
    """Words inside the block are for `reader`."""
    before = _reader.set(reader)
    try:
        yield
    finally:
        _reader.reset(before)


def reading() -> Reader:
    """Whom words are for at the moment."""
    return _reader.get()


def spoken(code: str | None) -> str | None:
    """Which of our languages Telegram's `language_code` means ("de-AT" is "de"); None where it says nothing."""
    if not code:
        return None
    language = code.lower().partition("-")[0]
    return language if language in LANGUAGES else LANGUAGES[0]


def say(key: str, **values: Any) -> str:
    """A text with its values in it; words of people are escaped for HTML where the template has markup."""
    language = _reader.get().language
    template = words(language)[key]
    if "<" in template:
        values = {k: escape(v, quote=False) if isinstance(v, str) and not isinstance(v, Markup) else v
                  for k, v in values.items()}  # fmt: skip
    return _Writer(language).vformat(template, (), values)


def named(kind: str, name: str, otherwise: str | None = None, **values: Any) -> str:
    """What the model server calls so, in the reader's words; where there are none, `otherwise` or the name itself."""
    key = f"{kind}_{re.sub('[ ,-]+', '_', name)}"
    if key not in words(LANGUAGES[0]):
        return name if otherwise is None else otherwise
    return say(key, **values)


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


@cache
def words(language: str) -> dict[str, str]:
    """Every text of a language, by key."""
    return tomllib.loads(files("bot").joinpath("words", f"{language}.toml").read_text(encoding="utf-8"))


class _Writer(Formatter):
    """str.format with a language's numbers and its plural forms."""

    def __init__(self, language: str) -> None:
        self._locale = Locale(language)

    def format_field(self, value: Any, format_spec: str) -> Any:
        if _PLURAL.fullmatch(format_spec):
            forms = dict(form.split(" ", 1) for form in format_spec.split("|"))
            form = forms.get(self._locale.plural_form(value), forms["other"])
            return form.replace("#", format_decimal(value, "#,##0", locale=self._locale))
        if format_spec == ".0%":
            return format_percent(value, locale=self._locale)
        number = _NUMBER.fullmatch(format_spec) if format_spec else None
        if number is None or isinstance(value, str):
            return super().format_field(value, format_spec)
        digits = int(number[2] or 0)
        return format_decimal(value, ("#,##0" if number[1] else "0") + "." * (digits > 0) + "0" * digits, self._locale)


def duration(seconds: float) -> str:
    """74 → "1 min 14 sec"."""
    whole = round(seconds)
    minutes, hours = whole // 60, whole // 3600
    if whole < 60:
        parts = [(whole, "second")]
    elif whole < 3600:
        parts = [(minutes, "minute"), (whole % 60, "second")]
    else:
        parts = [(hours, "hour"), (minutes % 60, "minute")]
    language = _reader.get().language
    return " ".join(format_unit(value, f"duration-{unit}", "short", locale=language) for value, unit in parts)


def moment(when: datetime) -> str:
    """A date with its time, in the machine's own zone."""
    return format_datetime(when.astimezone(), "short", locale=_reader.get().language)


def left(seconds: float, share: float) -> str:
    """How long the rest takes, when `share` took `seconds`."""
    return say("time_left", time=duration(seconds / share - seconds)) if share > 0.02 else say("time_left_unknown")


def loss(value: float | None) -> str:
    """A loss for people."""
    return say("loss_unknown") if value is None else say("loss", value=value)


def bar(share: float, width: int = 12) -> str:
    """A bar of blocks."""
    full = round(max(0.0, min(1.0, share)) * width)
    return "▰" * full + "▱" * (width - full)
