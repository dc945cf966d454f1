"""The model server as a real process: killed, stopped, and several of it together."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from openai import AsyncOpenAI
from safetensors.torch import load_file

from training import adapters

EPOCHS, EXAMPLES = 6, 96  # 36 steps


def jsonl(n: int) -> bytes:
    rows = [
        [{"role": "user", "content": f"question {i}?"}, {"role": "assistant", "content": f"yep {'yep ' * (i % 5)}{i}"}]
        for i in range(n)
    ]
    return "".join(json.dumps({"messages": row}) + "\n" for row in rows).encode()


class Server:
    """`python -m training` on a home, by hand."""

    def __init__(self, home: Path, model: Path, launcher: Sequence[str] = ()) -> None:
        self.home, self._model = home, model
        environment = {**os.environ, "BASE_MODEL": str(model), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        self.process = subprocess.Popen(
            [sys.executable, *launcher, "-m", "training", "--home", str(home), "--port", "0"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    async def api(self) -> AsyncOpenAI:
        """A client, once it listens."""
        while not (noted := self._noted()):
            assert self.process.poll() is None, "the server did not start"
            await asyncio.sleep(0.1)
        return AsyncOpenAI(base_url=f"{noted['url']}/v1", api_key="none", max_retries=0)

    def _noted(self) -> dict[str, Any]:
        """serve.json of this process or of one it started; {} before."""
        try:
            noted: dict[str, Any] = json.loads((self.home / "serve.json").read_text())
            return noted if noted["pid"] in [process.pid for process in self._processes()] else {}
        except (OSError, ValueError):
            return {}

    def _processes(self) -> list[psutil.Process]:
        """It and those it started: torchrun gives each a session of its own."""
        try:
            itself = psutil.Process(self.process.pid)
            return [itself, *itself.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """All of it, whatever it does."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    async def end(self, number: int) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return await asyncio.wait_for(asyncio.to_thread(self.process.wait), 60)

    async def start_job(self) -> str:
        async with await self.api() as api:
            train = await api.files.create(file=("train.jsonl", jsonl(EXAMPLES)), purpose="fine-tune")
            held_out = await api.files.create(file=("held.jsonl", jsonl(3)), purpose="fine-tune")
            job = await api.fine_tuning.jobs.create(
                model=str(self._model),
                training_file=train.id,
                validation_file=held_out.id,
                hyperparameters={"n_epochs": EPOCHS},
                metadata={"recipe": "embedded"},
            )
        return job.id

    async def finished(self, job_id: str) -> Any:
        """The job, when it has ended."""
        async with await self.api() as api:
            while True:
                job = await api.fine_tuning.jobs.retrieve(job_id)
                if job.status in ("succeeded", "failed", "cancelled"):
                    return job
                await asyncio.sleep(0.1)

    def steps(self, job_id: str) -> list[int]:
        """The steps that were told of."""
        path = self.home / "runs" / job_id / "events.jsonl"
        told = []
        for line in path.read_text().splitlines() if path.is_file() else []:
            try:
                data = json.loads(line)["data"]
            except ValueError:
                continue
            if "train_loss" in data:
                told.append(data["step"])
        return told

    async def reached(self, job_id: str, step: int) -> None:
        while not self.steps(job_id) or self.steps(job_id)[-1] < step:
            assert self.process.poll() is None
            await asyncio.sleep(0.02)


@asynccontextmanager
async def server(home: Path, model: Path, launcher: Sequence[str] = ()) -> AsyncIterator[Server]:
    started = Server(home, model, launcher)
    try:
        yield started
    finally:
        started.kill()


async def whole(home: Path, model: Path, launcher: Sequence[str] = ()) -> Path:
    """The adapter of an undisturbed job; the server is ended politely."""
    async with server(home, model, launcher) as undisturbed:
        job = await undisturbed.finished(await undisturbed.start_job())
        assert job.status == "succeeded", job.error
        await undisturbed.end(signal.SIGTERM)
    return home / "adapters" / "0001" / "adapter_model.safetensors"


def same(one: Path, other: Path) -> bool:
    """Bit for bit."""
    return one.read_bytes() == other.read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    return asyncio.run(whole(tmp_path_factory.mktemp("undisturbed"), tiny_folder))


@pytest.mark.slow
@pytest.mark.xdist_group("processes")
async def test_a_job_killed_three_times_gives_the_undisturbed_voice_bit_for_bit(
    tmp_path: Path, tiny_folder: Path, undisturbed: Path
) -> None:
    draw = random.Random(4)
    job_id = ""
    for at in sorted(draw.sample(range(2, 34), 3)):
        async with server(tmp_path, tiny_folder) as killed:
            job_id = job_id or await killed.start_job()
            await killed.reached(job_id, at)
            await killed.end(signal.SIGKILL)
    async with server(tmp_path, tiny_folder) as last:
        job = await last.finished(job_id)
        assert job.status == "succeeded", job.error
        assert sorted(set(last.steps(job_id))) == list(range(1, last.steps(job_id)[-1] + 1))
    adapter = tmp_path / "adapters" / "0001"
    assert same(adapter / "adapter_model.safetensors", undisturbed)
    assert [version.name for version in adapters.versions(tmp_path / "adapters")] == ["likeme-0001"]


@pytest.mark.slow
@pytest.mark.xdist_group("processes")
async def test_sigterm_saves_the_run_and_ends_the_server(tmp_path: Path, tiny_folder: Path, undisturbed: Path) -> None:
    async with server(tmp_path, tiny_folder) as stopped:
        job_id = await stopped.start_job()
        await stopped.reached(job_id, 5)
        await stopped.end(signal.SIGTERM)
        done = stopped.steps(job_id)
    assert done == list(range(1, len(done) + 1))
    assert (tmp_path / "runs" / job_id / "checkpoint.pt").is_file()
    async with server(tmp_path, tiny_folder) as again:
        assert (await again.finished(job_id)).status == "succeeded"
        assert again.steps(job_id) == list(range(1, len(again.steps(job_id)) + 1)), "no step is done twice"
    adapter = tmp_path / "adapters" / "0001" / "adapter_model.safetensors"
    assert same(adapter, undisturbed)


@pytest.mark.slow
@pytest.mark.xdist_group("processes")
async def test_two_processes_under_torchrun_train_the_voice_that_one_trains(
    tmp_path: Path, tiny_folder: Path, undisturbed: Path
) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    adapter = await whole(tmp_path, tiny_folder, torchrun)
    together, alone = load_file(adapter), load_file(undisturbed)
    assert together.keys() == alone.keys()
    apart = sum(float((together[name] - alone[name]).square().sum()) for name in alone) ** 0.5
    size = sum(float(alone[name].square().sum()) for name in alone) ** 0.5
    assert apart < 1e-2 * size, "the same steps, summed in another order"
    assert apart > 0, "two processes were asked for"


@pytest.mark.slow
@pytest.mark.xdist_group("processes")
async def test_a_second_server_for_a_home_is_refused(tmp_path: Path, tiny_folder: Path) -> None:
    async with server(tmp_path, tiny_folder) as first:
        async with await first.api() as api:
            assert (await api.models.list()).data
        second = Server(tmp_path, tiny_folder)
        assert await asyncio.to_thread(second.process.wait) == 2
        async with await first.api() as api:
            with pytest.raises(openai.NotFoundError):
                await api.fine_tuning.jobs.retrieve("ftjob-none")
