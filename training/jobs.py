"""Fine-tuning jobs: on disk under runs/<id>/, one at a time, drafts let in between the steps."""

import contextlib
import itertools
import json
import logging
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from storage.errors import LikemeError, ModelError
from training import adapters
from training.accelerator import Accelerator
from training.adapters import Version, training_files
from training.engine import checkpoint, loop, parallel, recipe
from training.engine.model import Base
from training.evaluation.versions import measure
from training.files import Files, parse, write_private
from training.protocol import SamplingParams
from training.shortage import PAUSES_SECONDS, relieve, shortage

log = logging.getLogger(__name__)

TAKEN_UP = "The model server was stopped while this job ran; it is taken up again."
MOST_DEATHS = 3
ENDED = ("succeeded", "failed", "cancelled")
Job = dict[str, Any]
Event = dict[str, Any]


class _Left(Exception):
    """The evaluation was left: the server stops, or the job was cancelled."""


class Jobs:
    """The jobs of one home. `base` is called in the job's thread and waits until the model is loaded."""

    def __init__(
        self,
        home: Path,
        files: Files,
        base: Callable[[], Base],
        accelerator: Accelerator,
        dollars_per_hour: float,
    ) -> None:
        self._dollars_per_hour = dollars_per_hour
        self._home = home
        self._runs = home / "runs"
        self._adapters = home / "adapters"
        self._files = files
        self._base = base
        self._accelerator = accelerator
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="training")
        self._lock = threading.RLock()
        self._cancelled: set[str] = set()
        self._stopping = False
        self._woken = threading.Event()  # a job that waits has something to look at
        self._jobs: dict[str, Job] = {}
        self._events: dict[str, list[Event]] = {}
        self._recover()

    def create(self, request: dict[str, Any]) -> Job:
        """Queue a job. `request` is OpenAI's body, its files known and its recipe named in metadata."""
        job: Job = {
            "id": f"ftjob-{secrets.token_hex(12)}",
            "object": "fine_tuning.job",
            "created_at": int(time.time()),
            "finished_at": None,
            "status": "queued",
            "model": request["model"],
            "fine_tuned_model": None,
            "training_file": request["training_file"],
            "validation_file": request.get("validation_file"),
            "hyperparameters": request.get("hyperparameters") or {},
            "metadata": request.get("metadata") or {},
            "seed": request.get("seed") or 0,
            "trained_tokens": None,
            "organization_id": "likeme",
            "result_files": [],
            "error": None,
        }
        with self._lock:
            self._jobs[job["id"]] = job
            self._events[job["id"]] = []
            self._save(job)
            self._tell(job["id"], "The job is queued.")
        self._worker.submit(self._run, job["id"])
        return dict(job)

    def get(self, job_id: str) -> Job | None:
        """The job as it stands, or None."""
        with self._lock:
            return dict(self._jobs[job_id]) if job_id in self._jobs else None

    def all(self) -> list[Job]:
        """Every job, newest first."""
        with self._lock:
            return [dict(job) for job in reversed(self._jobs.values())]

    def events(self, job_id: str, after: int = 0) -> list[Event]:
        """The events of a job from number `after` on, oldest first."""
        with self._lock:
            return self._events[job_id][after:]

    def running(self) -> str | None:
        """The id of the job that trains now."""
        with self._lock:
            return next((job["id"] for job in self._jobs.values() if job["status"] == "running"), None)

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: at once while it waits, after its current step while it runs."""
        with self._lock:
            job = self._jobs[job_id]
            self._cancelled.add(job_id)
            if job["status"] == "queued":
                self._end(job, "cancelled", "The job was cancelled before it began.")
            self._woken.set()
            return dict(job)

    def stop(self) -> None:
        """End the running job at its next step and wait for it."""
        self._stopping = True
        self._woken.set()
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _run(self, job_id: str) -> None:
        """Do a job; where memory or the disk is short it waits, with ever longer pauses, and goes on."""
        job = self._jobs[job_id]
        for seconds in (*PAUSES_SECONDS, None):
            short = self._attempt(job, is_last=seconds is None)
            if short is None or seconds is None:
                return
            self._tell(job_id, f"{short} The next try is in {seconds // 60} min.", {"waiting_seconds": seconds})
            self._woken.wait(seconds)
            self._woken.clear()

    def _attempt(self, job: Job, *, is_last: bool) -> str | None:
        """Do a job, or what is left of it. What is short, if something is that may come back."""
        try:
            with self._lock:
                if job["status"] in ENDED or self._stopping:
                    return None
                if job["id"] in self._cancelled:
                    self._end(job, "cancelled", "Cancelled; nothing was published.")
                    return None
                job["status"] = "running"
                self._save(job)
            base = self._base()
            with self._accelerator.hold():
                self._train(job, base)
        except Exception as error:
            short = shortage(error, self._home)
            if short is not None and not is_last:
                return short
            self._end(job, "failed", self._reason(job, error))
        finally:
            relieve()
        return None

    def _reason(self, job: Job, error: Exception) -> str:
        if isinstance(error, LikemeError):
            return str(error)
        if isinstance(error, MemoryError):
            return "The machine's memory is used up: close other programs, or train on less."
        log.error("job %s failed", job["id"], exc_info=error)
        return f"Training stopped on an unforeseen {type(error).__name__}; see the log."

    def _train(self, job: Job, base: Base) -> None:
        """Train, publish, evaluate. A job that is taken up goes on from the last of these that was done."""
        held_out = self._files.content(job["validation_file"]) if job["validation_file"] else b""
        published = self._published(job) or self._trained(job, base, held_out)
        if published is None:
            return
        job["fine_tuned_model"] = published.name
        job["trained_tokens"] = published.manifest["metrics"]["tokens"]
        try:
            self._evaluate(job, base, published, held_out)
        except _Left:
            if self._stopping:
                self._tell(job["id"], "The server stops while it evaluates: the job goes on when it is back.")
                return
            # What was not measured does not speak: nobody would know what its owner stopped.
            job["fine_tuned_model"] = None
            adapters.remove(published)
            self._end(job, "cancelled", "Cancelled while it was evaluated; nothing was published.")
            return
        except Exception as error:  # the voice is trained and published: that is not lost
            if shortage(error, self._home):
                raise
            log.exception("job %s: not evaluated", job["id"])
            reason = str(error) if isinstance(error, LikemeError) else f"unforeseen {type(error).__name__}, see the log"
            self._not_evaluated(job, published, reason)
        self._end(job, "succeeded", f"{published.name} is ready: {_cost(published.manifest['metrics'])}.")

    def _trained(self, job: Job, base: Base, held_out: bytes) -> Version | None:
        """Train and publish; None when the job was paused or cancelled."""
        start = self._start_of(job, base)
        chosen = _recipe_of(job, base, start)
        examples = parse(self._files.content(job["training_file"]))
        validation = parse(held_out) if held_out else []
        begun = start.name if start else base.name
        self._tell(job["id"], f"Training {begun} by recipe {chosen.name} on {len(examples)} examples.")

        def between_steps() -> loop.Wish:
            self._accelerator.hand_over()
            if job["id"] in self._cancelled:
                return "cancel"
            return "pause" if self._stopping else "go on"

        out = self._runs / job["id"]
        result = loop.train(
            base,
            chosen,
            examples,
            validation,
            out,
            lambda e: self._measured(job["id"], e),
            between_steps,
            job["seed"],
            start.path if start else None,
        )
        if result.adapter is None:
            if job["id"] in self._cancelled:
                self._end(job, "cancelled", f"Cancelled after step {result.steps}; nothing was published.")
            else:
                self._tell(job["id"], f"The server stops after step {result.steps}: the job goes on when it is back.")
            return None
        manifest = {
            "base_model": base.name,
            "quantization": "nf4" if base.in_4_bits else None,
            "started_from": start.name if start else None,
            "created_at": int(time.time()),
            "recipe": chosen.model_dump(),
            "seed": job["seed"],
            "job": job["id"],
            "training_file": job["training_file"],
            "earlier_files": training_files(start) if start else [],
            "validation_file": job["validation_file"],
            "data_sha256": job["metadata"].get("data_sha256"),
            "examples": len(examples),
            "held_out": len(validation),
            "likeme": version("likeme"),
            "metrics": {
                **result.metrics,
                "steps": result.steps,
                "tokens": result.tokens,
                "reply_tokens": result.reply_tokens,
                "seconds": round(result.seconds, 1),
                "dollars": round(result.seconds * parallel.size() / 3600 * self._dollars_per_hour, 4),
            },
        }
        published = adapters.publish(self._adapters, result.adapter, manifest)
        checkpoint.remove(out)
        return published

    def _start_of(self, job: Job, base: Base) -> Version | None:
        """The voice that the job goes on from; None: it begins with the base."""
        if job["model"] == base.name:
            return None
        start = adapters.find(self._adapters, job["model"])
        if start is None:
            raise ModelError(f"{job['model']} is no longer here: train from {base.name}.")
        adapters.verify(start)
        if start.manifest["base_model"] != base.name:
            raise ModelError(f"{start.name} is a voice of {start.manifest['base_model']}: train from {base.name}.")
        return start

    def _evaluate(self, job: Job, base: Base, published: Version, held_out: bytes) -> None:
        """Measure the new voice; its evaluation becomes the job's result file. `_Left` when the job is to end."""
        if not held_out:
            return
        wanted = job["metadata"]

        def between() -> None:
            self._accelerator.hand_over()
            if self._stopping or job["id"] in self._cancelled:
                raise _Left

        found = measure(
            base,
            self._files,
            published,
            held_out,
            serving=adapters.find(self._adapters, wanted.get("serving", "")),
            extent=wanted.get("evaluation", "full"),
            sampling=SamplingParams(**json.loads(wanted.get("sampling", "{}"))).sampling(),
            tell=lambda part, share: self._measured(job["id"], {"evaluating": part, "share": round(share, 3)}),
            between=between,
        )
        content = json.dumps(found, ensure_ascii=False).encode()
        job["result_files"] = [self._files.keep(content, f"{published.name}.json", "fine-tune-results").id]
        seconds = published.manifest["metrics"]["seconds"] + found["seconds"]
        price = {"seconds": round(seconds, 1), "dollars": round(seconds / 3600 * self._dollars_per_hour, 4)}
        self._tell(job["id"], found["gate"]["reason"], {"gate": found["gate"], **price})

    def _measured(self, job_id: str, data: dict[str, Any]) -> None:
        if "message" in data:
            text = data["message"]
        elif "evaluating" in data:
            text = f"Evaluating ({data['share']:.0%}): {data['evaluating']}"
        elif "train_loss" in data:
            text = f"Step {data['step']} of {data['total_steps']}: loss {data['train_loss']:.3f}"
        elif "valid_loss" in data:
            text = f"Held-out loss {data['valid_loss']:.3f} after step {data['step']}"
        else:
            text = f"The stock model's held-out loss is {data['stock_valid_loss']:.3f}"
        self._tell(job_id, text, data)

    def _tell(self, job_id: str, message: str, data: dict[str, Any] | None = None, level: str = "info") -> None:
        with self._lock:
            events = self._events[job_id]
            event = {
                "object": "fine_tuning.job.event",
                "id": f"ftevent-{job_id[6:]}-{len(events):06d}",
                "created_at": int(time.time()),
                "level": level,
                "type": "metrics" if data else "message",
                "message": message,
                "data": data or {},
            }
            events.append(event)
            try:
                with (self._runs / job_id / "events.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(event) + "\n")
            except OSError as error:
                log.warning("an event of %s was not written: %s", job_id, error.strerror)

    def _end(self, job: Job, status: str, message: str) -> None:
        with self._lock:
            job["status"] = status
            job["finished_at"] = int(time.time())
            if status == "failed":
                job["error"] = {"code": "training_failed", "message": message, "param": None}
            self._tell(job["id"], message, level="error" if status == "failed" else "info")
            try:
                self._save(job)
            except OSError as error:  # after a restart it is found half-done, and ended once more
                log.warning("the end of %s was not written: %s", job["id"], error.strerror)

    def _save(self, job: Job) -> None:
        folder = self._runs / job["id"]
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(folder / "job.json", json.dumps(job, indent=1).encode())

    def _recover(self) -> None:
        """Find the jobs of earlier runs again: waiting ones and half-trained ones go on.

        One that the server did not survive several times in a row has failed: it may be what kills it.
        """
        loaded = [json.loads(path.read_text(encoding="utf-8")) for path in self._runs.glob("ftjob-*/job.json")]
        for job in sorted(loaded, key=lambda job: job["created_at"]):
            self._jobs[job["id"]] = job
            self._events[job["id"]] = _read_events(self._runs / job["id"] / "events.jsonl")
            if job["status"] == "running" and self._deaths(job["id"]) >= MOST_DEATHS:
                self._give_up(job)
            elif job["status"] in ("queued", "running"):
                if job["status"] == "running":
                    job["status"] = "queued"
                    self._tell(job["id"], TAKEN_UP)
                self._worker.submit(self._run, job["id"])

    def _give_up(self, job: Job) -> None:
        """A voice that is published stays: then it was the evaluation that killed the server."""
        published = self._published(job)
        if published is None:
            self._end(job, "failed", f"The model server died {MOST_DEATHS} times in this job; see the log.")
            return
        job["fine_tuned_model"] = published.name
        job["trained_tokens"] = published.manifest["metrics"]["tokens"]
        self._not_evaluated(job, published, "the server died of it, see the log")
        self._end(job, "succeeded", f"{published.name} is ready, not evaluated.")

    def _not_evaluated(self, job: Job, published: Version, reason: str) -> None:
        """Tell it with its reason: such a voice is kept back, and its owner wants to know why."""
        text = f"{published.name} could not be evaluated: {reason}"
        self._tell(job["id"], text, {"not_evaluated": reason}, level="error")

    def _published(self, job: Job) -> Version | None:
        mine = (version for version in adapters.versions(self._adapters) if version.manifest.get("job") == job["id"])
        return next(mine, None)

    def _deaths(self, job_id: str) -> int:
        """How often it was taken up since its last step."""
        since = itertools.takewhile(lambda event: "train_loss" not in event["data"], reversed(self._events[job_id]))
        return sum(event["message"] == TAKEN_UP for event in since)


def _recipe_of(job: Job, base: Base, start: Version | None) -> recipe.Recipe:
    """The job's recipe, or that of the voice it goes on from, with the numbers that the job changes."""
    usual = start.manifest["recipe"]["name"] if start else default_recipe(base)
    wanted = {name: value for name, value in job["hyperparameters"].items() if value != "auto"}
    changes = {"epochs": wanted["n_epochs"]} if "n_epochs" in wanted else {}
    chosen = recipe.load(job["metadata"].get("recipe") or usual, **changes)
    rate = chosen.learning_rate * wanted.get("learning_rate_multiplier", 1.0)
    return chosen.model_copy(update={"learning_rate": rate})


def _cost(metrics: dict[str, float]) -> str:
    speed = f", {metrics['tokens_per_second']:,.0f} tokens/s" if "tokens_per_second" in metrics else ""
    hours = f", {metrics['gpu_hours']:.3f} GPU-hours" if "gpu_hours" in metrics else ""
    return f"{metrics['seconds']:,.0f} s{speed}{hours}, ${metrics['dollars']:.2f}"


def default_recipe(base: Base) -> str:
    """`fast` with a GPU (`qdora` over a base in 4 bits), `embedded` without."""
    if base.in_4_bits:
        return "qdora"
    return "fast" if base.device.type == "cuda" else "embedded"


def _read_events(path: Path) -> list[Event]:
    """The events that were written whole; half a line of a killed process goes, or the next would be glued to it."""
    if not path.is_file():
        return []
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            events.append(json.loads(line))
    whole = "".join(json.dumps(event) + "\n" for event in events).encode()
    if path.read_bytes() != whole:
        write_private(path, whole)
    return events
