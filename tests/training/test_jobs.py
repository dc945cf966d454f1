"""The queue of jobs, without HTTP."""

import time
from pathlib import Path
from typing import Any

import pytest

from storage.errors import OutOfMemory
from tests.model_fixtures import TINY, tiny_base
from tests.training.test_server import examples
from training import adapters
from training.serving import Serving


class Server:
    """A job under way, and what is said of it."""

    def __init__(self, home: Path, tokenizer: Any) -> None:
        self.home = home
        serving = Serving(home, TINY, loader=lambda: tiny_base(tokenizer))
        train, held_out = (serving.files.add(examples(n, 500 * n), "words.jsonl", "fine-tune").id for n in (8, 2))
        request = {"model": TINY, "training_file": train, "validation_file": held_out}
        self.jobs = serving.jobs
        self.job_id = self.jobs.create({**request, "metadata": {"recipe": "embedded", "evaluation": "short"}})["id"]

    @property
    def job(self) -> dict[str, Any]:
        job = self.jobs.records.get(self.job_id)
        assert job is not None
        return job

    def told(self, what: str) -> None:
        """Until it is said."""
        while not any(what in event["message"] for event in self.jobs.records.events(self.job_id)):
            time.sleep(0.01)

    def is_cancelled(self) -> None:
        assert (self.job["status"], self.job["fine_tuned_model"]) == ("cancelled", None)
        assert adapters.versions(self.home / "adapters") == []


@pytest.fixture
def server(tmp_path: Path, smollm2_tokenizer: Any) -> Server:
    return Server(tmp_path, smollm2_tokenizer)


def test_what_was_cancelled_stays_so_though_the_server_stops_at_once(server: Server) -> None:
    server.told("Evaluating")
    server.jobs.cancel(server.job_id)
    server.jobs.stop()
    server.is_cancelled()


def test_a_voice_whose_evaluation_waits_for_the_card_goes_with_its_job(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OutOfMemory("somebody plays")

    monkeypatch.setattr("training.fine_tuning.measure", full)
    server.told("The next try")
    server.jobs.cancel(server.job_id)
    server.told("Cancelled")
    server.jobs.stop()
    server.is_cancelled()
