"""Another engine in the model server's place: it speaks chat/completions, one reply a request, and nothing else."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bot.sandbox.guest import served
from bot.sandbox.server import Sandbox
from bot.settings import Settings
from bot.texts import words
from storage import runs
from storage.database import Database
from tests.bot.conftest import Listener, running
from tests.sandbox_fixtures import OWNER
from tests.voice_fixtures import REPLIES

pytestmark = pytest.mark.slow
VOICE, KEY = "likeme-0001", "a-token-of-its-own"


class Engine:
    """As vLLM and its like stream: a role first, the words, a usage without choices, comments in between."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.refused: list[str] = []

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions"""
        body = await request.json()
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return JSONResponse({"error": {"message": "no such key", "type": "invalid_request_error"}}, 401)
        if body.get("n", 1) != 1 or body["model"] != VOICE or not body.get("stream"):
            return JSONResponse({"error": {"message": "Only one completion choice is allowed"}}, 400)
        self.asked.append(body)
        return StreamingResponse(self._stream(REPLIES[len(self.asked) % 4]), media_type="text/event-stream")

    async def _stream(self, text: str) -> AsyncIterator[str]:
        deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": piece} for piece in ("<think>\n\n</think>\n\n", text[:3], text[3:])]
        for delta in deltas:
            yield self._chunk([{"index": 0, "delta": delta, "finish_reason": None}])
            await asyncio.sleep(0.01)
        yield ": still here\n\n"
        yield self._chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}])
        yield self._chunk([])
        yield "data: [DONE]\n\n"

    def _chunk(self, choices: list[dict[str, Any]]) -> str:
        head = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": VOICE}
        return f"data: {json.dumps({**head, 'choices': choices})}\n\n"

    async def nothing(self, request: Request) -> Response:
        """Every other address"""
        self.refused.append(request.url.path)
        return JSONResponse({"detail": "Not Found"}, 404)


def started(engine: Engine) -> AbstractAsyncContextManager[str]:
    every = ["GET", "POST", "DELETE", "HEAD"]
    chat = Route("/v1/chat/completions", engine.chat, methods=["POST"])
    app = Starlette(routes=[chat, Route("/{path:path}", engine.nothing, methods=every)])
    return served(app)


@pytest_asyncio.fixture
async def engine() -> Engine:
    return Engine()


@pytest_asyncio.fixture
async def model_url(engine: Engine) -> AsyncIterator[str]:
    async with started(engine) as url:
        yield url


@pytest_asyncio.fixture
async def settings(settings: Settings) -> Settings:
    """An exported voice runs elsewhere; the bot knows its name there."""
    return settings.model_copy(update={"model_token": SecretStr(KEY), "model_name": VOICE})


async def note(settings: Settings) -> None:
    async with Database.open(settings.likeme_home / "history.db") as database, database.transaction():
        now = datetime(2026, 1, 1, tzinfo=UTC)
        await runs.add_version(database, runs.Version(1, VOICE, "job", now, "tiny", "", {}))


async def test_an_exported_voice_drafts_from_it(
    sandbox: Sandbox, engine: Engine, settings: Settings, owner_hears: Listener
) -> None:
    world = sandbox.world
    await note(settings)
    async with running(settings):
        shown = await owner_hears.after(lambda: world.send(OWNER, OWNER, "are you coming?"), lambda m: bool(m.buttons))
        assert [button["text"] for button in shown.buttons[0]] == ["1", "2", "3", "again"]
        assert shown.text.endswith(VOICE)
        assert "think" not in shown.text
        assert all(body["messages"][-1]["content"] == "are you coming?" for body in engine.asked)
        assert len(engine.asked[0]["messages"]) <= 2, "a voice that was trained is not told how its owner writes"
        assert engine.asked[0]["chat_template_kwargs"] == {"enable_thinking": False}
        status = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/status"))
        assert VOICE in status.text
    assert set(engine.refused) <= {"/healthz"}


async def test_a_model_that_is_no_voice_of_his_is_told_how_he_writes(
    sandbox: Sandbox, engine: Engine, settings: Settings, owner_hears: Listener
) -> None:
    world = sandbox.world
    async with running(settings):
        await owner_hears.after(lambda: world.send(OWNER, OWNER, "are you coming?"), lambda m: bool(m.buttons))
    assert "Question" in json.dumps(engine.asked[0]["messages"]), "exchanges of the history stand before the message"


async def test_what_it_cannot_do_is_said_in_so_many_words(
    sandbox: Sandbox, settings: Settings, owner_hears: Listener
) -> None:
    world = sandbox.world
    await note(settings)
    says = words("en")["engine_drafts_only"].format(url=settings.model_url)
    async with running(settings):
        failed = await owner_hears.after(
            lambda: world.send(OWNER, OWNER, "/train"), lambda m: "failed" in m.text, edits=True
        )
        assert says in failed.text
        refused = await owner_hears.after(
            lambda: world.send(OWNER, OWNER, "/quiz"), lambda m: "Preparing" not in m.text
        )
        assert refused.text == says
    nameless = settings.model_copy(update={"model_name": ""})
    async with running(nameless):
        told = await owner_hears.after(lambda: world.send(OWNER, OWNER, "are you coming?"))
        assert told.text == words("en")["engine_unnamed"].format(url=settings.model_url)
