"""Measure a published version: what it learned from is found by its manifest, what was found lies beside it."""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from storage.durable import write_private
from storage.errors import BadInput
from training import adapters
from training.adapters import Version
from training.engine.model import Base
from training.engine.recipe import Recipe
from training.evaluation import audit
from training.evaluation.evaluate import FULL, SHORT, Conversation, Tell, Voices, evaluate
from training.files import Files, parse
from training.generate import Sampling

NAME = "evaluation.json"
EXTENTS = {"full": FULL, "short": SHORT}


def measure(
    base: Base,
    files: Files,
    version: Version,
    held_out: bytes,
    *,
    serving: Version | None,
    extent: str,
    canaries: bool = False,
    sampling: Sampling,
    tell: Tell,
    between: Callable[[], None],
) -> dict[str, Any]:
    """The evaluation of `version` on the conversations of `held_out`, as JSON; its numbers are written to its folder.

    `serving` is what it is held against beside the stock model; with `canaries` another voice is trained like this one,
    from the base model on, and searched for what it memorised. ModelError when a voice is damaged.
    """
    chosen = EXTENTS.get(extent)
    if chosen is None:
        raise BadInput(f"There is no evaluation {extent!r}: choose one of {', '.join(EXTENTS)}.")
    for voice in (version, *([serving] if serving else [])):
        adapters.verify(voice)
        base.load(voice.name, voice.path)
    voices = Voices(
        version.name,
        _learned_from(files, version),
        serving.name if serving else None,
        _learned_from(files, serving) if serving else (),
    )
    stages = _stages(files, version) if canaries else []
    recipe = version.manifest["recipe"]
    found = evaluate(
        base,
        voices,
        parse(held_out),
        recipe["row_tokens"],
        extent=chosen,
        sampling=sampling,
        tell=tell,
        between=between,
    ).plain(recipe.get("most_forgotten", 0.0))
    if canaries:
        found["leaks"]["canaries"] = _audited(base, stages, version, tell, between)
    numbers = {**found, "drafts": [], "samples": []}  # no words of anybody's, who may want them forgotten
    write_private(version.path / NAME, json.dumps(numbers, ensure_ascii=False, indent=1).encode())
    return found


def _audited(
    base: Base, stages: Sequence[audit.Stage], version: Version, tell: Tell, between: Callable[[], None]
) -> list[dict[str, Any]]:
    """The exposure of canaries in a voice trained as `version` was, which is thrown away again."""
    with tempfile.TemporaryDirectory(dir=version.path.parent, prefix=".audit-") as folder:
        found = audit.audit(
            base,
            stages,
            Path(folder),
            tell=lambda share: tell("training the audit voice", share),
            between=between,
        )
    return [asdict(exposure) for exposure in found]


def _stages(files: Files, version: Version) -> list[audit.Stage]:
    """The trainings that a version came about by, oldest first. BadInput when one of them is not known any more."""
    line = [version]
    while (name := line[0].manifest.get("started_from")) is not None:
        start = adapters.find(version.path.parent, name)
        if start is None:
            raise BadInput(
                f"{version.name} went on from {name}, which was removed: nobody can say what it memorised before. "
                "Audit a voice that began with the base model."
            )
        line.insert(0, start)
    return [_stage(files, one) for one in line]


def _stage(files: Files, version: Version) -> audit.Stage:
    trained = version.manifest
    held_out = trained.get("validation_file")
    return audit.Stage(
        Recipe(**{"most_forgotten": 0.0, **trained["recipe"]}),
        trained["seed"],
        parse(files.content(trained["training_file"])),
        parse(files.content(held_out)) if held_out and files.get(held_out) else (),
    )


def _learned_from(files: Files, version: Version) -> list[Conversation]:
    """All its training sets. BadInput when one has been deleted: without it nobody can say what is recited."""
    learned: list[Conversation] = []
    for name in adapters.training_files(version):
        if files.get(name) is None:
            raise BadInput(f"A training file of {version.name} ({name}) is gone: train again, or evaluate another one.")
        learned += parse(files.content(name))
    return learned
