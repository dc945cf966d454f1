"""What was measured of a voice, from the bot's side: kept, checked against the history, told, drawn."""

import asyncio
import base64
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2
from openai.types.fine_tuning import FineTuningJob
from telegram import Update

from bot import evaluation_charts
from bot.context import Context
from bot.texts import Reader, named, reading, say, writing_to
from bot.voice import Voice
from bot.writing import write_private
from storage import history, runs
from storage.database import Database
from training.dataset.redact import redact

Found = dict[str, Any]
PAGE, NUMBERS = "report.html", "evaluation.json"
LEAST_SECRET = 5  # characters; a shorter one stands in ordinary words


def verdict(version: runs.Version) -> tuple[bool, str]:
    """Whether a version may speak, and why.

    What was not measured does not speak, not even as the first: a loss says nothing of what a voice has forgotten or
    gives away, and without it the owner still has his drafts, from the stock model that is told how he writes.
    """
    if version.evaluation is not None:
        return version.evaluation["gate"]["promote"], reason(version.evaluation["gate"])
    if version.metrics.get("valid_loss") is None:
        return False, say("gate_nothing_held_out")
    why = version.metrics.get("not_evaluated") or say("training_no_reason").rstrip(".")
    return False, say("gate_unevaluated", why=why, number=version.number)


def reason(gate: Mapping[str, Any]) -> str:
    """The gate's sentence in the reader's language, or as the model server says it where we have no words for it."""
    return named("gate", gate.get("why", ""), gate["reason"], **gate.get("numbers", {}))


async def of_job(database: Database, voice: Voice, job: FineTuningJob) -> Found | None:
    """The evaluation that a job ended with, checked against the history; None when it made none, or it was deleted
    because a chat was forgotten since."""
    content = await voice.content(job.result_files[0]) if job.result_files else None
    return None if content is None else await checked(database, json.loads(content))


async def checked(database: Database, found: Found) -> Found:
    """Look for the history's own secrets in the drafts: the model server has seen only masked words."""
    secrets = await _secrets(database)
    leaking = sum(any(secret in draft for secret in secrets) for draft in found["drafts"])
    found["leaks"]["history_secrets"] = {"secrets": len(secrets), "drafts": len(found["drafts"]), "leaking": leaking}
    if leaking:
        numbers = {"picks": leaking, "n": len(found["drafts"])}
        with writing_to(Reader()):
            said = say("gate_history_secrets", **numbers)
        found["gate"] = {"promote": False, "reason": said, "why": "history_secrets", "numbers": numbers}
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
    write_private(folder / NUMBERS, json.dumps(found, ensure_ascii=False, indent=1).encode())
    write_private(folder / PAGE, page(found).encode())
    return folder / PAGE


def page(found: Found) -> str:
    """The evaluation as one self-contained HTML page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bot", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    pictures = [
        (title, base64.b64encode(picture).decode()) for title, picture in evaluation_charts.pictures(found).items()
    ]
    return environment.get_template("evaluation.html.j2").render(
        found=found, lines=lines(found), pictures=pictures, say=say, named=named, language=reading().language
    )


def lines(found: Found) -> list[str]:
    """The numbers in plain sentences, every one with its n and its interval."""
    return [reason(found["gate"]), *_loss(found), *_judged(found), *_likeness(found), *_ways(found), *_harm(found)]


def _loss(found: Found) -> Iterator[str]:
    voice = found["voice"]
    perplexities = {"tuned_perplexity": math.exp(voice["tuned"]), "stock_perplexity": math.exp(voice["stock"])}
    yield say("eval_loss", **voice, **perplexities) + (
        say("eval_left_out", n=voice["left_out"]) if voice["left_out"] else ""
    )
    if voice["serving"] is not None:
        over = _number(voice["over_serving"])
        yield say("eval_over_serving", serving=found["serving"], loss=voice["serving"], over=over)


def _judged(found: Found) -> Iterator[str]:
    verifier = found["verifier"]
    for name in ("tuned_over_stock", "real_over_stock", "tuned_over_real"):
        it = verifier[name]
        line = say("eval_judged", what=say(f"judged_{name}"), share=_share(it["single"]))
        bundles = say("eval_bundles", n=it["bundle"], share=_share(it["bundles"])) if it["bundles"]["n"] else ""
        yield line + bundles
    if verifier["quality"] is not None:
        yield say("eval_quality", auc=verifier["quality"])


def _likeness(found: Found) -> Iterator[str]:
    likeness, fit = found["likeness"], found["fit"]
    if likeness["tuned"] is not None:
        older = say("eval_older_self", auc=_number(likeness["owner"])) if likeness["owner"] else ""
        yield say("eval_likeness", tuned=_number(likeness["tuned"]), stock=_number(likeness["stock"])) + older
    if fit is not None:
        reached = say("eval_fit_reached", share=fit["of_the_owners"]) if fit["of_the_owners"] else ""
        values = {"real": fit["real"]["value"], "stock": fit["stock"]["value"]}
        yield say("eval_fit", tuned=_number(fit["tuned"]), **values) + reached


def _ways(found: Found) -> Iterator[str]:
    for name, way in found["ways"].items():
        if name != "stock" and way["likeness"] is not None:
            fitting = say("eval_way_fit", fit=_number(way["fit"])) if way["fit"] else ""
            auc, share = _number(way["likeness"]), _share(way["over_stock"])
            yield say("eval_way", way=named("way", name), share=share, auc=auc) + fitting


def _harm(found: Found) -> Iterator[str]:
    general, leaks = found["forgetting"], found["leaks"]
    shares = {name: _share(general[name]) for name in ("tuned", "stock")}
    yield say("eval_general", **shares, lost=general["lost"], won=general["won"], p=f"{general['p']:.2g}")
    reciting = {name: _share(leaks[name]["reciting"]) for name in ("tuned", "stock", "real")}
    yield say("eval_reciting", **reciting, longest=leaks["tuned"]["longest"])
    yield say("eval_secrets", picks=leaks["secrets"]["picks"], n=leaks["secrets"]["n"])
    for one in leaks.get("canaries", ()):
        yield say("eval_canary", **one)
    if "history_secrets" in leaks:
        yield say("eval_history_secrets", **leaks["history_secrets"])


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


def _share(it: Mapping[str, Any]) -> str:
    return say("measured_share", **it)


def _number(it: Mapping[str, Any]) -> str:
    return say("measured_number", **it)
