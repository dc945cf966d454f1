"""The model server over a real socket, driven by the official openai package."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio
import torch
from openai import AsyncOpenAI, AsyncStream
from openai.types.fine_tuning import FineTuningJobEvent

from tests.model_fixtures import TINY, serve, tiny_base
from training import adapters
from training.job_records import TAKEN_UP
from training.serving import Serving

QUESTION: Any = [{"role": "user", "content": "are you coming?"}]


Connect = Callable[..., AsyncOpenAI]


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Connect]:
    """Make clients that are closed at the end."""
    made: list[AsyncOpenAI] = []

    def connect(url: str, token: str = "none") -> AsyncOpenAI:
        made.append(AsyncOpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0))
        return made[-1]

    yield connect
    for one in made:
        await one.close()


def examples(n: int, first: int = 0) -> bytes:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"question {i}?"},
                {"role": "assistant", "content": f"yep yep {i}"},
            ]
        }
        for i in range(first, first + n)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


async def start_job(api: AsyncOpenAI, n: int = 8, epochs: int = 1) -> Any:
    train = await api.files.create(file=("train.jsonl", examples(n)), purpose="fine-tune")
    held_out = await api.files.create(file=("held.jsonl", examples(2, first=500)), purpose="fine-tune")
    return await api.fine_tuning.jobs.create(
        model=TINY,
        training_file=train.id,
        validation_file=held_out.id,
        hyperparameters={"n_epochs": epochs},
        metadata={"recipe": "embedded", "evaluation": "short"},
    )


async def stream(api: AsyncOpenAI, job_id: str) -> list[FineTuningJobEvent]:
    return [event async for event in await events(api, job_id)]


async def events(api: AsyncOpenAI, job_id: str) -> AsyncStream[FineTuningJobEvent]:
    return await api.get(
        f"/fine_tuning/jobs/{job_id}/events",
        cast_to=FineTuningJobEvent,
        options={"params": {"stream": "true"}},
        stream=True,
        stream_cls=AsyncStream[FineTuningJobEvent],
    )


async def greedy(api: AsyncOpenAI, model: str) -> str:
    answer = await api.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=8)
    return answer.choices[0].message.content or ""


async def test_health_names_the_base_model_and_models_lists_it(client: Connect, model_url: str) -> None:
    async with httpx.AsyncClient() as http:
        health = (await http.get(f"{model_url}/healthz")).json()
    assert health["base_model"] == TINY
    models = await client(model_url).models.list()
    assert [(m.id, m.owned_by) for m in models.data] == [(TINY, "base")]


async def test_n_replies_come_with_usage_and_the_same_seed_gives_the_same_words(
    client: Connect, model_url: str
) -> None:
    api = client(model_url)
    answers = [
        await api.chat.completions.create(model=TINY, messages=QUESTION, n=3, max_tokens=6, seed=5) for _ in range(2)
    ]
    assert [len(answer.choices) for answer in answers] == [3, 3]
    texts = [[choice.message.content for choice in answer.choices] for answer in answers]
    assert texts[0] == texts[1]
    assert answers[0].usage is not None
    assert answers[0].usage.completion_tokens == 18
    assert {choice.finish_reason for choice in answers[0].choices} == {"length"}


async def test_a_stream_joins_to_the_whole_answer(client: Connect, model_url: str) -> None:
    api = client(model_url)
    whole = await api.chat.completions.create(model=TINY, messages=QUESTION, temperature=0, max_tokens=12)
    chunks = await api.chat.completions.create(model=TINY, messages=QUESTION, temperature=0, max_tokens=12, stream=True)
    pieces = [chunk.choices[0].delta.content or "" async for chunk in chunks]
    assert "".join(pieces).strip() == whole.choices[0].message.content


async def test_replies_that_are_to_be_ranked_come_with_how_well_they_suit(client: Connect, model_url: str) -> None:
    api = client(model_url)
    how: dict[str, Any] = {"model": TINY, "messages": QUESTION, "n": 2, "max_tokens": 6, "seed": 5}
    whole = await api.chat.completions.create(**how, extra_body={"rank": True})
    told = [(choice.model_extra or {})["suits"] for choice in whole.choices]
    assert told[0] != told[1]
    chunks = await api.chat.completions.create(**how, stream=True, extra_body={"rank": True})
    endings = {
        c.index: (c.model_extra or {})["suits"] async for chunk in chunks for c in chunk.choices if c.finish_reason
    }
    assert [endings[0], endings[1]] == pytest.approx(told)
    plain = await api.chat.completions.create(**how)
    assert not any((choice.model_extra or {}).get("suits") for choice in plain.choices)


async def test_a_stop_string_ends_the_reply_before_it(client: Connect, model_url: str) -> None:
    api = client(model_url)
    whole = await api.chat.completions.create(model=TINY, messages=QUESTION, temperature=0, max_tokens=12)
    text = whole.choices[0].message.content or ""
    stop = text[len(text) // 2 : len(text) // 2 + 3]
    cut = await api.chat.completions.create(model=TINY, messages=QUESTION, temperature=0, max_tokens=12, stop=[stop])
    assert cut.choices[0].finish_reason == "stop"
    assert cut.choices[0].message.content == text[: text.index(stop)].strip()


async def test_a_job_trains_a_voice_that_answers_otherwise_and_leaves_the_base_as_it_was(
    client: Connect, model_url: str, tmp_path: Path
) -> None:
    api = client(model_url)
    before = await greedy(api, TINY)
    job = await start_job(api, n=24, epochs=40)
    during = await greedy(api, TINY)
    events = await stream(api, job.id)
    done = await api.fine_tuning.jobs.retrieve(job.id)
    assert done.status == "succeeded", done.error
    assert done.fine_tuned_model == "likeme-0001"
    assert before == during == await greedy(api, TINY)
    tuned = await greedy(api, "likeme-0001")
    assert tuned != before
    assert await greedy(api, TINY) == before
    assert await greedy(api, "likeme-0001") == tuned
    steps = [event.data["step"] for event in events if isinstance(event.data, dict) and "train_loss" in event.data]
    assert steps == sorted(steps)
    assert steps[-1] == 80
    version = adapters.versions(tmp_path / "home" / "adapters")[0]
    assert version.manifest["metrics"]["valid_loss"] < version.manifest["metrics"]["stock_valid_loss"]
    adapters.verify(version)


async def test_the_voice_that_speaks_is_bit_for_bit_the_same_while_another_is_trained(
    client: Connect, tmp_path: Path, smollm2_tokenizer: Any
) -> None:
    serving = Serving(tmp_path / "home", TINY, loader=lambda: tiny_base(smollm2_tokenizer))
    async with serve(serving) as url:
        api = client(url)
        await stream(api, (await start_job(api, n=16, epochs=4)).id)

        async def drafts() -> list[str | None]:
            answer = await api.chat.completions.create(
                model="likeme-0001", messages=QUESTION, n=3, seed=7, max_tokens=12
            )
            return [choice.message.content for choice in answer.choices]

        def state() -> list[torch.Tensor]:
            base = serving.base()
            return [tensor.clone() for tensor in base.voices["likeme-0001"].state_dict().values()]

        before, kept = await drafts(), state()
        job = await start_job(api, n=64, epochs=200)
        async for event in await events(api, job.id):
            if event.data and event.data.get("step", 0) >= 1:  # type: ignore[attr-defined]
                assert await drafts() == before
            if event.data and event.data.get("step", 0) >= 6:  # type: ignore[attr-defined]
                break
        assert (await api.fine_tuning.jobs.retrieve(job.id)).status == "running"
        assert all(map(torch.equal, state(), kept))
        await api.fine_tuning.jobs.cancel(job.id)
        await stream(api, job.id)
        assert await drafts() == before


async def test_a_job_ends_with_its_evaluation_and_one_can_be_asked_for(client: Connect, model_url: str) -> None:
    api = client(model_url)
    job = await start_job(api, epochs=4)
    told: list[Any] = [event.data for event in await stream(api, job.id) if event.data]
    assert told[-1]["gate"]["promote"]
    assert {event["evaluating"] for event in told if "evaluating" in event} >= {"held-out loss", "general questions"}
    done = await api.fine_tuning.jobs.retrieve(job.id)
    kept = json.loads((await api.files.content(done.result_files[0])).content)
    assert kept["voice"]["examples"] == 2
    assert kept["voice"]["tuned"] < kept["voice"]["stock"]
    held_out = await api.files.create(file=("held.jsonl", examples(3, first=500) + examples(2)), purpose="fine-tune")
    found = (await evaluated(api, "likeme-0001", held_out.id, {"evaluation": "short"})).result
    assert (found["voice"]["examples"], found["voice"]["left_out"]) == (3, 2)
    assert found["serving"] is None
    assert found["sampling"]["temperature"] == 0.3


async def test_a_voice_is_held_against_the_one_that_speaks(client: Connect, model_url: str) -> None:
    api = client(model_url)
    for epochs in (6, 1):
        await stream(api, (await start_job(api, n=16, epochs=epochs)).id)
    held_out = await api.files.create(file=("held.jsonl", examples(8, first=500)), purpose="fine-tune")
    wanted = {"evaluation": "short", "serving": "likeme-0001"}
    found = (await evaluated(api, "likeme-0002", held_out.id, wanted)).result
    assert found["voice"]["over_serving"]["low"] > 0
    assert not found["gate"]["promote"]
    assert "worse than likeme-0001" in found["gate"]["reason"]
    refused = await evaluated(api, TINY, held_out.id, wanted)
    assert refused.status == "failed"
    assert "stock model itself" in refused.error.message if hasattr(refused.error, "message") else refused.error


async def evaluated(api: AsyncOpenAI, model: str, file_id: str, metadata: dict[str, str]) -> Any:
    source: Any = {
        "type": "completions",
        "model": model,
        "source": {"type": "file_id", "id": file_id},
        "sampling_params": {"temperature": 0.3},
    }
    run: Any = await api.evals.runs.create("voice", data_source=source, metadata=metadata)
    while run.status == "in_progress":
        await asyncio.sleep(0.05)
        run = await api.evals.runs.retrieve(run.id, eval_id="voice")
    return run


async def test_a_running_job_is_cancelled_and_publishes_nothing(
    client: Connect, model_url: str, tmp_path: Path
) -> None:
    api = client(model_url)
    before = await greedy(api, TINY)
    job = await start_job(api, n=64, epochs=200)
    while (await api.fine_tuning.jobs.retrieve(job.id)).status != "running":
        await asyncio.sleep(0.02)
    await api.fine_tuning.jobs.cancel(job.id)
    await stream(api, job.id)
    assert (await api.fine_tuning.jobs.retrieve(job.id)).status == "cancelled"
    assert adapters.versions(tmp_path / "home" / "adapters") == []
    assert await greedy(api, TINY) == before


async def test_a_job_cancelled_in_its_evaluation_leaves_no_voice(client: Connect, model_url: str) -> None:
    api = client(model_url)
    job = await start_job(api, epochs=1)
    async for event in await events(api, job.id):
        if event.data and "evaluating" in event.data:  # type: ignore[operator]
            await api.fine_tuning.jobs.cancel(job.id)
            break
    assert (await stream(api, job.id))[-1].message == "Cancelled during the evaluation; nothing was published."
    ended = await api.fine_tuning.jobs.retrieve(job.id)
    assert (ended.status, ended.fine_tuned_model) == ("cancelled", None)
    assert [model.id async for model in api.models.list() if model.id.startswith("likeme-")] == []


async def test_a_queued_job_waits_and_can_be_cancelled(client: Connect, model_url: str) -> None:
    api = client(model_url)
    first = await start_job(api, n=64, epochs=200)
    second = await start_job(api)
    assert (await api.fine_tuning.jobs.cancel(second.id)).status == "cancelled"
    await api.fine_tuning.jobs.cancel(first.id)
    await stream(api, first.id)


async def test_refusals_have_openai_s_shape_and_say_what_to_do(client: Connect, model_url: str) -> None:
    api = client(model_url)
    with pytest.raises(openai.NotFoundError, match="no model 'nobody'"):
        await greedy(api, "nobody")
    with pytest.raises(openai.BadRequestError, match="Line 2"):
        await api.files.create(file=("bad.jsonl", examples(1) + b'{"messages": 3}\n'), purpose="fine-tune")
    file = await api.files.create(file=("train.jsonl", examples(1)), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match="no recipe 'magic'"):
        await api.fine_tuning.jobs.create(model=TINY, training_file=file.id, metadata={"recipe": "magic"})
    with pytest.raises(openai.BadRequestError, match="no file 'file-x'"):
        await api.fine_tuning.jobs.create(model=TINY, training_file="file-x")
    with pytest.raises(openai.BadRequestError, match="This server trains tiny"):
        await api.fine_tuning.jobs.create(model="other", training_file=file.id)
    with pytest.raises(openai.NotFoundError):
        await api.fine_tuning.jobs.retrieve("ftjob-none")
    with pytest.raises(openai.NotFoundError):
        await api.files.retrieve("..%2F..%2Fetc%2Fpasswd")


async def test_the_same_upload_is_one_file(client: Connect, model_url: str) -> None:
    api = client(model_url)
    ids = {(await api.files.create(file=("a.jsonl", examples(2)), purpose="fine-tune")).id for _ in range(2)}
    assert len(ids) == 1
    assert (await api.files.content(ids.copy().pop())).content == examples(2)


async def test_a_token_is_asked_of_everything_but_health(
    client: Connect, tmp_path: Path, smollm2_tokenizer: Any
) -> None:
    serving = Serving(tmp_path / "home", TINY, loader=lambda: tiny_base(smollm2_tokenizer))
    async with serve(serving, token="secret") as url:
        with pytest.raises(openai.AuthenticationError):
            await client(url, "wrong").models.list()
        assert (await client(url, "secret").models.list()).data
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"{url}/healthz")).status_code == 200


async def test_without_a_token_it_answers_to_loopback_names_alone(model_url: str) -> None:
    async with httpx.AsyncClient() as http:
        rebound = await http.get(f"{model_url}/v1/models", headers={"Host": "evil.example:80"})
        assert rebound.status_code == 403
        assert "MODEL_TOKEN" in rebound.json()["error"]["message"]
        for name in ("localhost:1", "[::1]:1"):
            assert (await http.get(f"{model_url}/v1/models", headers={"Host": name})).status_code == 200


async def test_a_restart_finds_voices_and_takes_up_the_job_it_was_stopped_in(
    client: Connect, tmp_path: Path, smollm2_tokenizer: Any
) -> None:
    home = tmp_path / "home"

    def serving() -> Serving:
        return Serving(home, TINY, loader=lambda: tiny_base(smollm2_tokenizer))

    async with serve(serving()) as url:
        api = client(url)
        whole = await start_job(api, n=96, epochs=6)
        await stream(api, whole.id)
        tuned = await greedy(api, "likeme-0001")
        job = await start_job(api, n=96, epochs=6)
        async for event in await events(api, job.id):
            if event.data and event.data.get("step", 0) >= 3:  # type: ignore[attr-defined]
                break
    assert (home / "runs" / job.id / "checkpoint.pt").is_file()
    async with serve(serving()) as url:
        api = client(url)
        assert await greedy(api, "likeme-0001") == tuned
        await stream(api, job.id)
        assert (await api.fine_tuning.jobs.retrieve(job.id)).fine_tuned_model == "likeme-0002"
    told = [json.loads(line) for line in (home / "runs" / job.id / "events.jsonl").read_text().splitlines()]
    trained = [event["data"]["step"] for event in told if "train_loss" in event["data"]]
    assert trained == list(range(1, len(trained) + 1)), "no step is left out or done twice"
    first, second = (home / "adapters" / n / "adapter_model.safetensors" for n in ("0001", "0002"))
    assert first.read_bytes() == second.read_bytes(), "stopped and taken up is bit for bit the same"
    assert not (home / "runs" / job.id / "checkpoint.pt").exists()


def killed_three_times(run: Path) -> None:
    """A run's records as a server leaves them that was taken up, and died of it, three times."""
    killed = json.loads((run / "job.json").read_text())
    killed |= {"status": "running", "fine_tuned_model": None, "result_files": []}
    (run / "job.json").write_text(json.dumps(killed))
    told = [{"id": str(n), "level": "info", "message": TAKEN_UP, "data": {}} for n in range(3)]
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in told))


async def test_a_job_that_kills_the_server_again_and_again_is_given_up(
    client: Connect, tmp_path: Path, smollm2_tokenizer: Any
) -> None:
    home = tmp_path / "home"
    async with serve(Serving(home, TINY, loader=lambda: tiny_base(smollm2_tokenizer))) as url:
        job = await start_job(client(url))
        await stream(client(url), job.id)
    folder = home / "runs" / job.id
    shutil.rmtree(home / "adapters")  # it never got as far as a voice
    killed_three_times(folder)
    async with serve(Serving(home, TINY, loader=lambda: tiny_base(smollm2_tokenizer))) as url:
        given_up = await client(url).fine_tuning.jobs.retrieve(job.id)
        assert given_up.status == "failed"
        assert given_up.error is not None
        assert "died 3 times" in given_up.error.message


async def test_a_voice_whose_evaluation_kills_the_server_stays_and_the_reason_is_told(
    client: Connect, tmp_path: Path, smollm2_tokenizer: Any
) -> None:
    home = tmp_path / "home"
    async with serve(Serving(home, TINY, loader=lambda: tiny_base(smollm2_tokenizer))) as url:
        job = await start_job(client(url))
        await stream(client(url), job.id)
    folder = home / "runs" / job.id
    killed_three_times(folder)
    async with serve(Serving(home, TINY, loader=lambda: tiny_base(smollm2_tokenizer))) as url:
        kept = await client(url).fine_tuning.jobs.retrieve(job.id)
        assert (kept.status, kept.fine_tuned_model, kept.result_files) == ("succeeded", "likeme-0001", [])
        told = json.loads((folder / "events.jsonl").read_text().splitlines()[3])["data"]
        assert told == {"not_evaluated": "the server died of it, see the log"}


async def test_a_job_goes_on_from_a_voice_at_another_rate_and_a_voice_can_be_deleted(
    client: Connect, model_url: str, tmp_path: Path
) -> None:
    api = client(model_url)
    await stream(api, (await start_job(api, n=16, epochs=4)).id)
    more = await api.files.create(file=("more.jsonl", examples(8, first=100)), purpose="fine-tune")
    held_out = await api.files.create(file=("held.jsonl", examples(2, first=500)), purpose="fine-tune")
    job = await api.fine_tuning.jobs.create(
        model="likeme-0001",
        training_file=more.id,
        validation_file=held_out.id,
        hyperparameters={"learning_rate_multiplier": 0.5},
        metadata={"evaluation": "short", "serving": "likeme-0001"},
    )
    told: list[Any] = [event.data for event in await stream(api, job.id) if event.data]
    assert (await api.fine_tuning.jobs.retrieve(job.id)).fine_tuned_model == "likeme-0002"
    assert "seconds" in told[-1] and "dollars" in told[-1]
    first, second = (version.manifest for version in adapters.versions(tmp_path / "home" / "adapters"))
    assert (first["started_from"], second["started_from"]) == (None, "likeme-0001")
    assert second["recipe"]["learning_rate"] == first["recipe"]["learning_rate"] / 2
    assert second["recipe"]["name"] == "embedded", "the voice's own recipe"
    assert second["earlier_files"] == [first["training_file"]]
    assert second["metrics"]["valid_loss"] < first["metrics"]["stock_valid_loss"]
    await api.models.delete("likeme-0001")
    assert [model.id for model in (await api.models.list()).data] == [TINY, "likeme-0002"]
    for gone in (api.models.retrieve("likeme-0001"), greedy(api, "likeme-0001")):
        with pytest.raises(openai.NotFoundError):
            await gone
    with pytest.raises(openai.BadRequestError, match="base model"):
        await api.models.delete(TINY)


async def test_a_damaged_voice_is_refused_and_the_server_lives_on(
    client: Connect, tmp_path: Path, smollm2_tokenizer: Any
) -> None:
    home = tmp_path / "home"
    async with serve(Serving(home, TINY, loader=lambda: tiny_base(smollm2_tokenizer))) as url:
        api = client(url)
        await stream(api, (await start_job(api)).id)
    weights = home / "adapters" / "0001" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8] + b"\0" * 8)
    async with serve(Serving(home, TINY, loader=lambda: tiny_base(smollm2_tokenizer))) as url:
        api = client(url)
        for asked in (greedy(api, "likeme-0001"), api.models.retrieve("likeme-0001")):
            with pytest.raises(openai.InternalServerError, match="damaged"):
                await asked
        answer = await api.chat.completions.create(model=TINY, messages=QUESTION, max_tokens=2)
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 2


async def test_a_model_that_can_t_be_loaded_is_told_by_health_and_by_requests(client: Connect, tmp_path: Path) -> None:
    serving = Serving(tmp_path / "home", str(tmp_path / "no-such-model"))
    async with serve(serving) as url:
        async with httpx.AsyncClient() as http:
            while (health := (await http.get(f"{url}/healthz")).json())["status"] == "loading":
                await asyncio.sleep(0.02)
        assert health["status"] == "failed"
        assert "BASE_MODEL" in health["error"]
        with pytest.raises(openai.InternalServerError, match="BASE_MODEL"):
            await greedy(client(url), str(tmp_path / "no-such-model"))
