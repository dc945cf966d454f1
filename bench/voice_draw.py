"""The half of bench/voice.py that wants a GPU: voices trained, and their replies drawn; nothing is judged here.

One process a worker, all on one card. What is drawn grows in two archives, adapters lie beside them, so that a run
that is cut short leaves what it has. An adapter that lies in build/voice already is drawn and not trained again.
"""

import gzip
import io
import json
import multiprocessing
import os
import sys
import tarfile
import time
import traceback
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import voice_worker
from voice_worker import MAIN, OTHERS, WORKERS, VoiceJob

ARCHIVES = 2
SEEDS = (0, 1, 2)
USUAL = ((0.8, 0.9), (1.0, 0.95))  # temperature, nucleus: drawn of every voice
GRID = ((0.9, 0.95), (1.0, 1.0), (0.7, 0.95), (0.9, 1.0), (1.0, 0.9), (0.6, 0.9))  # of the first
VOICES = os.environ.get("VOICES", "").split()  # history:seed; empty: every history with every seed
LIMIT_SECONDS = float(os.environ.get("LIMIT_SECONDS", "3e6"))  # nothing is begun after it

WORK = {"voice": voice_worker.train_voice, "draw": voice_worker.draw_voice, "stock": voice_worker.draw_stock}


def main(scratch: Path, out: Path) -> None:
    """Train and draw everything, the most telling first."""
    out.mkdir(parents=True, exist_ok=True)
    _Board(scratch, out).run()


class _Board:
    """What is being worked on, and what comes next."""

    def __init__(self, scratch: Path, out: Path) -> None:
        self._scratch, self._out, self._began = scratch, out, time.monotonic()
        self._archives = _Archives(out)
        self._workers = ProcessPoolExecutor(
            WORKERS,
            multiprocessing.get_context("spawn"),
            voice_worker.begin,
            (str(scratch), str(out), voice_worker.device()),
        )
        self._running: dict[Future[dict[str, Any]], tuple[str, Any]] = {}

    def run(self) -> None:
        """Until all is done, or its time is over."""
        every = [VoiceJob(corpus, seed) for corpus in (MAIN, *OTHERS) for seed in SEEDS]
        asked = [VoiceJob(corpus, int(seed)) for corpus, seed in (voice.split(":") for voice in VOICES)]
        jobs = asked or every
        for job in jobs:
            self._start("voice", job)
        for corpus in dict.fromkeys(job.corpus for job in jobs):
            self._start("stock", corpus, USUAL, True)
        while self._running and (left := LIMIT_SECONDS - self._seconds()) > 0:
            for future in wait(self._running, left, FIRST_COMPLETED).done:
                self._finished(future, *self._running.pop(future))
        processes = list(self._workers._processes.values())
        self._workers.shutdown(wait=False, cancel_futures=True)
        for process in processes if self._running else ():
            process.kill()
        self._note("done" if not self._running else f"time is over; not done: {list(self._running.values())}")

    def _finished(self, future: "Future[dict[str, Any]]", what: str, job: Any) -> None:
        try:
            found = future.result()
        except Exception:  # of one job: the others go on
            self._note(f"{what} {job} failed: {traceback.format_exc()}")
            return
        for name, content in found.get("files", {}).items():
            self._archives.add(name, content)
        self._note(f"{what} {job}: {found['note']}")
        if what == "voice":
            self._start("draw", job, USUAL, True)
            if job == VoiceJob(MAIN, 0):
                self._start("stock", MAIN, GRID)
                for setting in GRID:
                    self._start("draw", job, (setting,))

    def _start(self, what: str, job: Any, *more: Any) -> None:
        if self._seconds() < LIMIT_SECONDS:
            self._running[self._workers.submit(WORK[what], job, *more)] = (what, job)

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _note(self, text: str) -> None:
        line = f"{self._seconds():6.1f} s  {text}"
        print(line, file=sys.stderr, flush=True)  # noqa: T201
        with (self._out / "draw.log").open("a", encoding="utf-8") as log:
            log.write(line + "\n")


class _Archives:
    """A few tar files that are whole at any time; small ones travel better."""

    def __init__(self, out: Path) -> None:
        self._out, self._run = out, f"{datetime.now(UTC):%H%M%S}"
        self._files: list[dict[str, bytes]] = [{} for _ in range(ARCHIVES)]

    def add(self, name: str, content: Any) -> None:
        number = min(range(ARCHIVES), key=lambda i: sum(map(len, self._files[i].values())))
        self._files[number][name] = gzip.compress(json.dumps(content, ensure_ascii=False).encode(), 6)
        part = self._out / ".part"
        with tarfile.open(part, "w") as tar:
            for name_, data in self._files[number].items():
                info = tarfile.TarInfo(f"{name_}.json.gz")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        os.replace(part, self._out / f"drawn-{self._run}-{number}.tar")
