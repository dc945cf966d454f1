"""What a fine-tuning job does: train, publish, evaluate. Drafts are let in between the steps."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from storage.errors import LikemeError, ModelError
from training import adapters
from training.accelerator import Accelerator
from training.adapters import Version, training_files
from training.engine import checkpoint, loop, parallel, recipe
from training.engine.model import Base
from training.evaluation.versions import measure
from training.files import Files, parse
from training.job_records import Job
from training.protocol import SamplingParams
from training.shortage import shortage

log = logging.getLogger(__name__)


class Left(Exception):
    """The work was left, for the server stops or the job was cancelled; the message says when."""


class Tell(Protocol):
    """How an event of the job is told."""

    def __call__(self, message: str, data: dict[str, Any] | None = None, level: str = "info") -> None: ...


@dataclass(frozen=True, slots=True)
class Work:
    """One job's work, for a thread that holds the accelerator. `wish` is asked between the steps."""

    job: Job
    base: Base
    home: Path
    files: Files
    accelerator: Accelerator
    dollars_per_hour: float
    tell: Tell
    wish: Callable[[], loop.Wish]

    def do(self) -> str:
        """Go on from the last part that was done; what there is to say at the end. Left when `wish` is another."""
        job, content = self.job, self.files.content
        held_out = content(job["validation_file"]) if job["validation_file"] else b""
        published = adapters.of_job(self.home / "adapters", job["id"]) or self._trained(held_out)
        note_voice(job, published)
        try:
            self._evaluate(published, held_out)
        except Left:
            raise
        except Exception as error:  # the voice is trained and published: that is not lost
            if shortage(error, self.home):
                raise
            log.exception("job %s: not evaluated", job["id"])
            reason = str(error) if isinstance(error, LikemeError) else f"unforeseen {type(error).__name__}, see the log"
            tell_not_evaluated(self.tell, published, reason)
        return f"{published.name} is ready: {_cost(published.manifest['metrics'])}."

    def _trained(self, held_out: bytes) -> Version:
        """Train and publish."""
        job, start = self.job, self._start()
        chosen = _recipe_of(job, self.base, start)
        examples = parse(self.files.content(job["training_file"]))
        validation = parse(held_out) if held_out else []
        begun = start.name if start else self.base.name
        self.tell(f"Training {begun} by recipe {chosen.name} on {len(examples)} examples.")
        out = self.home / "runs" / job["id"]
        result = loop.train(
            self.base,
            chosen,
            examples,
            validation,
            out,
            self._measured,
            self._between_steps,
            job["seed"],
            start.path if start else None,
        )
        if result.adapter is None:
            raise Left(f"after step {result.steps}")
        manifest = self._manifest(start, chosen, len(examples), len(validation), result)
        published = adapters.publish(self.home / "adapters", result.adapter, manifest)
        checkpoint.remove(out)
        return published

    def _between_steps(self) -> loop.Wish:
        self.accelerator.hand_over()
        return self.wish()

    def _start(self) -> Version | None:
        """The voice that the job goes on from; None: it begins with the base."""
        model, base = self.job["model"], self.base.name
        if model == base:
            return None
        start = adapters.find(self.home / "adapters", model)
        if start is None:
            raise ModelError(f"{model} is no longer here: train from {base}.")
        adapters.verify(start)
        if start.manifest["base_model"] != base:
            raise ModelError(f"{start.name} is a voice of {start.manifest['base_model']}: train from {base}.")
        return start

    def _manifest(
        self, start: Version | None, chosen: recipe.Recipe, examples: int, held_out: int, result: loop.Result
    ) -> dict[str, Any]:
        job = self.job
        return {
            "base_model": self.base.name,
            "quantization": "nf4" if self.base.in_4_bits else None,
            "started_from": start.name if start else None,
            "created_at": int(time.time()),
            "recipe": chosen.model_dump(),
            "seed": job["seed"],
            "job": job["id"],
            "training_file": job["training_file"],
            "earlier_files": training_files(start) if start else [],
            "validation_file": job["validation_file"],
            "data_sha256": job["metadata"].get("data_sha256"),
            "examples": examples,
            "held_out": held_out,
            "likeme": version("likeme"),
            "metrics": {
                **result.metrics,
                "steps": result.steps,
                "tokens": result.tokens,
                "reply_tokens": result.reply_tokens,
                "seconds": round(result.seconds, 1),
                "dollars": round(self._dollars(result.seconds * parallel.size()), 4),
            },
        }

    def _evaluate(self, published: Version, held_out: bytes) -> None:
        """Measure the new voice; its evaluation becomes the job's result file."""
        if not held_out:
            return
        wanted = self.job["metadata"]
        found = measure(
            self.base,
            self.files,
            published,
            held_out,
            serving=adapters.find(self.home / "adapters", wanted.get("serving", "")),
            extent=wanted.get("evaluation", "full"),
            sampling=SamplingParams(**json.loads(wanted.get("sampling", "{}"))).sampling(),
            tell=lambda part, share: self._measured({"evaluating": part, "share": round(share, 3)}),
            between=self._between_parts,
        )
        content = json.dumps(found, ensure_ascii=False).encode()
        self.job["result_files"] = [self.files.keep(content, f"{published.name}.json", "fine-tune-results").id]
        seconds = published.manifest["metrics"]["seconds"] + found["seconds"]
        price = {"seconds": round(seconds, 1), "dollars": round(self._dollars(seconds), 4)}
        self.tell(found["gate"]["reason"], {"gate": found["gate"], **price})

    def _between_parts(self) -> None:
        if self._between_steps() != "go on":
            raise Left("during the evaluation")

    def _measured(self, data: dict[str, Any]) -> None:
        self.tell(_in_words(data), data)

    def _dollars(self, seconds: float) -> float:
        return seconds / 3600 * self.dollars_per_hour


def note_voice(job: Job, published: Version) -> None:
    """What the job's record says of its voice."""
    job["fine_tuned_model"] = published.name
    job["trained_tokens"] = published.manifest["metrics"]["tokens"]


def tell_not_evaluated(tell: Tell, published: Version, reason: str) -> None:
    """With its reason: such a voice is kept back, and its owner wants to know why."""
    tell(f"{published.name} could not be evaluated: {reason}", {"not_evaluated": reason}, "error")


def default_recipe(base: Base) -> str:
    """`fast` with a GPU (`qdora` over a base in 4 bits), `embedded` without."""
    if base.in_4_bits:
        return "qdora"
    return "fast" if base.device.type == "cuda" else "embedded"


def _recipe_of(job: Job, base: Base, start: Version | None) -> recipe.Recipe:
    """The job's recipe, or that of the voice it goes on from, with the numbers that the job changes."""
    usual = start.manifest["recipe"]["name"] if start else default_recipe(base)
    wanted = {name: value for name, value in job["hyperparameters"].items() if value != "auto"}
    changes = {"epochs": wanted["n_epochs"]} if "n_epochs" in wanted else {}
    chosen = recipe.load(job["metadata"].get("recipe") or usual, **changes)
    rate = chosen.learning_rate * wanted.get("learning_rate_multiplier", 1.0)
    return chosen.model_copy(update={"learning_rate": rate})


def _in_words(data: dict[str, Any]) -> str:
    if "message" in data:
        return str(data["message"])
    if "evaluating" in data:
        return f"Evaluating ({data['share']:.0%}): {data['evaluating']}"
    if "train_loss" in data:
        return f"Step {data['step']} of {data['total_steps']}: loss {data['train_loss']:.3f}"
    if "valid_loss" in data:
        return f"Held-out loss {data['valid_loss']:.3f} after step {data['step']}"
    return f"The stock model's held-out loss is {data['stock_valid_loss']:.3f}"


def _cost(metrics: dict[str, float]) -> str:
    speed = f", {metrics['tokens_per_second']:,.0f} tokens/s" if "tokens_per_second" in metrics else ""
    hours = f", {metrics['gpu_hours']:.3f} GPU-hours" if "gpu_hours" in metrics else ""
    return f"{metrics['seconds']:,.0f} s{speed}{hours}, ${metrics['dollars']:.2f}"
