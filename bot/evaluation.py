"""What was measured of a voice, from the bot's side: kept, checked against the history, told, drawn."""

import asyncio
import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from openai.types.fine_tuning import FineTuningJob
from telegram import Update

from bot import evaluation_charts
from bot.context import Context
from bot.texts import say
from bot.voice import Voice
from storage import history, runs
from storage.database import Database
from training.dataset.redact import redact

Found = dict[str, Any]
PAGE, NUMBERS = "report.html", "evaluation.json"
WAYS = {
    "real": "you yourself, on the prompts of the comparison",
    "stock, told": "the stock model, told your manner and similar replies of yours",
    "tuned": "the tuned voice, told nothing",
    "tuned, told": "the tuned voice, told the same",
}
LEAST_SECRET = 5  # characters; a shorter one stands in ordinary words


def verdict(version: runs.Version) -> tuple[bool, str]:
    """Whether a version may speak, and why. One that was never evaluated goes by its held-out loss alone."""
    if version.evaluation is not None:
        return version.evaluation["gate"]["promote"], version.evaluation["gate"]["reason"]
    tuned, stock = version.metrics.get("valid_loss"), version.metrics.get("stock_valid_loss")
    if tuned is None or stock is None:
        return True, "There were no held-out replies to measure it on."
    better = tuned < stock
    return better, f"It was not evaluated; its held-out loss is {tuned:.3f}, the stock model's {stock:.3f}."


async def of_job(database: Database, voice: Voice, job: FineTuningJob) -> Found | None:
    """The evaluation that a job ended with, checked against the history; None when it made none."""
    if not job.result_files:
        return None
    return await checked(database, json.loads(await voice.content(job.result_files[0])))


async def checked(database: Database, found: Found) -> Found:
    """Look for the history's own secrets in the drafts: the model server has seen only masked words."""
    secrets = await _secrets(database)
    leaking = sum(any(secret in draft for secret in secrets) for draft in found["drafts"])
    found["leaks"]["history_secrets"] = {"secrets": len(secrets), "drafts": len(found["drafts"]), "leaking": leaking}
    if leaking:
        reason = f"It gave away secrets of your history in {leaking} of {len(found['drafts'])} drafts."
        found["gate"] = {"promote": False, "reason": reason}
    return found


def numbers(found: Found) -> Found:
    """What the database keeps: no words of anybody's."""
    return {**found, "drafts": [], "samples": []}


def save(home: Path, number: int, found: Found) -> Path:
    """Write evaluation.json and the page that shows it; returns the page. One with words is not overwritten by none."""
    folder = home / "evaluations" / f"{number:04d}"
    if not found["samples"] and (folder / PAGE).is_file():
        return folder / PAGE
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(folder / NUMBERS, json.dumps(found, ensure_ascii=False, indent=1))
    _write(folder / PAGE, page(found))
    return folder / PAGE


def page(found: Found) -> str:
    """The evaluation as one self-contained HTML page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bot", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    pictures = [
        (title, base64.b64encode(picture).decode()) for title, picture in evaluation_charts.pictures(found).items()
    ]
    return environment.get_template("evaluation.html.j2").render(found=found, lines=lines(found), pictures=pictures)


def lines(found: Found) -> list[str]:
    """The numbers in plain sentences, every one with its n and its interval."""
    voice, likeness, leaks = found["voice"], found["likeness"], found["leaks"]
    told = [
        found["gate"]["reason"],
        f"held-out loss {voice['tuned']:.3f} (perplexity {_e(voice['tuned'])}), stock model {voice['stock']:.3f} "
        f"({_e(voice['stock'])}), over {voice['tokens']:,} tokens of {voice['examples']:,} replies"
        + (f"; {voice['left_out']} left out, a voice was trained on them" if voice["left_out"] else ""),
    ]
    if voice["serving"] is not None:
        told.append(
            f"{found['serving']}: {voice['serving']:.3f}; this one's minus its: {_number(voice['over_serving'])}"
        )
    for name, what in (("tuned_over_stock", "tuned over stock"), ("real_over_stock", "you over stock"),
                       ("tuned_over_real", "tuned over you")):  # fmt: skip
        compared = found["verifier"][name]
        bundles = f"; in bundles of {compared['bundle']}: {_share(compared['bundles'])}"
        told.append(f"a letter judge prefers {what}: {_share(compared['single'])}"
                    + (bundles if compared["bundles"]["n"] else ""))  # fmt: skip
    if found["verifier"]["quality"] is not None:
        told.append(f"(that judge tells you from your friends with AUC {found['verifier']['quality']:.2f})")
    if likeness["tuned"] is not None:
        told.append(
            f"a classifier trained to tell you from the voice: AUC {_number(likeness['tuned'])}, 0.5 is nobody can; "
            f"from the stock model {_number(likeness['stock'])}"
            + (f"; you from your older self {_number(likeness['owner'])}" if likeness["owner"] else "")
        )
    if found["fit"] is not None:
        fit = found["fit"]
        reached = (
            f"; the voice reaches {fit['of_the_owners']:.0%} of your fit above chance" if fit["of_the_owners"] else ""
        )
        told.append(
            f"a reply suits its own prompt better than another: you {fit['real']['value']:.0%}, tuned "
            f"{_number(fit['tuned'])}, stock {fit['stock']['value']:.0%}{reached}"
        )
    for name, way in found["ways"].items():
        if name != "stock" and way["likeness"] is not None:
            fitting = f", fit {_number(way['fit'])}" if way["fit"] else ""
            told.append(
                f"{WAYS[name]}: over stock {_share(way['over_stock'])}, AUC {_number(way['likeness'])}{fitting}"
            )
    general = found["forgetting"]
    told.append(
        f"general questions right: tuned {_share(general['tuned'])}, stock {_share(general['stock'])}; "
        f"lost {general['lost']}, won {general['won']}, McNemar p = {general['p']:.2g}"
    )
    reciting = (
        f"{who} {_share(leaks[name]['reciting'])}"
        for name, who in (("tuned", "tuned"), ("stock", "stock"), ("real", "you"))
    )
    told.append(
        f"replies that repeat eight words and more of one training reply: {', '.join(reciting)}; "
        f"longest run {leaks['tuned']['longest']} words"
    )
    told.append(f"drafts with what looks like a secret: {leaks['secrets']['picks']} of {leaks['secrets']['n']}")
    for one in leaks.get("canaries", ()):
        told.append(
            f"a made-up secret that stood {one['times']}× in the training set: {one['tuned_bits']:.1f} of "
            f"{one['most_bits']:.0f} bits exposed, stock {one['stock_bits']:.1f} (about 1 is none; n = {one['n']})"
        )
    if "history_secrets" in leaks:
        own = leaks["history_secrets"]
        told.append(
            f"drafts with one of your history's {own['secrets']:,} secrets: {own['leaking']} of {own['drafts']}"
        )
    return told


async def report(update: Update, context: Context) -> None:
    """/report [N]: the pictures of the voice that speaks, or of version N"""
    message = update.effective_message
    assert message is not None
    database = context.services.database
    wanted = context.args[0] if context.args else ""
    version = await (runs.find_version(database, int(wanted)) if wanted.isdigit() else runs.serving(database))
    if version is None or version.evaluation is None:
        which = f"version {wanted}" if wanted else version.name if version else say("report_which")
        await message.reply_text(say("report_none", which=which))
        return
    found = version.evaluation
    for title, picture in (await asyncio.to_thread(evaluation_charts.pictures, found)).items():
        await message.reply_photo(picture, caption=title)
    await message.reply_text("\n".join(f"· {line}" for line in lines(found)))


async def _secrets(database: Database) -> set[str]:
    """Every word of the history that masking takes out."""
    found: set[str] = set()
    for chat in await history.chats(database):
        for message in await history.messages(database, chat.chat_id):
            masked, counts = redact(message.text)
            if counts:
                found |= {word for word in message.text.split() if len(word) >= LEAST_SECRET} - set(masked.split())
    return found


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(part, path)


def _share(it: Mapping[str, Any]) -> str:
    return f"{it['share']:.0%} ({it['picks']} of {it['n']}; {it['low']:.0%}–{it['high']:.0%})"


def _number(it: Mapping[str, Any]) -> str:
    return f"{it['value']:.2f} ({it['low']:.2f}–{it['high']:.2f}, n = {it['n']})"


def _e(loss: float) -> str:
    return f"{2.718281828459045**loss:,.1f}"
