"""The card's memory or the disk runs out while the server works: it waits, says so, and loses nothing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio
import torch
from openai import AsyncOpenAI

from storage.errors import OutOfMemory
from tests.model_fixtures import TINY, serve, tiny_base
from tests.small_disk import SmallDisk
from tests.training.test_server import QUESTION, Connect, client, events, examples, start_job, stream
from training import adapters, generate, jobs, serving
from training.engine import checkpoint
from training.engine.step import Eager
from training.serving import Serving
from training.shortage import DISK, GPU

__all__ = ["client"]


class Game:
    """Somebody plays: the card's memory is his while `on`."""

    def __init__(self) -> None:
        self.on = True

    def takes(self) -> None:
        if self.on:
            raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "PAUSES_SECONDS", (0.2,) * 200)
    monkeypatch.setattr(serving, "PAUSES_SECONDS", (0.2,) * 200)


@pytest_asyncio.fixture
async def api(client: Connect, model_url: str) -> AsyncIterator[AsyncOpenAI]:
    yield client(model_url)


async def ask(api: AsyncOpenAI, streamed: bool = False) -> str:
    answer: Any = await api.chat.completions.create(model=TINY, messages=QUESTION, max_tokens=4, stream=streamed)
    if streamed:
        return "".join([chunk.choices[0].delta.content or "" async for chunk in answer])
    return str(answer.choices[0].message.content)


async def told(api: AsyncOpenAI, job_id: str, text: str) -> None:
    """Until the job has said it."""
    async with asyncio.timeout(60):
        async for event in await events(api, job_id):
            if text in event.message:
                return


async def test_a_training_waits_while_somebody_plays_and_then_goes_on(
    api: AsyncOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    game, real = Game(), Eager.add

    def add(self: Eager, prepared: Any) -> torch.Tensor:
        game.takes()
        return real(self, prepared)

    monkeypatch.setattr(Eager, "add", add)
    job = await start_job(api)
    await told(api, job.id, GPU)
    assert await ask(api) is not None, "drafts go on"
    assert (await api.fine_tuning.jobs.retrieve(job.id)).status == "running"
    game.on = False
    said = await stream(api, job.id)
    assert any(event.message.startswith(f"{GPU} The next try is in") for event in said)
    assert (await api.fine_tuning.jobs.retrieve(job.id)).fine_tuned_model == "likeme-0001"


async def test_a_training_that_waits_can_be_cancelled(api: AsyncOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "PAUSES_SECONDS", (600,))
    monkeypatch.setattr(Eager, "add", lambda self, prepared: Game().takes())
    job = await start_job(api)
    await told(api, job.id, GPU)
    await api.fine_tuning.jobs.cancel(job.id)
    await stream(api, job.id)
    assert (await api.fine_tuning.jobs.retrieve(job.id)).status == "cancelled"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_draft_that_does_not_fit_is_told_and_the_next_one_comes(
    api: AsyncOpenAI, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    game, real = Game(), generate._begun

    def begun(*arguments: Any) -> Any:
        game.takes()
        return real(*arguments)

    monkeypatch.setattr(generate, "_begun", begun)
    with pytest.raises(openai.APIError, match="GPU's memory is full"):
        await ask(api, streamed)
    game.on = False
    await ask(api, streamed)


async def test_a_server_that_starts_while_somebody_plays_loads_the_model_afterwards(
    client: Connect, tmp_path: Path, smollm2_tokenizer: Any
) -> None:
    game = Game()

    def load() -> Any:
        try:
            game.takes()
        except torch.OutOfMemoryError as error:
            raise OutOfMemory("The GPU's memory does not hold tiny: close what else uses it.") from error
        return tiny_base(smollm2_tokenizer)

    async with serve(Serving(tmp_path / "home", TINY, loader=load)) as url, httpx.AsyncClient() as http:
        while not (health := (await http.get(f"{url}/healthz")).json()).get("error"):
            await asyncio.sleep(0.02)
        assert (health["status"], "does not hold tiny" in health["error"]) == ("loading", True)
        with pytest.raises(openai.InternalServerError, match="close what else uses it"):
            await ask(client(url))
        game.on = False
        while (await http.get(f"{url}/healthz")).json()["status"] == "loading":
            await asyncio.sleep(0.05)
        await ask(client(url))


async def test_on_a_full_disk_a_training_waits_and_nothing_half_written_serves(
    client: Connect, small_disk: SmallDisk, smollm2_tokenizer: Any
) -> None:
    home = small_disk.path / "home"
    async with serve(Serving(home, TINY, loader=lambda: tiny_base(smollm2_tokenizer))) as url:
        api = client(url)
        job = await start_job(api, n=64, epochs=4)
        async for event in await events(api, job.id):
            if event.data and "train_loss" in event.data:  # type: ignore[operator]
                break
        small_disk.fill()
        await told(api, job.id, DISK)
        assert adapters.versions(home / "adapters") == []
        assert [path.name for path in (home / "adapters").glob("[0-9]*")] == []
        await ask(api)
        with pytest.raises(openai.InternalServerError, match="make room on its disk"):
            await api.files.create(file=("more.jsonl", examples(999)), purpose="fine-tune")
        small_disk.free()
        await stream(api, job.id)
        assert (await api.fine_tuning.jobs.retrieve(job.id)).status == "succeeded"
    [version] = adapters.versions(home / "adapters")
    adapters.verify(version)
    assert (version.path / "evaluation.json").stat().st_size > 0
    assert list(home.rglob(".*")) == [], "no scratch is left"


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(small_disk: SmallDisk) -> None:
    folder = small_disk.path
    checkpoint.save(folder, {"run": "it", "parameters": [torch.ones(1000)]})
    small_disk.fill()
    with pytest.raises((OSError, RuntimeError)):
        checkpoint.save(folder, {"run": "it", "parameters": [torch.zeros(1_000_000)]})
    found = checkpoint.load(folder, "it")
    assert found is not None
    assert found["parameters"][0].sum() == 1000
    assert [path.name for path in folder.glob(".*")] == []
