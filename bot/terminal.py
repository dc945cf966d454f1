"""likeme login, sync and nightly, with a person at the terminal."""

import sys

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bot import account, night, nightly, printing, schedule, versions
from bot.asking import Person
from bot.history import now
from bot.settings import Settings
from bot.sync import accept, fetch, notice_line
from bot.train import catch_up
from bot.work import database, opened
from storage import nights
from storage.database import Database
from storage.errors import BadInput
from storage.ingest.sync import pages
from storage.ingest.sync.patience import Notice
from storage.records import Account


class SigningIn:
    """What a sign-in asks the person for."""

    def __init__(self, person: Person) -> None:
        self._person = person

    def phone(self) -> str:
        """The number, with the country's code."""
        return self._person.ask("Your phone number, with the country's code (+49 …)")

    def code(self) -> str:
        """From another Telegram app of the owner's."""
        return self._person.ask("The code that Telegram has sent you", secret=True)

    def password(self) -> str:
        """Two-step verification's."""
        return self._person.ask("Your two-step password", secret=True)

    def tell(self, line: str) -> None:
        """A line on stderr."""
        self._person.tell(line)


async def sign_in(settings: Settings) -> Account:
    """`likeme login`"""
    if not sys.stdin.isatty():
        raise BadInput("likeme login asks for secrets: run it in a terminal.")
    return await account.login(settings, SigningIn(Person()), lambda owner: accept(settings, owner))


async def sync_account(settings: Settings) -> pages.SyncReport:
    """`likeme sync`"""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with account.opened(settings) as own, database(settings) as db:
        with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=printing.err) as bar:
            chats = bar.add_task("chats", total=None)
            messages = bar.add_task("messages", total=None)

            def on_progress(at: pages.Progress) -> None:
                bar.update(chats, completed=at.chats, total=at.total_chats)
                bar.update(messages, completed=at.messages, total=at.total_messages or None)

            def tell(notice: Notice) -> None:
                bar.console.print(notice_line(notice), markup=False)

            return await fetch(db, own, tell, on_progress)


async def night_now(settings: Settings) -> nights.Night:
    """`likeme nightly --now`: a night's work, or the rest of one that was left."""
    with night.alone(settings):
        async with opened(settings) as (db, voice):
            await catch_up(db, voice)
            with printing.night() as show:
                work = night.Work(settings, db, voice, now, lambda: _fetched(settings, db), show, printing.tell)
                left_over = await nights.unfinished(db)
                if left_over is None:
                    async with db.transaction():
                        left_over = await nights.begin(db, None, now())
                ended = await work.do(left_over)
                await versions.thin(db, voice)
            async with db.transaction():
                await nights.told(db, ended.night_id, now())  # here and now
    return ended


async def switch_nights(settings: Settings, wanted: str | None) -> str:
    """`likeme nightly`: when nights are, and how the last one ended."""
    async with database(settings) as db:
        if wanted is not None:
            await nightly.switch(db, schedule.parse(nightly.USUAL if wanted == "on" else wanted), now())
        return await nightly.described(db, settings, now())


async def _fetched(settings: Settings, db: Database) -> None:
    """Up to date, where the owner's account is signed in."""
    if settings.api_id and (settings.likeme_home / account.SESSION).exists():
        async with account.opened(settings) as own:
            await fetch(db, own, lambda notice: None, lambda progress: None)
