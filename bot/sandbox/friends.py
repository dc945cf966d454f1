"""Scripted friends: they write, go on when they are answered, and vote in polls, until a hand on the page takes over.

Whoever is acted for on the page does nothing by himself any more.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from bot.sandbox.judges import Choose, replies_of
from bot.sandbox.things import Event, Message
from bot.sandbox.world import World

LETTERS_A_SECOND = 18.0
ANSWER_SECONDS, VOTE_SECONDS = 4.0, 1.5  # of silence before somebody goes on; between two votes


@dataclass(slots=True)
class Friend:
    """A person, the turns he still has to write (each one or more messages), and his way of choosing."""

    user_id: int
    name: str
    turns: list[list[str]]
    choose: Choose
    about: str  # the way of choosing in words
    is_writing: bool = field(default=False, repr=False)


class Friends:
    """All of them."""

    def __init__(self, world: World, owner: int, friends: Sequence[Friend], is_taken: Callable[[int], bool]) -> None:
        """`is_taken`: somebody on the page acts for this person."""
        self._world, self._owner, self._is_taken = world, owner, is_taken
        self._tasks: set[asyncio.Task[None]] = set()
        self.friends = friends

    @asynccontextmanager
    async def living(self) -> AsyncIterator[None]:
        """They react to what happens while the block runs."""
        stop = self._world.observe(self._react)
        try:
            yield
        finally:
            stop()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def begin(self, friend: Friend) -> None:
        """Somebody writes his first turn."""
        self._start(self._write(friend))

    def goes_on(self, friend: Friend) -> bool:
        """Whether he would write something when he is answered."""
        return bool(friend.turns) and not self._is_taken(friend.user_id)

    def _react(self, event: Event) -> None:
        what = event.what
        if event.kind != "message" or not isinstance(what, Message):
            return
        chat = self._world.chats[what.chat_id]
        for place, friend in enumerate(self.friends):
            if friend.user_id not in chat.members or self._is_taken(friend.user_id):
                continue
            if what.poll is not None:
                self._start(self._vote(friend, what, VOTE_SECONDS * (1 + place)))
            elif chat.kind == "personal" and what.sender == self._owner and not friend.is_writing:
                self._start(self._go_on(friend))

    def _start(self, reaction: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(reaction)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _go_on(self, friend: Friend) -> None:
        friend.is_writing = True
        await asyncio.sleep(ANSWER_SECONDS)
        await self._write(friend)
        friend.is_writing = False

    async def _write(self, friend: Friend) -> None:
        """The next turn, typed."""
        chat = self._world.between(friend.user_id, self._owner).chat_id
        for line in friend.turns.pop(0) if friend.turns else ():
            self._world.stream(friend.user_id, chat)
            await asyncio.sleep(len(line) / LETTERS_A_SECOND)
            if self._is_taken(friend.user_id):
                return
            self._world.send(friend.user_id, chat, line)

    async def _vote(self, friend: Friend, asked: Message, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if asked.poll is None or self._is_taken(friend.user_id):
            return
        asker = [m for m in self._world.history(asked.chat_id) if m.sender == asked.sender]
        before = asker.index(asked) - 1
        replies = replies_of(asked.poll, asker[before].text if before >= 0 else "")
        self._world.vote(friend.user_id, asked.poll, [friend.choose(replies)])
