"""The model server's HTTP face: OpenAI's protocol over one base model and its voices.

GET  /healthz                              loading, ok or failed; what trains
GET  /v1/models                            the base and every voice; GET one, its files checked; DELETE one
POST /v1/chat/completions                  n, temperature, top_p, max_tokens, stop, seed, stream, rank
POST /v1/files                             JSONL of conversations; GET, GET content, DELETE
POST /v1/fine_tuning/jobs                  GET list, GET one, GET events (?stream=true), POST cancel
POST /v1/evals/voice/runs                  a voice measured beside stock (evaluation/); GET one
"""

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import FastAPI, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse

from storage.errors import BadInput, LikemeError, ModelError
from training import adapters
from training.chat import completion, completion_stream
from training.engine import recipe
from training.job_records import ENDED
from training.protocol import ChatRequest, EvalRequest, JobRequest
from training.serving import Serving
from training.settings import LOOPBACK

EVENT_POLL_SECONDS = 0.1


class Refusal(Exception):
    """An answer in OpenAI's error shape."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code


def build(serving: Serving, token: str = "") -> FastAPI:
    """The application; with a `token` every request but /healthz must carry it, without one it stays on loopback."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await serving.shut_down()

    app = FastAPI(title="likeme model server", lifespan=lifespan, docs_url=None, redoc_url=None)
    _errors(app)
    _authorise(app, token)
    _models(app, serving)
    _files(app, serving)
    _jobs(app, serving)
    _evaluations(app, serving)
    return app


def _models(app: FastAPI, serving: Serving) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, Any]:
        return serving.health()

    def base() -> dict[str, Any]:
        return {"id": serving.base_name, "object": "model", "created": 0, "owned_by": "base"}

    def described(name: str) -> dict[str, Any]:
        """A voice whose files are as they were published; `Damaged` where they are not."""
        version = adapters.find(serving.adapters, name)
        assert version is not None
        adapters.verify(version)
        return _described(version)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        voices = [_described(version) for version in adapters.versions(serving.adapters)]
        return {"object": "list", "data": [base(), *voices]}

    @app.get("/v1/models/{model}")
    async def one(model: str) -> dict[str, Any]:
        _known(serving, model)
        if model == serving.base_name:
            return base()
        return await asyncio.to_thread(described, model)

    @app.delete("/v1/models/{model}")
    async def delete(model: str) -> dict[str, Any]:
        _known(serving, model)
        if model == serving.base_name:
            raise Refusal(400, f"{model} is the base model: only voices can be deleted.", param="model")
        await asyncio.to_thread(serving.delete, model)
        return {"id": model, "object": "model", "deleted": True}

    @app.post("/v1/chat/completions")
    async def chat(request: ChatRequest) -> Response:
        _known(serving, request.model)
        if request.stream:
            return StreamingResponse(completion_stream(serving, request), media_type="text/event-stream")
        return JSONResponse(await completion(serving, request))


def _described(version: adapters.Version) -> dict[str, Any]:
    return {
        "id": version.name,
        "object": "model",
        "created": version.manifest["created_at"],
        "owned_by": "likeme",
        "base_model": version.manifest["base_model"],
        "job": version.manifest.get("job"),
        "metrics": version.manifest["metrics"],
        "examples": version.manifest.get("examples"),
        "bytes": adapters.size(version),
    }


def _files(app: FastAPI, serving: Serving) -> None:
    files = serving.files

    def known(file_id: str) -> None:
        if files.get(file_id) is None:
            raise Refusal(404, f"There is no file {file_id!r} here: upload it first.", param="file_id")

    @app.post("/v1/files")
    async def upload(file: UploadFile, purpose: Annotated[str, Form()]) -> dict[str, Any]:
        content = await file.read()
        return asdict(await asyncio.to_thread(files.add, content, file.filename or "upload.jsonl", purpose))

    @app.get("/v1/files")
    async def listed() -> dict[str, Any]:
        return {"object": "list", "data": [asdict(file) for file in files.all()], "has_more": False}

    @app.get("/v1/files/{file_id}")
    async def one(file_id: str) -> dict[str, Any]:
        known(file_id)
        found = files.get(file_id)
        assert found is not None
        return asdict(found)

    @app.get("/v1/files/{file_id}/content")
    async def content(file_id: str) -> Response:
        known(file_id)
        return Response(files.content(file_id), media_type="application/jsonl")

    @app.delete("/v1/files/{file_id}")
    async def delete(file_id: str) -> dict[str, Any]:
        known(file_id)
        files.delete(file_id)
        return {"id": file_id, "object": "file", "deleted": True}


def _jobs(app: FastAPI, serving: Serving) -> None:
    jobs, records = serving.jobs, serving.jobs.records

    def known(job_id: str) -> dict[str, Any]:
        job = records.get(job_id)
        if job is None:
            raise Refusal(404, f"There is no job {job_id!r} here.", param="fine_tuning_job_id")
        return job

    @app.post("/v1/fine_tuning/jobs")
    async def create(request: JobRequest) -> dict[str, Any]:
        if not serving.knows(request.model):
            raise Refusal(
                400,
                f"This server trains {serving.base_name} and its voices, not {request.model!r}: set BASE_MODEL.",
                param="model",
            )
        for param in ("training_file", "validation_file"):
            name = getattr(request, param)
            if name and serving.files.get(name) is None:
                raise Refusal(400, f"There is no file {name!r} here: upload it first.", param=param)
        if chosen := (request.metadata or {}).get("recipe"):
            if chosen not in recipe.names():
                known_names = ", ".join(recipe.names())
                raise Refusal(400, f"There is no recipe {chosen!r}: choose one of {known_names}.", param="metadata")
        return jobs.create(request.model_dump(exclude_none=True))

    @app.get("/v1/fine_tuning/jobs")
    async def listed() -> dict[str, Any]:
        return {"object": "list", "data": records.all(), "has_more": False}

    @app.get("/v1/fine_tuning/jobs/{job_id}")
    async def one(job_id: str) -> dict[str, Any]:
        return known(job_id)

    @app.post("/v1/fine_tuning/jobs/{job_id}/cancel")
    async def cancel(job_id: str) -> dict[str, Any]:
        if known(job_id)["status"] in ENDED:
            raise Refusal(400, f"Job {job_id} has ended already.", param="fine_tuning_job_id")
        return jobs.cancel(job_id)

    @app.get("/v1/fine_tuning/jobs/{job_id}/events")
    async def events(job_id: str, after: str | None = None, limit: int = 20, stream: bool = False) -> Response:
        known(job_id)
        if stream:
            return StreamingResponse(_event_stream(serving, job_id, after), media_type="text/event-stream")
        newest_first = records.events(job_id)[::-1]
        start = next((i + 1 for i, event in enumerate(newest_first) if event["id"] == after), 0)
        page = newest_first[start : start + limit]
        has_more = start + limit < len(newest_first)
        return JSONResponse({"object": "list", "data": page, "has_more": has_more})


def _evaluations(app: FastAPI, serving: Serving) -> None:
    @app.post("/v1/evals/voice/runs")
    async def start(request: EvalRequest) -> dict[str, Any]:
        _known(serving, request.data_source.model)
        file_id = request.data_source.source.id
        if serving.files.get(file_id) is None:
            raise Refusal(400, f"There is no file {file_id!r} here: upload it first.", param="data_source")
        return serving.start_evaluation(request)

    @app.get("/v1/evals/voice/runs/{run_id}")
    async def one(run_id: str) -> dict[str, Any]:
        if run_id not in serving.evaluations:
            raise Refusal(404, f"There is no evaluation run {run_id!r} here.", param="run_id")
        return serving.evaluations[run_id]


async def _event_stream(serving: Serving, job_id: str, after: str | None) -> AsyncIterator[str]:
    """Server-sent events, oldest first, from behind `after` until the job has ended."""
    records = serving.jobs.records
    sent = next((i + 1 for i, e in enumerate(records.events(job_id)) if e["id"] == after), 0)
    while True:
        job = records.get(job_id)
        assert job is not None
        for event in records.events(job_id, sent):
            sent += 1
            yield f"data: {json.dumps(event)}\n\n"
        if job["status"] in ENDED:  # read before the events: none can have come behind it
            yield "data: [DONE]\n\n"
            return
        await asyncio.sleep(EVENT_POLL_SECONDS)


def _known(serving: Serving, model: str) -> None:
    if not serving.knows(model):
        raise Refusal(
            404,
            f"There is no model {model!r} here: GET /v1/models lists what there is.",
            param="model",
            code="model_not_found",
        )


def _authorise(app: FastAPI, token: str) -> None:
    @app.middleware("http")
    async def check(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        given = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
        if not token and request.url.hostname not in LOOPBACK:  # a page in a browser that has us under its own name
            return _refused(Refusal(403, "Without MODEL_TOKEN this server answers to 127.0.0.1 and localhost alone."))
        if token and request.url.path != "/healthz" and not hmac.compare_digest(given, token.encode()):
            return _refused(Refusal(401, "The bearer token is missing or wrong: set MODEL_TOKEN on both sides."))
        return await call_next(request)


def _errors(app: FastAPI) -> None:
    @app.exception_handler(Refusal)
    async def refusal(_: Request, error: Refusal) -> Response:
        return _refused(error)

    @app.exception_handler(LikemeError)
    async def ours(_: Request, error: LikemeError) -> Response:
        status = 400 if isinstance(error, BadInput) else 503 if isinstance(error, ModelError) else 500
        return _refused(Refusal(status, str(error), code=error.code))

    @app.exception_handler(OSError)
    async def broken(_: Request, error: OSError) -> Response:
        return _refused(Refusal(507, f"The model server can't write ({error.strerror}): make room on its disk."))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"] if part != "body")
        return _refused(Refusal(400, f"{param or 'body'}: {first['msg']}", param=param or None))


def _refused(error: Refusal) -> Response:
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    body = {"message": error.message, "type": kind, "param": error.param, "code": error.code}
    return JSONResponse({"error": body}, status_code=error.status)
