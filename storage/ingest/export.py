"""A Telegram Desktop export -> records in the database.

The file streams through: memory does not grow with it. Each batch is one transaction, so a kill leaves whole
batches, and importing again completes them: what stands already is not added twice.

    files.py       which files
    unpacking.py   a file as a disk holds it -> UTF-8 text
    mending.py     nearly JSON -> JSON
    walk.py        JSON -> chats and their entries
    passes.py      these three once, or again with more mending where the parser stumbled
    entries.py     an entry -> a row
    reading.py     entries -> batches
    overview.py    a look over the whole file before, where its order or what is stored asks for it
    relay.py       batches from the thread that reads (all of the above) to the event loop
    this module    batches -> transactions
    report.py      what came of it, in numbers
"""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from datetime import datetime
from functools import partial
from operator import itemgetter
from pathlib import Path

from storage import history
from storage.database import Database
from storage.errors import NotAnExport
from storage.forgetting import forgotten
from storage.ingest.entries import account_of
from storage.ingest.files import HOW_TO_EXPORT, check_start, files_of
from storage.ingest.overview import NeedsOverview, Overview
from storage.ingest.passes import Outcome, read_through
from storage.ingest.reading import TWICE, Batch, Owner, Reading
from storage.ingest.relay import Relay
from storage.ingest.report import ImportReport
from storage.rows import Row, add_rows, index_rows, last_rowid, mark_deleted, newest_ids, prepare_for_many, replace_rows

__all__ = ["HOW_TO_EXPORT", "ImportReport", "import_export"]

NO_CHAT = "in the list of chats, but no chat"
ZONELESS = "dates without a zone, taken as UTC"
_is_own, _kind = itemgetter(4), itemgetter(5)
_TOLD_EVERY = 1 << 20  # bytes


async def import_export(
    database: Database,
    path: Path,
    *,
    me: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    now: datetime,
) -> ImportReport:
    """Import an export: result.json, .json.gz, or the folder that holds it. `me` is the owner's id where
    the file does not tell it (a one-chat export). `on_progress` hears bytes done and bytes in all.
    Raises NotAnExport and BadInput with what to do."""
    started = time.monotonic()
    files = files_of(path)
    for file in files:
        check_start(file)
    report, progress = ImportReport(), _Progress(on_progress)
    left = sum(file.stat().st_size for file in files)
    with _no_search_for_cycles():
        for file in files:
            left -= file.stat().st_size
            found = await _Import(database, file, me, now, progress, left).run()
            report.add(found, file.name if len(files) > 1 else "")
    report.seconds = time.monotonic() - started
    return report


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Rows refer to nothing that refers back; looking for it among a hundred thousand of them takes its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Progress:
    """Bytes read, over all passes; the total grows where a file turns out to need another one."""

    def __init__(self, tell: Callable[[int, int], None] | None) -> None:
        self._tell = tell
        self._done = self._told = 0

    def begin(self, relay: Relay[Batch], size: int, later: int) -> Callable[[int], None]:
        """A listener for one pass over a file of `size`, with `later` bytes to come after it."""
        before = self._done

        def on_read(position: int) -> None:
            relay.go_on()
            self._done = before + position
            if self._tell and (self._done - self._told >= _TOLD_EVERY or position >= size):
                self._told = self._done
                relay.tell(self._tell, self._done, before + size + later)

        return on_read


class _Import:
    """One file into the database."""

    def __init__(
        self, database: Database, file: Path, me: int | None, now: datetime, progress: _Progress, later: int
    ) -> None:
        self._database = database
        self._file = file
        self._me = me
        self._now = now
        self._progress = progress
        self._later = later
        self._size = file.stat().st_size
        self._report = ImportReport()
        self._overview: Overview | None = None
        self._stored: dict[int, int] = {}
        self._begun = self._attempt = 0

    async def run(self) -> ImportReport:
        """Read the file in one go, or look it over first where that is needed."""
        self._begun = await last_rowid(self._database)
        self._stored = await newest_ids(self._database)
        await prepare_for_many(self._database)
        if self._stored:
            self._overview = await self._look_over()
        try:
            await self._take_in()
        except NeedsOverview:
            self._overview = await self._look_over()
            await self._take_in()
        return self._report

    async def _look_over(self) -> Overview:
        overview = Overview()
        outcome = await self._pass_over(Relay(), overview, self._size)
        overview.finish(outcome.root)
        self._check(outcome, overview.owner is not None or any(reach.chat for reach in overview.reaches))
        return overview

    async def _take_in(self) -> None:
        self._attempt, self._report = await last_rowid(self._database), ImportReport()
        owner = Owner(self._file, self._me, await history.account(self._database))
        gone = await forgotten(self._database)
        relay: Relay[Batch] = Relay()
        reading = Reading(owner, self._stored, self._overview, relay.put, gone)
        outcome = await self._pass_over(relay, reading, 0)
        self._report.owner = self._report.owner or account_of(outcome.root.get("personal_information"))
        self._check(outcome, self._report.owner is not None or bool(self._report.chats))
        self._report.notes.update({f"{what}, mended": n for what, n in outcome.mended.items()})
        if outcome.strays:
            self._report.seen += outcome.strays
            self._report.left_out[NO_CHAT] += outcome.strays
        if outcome.damage:
            self._report.damage = f"{reading.place}, {outcome.damage}"

    async def _pass_over(self, relay: Relay[Batch], sink: Overview | Reading, later: int) -> Outcome:
        outcomes: list[Outcome] = []

        def produce() -> None:
            begin = partial(self._progress.begin, relay, self._size, later + self._later)
            outcomes.append(read_through(self._file, sink, begin))
            sink.end()

        async with aclosing(relay.batches(produce)) as batches:
            async for batch in batches:
                await self._write(batch)
        return outcomes[0]

    def _check(self, outcome: Outcome, is_export: bool) -> None:
        if is_export:
            return
        if outcome.damage:
            raise NotAnExport(f"{self._file} is no JSON ({outcome.damage}). {HOW_TO_EXPORT}")
        raise NotAnExport(f"{self._file} is JSON, but no Telegram export: it holds no chats. {HOW_TO_EXPORT}")

    async def _write(self, batch: Batch) -> None:
        self._count(batch)
        async with self._database.transaction():
            if batch.owner is not None:
                await history.set_account(self._database, batch.owner)
            await history.put_chats(self._database, batch.chats)
            added = await add_rows(self._database, batch.rows)
            await index_rows(self._database, added)
            await replace_rows(self._database, added.standing, partial(self._judge, batch.zoneless))
            for chat in batch.covered:
                self._report.deleted += await mark_deleted(
                    self._database, chat.chat_id, chat.ids, self._now, own_only=chat.own_only
                )
        self._report.new += added.count

    def _count(self, batch: Batch) -> None:
        report = self._report
        report.owner = batch.owner or report.owner
        report.seen += batch.seen
        report.own += sum(map(_is_own, batch.rows))
        report.chats.update(chat.kind.value for chat in batch.chats)
        report.messages.update(map(_kind, batch.rows))
        report.left_out.update(batch.left_out)
        if batch.zoneless:
            report.notes[ZONELESS] += len(batch.zoneless)

    def _judge(self, zoneless: set[tuple[int, int]], rowid: int, stored: Row, row: Row) -> Row | None:
        if rowid > self._attempt:  # the same id, earlier in this file
            self._report.messages[row[5]] -= 1
            self._report.left_out[TWICE] += 1
            return row if row != stored and _edited(row) >= _edited(stored) else None
        kept = self._later_state(stored, row, row[:2] in zoneless)
        if rowid > self._begun:  # an attempt at this file before this one
            self._report.new += 1
        elif kept == stored:
            self._report.unchanged += 1
        else:
            self._report.updated += 1
        return None if kept == stored else kept

    def _later_state(self, stored: Row, row: Row, zoneless: bool) -> Row:
        """What is to stand there: an older export imported after a newer one undoes nothing."""
        before, reach = self._stored.get(row[0], 0), self._overview.newest(row[0]) if self._overview else None
        lives = reach is not None and reach > before  # a newer file has it: it was no deletion
        deleted_at = None if lives else stored[13]
        if row[2] != stored[2]:
            wins = not zoneless  # a date without its zone gives way to the exact one
        elif row[11] != stored[11]:
            wins = _edited(row) > _edited(stored)
        else:
            wins = reach is not None and reach >= before
        return (*(row if wins else stored)[:13], deleted_at)


def _edited(row: Row) -> int:
    return row[11] or 0
