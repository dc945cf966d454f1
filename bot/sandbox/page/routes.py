"""HTTP of the page: /page/KEY/ …

Whoever reaches it acts as anybody in the world, so: the address holds a key, other web sites can neither frame it
nor read it nor send to it (Host, Origin and Sec-Fetch-Site are checked), and it loads nothing from elsewhere.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bot.sandbox.page import view
from bot.sandbox.page.acts import Refused, act
from bot.sandbox.things import Event
from bot.sandbox.world import World

BODY_BYTES = 64 * 1024
BEAT_SECONDS = 15.0  # a line that goes nowhere is noticed by writing to it
AGAIN_MS = 1000  # until a page whose stream broke off asks again
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Handler = Callable[[Request], Awaitable[Response]]


class Page:
    """The page of one world."""

    def __init__(self, world: World, server: str) -> None:
        """`server`: http://127.0.0.1:port"""
        self._world = world
        self.acted: set[int] = set()  # people for whom somebody has acted
        self._key = secrets.token_urlsafe(12)
        port = urlsplit(server).port
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._closing = asyncio.Event()
        self.url = f"{server}/page/{self._key}/"

    def routes(self) -> list[Route]:
        """What the server answers."""
        return [
            Route("/page/{key}/events", self._guarded(self._events)),
            Route("/page/{key}/act", self._guarded(self._act), methods=["POST"]),
            Route("/page/{key}/photo/{photo}", self._guarded(self._photo)),
            Route("/page/{key}/{name:path}", self._guarded(self._static)),
        ]

    def close(self) -> None:
        """End all streams."""
        self._closing.set()

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            if not secrets.compare_digest(request.path_params["key"].encode(), self._key.encode()):
                response: Response = JSONResponse({"error": "Not found"}, 404)
            elif not self._is_from_here(request):
                response = JSONResponse({"error": "Only the page itself may ask this."}, 403)
            else:
                response = await handler(request)
            response.headers.update(HEADERS)
            return response

        return guarded

    def _is_from_here(self, request: Request) -> bool:
        """Not by another web site, not under another name of this machine (DNS rebinding)."""
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if host not in self._hosts or (origin is not None and origin != f"http://{host}"):
            return False
        if request.method == "POST":
            return origin is not None and request.headers.get("content-type") == "application/json"
        site = request.headers.get("sec-fetch-site", "none")
        return site in ("none", "same-origin") or request.headers.get("sec-fetch-dest") == "document"

    async def _static(self, request: Request) -> Response:
        name = request.path_params["name"] or "index.html"
        known = {entry.name: entry for entry in files("bot.sandbox.page").joinpath("static").iterdir()}
        if name not in known:
            return JSONResponse({"error": "Not found"}, 404)
        return Response(known[name].read_bytes(), media_type=KINDS[name[name.rindex(".") :]])

    async def _photo(self, request: Request) -> Response:
        photo = self._world.photos.get(request.path_params["photo"])
        if photo is None or not photo.content.startswith(b"\x89PNG"):
            return JSONResponse({"error": "Not found"}, 404)
        return Response(photo.content, media_type="image/png")

    async def _act(self, request: Request) -> Response:
        raw = await request.body()
        try:
            body: Any = json.loads(raw) if len(raw) <= BODY_BYTES else None
            if not isinstance(body, dict):
                raise Refused("That is nothing a page would send.")
            person = act(self._world, body)
            if body["do"] not in ("type", "draft"):
                self.acted.add(person)
        except ValueError:
            return JSONResponse({"error": "That is no JSON."}, 400)
        except Refused as refused:
            return JSONResponse({"error": str(refused)}, 400)
        return JSONResponse({"ok": True})

    async def _events(self, request: Request) -> Response:
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _stream(self) -> AsyncIterator[str]:
        """First the whole world, then what happens in it; a page that was away begins anew."""
        tapped: dict[str, int] = {}
        async with self._world.events() as events:
            yield f"retry: {AGAIN_MS}\n"
            yield _line(view.whole(self._world))
            while not self._closing.is_set():
                event = await self._next(events)
                told = None if event is None else view.told(self._world, event, tapped)
                if told is not None:
                    yield _line(told)
                elif event is None:
                    yield ":\n\n"

    async def _next(self, events: "asyncio.Queue[Event]") -> Event | None:
        """What happens next; None after a while of nothing, and when the page closes."""
        getting, closing = asyncio.ensure_future(events.get()), asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait((getting, closing), timeout=BEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            return getting.result() if getting.done() else None
        finally:
            getting.cancel()
            closing.cancel()


def _line(told: view.Told) -> str:
    return f"data: {json.dumps(told, ensure_ascii=False, separators=(',', ':'))}\n\n"
