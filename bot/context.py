"""What handlers are handed."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from telegram.ext import Application, CallbackContext, ExtBot

from bot.drafting import Drafting
from bot.settings import Settings
from bot.texts import Reader
from bot.voice import Voice
from bot.waiting import WaitingList
from storage.database import Database

if TYPE_CHECKING:
    from bot.nightly import Nightly
    from bot.sync import Follower


@dataclass(slots=True)
class Services:
    """The open database, the model server, the owner's account, and the tasks that run beside the handlers."""

    application: "App"
    settings: Settings
    database: Database
    voice: Voice
    follower: "Follower"
    drafting: Drafting
    waiting: WaitingList
    owner: Reader  # what the owner reads
    forgot: asyncio.Event = field(default_factory=asyncio.Event)  # the model server may have files to delete
    being_sent: set[int] = field(default_factory=set)  # ids of drafts
    being_shown: set[int] = field(default_factory=set)
    training: asyncio.Task[None] | None = None
    training_job: str | None = None
    nightly: "Nightly | None" = None
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)  # to strangers, by kind
    told: dict[str, float] = field(default_factory=dict)  # complaints, and when the owner was told
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)  # held until a poll's id is noted

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a coroutine beside the handlers; what it raises goes where a handler's errors go."""
        task = asyncio.create_task(self._reported(work), name=name)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def _reported(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            await self.application.process_error(None, error)


class Context(CallbackContext[ExtBot[Any], dict[Any, Any], dict[Any, Any], dict[Any, Any]]):
    """PTB's context with our services."""

    @property
    def services(self) -> Services:
        """Set once at start."""
        services = self.application.bot_data["services"]
        assert isinstance(services, Services)
        return services


App = Application[Any, Context, Any, Any, Any, Any]
