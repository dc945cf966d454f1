"""The queue of fine-tuning jobs: one at a time, taken up after a restart, patient where memory or the disk is short."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from storage.errors import LikemeError
from training import adapters
from training.accelerator import Accelerator
from training.engine.loop import Wish
from training.engine.model import Base
from training.files import Files
from training.fine_tuning import Left, Work, note_voice, tell_not_evaluated
from training.job_records import ENDED, TAKEN_UP, Job, JobRecords
from training.shortage import PAUSES_SECONDS, relieve, shortage

log = logging.getLogger(__name__)

MOST_DEATHS = 3


class Jobs:
    """The jobs of one home; whoever asks reads their `records`. `base` is called in the job's thread, and may wait."""

    def __init__(
        self,
        home: Path,
        files: Files,
        base: Callable[[], Base],
        accelerator: Accelerator,
        dollars_per_hour: float,
    ) -> None:
        self._home, self._files, self._base, self._accelerator = home, files, base, accelerator
        self._dollars_per_hour = dollars_per_hour
        self.records = JobRecords(home / "runs")
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="training")
        self._cancelled: set[str] = set()
        self._stopping = False
        self._woken = threading.Event()  # a job that waits has something to look at
        self._recover()

    def create(self, request: dict[str, Any]) -> Job:
        """Queue a job. `request` is OpenAI's body, its files known and its recipe named in metadata."""
        job = self.records.add(request)
        self._worker.submit(self._run, job)
        return dict(job)

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: at once while it waits, after its current step while it runs."""
        with self.records.lock:
            job = self.records.own(job_id)
            self._cancelled.add(job_id)
            if job["status"] == "queued":
                self.records.end(job, "cancelled", "The job was cancelled before it began.")
            self._woken.set()
            return dict(job)

    def stop(self) -> None:
        """End the running job at its next step and wait for it."""
        self._stopping = True
        self._woken.set()
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _run(self, job: Job) -> None:
        """Do a job; where memory or the disk is short it waits, with ever longer pauses, and goes on."""
        for seconds in (*PAUSES_SECONDS, None):
            short = self._attempt(job, is_last=seconds is None)
            if short is None or seconds is None:
                return
            said = f"{short} The next try is in {seconds // 60} min."
            self.records.tell(job["id"], said, {"waiting_seconds": seconds})
            self._woken.wait(seconds)
            self._woken.clear()

    def _attempt(self, job: Job, *, is_last: bool) -> str | None:
        """Do a job, or what is left of it. What is short, if something is that may come back."""
        try:
            if self._may_run(job):
                base = self._base()
                with self._accelerator.hold():
                    self._do(job, base)
        except Exception as error:
            short = shortage(error, self._home)
            if short is not None and not is_last:
                return short
            self.records.end(job, "failed", _reason(job, error))
        finally:
            relieve()
        return None

    def _may_run(self, job: Job) -> bool:
        with self.records.lock:
            if self._wish(job["id"]) == "cancel" and job["status"] not in ENDED:
                self._cancel(job, "Cancelled; nothing was published.")
            if job["status"] in ENDED or self._stopping:
                return False
            job["status"] = "running"
            self.records.save(job)
            return True

    def _do(self, job: Job, base: Base) -> None:
        tell, wish = partial(self.records.tell, job["id"]), partial(self._wish, job["id"])
        work = Work(job, base, self._home, self._files, self._accelerator, self._dollars_per_hour, tell, wish)
        try:
            self.records.end(job, "succeeded", work.do())
        except Left as left:
            if wish() == "cancel":
                self._cancel(job, f"Cancelled {left}; nothing was published.")
            else:
                tell(f"The server stops {left}: the job goes on when it is back.")

    def _wish(self, job_id: str) -> Wish:
        if job_id in self._cancelled:
            return "cancel"
        return "pause" if self._stopping else "go on"

    def _cancel(self, job: Job, message: str) -> None:
        """What was not measured does not speak: nobody would know what its owner stopped."""
        published = adapters.of_job(self._home / "adapters", job["id"])
        if published is not None:
            job["fine_tuned_model"] = None
            adapters.remove(published)
        self.records.end(job, "cancelled", message)

    def _recover(self) -> None:
        """Jobs of earlier runs go on, waiting ones and half-trained ones.

        One that the server did not survive several times in a row has failed: it may be what kills it.
        """
        for job in self.records.unfinished():
            if job["status"] == "running" and self.records.deaths(job["id"]) >= MOST_DEATHS:
                self._give_up(job)
                continue
            if job["status"] == "running":
                job["status"] = "queued"
                self.records.tell(job["id"], TAKEN_UP)
            self._worker.submit(self._run, job)

    def _give_up(self, job: Job) -> None:
        """A voice that is published stays: then it was the evaluation that killed the server."""
        published = adapters.of_job(self._home / "adapters", job["id"])
        if published is None:
            said = f"The model server died {MOST_DEATHS} times in this job; see the log."
            self.records.end(job, "failed", said)
            return
        note_voice(job, published)
        reason = "the server died of it, see the log"
        tell_not_evaluated(partial(self.records.tell, job["id"]), published, reason)
        self.records.end(job, "succeeded", f"{published.name} is ready, not evaluated.")


def _reason(job: Job, error: Exception) -> str:
    if isinstance(error, LikemeError):
        return str(error)
    if isinstance(error, MemoryError):
        return "The machine's memory is used up: close other programs, or train on less."
    log.error("job %s failed", job["id"], exc_info=error)
    return f"Training stopped on an unforeseen {type(error).__name__}; see the log."
