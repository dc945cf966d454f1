"""A chat is forgotten, and the model server has a home of its own: nothing of the chat stays there either."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bot import chats, leftovers
from bot.leftovers import Cleared
from bot.model_process import model_server
from bot.sandbox.server import Sandbox
from bot.settings import Settings
from bot.work import evaluate_voice, forget_chat, train_voice
from storage import forgetting
from storage.database import Database
from storage.forgetting import ModelFile
from tests.bot.conftest import Listener, running
from tests.sandbox_fixtures import OWNER
from tests.wire import Cable

pytestmark = pytest.mark.slow
WORDS = b"Question 3 "  # in every prompt of chat 2003


@pytest_asyncio.fixture
async def link(model_url: str) -> AsyncIterator[Cable]:
    """The way to the model server, and its address."""
    made = Cable(int(model_url.rpartition(":")[2]))
    await made.mend()
    yield made
    await made.cut()


@pytest.fixture
def far(settings: Settings, link: Cable) -> Settings:
    """The owner's home, and the model server on the other end of the link."""
    return settings.model_copy(update={"model_url": link.url})


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "AGAIN_SECONDS", 0.3)


def holding(home: Path) -> list[Path]:
    """The files that hold the chat's words."""
    return [path for path in home.rglob("*") if path.is_file() and WORDS in path.read_bytes()]


def there(settings: Settings) -> Path:
    """The model server's home beside the owner's (tests/model_fixtures.py)."""
    return settings.likeme_home.parent / "home"


async def owed(settings: Settings) -> list[ModelFile]:
    async with Database.open(settings.likeme_home / "history.db") as database:
        return await forgetting.owed(database)


async def test_what_a_server_elsewhere_holds_of_a_forgotten_chat_is_deleted_there(far: Settings) -> None:
    await train_voice(far, None)
    await evaluate_voice(far, 1, audit=False)
    held = holding(there(far))
    assert {path.parent.name for path in held} == {"files"}, "and nowhere else"
    other = there(far) / "files" / "file-000000000000000000000000.jsonl"
    other.write_text("of somebody else")
    line, gone = await forget_chat(far, "2003", yes=True, undo=False)
    assert gone is not None and gone.voices == (1,)
    assert "Deleted on the model server: 3 files of forgotten chats." in line, "train, held out, what was measured"
    assert holding(there(far)) == holding(far.likeme_home) == []
    assert [path.name for path in (there(far) / "files").iterdir()] == [other.name]
    assert await owed(far) == []
    line, _ = await forget_chat(far, "2004", yes=True, undo=False)
    assert "model server" not in line, "it had nothing any more"


async def test_a_server_that_is_away_is_told_of_and_deletes_when_it_is_back(
    sandbox: Sandbox, far: Settings, link: Cable, owner_hears: Listener
) -> None:
    world = sandbox.world
    await train_voice(far, None)
    async with running(far):
        asked = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/forget 2003"), lambda m: bool(m.buttons))
        await link.cut()
        told = await owner_hears.after(lambda: world.tap(OWNER, asked, "forget"), lambda m: "still lie on" in m.text)
        assert "does not answer" in told.text
        assert "I tell you when it is." in world.messages[asked.chat_id, asked.message_id].text
        assert holding(far.likeme_home) == []
        assert len(await owed(far)) == 3
        await asyncio.sleep(1)
    assert len([m for m in world.messages.values() if "still lie on" in m.text]) == 1, "once while it lasts"
    async with running(far):  # a restart meanwhile
        await asyncio.sleep(0.5)
        assert holding(there(far))
        loop = asyncio.get_running_loop()
        told = await owner_hears.after(lambda: loop.create_task(link.mend()), lambda m: "Deleted on" in m.text)
        assert "3 files" in told.text
    assert holding(there(far)) == []
    assert await owed(far) == []


async def test_a_command_pays_what_is_owed_and_undo_owes_nothing(
    far: Settings, link: Cable, capsys: pytest.CaptureFixture[str]
) -> None:
    await train_voice(far, None)
    await link.cut()
    line, _ = await forget_chat(far, "2003", yes=True, undo=False)
    assert "still lie on the model server" in line and "as soon as I can" in line
    await forget_chat(far, "2003", yes=True, undo=True)
    assert await owed(far) == []
    await forget_chat(far, "2004", yes=True, undo=False)
    await link.mend()
    await train_voice(far, None)
    assert "Deleted on the model server: 3 files" in capsys.readouterr().err
    assert b"Question 4 " not in b"".join(path.read_bytes() for path in (there(far) / "files").iterdir())


async def test_files_on_another_server_than_today_s_are_told_of_and_not_owed_for_ever(far: Settings) -> None:
    await train_voice(far, None)
    elsewhere = ModelFile("file-111111111111111111111111", "http://10.0.0.9:8765")
    async with Database.open(far.likeme_home / "history.db") as database, model_server(far) as voice:
        sha = (await database.rows("SELECT DISTINCT data_sha256 FROM trained_on"))[0]["data_sha256"]
        async with database.transaction():
            await forgetting.note_files(database, sha, elsewhere.server, [elsewhere.file_id])
        await chats.forget(far, database, 2003)
        cleared = await leftovers.clear(database, voice)
        assert (cleared.owed, cleared.deleted, cleared.lost) == (4, 3, (elsewhere.server,))
        assert "lie on http://10.0.0.9:8765, which is not the model server any more" in cleared.said
        assert await leftovers.clear(database, voice) == Cleared(0)
        assert Cleared(0).said == ""


async def test_sets_that_nobody_noted_are_known_by_their_folders(far: Settings) -> None:
    """Of a home that is older than the notes, and of a likeme that was killed between upload and note."""
    await train_voice(far, None)
    async with Database.open(far.likeme_home / "history.db") as database, database.transaction():
        await database.execute("DELETE FROM model_file")
        await database.execute("DELETE FROM trained_on")
    line, _ = await forget_chat(far, "2003", yes=True, undo=False)
    assert "2 files" in line
    assert not [
        path for path in holding(there(far)) if "fine-tune-results" not in path.with_suffix(".json").read_text()
    ]


async def test_a_model_server_in_this_home_needs_no_asking(far: Settings) -> None:
    """What `likeme evaluate` sent there lies in no data set's folder."""
    own = far.model_copy(update={"model_url": ""})
    async with Database.open(own.likeme_home / "history.db") as database:
        async with database.transaction():
            await forgetting.note_training(database, "sha", [2003])
            await forgetting.note_files(database, "sha", "", ["file-222222222222222222222222"])
        for name in ("file-222222222222222222222222.jsonl", "file-222222222222222222222222.json"):
            (own.likeme_home / "files").mkdir(exist_ok=True)
            (own.likeme_home / "files" / name).write_text("{}")
        await chats.forget(own, database, 2003)
        assert list((own.likeme_home / "files").iterdir()) == []
        assert await forgetting.owed(database) == []
