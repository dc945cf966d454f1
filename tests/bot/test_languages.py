"""Everybody is answered in his own language, and the owner's tasks speak the one he reads now."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bot.application import build
from bot.context import App
from bot.sandbox.server import Sandbox
from bot.sandbox.things import Message
from bot.settings import Settings
from bot.texts import LANGUAGES, words
from storage import invitations, quizzes
from storage.database import Database
from storage.quizzes import NewQuestion, Reply
from tests.bot.conftest import Listener, running
from tests.desk_fixtures import labels
from tests.sandbox_fixtures import ANNA, BORIS, OWNER

pytestmark = pytest.mark.slow


@pytest.fixture
def model_url(scripted_url: str) -> str:
    """A model that says what a test wants."""
    return scripted_url


@pytest.fixture(autouse=True)
def readers(sandbox: Sandbox) -> None:
    """A Russian owner, a German friend, and one whose language the bot does not speak."""
    for user, language in ((OWNER, "ru"), (ANNA, "de-AT"), (BORIS, "fr")):
        reads(sandbox, user, language)


def reads(sandbox: Sandbox, user: int, language: str) -> None:
    sandbox.world.users[user] = replace(sandbox.world.users[user], language=language)


async def test_owner_and_strangers_are_answered_in_their_own_language(sandbox: Sandbox, bot: App) -> None:
    world = sandbox.world
    for user, language, key in ((OWNER, "ru", "start"), (ANNA, "de", "stranger"), (BORIS, "en", "stranger")):
        hears = Listener(sandbox, user)
        said = await hears.after(lambda user=user: world.send(user, user, "/start"))  # type: ignore[misc]
        assert said.text == words(language)[key].format(name="Owner", user_id=user)


async def test_a_card_is_in_the_owner_s_language_of_now_whatever_his_friend_speaks(
    sandbox: Sandbox, settings: Settings, owner_hears: Listener
) -> None:
    world = sandbox.world

    async def card(text: str) -> Message:
        return await owner_hears.after(lambda: world.write(ANNA, OWNER, text), lambda m: bool(m.buttons))

    async with running(settings):
        hello = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/mode"))
        assert hello.text == words("ru")["modes"]
        connected = await owner_hears.after(lambda: world.connect(OWNER))
        assert connected.text == words("ru")["connected"]
        assert words("ru")["button_skip"] in labels(await card("Bist du da?"))
        reads(sandbox, OWNER, "tr")
        await owner_hears.after(lambda: world.send(OWNER, OWNER, "/quiet"))
        assert words("tr")["button_skip"] in labels(await card("Und jetzt?"))
    async with running(settings):
        assert words("tr")["button_skip"] in labels(await card("Noch da?")), "nothing has come from the owner since"


async def test_a_friend_is_asked_in_his_language_also_after_a_restart(
    sandbox: Sandbox, settings: Settings, owner_hears: Listener
) -> None:
    world, hears = sandbox.world, Listener(sandbox, ANNA)
    replies = (Reply("real", "yep"), Reply("tuned", "yes"), Reply("stock", "Certainly."))
    now = datetime.now(UTC)
    async with Database.open(settings.likeme_home / "history.db") as database:
        async with database.transaction():
            question = NewQuestion(2000, 1, "are you there?", replies, "three")
            await quizzes.add_quiz(database, chat_id=None, model="voice", seed=1, questions=[question], now=now)
            await quizzes.move(database, 1, "candidate", "approved")
            later = now + timedelta(days=1)
            await invitations.add(database, token="t" * 22, quiz_id=1, now=now, expires_at=later)
        asked = words("de")["quiz_question"].format(name="Owner")
        async with running(settings):
            poll = await hears.after(lambda: world.send(ANNA, ANNA, f"/start quiz_{'t' * 22}"), lambda m: bool(m.poll))
            assert poll.poll is not None
            assert poll.poll.question.endswith(asked)
        async with database.transaction():
            await database.execute("DELETE FROM asking")  # as if stopped before the question went out
        app = build(settings)
        async with sandbox.world.events() as events, app:
            assert app.post_init is not None and app.post_stop is not None
            await app.post_init(app)
            while True:
                event = await events.get()
                if event.kind == "message" and event.what.poll is not None:
                    break
            await app.post_stop(app)
        assert event.what.poll.question.endswith(asked)


async def test_the_menu_of_commands_is_there_in_every_language(sandbox: Sandbox, bot: App) -> None:
    menus = sandbox.world.commands
    async with asyncio.timeout(30):
        while (bot.bot.id, f"chat:{OWNER}:{LANGUAGES[-1]}") not in menus:
            await asyncio.sleep(0.02)
    for language in LANGUAGES:
        shown = f"chat:{OWNER}" + ("" if language == "en" else f":{language}")
        described = {c["command"]: c["description"] for c in menus[bot.bot.id, shown]}
        assert described["train"] == words(language)["command_train"]
    assert menus[bot.bot.id, "all_group_chats:de"]
