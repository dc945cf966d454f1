"""How the command line shows things: rich on a terminal, JSON on request, progress on stderr."""

import json
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

if TYPE_CHECKING:
    from bot.chats import Listed
    from bot.doctor import Check
    from bot.settings import Settings
    from bot.standings import Standings

LOG, LOG_BYTES = "likeme.log", 1_000_000
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def plain(value: Any) -> Any:
    """Dataclasses, times and paths as JSON takes them."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else str(value) if isinstance(value, Path) else value


def report(title: str, lines: Sequence[str], data: Any, as_json: bool) -> None:
    """A title and its lines, or the data."""
    if as_json:
        print_json(data)
        return
    out.print(f"[bold]{escape(title)}[/bold]")
    for line in lines:
        out.print(f"  {escape(line)}", soft_wrap=True)


def print_json(data: Any) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(json.dumps(plain(data), ensure_ascii=False, indent=2) + "\n")


def drafts(result: dict[str, Any], as_json: bool) -> None:
    """Numbered drafts."""
    if as_json:
        print_json(result)
        return
    for number, text in enumerate(result["drafts"], 1):
        indented = escape(text).replace("\n", "\n   ")
        out.print(f"[bold green]{number}[/bold green]  {indented}", soft_wrap=True)
    out.print(f"[dim]{escape(result['model'])}[/dim]")


def versions(result: dict[str, Any], as_json: bool) -> None:
    """A table of voices."""
    if as_json:
        print_json(result)
        return
    if not result["versions"]:
        out.print("There is no voice yet: likeme train makes the first.")
        return
    table = Table(box=None, header_style="dim")
    for column in ("", "version", "made", "base model", "held-out loss", "stock", "tokens", "gate"):
        table.add_column(column)
    for version in result["versions"]:
        metrics = version["metrics"]
        table.add_row(
            "▶" if version["number"] == result["serving"] else "",
            str(version["number"]),
            f"{version['created_at']:%Y-%m-%d %H:%M}",
            version["base_model"],
            _loss(metrics.get("valid_loss")),
            _loss(metrics.get("stock_valid_loss")),
            f"{metrics.get('tokens') or 0:,}",
            escape(version["gate"]),
        )
    out.print(table)
    for version in result["versions"]:
        if version["forgotten_chats"]:
            out.print(f"version {version['number']} was trained on chats that you have forgotten: likeme train")


def chats(found: "Listed", as_json: bool) -> None:
    """A table of chats."""
    from bot.chats import is_on

    if as_json:
        rows = [{**plain(c.chat), "on": is_on(c.chat), "messages": c.messages, "own": c.own} for c in found.chats]
        print_json({"chats": rows, "forgotten": found.forgotten})
        return
    table = Table(box=None, header_style="dim")
    for column in ("learns", "id", "kind", "name"):
        table.add_column(column)
    for column in ("messages", "yours"):
        table.add_column(column, justify="right")
    for count in found.chats:
        chat, on = count.chat, "[green]on[/green]" if is_on(count.chat) else "[dim]off[/dim]"
        name, numbers = escape(chat.name), (f"{count.messages:,}", f"{count.own:,}")
        table.add_row(on, str(chat.chat_id), chat.kind.value, name, *numbers)
    out.print(table)
    if found.forgotten:
        out.print(f"forgotten: {', '.join(map(str, found.forgotten))} (likeme forget ID --undo)", soft_wrap=True)


def version_lines(result: dict[str, Any]) -> list[str]:
    """A finished training."""
    metrics = result["metrics"]
    return [
        f"{result['name']} after {metrics['seconds']} s, {metrics['tokens']:,} tokens",
        f"held-out loss {_loss(metrics.get('valid_loss'))}, stock model {_loss(metrics.get('stock_valid_loss'))}",
        result["reason"],
        "it speaks from now on"
        if result["serves"]
        else f"it does not speak: likeme promote {result['number']} --force would let it",
    ]


def evaluation(found: dict[str, Any], as_json: bool) -> None:
    """What was measured, and where the page lies; the drafts' texts stay in the file."""
    from bot.evaluation import lines

    said = [*lines(found), f"the page: {found['page']}"]
    if not found["speaks"]:
        force = "" if found["gate"]["promote"] else " --force"
        said.append(f"it does not speak: likeme promote {found['number']}{force} would let it")
    data = {name: value for name, value in found.items() if name not in ("drafts", "samples")}
    report(found["voice_name"], said, data, as_json)


def standings(found: "Standings", as_json: bool) -> None:
    """Shares with their intervals."""
    if as_json:
        print_json(found)
        return
    from bot.standings import text

    for line in text(found).split("\n"):
        out.print(escape(line), soft_wrap=True)


def checks(found: Sequence["Check"], as_json: bool) -> None:
    """doctor's lines."""
    if as_json:
        print_json({"checks": list(found)})
        return
    for check in found:
        mark = "[green]✓[/green]" if check.good else "[red]✗[/red]"
        out.print(f"{mark} {escape(check.name)}: {escape(check.text)}")
        if not check.good and check.mend:
            out.print(f"    → {escape(check.mend)}")


@contextmanager
def progress(*columns: Any) -> Iterator[Progress]:
    """A bar with ETA on stderr."""
    shown = columns or (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*shown, console=err) as bar:
        yield bar


@contextmanager
def night() -> Iterator[Callable[[dict[str, Any]], Awaitable[None]]]:
    """A bar for a night's work; what it gives takes the training's events."""
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=err) as bar:
        task = bar.add_task("fetching, counting", total=None)

        async def show(event: dict[str, Any]) -> None:
            if "train_loss" in event:
                left = f"{event['eta_seconds']:,.0f} s left"
                step = f"step {event['step']} of {event['total_steps']}"
                bar.update(task, description=f"training: {step}, loss {event['smooth_loss']:.3f}, {left}")
            elif "evaluating" in event:
                bar.update(task, description=f"evaluating: {event['evaluating']}, {event['share']:.0%}")

        yield show


def training_columns() -> tuple[Any, ...]:
    """The columns of a training's bar."""
    fields = ("{task.fields[loss]}", "{task.fields[speed]}", "{task.fields[left]}")
    return (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *map(TextColumn, fields))


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """A spinner for what can't say how long it takes."""
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=err) as bar:
        bar.add_task(text, total=None)
        yield


class Discreet(logging.Formatter):
    """No secret of the settings gets through, whoever has put it into an error's text: PTB does so with the token."""

    def __init__(self, settings: "Settings") -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        values = (getattr(settings, name) for name in type(settings).model_fields)
        self._secrets = [v.get_secret_value() for v in values if isinstance(v, SecretStr) and v.get_secret_value()]

    def format(self, record: logging.LogRecord) -> str:
        """The line, masked."""
        text = super().format(record)
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        return text


async def tell(text: str) -> None:
    """A line on stderr, from what would tell the owner in the chat."""
    err.print(text, markup=False)


def log(settings: "Settings") -> None:
    """Logging for a process that stays up: to stderr, and errors to a file of the owner's as well.

    LOG_LEVEL is likeme's own: libraries would log whole updates and SQL parameters at DEBUG, httpx addresses with the
    bot's token in them at INFO.
    """
    level, home = logging.getLevelNamesMapping()[settings.log_level.upper()], settings.likeme_home
    told = logging.StreamHandler()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    (home / LOG).touch(mode=0o600)
    kept = RotatingFileHandler(home / LOG, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8", delay=True)
    kept.setLevel(logging.ERROR)
    for handler in (told, kept):
        handler.setFormatter(Discreet(settings))
    logging.basicConfig(level=max(level, logging.INFO), handlers=[told, kept])
    for name in ("bot", "storage", "training"):
        logging.getLogger(name).setLevel(level)
    for name in ("httpx", "httpx2", "apscheduler"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _loss(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
