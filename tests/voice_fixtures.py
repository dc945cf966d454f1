"""A model server that says what a test wants it to say, over HTTP and in OpenAI's shapes."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bot.sandbox.guest import served

STOCK = "scripted"


class Script:
    """What is answered: `reply(asked, index)` for the index-th of n; `delay_seconds` before every piece."""

    def __init__(self) -> None:
        self.reply: Callable[[str, int], str] = lambda asked, index: REPLIES[index % len(REPLIES)]
        self.delay_seconds = 0.0
        self.finish_reason = "stop"
        self.suits: Sequence[float] = ()  # of the replies, if they are to be ranked
        self.failing = False
        self.asked: list[list[dict[str, str]]] = []
        self.at_once = 0

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions, streamed in two pieces a reply."""
        body = await request.json()
        self.asked.append(body["messages"])
        if self.failing:
            return JSONResponse({"error": {"message": "The model is away.", "type": "server_error"}}, 400)
        return StreamingResponse(self._chunks(body), media_type="text/event-stream")

    async def _chunks(self, body: dict[str, Any]) -> AsyncIterator[str]:
        self.at_once += 1
        assert self.at_once == 1, "one draft at a time"
        texts = [self.reply(body["messages"][-1]["content"], i) for i in range(body["n"])]
        for piece in (0, 1):
            await asyncio.sleep(self.delay_seconds)
            for i, text in enumerate(texts):
                half = len(text) // 2
                yield _chunk(body["model"], i, {"content": (text[:half], text[half:])[piece]}, None)
        self.at_once -= 1
        for i in range(body["n"]):
            suits = {"suits": self.suits[i]} if body.get("rank") and self.suits else {}
            yield _chunk(body["model"], i, {}, self.finish_reason, **suits)
        yield "data: [DONE]\n\n"


REPLIES: Sequence[str] = (
    "sure, see you there",
    "can't today, tomorrow maybe?",
    "no idea yet, tell you tonight",
    "why not ask Boris first",
)


def scripted_server(script: Script) -> AbstractAsyncContextManager[str]:
    """Its address while the block runs."""

    async def models(_: Request) -> Response:
        stock = {"id": STOCK, "object": "model", "created": 0, "owned_by": "base"}
        return JSONResponse({"object": "list", "data": [stock]})

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "base_model": STOCK, "device": "cpu", "training": None})

    async def jobs(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [], "has_more": False})

    routes = [
        Route("/healthz", health),
        Route("/v1/models", models),
        Route("/v1/fine_tuning/jobs", jobs),
        Route("/v1/chat/completions", script.chat, methods=["POST"]),
    ]
    return served(Starlette(routes=routes))


def _chunk(model: str, index: int, delta: dict[str, str], reason: str | None, **more: float) -> str:
    choice = {"index": index, "delta": delta, "finish_reason": reason, **more}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": model}
    return f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"


@pytest_asyncio.fixture
async def script() -> Script:
    """What the scripted model says; tests change it as they go."""
    return Script()


@pytest_asyncio.fixture
async def scripted_url(script: Script) -> AsyncIterator[str]:
    """A scripted model server."""
    async with scripted_server(script) as url:
        yield url
