"""What handlers are handed."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from telegram.ext import Application, CallbackContext, ExtBot

from bot.settings import Settings
from bot.voice import Voice
from storage.database import Database


@dataclass(slots=True)
class Services:
    """The open database, the model server, and the tasks that run beside the handlers."""

    settings: Settings
    database: Database
    voice: Voice
    training: asyncio.Task[None] | None = None
    training_job: str | None = None
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def spawn(self, work: Any, name: str) -> asyncio.Task[Any]:
        """Run a coroutine beside the handlers; kept until it is done."""
        task: asyncio.Task[Any] = asyncio.create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task


class Context(CallbackContext[ExtBot[Any], dict[Any, Any], dict[Any, Any], dict[Any, Any]]):
    """PTB's context with our services."""

    @property
    def services(self) -> Services:
        """Set once at start."""
        services = self.application.bot_data["services"]
        assert isinstance(services, Services)
        return services


App = Application[Any, Context, Any, Any, Any, Any]
