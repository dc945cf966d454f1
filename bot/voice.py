"""The model server as the bot sees it: OpenAI's client, our errors."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

import httpx
import httpx2
import openai
from openai import AsyncOpenAI, AsyncStream, omit
from openai.types.chat import ChatCompletionChunk
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

from bot.suitable import Drawn
from bot.texts import say
from storage import runs
from storage.database import Database
from storage.errors import Damaged, ModelAway, ModelError
from training.dataset.sampling import MAX_TOKENS, TEMPERATURE, TOP_P

Event = dict[str, Any]
# How an evaluation draws its drafts: as drafts are drawn.
SAMPLING = {"temperature": TEMPERATURE, "top_p": TOP_P, "max_completion_tokens": MAX_TOKENS}


CONNECT_SECONDS = 10.0
# A link that goes down without a word is noticed within half a minute, however long an answer may take.
_IDLE, _EVERY, _PROBES, _UNANSWERED_MS = 10, 5, 3, 30_000
_KEEPALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", _IDLE), ("TCP_KEEPINTVL", _EVERY), ("TCP_KEEPCNT", _PROBES),
                        ("TCP_USER_TIMEOUT", _UNANSWERED_MS))
    if hasattr(socket, name)
]  # fmt: skip


class Voice:
    """One model server. Every failure is a ModelError of one line.

    `only_model`: the server is another engine with this one model; it answers chat/completions and nothing else.
    `elsewhere`: it works in a home of its own, not in the owner's.
    """

    def __init__(self, url: str, token: str, only_model: str = "", *, elsewhere: bool = False) -> None:
        self.url, self.token, self.only_model = url.rstrip("/"), token, only_model
        self.place = self.url if elsewhere else ""  # where its files lie, as the database notes it
        timeout = httpx2.Timeout(600, connect=CONNECT_SECONDS)
        transport = httpx2.AsyncHTTPTransport(socket_options=_KEEPALIVE)
        self._client = AsyncOpenAI(
            base_url=f"{self.url}/v1",
            api_key=token or "none",
            max_retries=2,
            http_client=httpx2.AsyncClient(timeout=timeout, transport=transport),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def health(self) -> dict[str, Any] | None:
        """The body of /healthz, or None when nothing answers; another engine is well as long as it answers."""
        try:
            async with httpx.AsyncClient(timeout=5) as client:
                answer = await client.get(f"{self.url}/healthz")
                if self.only_model:
                    return {"status": "ok", "base_model": self.only_model, "device": self.url, "training": None}
                return cast(dict[str, Any], answer.json()) if answer.status_code == 200 else None
        except (httpx.HTTPError, ValueError):
            return None

    async def ready(self) -> dict[str, Any]:
        """Wait until the base model is loaded; its health. ModelError when it failed to load."""
        while True:
            health = await self.health()
            if health is None:
                raise ModelAway(say("model_away", url=self.url))
            if health["status"] == "failed":
                raise ModelError(health["error"])
            if health["status"] == "ok":
                return health
            await asyncio.sleep(0.25)

    async def base_model(self) -> str:
        """The name of the stock model."""
        self._must_be_ours()
        found = None
        with self._plainly(), suppress(openai.NotFoundError):
            models = await self._client.models.list()
            found = next((model.id for model in models.data if model.owned_by == "base"), None)
        if found is None:
            raise ModelError(say("engine_unnamed", url=self.url))
        return found

    def _must_be_ours(self) -> None:
        if self.only_model:
            raise ModelError(say("engine_drafts_only", url=self.url))

    async def replies(
        self, model: str, messages: Sequence[dict[str, str]], n: int, seed: int | None = None
    ) -> list[str]:
        """Draw `n` replies; empty ones are dropped, so there can be fewer."""
        return [drawn.text for drawn in await self.draw(model, messages, n, seed) if drawn.text]

    async def draw(
        self,
        model: str,
        messages: Sequence[dict[str, str]],
        n: int,
        seed: int | None = None,
        on_text: Callable[[Sequence[str]], None] | None = None,
    ) -> list[Drawn]:
        """Draw `n` replies as they come. `on_text` gets all of them, as far as they are, whenever one grows."""
        texts, whole = [""] * n, [False] * n
        suits: list[float | None] = [None] * n

        async def fill(first: int, count: int) -> None:
            async for chunk in self._stream(model, messages, count, None if seed is None else seed + first):
                for choice in chunk.choices:
                    texts[first + choice.index] += choice.delta.content or ""
                    whole[first + choice.index] |= choice.finish_reason == "stop"
                    suits[first + choice.index] = (choice.model_extra or {}).get("suits")
                if on_text is not None:
                    on_text(texts)

        # Not every engine knows `n`; those that serve one model take requests side by side.
        parts = [(i, 1) for i in range(n)] if self.only_model else [(0, n)]
        with self._plainly():
            await asyncio.gather(*(fill(first, count) for first, count in parts))
        return [Drawn(text.strip(), end, nats) for text, end, nats in zip(texts, whole, suits, strict=True)]

    async def _stream(
        self, model: str, messages: Sequence[dict[str, str]], n: int, seed: int | None
    ) -> AsyncIterator[ChatCompletionChunk]:
        stream = await self._client.chat.completions.create(
            model=model,
            messages=cast(Any, list(messages)),
            n=n,
            temperature=TEMPERATURE,
            top_p=TOP_P,
            max_tokens=MAX_TOKENS,
            seed=seed,
            stream=True,
            # Ours never thinks aloud; other engines leave it to the model's template.
            extra_body={"chat_template_kwargs": {"enable_thinking": False}} if self.only_model else {"rank": n > 1},
        )
        async for chunk in stream:
            yield chunk

    async def upload(self, content: bytes, name: str) -> str:
        """Send a JSONL file; returns its id."""
        self._must_be_ours()
        with self._plainly():
            return (await self._client.files.create(file=(name, content), purpose="fine-tune")).id

    async def delete_file(self, file_id: str) -> bool:
        """Remove a file for good. False: it was not there."""
        with self._plainly():
            try:
                await self._client.files.delete(file_id)
            except openai.NotFoundError:
                return False
        return True

    async def start_training(
        self,
        *,
        training_file: str,
        validation_file: str | None,
        recipe: str | None,
        data_sha256: str,
        serving: str | None = None,
        evaluation: str = "full",
        start: str | None = None,
        rate: float | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> FineTuningJob:
        """Queue a training job; the new voice is evaluated, and held against `serving`.

        It begins with the server's base model, or goes on from the voice `start`; `rate` multiplies the recipe's
        learning rate; `notes` come back with the job.
        """
        metadata = {"data_sha256": data_sha256, "evaluation": evaluation, "sampling": json.dumps(SAMPLING)}
        metadata |= {name: value for name, value in (("recipe", recipe), ("serving", serving)) if value}
        changed: Any = omit if rate is None else {"learning_rate_multiplier": rate}
        with self._plainly():
            return await self._client.fine_tuning.jobs.create(
                model=start or await self.base_model(),
                training_file=training_file,
                validation_file=validation_file,
                metadata={**metadata, **(notes or {})},
                hyperparameters=changed,
            )

    async def described(self, name: str) -> dict[str, Any]:
        """What the server says of a model whose files it has checked. Damaged where they are not what they were."""
        with self._plainly():
            return (await self._client.models.retrieve(name)).model_dump()

    async def delete(self, name: str) -> None:
        """Remove a voice's files for good; one that is not there any more is no error."""
        with self._plainly(), suppress(openai.NotFoundError):
            await self._client.models.delete(name)

    async def events(self, job_id: str, after: str | None = None) -> AsyncIterator[Event]:
        """The job's events as they come, oldest first, from behind `after`, until it has ended."""
        with self._plainly():
            stream = await self._client.get(
                f"/fine_tuning/jobs/{job_id}/events",
                cast_to=FineTuningJobEvent,
                options={"params": {"stream": "true", **({"after": after} if after else {})}},
                stream=True,
                stream_cls=AsyncStream[FineTuningJobEvent],
            )
            async for event in stream:
                yield event.model_dump()

    async def job(self, job_id: str) -> FineTuningJob:
        """The job as it stands."""
        with self._plainly():
            return await self._client.fine_tuning.jobs.retrieve(job_id)

    async def jobs(self) -> list[FineTuningJob]:
        """Every job, newest first; another engine has none."""
        if self.only_model:
            return []
        with self._plainly():
            return [job async for job in self._client.fine_tuning.jobs.list()]

    async def cancel(self, job_id: str) -> None:
        """Ask a job to stop at its next step."""
        with self._plainly():
            await self._client.fine_tuning.jobs.cancel(job_id)

    async def content(self, file_id: str) -> bytes | None:
        """The bytes of a file on the server; None: it is not there any more."""
        with self._plainly():
            try:
                return (await self._client.files.content(file_id)).content
            except openai.NotFoundError:
                return None

    async def evaluate(
        self,
        model: str,
        file_id: str,
        *,
        serving: str | None,
        audit: bool = False,
        on_part: Callable[[str, float], None] = lambda part, share: None,
    ) -> dict[str, Any]:
        """A voice measured beside the stock model and `serving`; waits until it is done. `audit` trains one more."""
        source: Any = {
            "type": "completions",
            "model": model,
            "source": {"type": "file_id", "id": file_id},
            "sampling_params": SAMPLING,
        }
        metadata = ({"serving": serving} if serving else {}) | ({"audit": "canaries"} if audit else {})
        with self._plainly():
            run: Any = await self._client.evals.runs.create("voice", data_source=source, metadata=metadata or None)
            while run.status == "in_progress":
                await asyncio.sleep(0.3)
                run = await self._client.evals.runs.retrieve(run.id, eval_id="voice")
                on_part(run.part, run.share)
        if run.status != "completed":
            raise ModelError(run.error["message"] if isinstance(run.error, dict) else run.error.message)
        return cast(dict[str, Any], run.result)

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """openai's errors as ours."""
        try:
            yield
        except openai.AuthenticationError as error:
            raise ModelError(say("model_token")) from error
        except openai.APIStatusError as error:
            body = error.body if isinstance(error.body, dict) else {}
            kind = Damaged if body.get("code") in (Damaged.code, "model_not_found") else ModelError
            raise kind(str(body.get("message") or say("model_answered", status=error.status_code))) from error
        except (openai.APIConnectionError, httpx.HTTPError) as error:
            raise ModelAway(say("model_lost", url=self.url, reason=type(error).__name__)) from error
        except openai.APIError as error:  # told in the middle of a stream
            raise (Damaged if error.code == Damaged.code else ModelError)(error.message) from error


async def speaking(database: Database, voice: Voice) -> tuple[str, runs.Version | None]:
    """The model to ask for drafts, and the version behind it (None: stock)."""
    if voice.only_model:  # a voice exported to another engine goes by its own name there
        return voice.only_model, await runs.find_named(database, voice.only_model)
    version = await runs.serving(database)
    return (version.name, version) if version else (await voice.base_model(), None)
