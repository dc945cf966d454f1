"""Chat completions in OpenAI's shapes, whole and streamed."""

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from storage.errors import LikemeError
from training.dataset.sampling import MAX_TOKENS
from training.generate import Answer, Completion, Sampling
from training.protocol import ChatRequest
from training.serving import Serving

FLUSH_SECONDS = 0.05

log = logging.getLogger(__name__)


async def completion(serving: Serving, request: ChatRequest) -> dict[str, Any]:
    """The answer to a request that does not stream."""
    messages = [message.plain() for message in request.messages]
    answer = await asyncio.to_thread(serving.chat, request.model, messages, sampling(request))
    return {
        **_head(request, "chat.completion"),
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": drawn.text},
                "finish_reason": drawn.finish_reason,
                "logprobs": None,
                **_suits(drawn),
            }
            for index, drawn in enumerate(answer.completions)
        ],
        "usage": _usage(answer),
    }


async def completion_stream(serving: Serving, request: ChatRequest) -> AsyncIterator[str]:
    """Server-sent chunks while the replies grow, then [DONE]."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[tuple[int, str] | None] = asyncio.Queue()
    head = _head(request, "chat.completion.chunk")

    def on_text(index: int, text: str) -> None:
        loop.call_soon_threadsafe(pieces.put_nowait, (index, text))

    def draw() -> Answer:
        try:
            messages = [message.plain() for message in request.messages]
            return serving.chat(request.model, messages, sampling(request), on_text)
        finally:
            loop.call_soon_threadsafe(pieces.put_nowait, None)

    drawing = asyncio.create_task(asyncio.to_thread(draw))
    for index in range(request.n):
        yield _chunk(head, index, {"role": "assistant", "content": ""})
    more = True
    while more:
        grown, more = await _grown(pieces)
        for index, text in grown.items():
            yield _chunk(head, index, {"content": text})
    try:
        answer = await drawing
    except Exception as error:
        if not isinstance(error, LikemeError):
            log.exception("a draft failed")
        ours = error if isinstance(error, LikemeError) else LikemeError(f"Drafting failed ({type(error).__name__}).")
        yield f"data: {json.dumps({'error': {'message': str(ours), 'type': 'server_error', 'code': ours.code}})}\n\n"
        return
    for index, drawn in enumerate(answer.completions):
        yield _chunk(head, index, {}, finish_reason=drawn.finish_reason, **_suits(drawn))
    if request.stream_options and request.stream_options.include_usage:
        yield f"data: {json.dumps({**head, 'choices': [], 'usage': _usage(answer)})}\n\n"
    yield "data: [DONE]\n\n"


async def _grown(pieces: "asyncio.Queue[tuple[int, str] | None]") -> tuple[dict[int, str], bool]:
    """What has come since, by index, and whether more is to come: a chunk a token would cost more than the token."""
    grown: dict[int, str] = {}
    piece = await pieces.get()
    if piece is not None:
        await asyncio.sleep(FLUSH_SECONDS)
    while piece is not None:
        grown[piece[0]] = grown.get(piece[0], "") + piece[1]
        if pieces.empty():
            return grown, True
        piece = pieces.get_nowait()
    return grown, False


def sampling(request: ChatRequest) -> Sampling:
    """The request's settings as the decoder takes them."""
    stop = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    return Sampling(
        n=request.n,
        temperature=request.temperature,
        top_p=request.top_p,
        max_tokens=request.max_completion_tokens or request.max_tokens or MAX_TOKENS,
        stop=stop,
        seed=request.seed,
        rank=request.rank,
    )


def _head(request: ChatRequest, kind: str) -> dict[str, Any]:
    name = f"chatcmpl-{secrets.token_hex(12)}"
    return {"id": name, "object": kind, "created": int(time.time()), "model": request.model}


def _chunk(head: dict[str, Any], index: int, delta: dict[str, str], **ending: Any) -> str:
    choice = {"index": index, "delta": delta, "finish_reason": None, **ending}
    return f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"


def _suits(drawn: Completion) -> dict[str, float]:
    return {} if drawn.suits is None else {"suits": drawn.suits}


def _usage(answer: Answer) -> dict[str, int]:
    drawn = sum(completion.tokens for completion in answer.completions)
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": drawn,
        "total_tokens": answer.prompt_tokens + drawn,
    }
