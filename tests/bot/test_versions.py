"""Versions: which are kept, what a damaged one leads to, and who speaks in its place."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot import versions
from bot.context import App
from bot.damage import sound
from bot.model_process import model_server
from bot.sandbox.server import Sandbox
from bot.settings import Settings
from bot.work import train_voice
from storage import runs
from storage.database import Database
from storage.errors import BadInput
from tests.bot.conftest import Listener, running
from tests.sandbox_fixtures import OWNER
from training import adapters

NOW = datetime.now(UTC) + timedelta(days=40)  # another month than that of what is trained here


def version(number: int, created_at: datetime, **more: object) -> runs.Version:
    return runs.Version(number, f"likeme-{number:04d}", f"job {number}", created_at, "tiny", "", {}, **more)  # type: ignore[arg-type]


def test_kept_are_the_one_that_speaks_the_last_seven_and_one_of_each_month() -> None:
    nightly = [version(n + 1, datetime(2026, 8, 1, tzinfo=UTC) + timedelta(days=n)) for n in range(100)]
    gone = {v.number for v in versions.to_remove(nightly, serving=3)}
    kept = [v for v in nightly if v.number not in gone]
    months = {8: 31, 9: 61, 10: 92, 11: 100}
    assert {v.number for v in kept} == {3, *months.values(), *range(94, 101)}
    again = [v for v in nightly if v.number not in gone] + [version(101, datetime(2026, 11, 9, tzinfo=UTC))]
    assert [v.number for v in versions.to_remove(again, serving=3)] == [94]
    assert versions.to_remove([version(1, NOW)], serving=None) == []


def adapters_of(settings: Settings) -> Path:
    """The model server's folder beside the owner's (tests/model_fixtures.py)."""
    return settings.likeme_home.parent / "home" / "adapters"


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def copied(settings: Settings, number: int) -> None:
    """Another version with the first one's files."""
    source = adapters.versions(adapters_of(settings))[0]
    files = settings.likeme_home.parent / f"files of {number}"
    files.mkdir()
    for file in source.manifest["files"]:
        shutil.copy(source.path / file, files)
    assert adapters.publish(adapters_of(settings), files, {**source.manifest, "job": f"job {number}"}).number == number


async def spoken_by(settings: Settings, *numbers: int) -> None:
    """Versions that were let speak, one after another."""
    async with Database.open(settings.likeme_home / "history.db") as database, database.transaction():
        for number in numbers:
            await runs.add_version(database, version(number, NOW))
            await runs.serve(database, number, "gate", "a test", NOW)


async def serving(settings: Settings) -> int | None:
    async with Database.open(settings.likeme_home / "history.db") as database:
        now = await runs.serving(database)
    return now.number if now else None


@pytest.fixture
async def three(settings: Settings) -> Settings:
    """A home with three versions of one trained voice; the third speaks."""
    await train_voice(settings, None)
    copied(settings, 2)
    copied(settings, 3)
    await spoken_by(settings, 1, 2, 3)
    return settings


@pytest.mark.slow
async def test_a_voice_with_one_flipped_byte_is_never_loaded_and_the_last_good_one_speaks(
    sandbox: Sandbox, three: Settings, owner_hears: Listener
) -> None:
    world = sandbox.world
    async with running(three):
        await owner_hears.after(lambda: world.send(OWNER, OWNER, "/start"))
        flip_a_byte(adapters_of(three) / "0003" / "adapter_model.safetensors")
        told = await owner_hears.after(lambda: world.send(OWNER, OWNER, "hello?"), lambda m: "damaged" in m.text)
        assert "version 3 are damaged" in told.text and "Version 2 speaks" in told.text
        drafted = await owner_hears.after(lambda: None, lambda m: bool(m.buttons))
        assert drafted.text.endswith("likeme-0002")
        refused = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/rollback 3"))
        assert "damaged" in refused.text
        listed = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/versions"))
        assert "▶ 2" in listed.text and "its files are damaged" in listed.text
        flip_a_byte(adapters_of(three) / "0003" / "adapter_model.safetensors")  # put back from a backup
        mended = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/rollback 3"))
        assert mended.text == "Version 3 speaks from now on."
    (adapters_of(three) / "0003" / "manifest.json").write_text("{")
    flip_a_byte(adapters_of(three) / "0002" / "adapter_config.json")
    async with Database.open(three.likeme_home / "history.db") as database, model_server(three) as voice:
        said: list[str] = []

        async def tell(text: str) -> None:
            said.append(text)

        left = await sound(database, voice, tell)
        assert left is not None and left.number == 1
        assert len(said) == 2
        flip_a_byte(adapters_of(three) / "0001" / "adapter_model.safetensors")
        assert await sound(database, voice, tell) is None
        assert "stock model" in said[-1]


@pytest.mark.slow
async def test_old_versions_lose_their_files_keep_their_row_and_are_refused(
    three: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "KEPT", 1)
    async with Database.open(three.likeme_home / "history.db") as database, model_server(three) as voice:
        assert await versions.thin(database, voice) == [2], "the first is of another month"
        assert await versions.thin(database, voice) == []
        with pytest.raises(BadInput, match="files of version 2 were removed on"):
            await versions.roll_back(database, voice, 2, "a test")
        assert await runs.previous(database) == 1
        lines = await versions.lines(database)
        assert ["removed" in line for line in lines] == [False, True, False]
        assert "MB" in lines[0] and "example" in lines[0]
    assert list((adapters_of(three) / "0002").iterdir()) == []
    copied(three, 4)  # a number is not given twice


@pytest.mark.slow
async def test_promote_in_the_chat_obeys_the_gate_unless_forced(
    sandbox: Sandbox, settings: Settings, bot: App, owner_hears: Listener
) -> None:
    world = sandbox.world
    async with Database.open(settings.likeme_home / "history.db") as database, database.transaction():
        await runs.add_version(database, version(1, NOW))
        gate = {"promote": False, "reason": "It recites."}
        await runs.set_evaluation(database, 1, {"gate": gate})
    for text, answer in (
        ("/promote", "Which one?"),
        ("/promote 9", "no version 9"),
        ("/promote 1", "It recites. /promote 1 force"),
        ("/promote 1 force", "Version 1 speaks"),
    ):
        assert answer in (await owner_hears.after(lambda text=text: world.send(OWNER, OWNER, text))).text  # type: ignore[misc]
    assert await serving(settings) == 1
    async with Database.open(settings.likeme_home / "history.db") as database:
        assert [(p.how, p.reason) for p in await runs.promotions(database)] == [("forced", "It recites.")]


def test_the_manifest_tells_json_what_it_was(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "adapter_model.safetensors").write_bytes(b"weights")
    made = adapters.publish(
        tmp_path / "adapters", tmp_path / "files", {"training_file": "file-b", "earlier_files": ["file-a"]}
    )
    assert adapters.training_files(made) == ["file-a", "file-b"]
    assert adapters.size(made) > len(json.dumps(made.manifest))
    adapters.remove(made)
    assert adapters.versions(tmp_path / "adapters") == []
    assert adapters.publish(tmp_path / "adapters", tmp_path / "files", {"training_file": ""}).number == 2
