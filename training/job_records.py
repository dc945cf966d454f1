"""Fine-tuning jobs and their events, in OpenAI's shapes: runs/<id>/job.json and events.jsonl."""

import contextlib
import itertools
import json
import logging
import secrets
import threading
import time
from pathlib import Path
from typing import Any

from storage.durable import write_private

log = logging.getLogger(__name__)

TAKEN_UP = "The model server was stopped while this job ran; it is taken up again."
ENDED = ("succeeded", "failed", "cancelled")
Job = dict[str, Any]
Event = dict[str, Any]


class JobRecords:
    """The jobs of one home, those of earlier runs of the server included. `lock`: to read and then change one."""

    def __init__(self, runs: Path) -> None:
        self.lock = threading.RLock()
        self._runs = runs
        found = [json.loads(path.read_text(encoding="utf-8")) for path in runs.glob("ftjob-*/job.json")]
        self._jobs: dict[str, Job] = {job["id"]: job for job in sorted(found, key=lambda job: job["created_at"])}
        self._events: dict[str, list[Event]] = {job_id: _read(self._log(job_id)) for job_id in self._jobs}

    def add(self, request: dict[str, Any]) -> Job:
        """A queued job. `request` is OpenAI's body."""
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
        with self.lock:
            self._jobs[job["id"]] = job
            self._events[job["id"]] = []
            self.save(job)
            self.tell(job["id"], "The job is queued.")
        return job

    def own(self, job_id: str) -> Job:
        """The record itself, for whoever does the job."""
        return self._jobs[job_id]

    def unfinished(self) -> list[Job]:
        """The records themselves of jobs that have not ended, oldest first."""
        return [job for job in self._jobs.values() if job["status"] not in ENDED]

    def get(self, job_id: str) -> Job | None:
        """The job as it stands, or None."""
        with self.lock:
            return dict(self._jobs[job_id]) if job_id in self._jobs else None

    def all(self) -> list[Job]:
        """Every job as it stands, newest first."""
        with self.lock:
            return [dict(job) for job in reversed(self._jobs.values())]

    def running(self) -> str | None:
        """The id of the job that is being done."""
        return next((job["id"] for job in self.all() if job["status"] == "running"), None)

    def events(self, job_id: str, after: int = 0) -> list[Event]:
        """The events of a job from number `after` on, oldest first."""
        with self.lock:
            return self._events[job_id][after:]

    def deaths(self, job_id: str) -> int:
        """How often it was taken up since its last step."""
        since = itertools.takewhile(lambda event: "train_loss" not in event["data"], reversed(self._events[job_id]))
        return sum(event["message"] == TAKEN_UP for event in since)

    def tell(self, job_id: str, message: str, data: dict[str, Any] | None = None, level: str = "info") -> None:
        """One more event; one that the disk does not take is told to those who listen now."""
        with self.lock:
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
                with self._log(job_id).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(event) + "\n")
            except OSError as error:
                log.warning("an event of %s was not written: %s", job_id, error.strerror)

    def end(self, job: Job, status: str, message: str) -> None:
        """Its last event, and how it ended."""
        with self.lock:
            job["status"] = status
            job["finished_at"] = int(time.time())
            if status == "failed":
                job["error"] = {"code": "training_failed", "message": message, "param": None}
            self.tell(job["id"], message, level="error" if status == "failed" else "info")
            try:
                self.save(job)
            except OSError as error:  # after a restart it is found half-done, and ended once more
                log.warning("the end of %s was not written: %s", job["id"], error.strerror)

    def save(self, job: Job) -> None:
        """Write job.json. OSError where the disk does not take it."""
        folder = self._runs / job["id"]
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(folder / "job.json", json.dumps(job, indent=1).encode())

    def _log(self, job_id: str) -> Path:
        return self._runs / job_id / "events.jsonl"


def _read(path: Path) -> list[Event]:
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
