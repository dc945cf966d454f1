"""`python -m training export`: a version as files for other programs. Reads the disk alone, no server is needed.

Its progress goes to stdout, a line of JSON each: {"done": bytes, "total": bytes}; the last is {"folder": …}.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from storage.errors import BadInput
from training import adapters
from training.adapters import Version

CARD = """\
---
base_model: {base}
library_name: {library}
tags: [dora, likeme]
---
# {name}: one person's voice

{what} of {base}, trained by likeme {likeme} on private messages of one person, to draft replies in that
person's manner. It can repeat what it was trained on: give it to nobody who may not read those messages.

| | |
|---|---|
| base model | {base} |
| went on from | {start} |
| recipe | {recipe} |
| examples | {examples} to train on, {held_out} held out |
| held-out loss | {valid} (stock model {stock}) |
| data | sha256 {data} |

Asked with the chat template, thinking off, after the system line that it was trained with:

> {system}
"""


def main(arguments: list[str]) -> None:
    """Write the folder, whole or not at all."""
    parser = argparse.ArgumentParser(prog="python -m training export")
    parser.add_argument("number", type=int)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--merged", action="store_true", help="one plain model instead of an adapter")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    version = adapters.find(given.home / "adapters", f"{adapters.PREFIX}{given.number:04d}")
    if version is None:
        raise BadInput(f"Version {given.number} has no files in {given.home / 'adapters'}: likeme versions lists them.")
    if given.out.exists() and any(given.out.iterdir()):
        raise BadInput(f"{given.out} holds files already: name an empty or new folder.")
    adapters.verify(version)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=given.out.parent, prefix=".exporting-"))
    try:
        _merged(version, given.home, scratch) if given.merged else _adapter(version, scratch)
        if given.out.exists():
            given.out.rmdir()
        scratch.rename(given.out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _say(folder=str(given.out.resolve()))


def _adapter(version: Version, folder: Path) -> None:
    for name in version.manifest["files"]:
        shutil.copyfile(version.path / name, folder / name)
    (folder / "README.md").write_text(card(version, "A DoRA adapter (PEFT)", "peft"), encoding="utf-8")


def _merged(version: Version, home: Path, folder: Path) -> None:
    if version.manifest.get("quantization"):
        raise BadInput(
            f"{version.name} was trained over a base in 4 bits: merged into 16 it would be another voice. "
            "Export the adapter, or train with QUANTIZATION=none."
        )
    from training.engine.merge import merge
    from training.engine.model import EMBEDDED, embedded

    base = version.manifest["base_model"]
    source = str(embedded(home / "models")) if base == EMBEDDED else base
    merge(source, version.path, folder, lambda done, total: _say(done=done, total=total))
    (folder / "README.md").write_text(card(version, "A merged model", "transformers"), encoding="utf-8")


def card(version: Version, what: str, library: str) -> str:
    """The model card: what it is, what it was made of, how to ask it."""
    from training.dataset.render import SYSTEM

    it = version.manifest
    metrics: dict[str, Any] = it["metrics"]
    shown = ("rank", "alpha", "dropout", "learning_rate", "epochs", "examples_per_step", "max_tokens")
    numbers = ", ".join(f"{name} {it['recipe'][name]:g}" for name in shown)
    return CARD.format(
        base=it["base_model"],
        library=library,
        name=version.name,
        what=what,
        likeme=it["likeme"],
        start=it.get("started_from") or "the base model",
        recipe=f"{it['recipe']['name']}: {numbers}, {it['recipe']['targets']}",
        examples=it["examples"],
        held_out=it["held_out"],
        valid=_loss(metrics.get("valid_loss")),
        stock=_loss(metrics.get("stock_valid_loss")),
        data=it.get("data_sha256") or "not noted",
        system=SYSTEM,
    )


def _loss(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def _say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()
