"""What the server keeps: the base model, its lock, the files, the jobs, the evaluations."""

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from storage.errors import BadInput, LikemeError, ModelError, OutOfMemory
from training import adapters
from training.accelerator import Accelerator
from training.dataset.render import Message
from training.engine.model import Base, default_name, load_base
from training.evaluation.versions import measure
from training.files import Files
from training.generate import Answer, Sampling, complete
from training.job_records import ENDED
from training.jobs import Jobs
from training.protocol import EvalRequest
from training.settings import Quantization
from training.shortage import GPU, PAUSES_SECONDS, relieve

LOADING, EVALUATION = "loading", "evaluation"  # threads

log = logging.getLogger(__name__)


class Serving:
    """One base model in memory, voices beside it. Methods that need the model block: call them in a thread."""

    def __init__(
        self,
        home: Path,
        base_model: str,
        loader: Callable[[], Base] | None = None,
        dollars_per_hour: float = 0.3,
        quantization: Quantization = "",
    ) -> None:
        self.home = home
        self.base_name = base_model or default_name()
        self.adapters = home / "adapters"
        self.files = Files(home / "files")
        self.accelerator = Accelerator()
        self._loader = loader or (lambda: load_base(self.base_name, home / "models", quantization=quantization))
        self._base: Base | None = None
        self._failure: LikemeError | None = None
        self._short: OutOfMemory | None = None  # the card is full now
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self.evaluations: dict[str, dict[str, Any]] = {}
        adapters.sweep(self.adapters)
        self.jobs = Jobs(home, self.files, self.base, self.accelerator, dollars_per_hour)
        threading.Thread(target=self._load, name=LOADING, daemon=True).start()

    def base(self) -> Base:
        """The base model; waits while it loads. ModelError when it can't be loaded, now (OutOfMemory) or at all."""
        while not self._ready.wait(0.1):
            if self._short is not None:
                raise OutOfMemory(str(self._short))
        if self._failure is not None:
            raise ModelError(str(self._failure))
        assert self._base is not None
        return self._base

    def health(self) -> dict[str, Any]:
        """The body of /healthz."""
        status = "failed" if self._failure else "ok" if self._base else "loading"
        return {
            "status": status,
            "base_model": self.base_name,
            "device": str(self._base.device) if self._base else None,
            "training": self.jobs.records.running(),
            **({"error": str(self._failure or self._short)} if self._failure or self._short else {}),
        }

    def knows(self, model: str) -> bool:
        """Whether requests may name `model`."""
        return model == self.base_name or adapters.find(self.adapters, model) is not None

    def chat(
        self,
        model: str,
        messages: Sequence[Message],
        sampling: Sampling,
        on_text: Callable[[int, str], None] | None = None,
    ) -> Answer:
        """Draw replies of a voice or of the base."""
        base = self.base()
        with self.accelerator.hold():
            try:
                voice = self._voice(base, model)
            except torch.OutOfMemoryError as error:
                raise OutOfMemory(GPU) from error
            return complete(base, voice, messages, sampling, on_text)

    def delete(self, model: str) -> None:
        """Remove a voice for good. BadInput while a training goes on from it."""
        version = adapters.find(self.adapters, model)
        assert version is not None
        with self.accelerator.hold():
            if any(job["model"] == model and job["status"] not in ENDED for job in self.jobs.records.all()):
                raise BadInput(f"{model} is being trained further: wait, or cancel that.")
            if self._base is not None:
                self._base.voices.pop(model, None)
            adapters.remove(version)

    def start_evaluation(self, request: EvalRequest) -> dict[str, Any]:
        """Begin to measure a voice on a held-out file; the run object is updated as it goes."""
        run: dict[str, Any] = {
            "object": "eval.run",
            "id": f"evalrun-{secrets.token_hex(12)}",
            "eval_id": "voice",
            "created_at": int(time.time()),
            "model": request.data_source.model,
            "status": "in_progress",
            "part": "loading",
            "share": 0.0,
            "result": None,
            "error": None,
        }
        self.evaluations[run["id"]] = run
        threading.Thread(target=self._evaluate, args=(run, request), name=EVALUATION, daemon=True).start()
        return run

    async def shut_down(self) -> None:
        """Stop the running job at its next step."""
        self._stopping.set()
        await asyncio.to_thread(self.jobs.stop)

    def is_busy(self) -> bool:
        """Whether a thread still loads or measures, which nothing interrupts."""
        return any(thread.name in (LOADING, EVALUATION) for thread in threading.enumerate())

    def _evaluate(self, run: dict[str, Any], request: EvalRequest) -> None:
        try:
            base = self.base()
            wanted = request.metadata or {}
            version = adapters.find(self.adapters, run["model"])
            if version is None:
                raise BadInput(f"{run['model']} is the stock model itself: name a voice to be measured beside it.")
            with self.accelerator.hold():
                run["result"] = measure(
                    base,
                    self.files,
                    version,
                    self.files.content(request.data_source.source.id),
                    serving=adapters.find(self.adapters, wanted.get("serving", "")),
                    extent=wanted.get("evaluation", "full"),
                    canaries=wanted.get("audit") == "canaries",
                    sampling=request.data_source.sampling_params.sampling(),
                    tell=lambda part, share: run.update(part=part, share=share),
                    between=self.accelerator.hand_over,
                )
            run["status"] = "completed"
        except LikemeError as error:
            run["status"], run["error"] = "failed", {"code": "evaluation_failed", "message": str(error)}
        except Exception as error:
            log.exception("evaluation %s failed", run["id"])
            message = f"The evaluation stopped on an unforeseen {type(error).__name__}; see the log."
            run["status"], run["error"] = "failed", {"code": "evaluation_failed", "message": message}

    def _voice(self, base: Base, model: str) -> str | None:
        """The adapter for a model name, loaded; None for the base itself."""
        if model == self.base_name:
            return None
        version = adapters.find(self.adapters, model)
        if version is None:
            raise ModelError(f"There is no model {model!r} here.")
        if model not in base.voices:
            adapters.verify(version)
        base.load(model, version.path)
        return model

    def _load(self) -> None:
        started = time.monotonic()
        try:
            self._base = self._loaded()
            log.info("base model loaded in %.1f s", time.monotonic() - started)
        except LikemeError as error:
            log.error("base model not loaded: %s", error)
            self._failure = error
        except Exception as error:
            log.exception("base model not loaded")
            self._failure = ModelError(f"{self.base_name} can't be loaded ({type(error).__name__}): see the log.")
        finally:
            self._short = None
            self._ready.set()
        if self._base is not None and self._base.device.type == "cuda" and self._base.decoder is not None:
            try:
                with self.accelerator.hold():
                    self._base.decoder.warm_up()
                log.info("ready to draft after %.1f s", time.monotonic() - started)
            except torch.OutOfMemoryError:
                self._base.decoder.release()
                log.warning("not warmed up: %s", GPU)

    def _loaded(self) -> Base:
        """The base model; a card that is full is waited for, and asked again."""
        for seconds in PAUSES_SECONDS:
            try:
                return self._loader()
            except OutOfMemory as error:
                log.warning("%s Next try in %d s.", error, seconds)
                self._short = error
            relieve()
            if self._stopping.wait(seconds):
                break
        return self._loader()
