"""The owner's own steps in the demo: what he types and taps on the page, done for him, and what comes of it."""

import asyncio
from collections.abc import Callable, Sequence

from bot.sandbox.friends import Friend
from bot.sandbox.things import Event, Message
from bot.sandbox.world import World
from bot.texts import say
from storage.errors import ModelError

SECONDS = 1200.0  # a small model on a busy machine takes its time: 300 were too few beside a whole test run
DRAFT_SECONDS = 90.0  # after which nothing may come any more: the model can have found no words


class Owner:
    """The owner, acting in his world: one step after the other."""

    def __init__(self, world: World, user_id: int, group: int) -> None:
        self._world, self._me, self._group = world, user_id, group
        self._bot = next(iter(world.bots.values())).user_id

    async def greet(self) -> None:
        """/start, and the bot's answer to it."""
        await self._after(lambda: self._world.send(self._me, self._me, "/start"), self._is_said)

    async def want_draft_in_line(self, friend: Friend) -> None:
        """/mode, and a tap on «in the input line» beside the friend's name."""
        data = f"mode:{friend.user_id}:cloud"
        shown = await self._after(
            lambda: self._world.send(self._me, self._me, "/mode"), lambda e: self._is_said(e) and bool(e.what.buttons)
        )
        if any(button["callback_data"] == data for row in shown.what.buttons for button in row):
            self._world.tap_data(self._me, shown.what, data)

    async def lend_account(self) -> None:
        """Settings → Telegram Business → Chatbots."""
        await self._after(lambda: self._world.connect(self._me), self._is_said)

    async def draft_in_line(self, friend: Friend, act: Callable[[], object]) -> str:
        """What then lies in the input line of the friend's chat; "" for nothing."""
        chat = self._world.between(self._me, friend.user_id).chat_id

        def lies(event: Event) -> bool:
            return event.kind == "draft" and event.what.chat_id == chat and bool(event.what.text)

        try:
            return str((await self._after(act, lies, DRAFT_SECONDS)).what.text)
        except ModelError:
            return ""

    async def card(self, friend: Friend, act: Callable[[], object] = lambda: None) -> Message:
        """The card with drafts that then comes."""
        event = await self._after(act, lambda e: self._is_said(e) and _has(e, "skip") and friend.name in e.what.text)
        card: Message = event.what
        return card

    async def answer(self, friend: Friend) -> str:
        """A tap on the first draft of the friend's card, or a word of his own; what the friend then reads."""
        chat = self._world.between(self._me, friend.user_id).chat_id
        cards = [m for m in self._world.history(self._me) if m.text.startswith(friend.name) and m.buttons]

        def act() -> None:
            if cards and cards[-1].buttons[0][0]["text"] == "1":
                self._world.tap(self._me, cards[-1], "1")
            else:
                self._world.send(self._me, chat, "ok")

        sent = await self._after(act, lambda e: e.kind == "message" and e.chat_id == chat and e.what.sender == self._me)
        return str(sent.what.text)

    async def train(self) -> None:
        """/train; returns when the bot has begun."""
        await self._after(lambda: self._world.send(self._me, self._me, "/train"), self._is_said)

    async def quiz(self, n: int, friends: Sequence[Friend]) -> int:
        """/quiz in the group, «send all», and the friends' answers; how many polls all of them have answered."""
        everybody = {friend.user_id for friend in friends}
        ready = await self._after(
            lambda: self._world.send(self._me, self._group, f"/quiz {n}"),
            lambda e: self._is_said(e) and _has(e, "send all"),
        )
        asked = sum(_has(Event("message", m), "send to") for m in self._world.history(self._me))
        answered: set[str] = set()
        async with self._world.events() as events:
            self._world.tap(self._me, ready.what, "send all")
            try:
                async with asyncio.timeout(SECONDS):
                    while len(answered) < asked:
                        event = await events.get()
                        if self._is_said(event):
                            asked -= _kept_back(event.what.text, asked)
                        elif event.kind == "vote" and everybody <= event.what.poll.voters:
                            answered.add(event.what.poll.poll_id)
            except TimeoutError:
                pass  # somebody on the page plays a friend, and takes his time
        return len(answered)

    async def standings(self) -> int:
        """/standings; the bytes of its picture."""
        shown = await self._after(
            lambda: self._world.send(self._me, self._me, "/standings"),
            lambda e: self._is_said(e) and e.what.photo is not None,
        )
        return len(shown.what.photo.content)

    def _is_said(self, event: Event) -> bool:
        """The bot says something to the owner."""
        what = event.what
        return event.kind == "message" and (what.sender, what.chat_id) == (self._bot, self._me)

    async def _after(
        self, act: Callable[[], object], wanted: Callable[[Event], bool], seconds: float = SECONDS
    ) -> Event:
        async with self._world.events() as events:
            act()
            try:
                async with asyncio.timeout(seconds):
                    while not wanted(event := await events.get()):
                        pass
            except TimeoutError:
                raise ModelError(f"The demo's bot did nothing for {seconds:.0f} s: its bot.log tells why.") from None
            return event


def _kept_back(text: str, most: int) -> int:
    """How many questions the bot says it did not ask, for whose words they are."""
    return next((n for n in range(1, most + 1) if text == say("quiz_kept_back", n=n)), 0)


def _has(event: Event, label: str) -> bool:
    message: Message = event.what
    return any(button["text"].startswith(label) for row in message.buttons for button in row)
