"""The Bot API on loopback: /bot<token>/<method>, /file/bot<token>/<path>, long polling included; and the page.

async with Sandbox.start(world) as sandbox:
    Application.builder().base_url(sandbox.url + "/bot").base_file_url(sandbox.url + "/file/bot")
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bot.sandbox import wire
from bot.sandbox.botapi import BotApi, Faults, Refusal
from bot.sandbox.guest import address, listening, served
from bot.sandbox.page.routes import Page
from bot.sandbox.things import Event, User
from bot.sandbox.world import World

Exchange = Callable[[str, dict[str, Any], dict[str, Any]], None]  # (method, parameters, whole answer)


class _Updates:
    """A bot's queue: kept until the next getUpdates confirms it."""

    def __init__(self, world: World, bot: User) -> None:
        self._world, self._bot = world, bot
        self._pending: dict[int, dict[str, Any]] = {}
        self._next = 1
        self._arrived = asyncio.Condition()
        self._reader: object | None = None
        self._closing = False
        world.observe(self._take)

    def _take(self, event: Event) -> None:
        body = wire.update(self._world, self._bot, event)
        if body is not None:
            self._pending[self._next] = {"update_id": self._next, **body}
            self._next += 1
            task = asyncio.get_running_loop().create_task(self._wake())
            self._waking = task  # the loop itself keeps only a weak reference

    async def _wake(self) -> None:
        async with self._arrived:
            self._arrived.notify_all()

    async def get(self, p: dict[str, Any]) -> list[dict[str, Any]]:
        """getUpdates; a later call ends an earlier one that still waits with 409."""
        if (offset := int(p.get("offset", 0))) > 0:
            self._pending = {number: body for number, body in self._pending.items() if number >= offset}
        me = self._reader = object()
        await self._wake()
        allowed = p.get("allowed_updates") or []
        try:
            async with asyncio.timeout(float(p.get("timeout", 0))), self._arrived:
                await self._arrived.wait_for(lambda: self._closing or self._reader is not me or self._wanted(allowed))
        except TimeoutError:
            pass
        if self._reader is not me:
            raise Refusal(409, "Conflict: terminated by other getUpdates request; make sure that only one bot "
                               "instance is running")  # fmt: skip
        return self._wanted(allowed)[: int(p.get("limit", 100))]

    async def close(self) -> None:
        """Let whoever waits go, with what there is."""
        self._closing = True
        await self._wake()

    def _wanted(self, allowed: list[str]) -> list[dict[str, Any]]:
        return [body for body in self._pending.values() if not allowed or not allowed_out(body, allowed)]


def allowed_out(body: dict[str, Any], allowed: list[str]) -> bool:
    """Whether an update is of none of the allowed types."""
    return not any(name in body for name in allowed)


class Sandbox:
    """The running server. Use `Sandbox.start`."""

    def __init__(self, world: World, url: str, on_exchange: Exchange | None) -> None:
        self.world = world
        self.url = url
        self.faults = Faults()
        self.page = Page(world, url)
        self._on_exchange = on_exchange
        self._apis = {token: BotApi(world, bot) for token, bot in world.bots.items()}
        self._updates = {token: _Updates(world, bot) for token, bot in world.bots.items()}

    @classmethod
    @asynccontextmanager
    async def start(cls, world: World, port: int = 0, on_exchange: Exchange | None = None) -> AsyncIterator["Sandbox"]:
        """Serve `world` on a loopback port (0: any free one) while the block runs."""
        listener = listening(port)
        sandbox = cls(world, address(listener), on_exchange)
        routes = [
            Route("/bot{token}/{method}", sandbox._method, methods=["GET", "POST"]),
            Route("/file/bot{token}/{path:path}", sandbox._file),
            *sandbox.page.routes(),
        ]
        async with served(Starlette(routes=routes), listener):
            try:
                yield sandbox
            finally:  # or the server would wait for those who wait for it
                sandbox.page.close()
                for updates in sandbox._updates.values():
                    await updates.close()

    async def _method(self, request: Request) -> Response:
        token, method = request.path_params["token"], request.path_params["method"]
        parameters = await _parameters(request)
        try:
            if token not in self._apis:
                raise Refusal(401, "Unauthorized")
            self.faults.check(method)
            if method.lower() == "getupdates":
                result: Any = await self._updates[token].get(parameters)
            else:
                result = self._apis[token].call(method, parameters)
            status, answer = 200, {"ok": True, "result": result}
        except Refusal as refusal:
            status = refusal.code
            answer = {"ok": False, "error_code": refusal.code, "description": refusal.description}
            if refusal.retry_after is not None:
                answer["parameters"] = {"retry_after": refusal.retry_after}
        if self._on_exchange is not None:
            self._on_exchange(method, parameters, answer)
        return JSONResponse(answer, status_code=status)

    async def _file(self, request: Request) -> Response:
        photo = self.world.photos.get(request.path_params["path"].removeprefix("photos/"))
        if request.path_params["token"] not in self._apis or photo is None:
            return JSONResponse({"ok": False, "error_code": 404, "description": "Not Found"}, status_code=404)
        return Response(photo.content, media_type="application/octet-stream")


async def _parameters(request: Request) -> dict[str, Any]:
    """JSON, form or multipart: values that are JSON are read as such, files come as (name, bytes)."""
    if request.headers.get("content-type", "").startswith("application/json"):
        return dict(await request.json())
    raw: dict[str, Any] = dict(request.query_params)
    files: dict[str, tuple[str, bytes]] = {}
    async with request.form() as form:
        for name, value in form.items():
            if isinstance(value, UploadFile):
                files[name] = (value.filename or name, await value.read())
            else:
                raw[name] = value
    parameters = {name: _value(name, value) for name, value in raw.items()}
    for name, value in parameters.items():
        if isinstance(value, str) and value.startswith("attach://"):
            parameters[name] = files.pop(value.removeprefix("attach://"))
    return {**parameters, **files}


_TEXTS = {
    "business_connection_id",
    "text",
    "caption",
    "question",
    "explanation",
    "callback_query_id",
    "file_id",
    "parse_mode",
    "type",
    "description",
}


def _value(name: str, value: str) -> Any:
    if name in _TEXTS:
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
