"""Voice versions in the owner's hands: which speaks, and which are kept."""

import logging
from collections.abc import Sequence

from telegram import Update

from bot import evaluation
from bot.context import Context
from bot.history import now
from bot.texts import loss, moment, say
from bot.voice import Voice
from storage import forgetting, runs
from storage.database import Database
from storage.errors import BadInput, ModelError

KEPT = 7  # the newest; of older ones the newest of each month
SHOWN = 30  # lines that fit a message
BY_HAND = ("by likeme rollback", "by /rollback")

log = logging.getLogger(__name__)


async def roll_back(database: Database, voice: Voice | None, wanted: int | None, how: str) -> int | None:
    """Let another version speak (None: the one before, 0: stock); its number. BadInput where it can't.

    A damaged one is looked at again, where there is a `voice` to look: somebody may have put its files back.
    """
    number = await runs.previous(database) if wanted is None else wanted or None
    if number is not None:
        version = await find(database, number)
        if version.damaged_at is not None and voice is not None:
            await voice.described(version.name)
        elif version.damaged_at is not None:
            raise BadInput(say("version_is_damaged", number=number))
    async with database.transaction():
        if number is not None:
            await runs.note_mended(database, number)
        await runs.serve(database, number, "rollback", how, now())
    return number


async def promote(database: Database, number: int, force: bool) -> tuple[bool, str]:
    """Let a version speak that the gate lets through, or by force: whether it passed, and the gate's reason."""
    version = await find(database, number)
    if version.damaged_at is not None:
        raise BadInput(say("version_is_damaged", number=number))
    passed, reason = evaluation.verdict(version)
    if not passed and not force:
        raise BadInput(say("promote_kept_back", number=number, reason=reason))
    async with database.transaction():
        await runs.serve(database, number, "gate" if passed else "forced", reason, now())
    return passed, reason


async def find(database: Database, number: int) -> runs.Version:
    """A version whose files were not removed. BadInput where there is none."""
    version = await runs.find_version(database, number)
    if version is None:
        raise BadInput(say("no_version", number=number))
    if version.removed_at is not None:
        raise BadInput(say("version_is_removed", number=number, date=moment(version.removed_at)))
    return version


async def is_stock_by_hand(database: Database) -> bool:
    """Whether the owner himself wanted the stock model to speak."""
    promotions = await runs.promotions(database)
    return bool(promotions) and promotions[-1].number is None and promotions[-1].reason in BY_HAND


def to_remove(versions: Sequence[runs.Version], serving: int | None) -> list[runs.Version]:
    """Whose files may go: all but the one that speaks, the newest ones, and the newest of each month."""
    there = [version for version in versions if version.removed_at is None]
    of_month = {f"{version.created_at:%Y-%m}": version.number for version in there}
    kept = {version.number for version in there[-KEPT:]} | set(of_month.values()) | {serving}
    return [version for version in there if version.number not in kept]


async def thin(database: Database, voice: Voice) -> list[int]:
    """Remove the files of old versions; their numbers. What can't be removed now is tried again the next time."""
    serving, gone = await runs.serving(database), []
    for version in to_remove(await runs.versions(database), serving.number if serving else None):
        try:
            await voice.delete(version.name)
        except ModelError as error:
            log.warning("version %d is not removed: %s", version.number, error)
            continue
        async with database.transaction():
            await runs.note_removed(database, version.number, now())
        gone.append(version.number)
    return gone


async def lines(database: Database) -> list[str]:
    """A line for each version, oldest first."""
    serving, marked = await runs.serving(database), await forgetting.marked(database)
    return [
        _line(version, serving is not None and serving.number == version.number, marked.get(version.number, 0))
        for version in await runs.versions(database)
    ]


def _line(version: runs.Version, speaks: bool, forgotten: int) -> str:
    begun = say("version_further", number=version.started_from) if version.started_from else say("version_anew")
    examples, size = version.metrics.get("examples"), version.metrics.get("bytes")
    data = [say("version_data", examples=examples)] if examples else []
    notes = [begun, *data]
    notes += [say("version_size", megabytes=size / 1e6)] if size and version.removed_at is None else []
    notes += [] if evaluation.verdict(version)[0] else [say("version_kept_back")]
    notes += [say("version_marked", chats=forgotten)] if forgotten else []
    notes += [say("version_was_damaged")] if version.damaged_at else []
    notes += [say("version_was_removed", date=moment(version.removed_at))] if version.removed_at else []
    return say(
        "version_line",
        mark="▶" if speaks else "·",
        number=version.number,
        date=moment(version.created_at),
        loss=loss(version.metrics.get("valid_loss")),
        stock=loss(version.metrics.get("stock_valid_loss")),
        notes=", ".join(notes),
    )


async def shown(update: Update, context: Context) -> None:
    """/versions"""
    assert update.effective_message is not None
    told = await lines(context.services.database)
    await update.effective_message.reply_text("\n".join(told[-SHOWN:]) or say("versions_none"))


async def rolled_back(update: Update, context: Context) -> None:
    """/rollback [N]; without a number: the version before the one that speaks"""
    assert update.effective_message is not None
    services, wanted = context.services, context.args[0] if context.args else None
    try:
        number = await roll_back(services.database, services.voice, _number(wanted), "by /rollback")
        text = say("rolled_back", number=number) if number else say("rolled_to_stock")
    except (BadInput, ModelError) as error:
        text = str(error)
    await update.effective_message.reply_text(text)


async def promoted(update: Update, context: Context) -> None:
    """/promote N [force]"""
    assert update.effective_message is not None
    number, *force = context.args or [""]
    try:
        if not number.isdigit() or int(number) == 0:
            raise BadInput(say("promote_which"))
        await promote(context.services.database, int(number), force == ["force"])
        text = say("rolled_back", number=int(number))
    except BadInput as error:
        text = str(error)
    await update.effective_message.reply_text(text)


def _number(wanted: str | None) -> int | None:
    if wanted is not None and not wanted.isdigit():
        raise BadInput(say("no_version", number=wanted))
    return None if wanted is None else int(wanted)
