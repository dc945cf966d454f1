"""A voice and its base as one plain model: W' = g·(W + s·BA), for engines that take no DoRA (vLLM, llama.cpp, Ollama).

The base's own safetensors are read and written tensor by tensor, a shard of at most a few GB at a time: what is in
memory is one shard, whatever the model's size. The base itself is never loaded.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers.utils.hub import cached_file

from storage.errors import BadInput
from training.engine.dora import peft_names

SHARD_BYTES = 2 * 2**30
INDEX = "model.safetensors.index.json"
_ROWS = 4096  # of a weight at once in fp32

Adapter = dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]  # by weight's name: A, B, magnitude


def merge(base: str, adapter: Path, target: Path, on_progress: Callable[[int, int], None]) -> None:
    """Write the merged model into the new folder `target`. `on_progress` gets bytes done and of all.

    `base` is a folder or a hub name whose files are on this machine.
    """
    source = _folder(base)
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    changes = _read(adapter)
    files = sorted(source.glob("*.safetensors"))
    if not files:
        raise BadInput(f"{base} has no safetensors on this machine: download it once with `hf download {base}`.")
    missing = set(changes) - {name for file in files for name in _names(file)}
    if missing:
        raise BadInput(f"{base} has no weight {sorted(missing)[0]}: the voice was made for another base model.")
    total = sum(file.stat().st_size for file in files)
    scaling = config["lora_alpha"] / config["r"]
    where: dict[str, str] = {}
    done = 0
    for number, shard in enumerate(_shards(files, changes, scaling), 1):
        name = f"model-{number:05d}.safetensors"
        save_file(shard, str(target / name), metadata={"format": "pt"})
        where |= dict.fromkeys(shard, name)
        done += sum(tensor.nbytes for tensor in shard.values())
        on_progress(min(done, total), total)
    (target / INDEX).write_text(json.dumps({"metadata": {"total_size": done}, "weight_map": where}, indent=1))
    for file in source.iterdir():
        if file.is_file() and file.suffix in (".json", ".jinja", ".txt", ".model") and ".index." not in file.name:
            shutil.copyfile(file, target / file.name)


def _shards(files: list[Path], changes: Adapter, scaling: float) -> Iterator[dict[str, torch.Tensor]]:
    """The base's tensors, the voice's merged in, as many at a time as fill a shard."""
    shard: dict[str, torch.Tensor] = {}
    size = 0
    for file in files:
        with safe_open(str(file), framework="pt") as opened:
            for name in opened.keys():
                tensor = opened.get_tensor(name)
                if name in changes:
                    tensor = merged(tensor, *changes[name], scaling)
                if shard and size + tensor.nbytes > SHARD_BYTES:
                    yield shard
                    shard, size = {}, 0
                shard[name] = tensor
                size += tensor.nbytes
    yield shard


def merged(
    weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, magnitude: torch.Tensor, scaling: float
) -> torch.Tensor:
    """m / ‖W + s·BA‖ · (W + s·BA), row by row, made in fp32 and rounded once: (rows, columns) in W's type."""
    parts = []
    for rows, up, size in zip(weight.split(_ROWS), b.split(_ROWS), magnitude.split(_ROWS), strict=True):
        sum_ = rows.float() + scaling * (up.float() @ a.float())
        parts.append((size.float() / sum_.norm(dim=1))[:, None].mul(sum_).to(weight.dtype))
    return torch.cat(parts)


def _read(adapter: Path) -> Adapter:
    tensors = load_file(str(adapter / "adapter_model.safetensors"))
    found: Adapter = {}
    for layer, names in peft_names(tensors).items():
        a, b, magnitude = (tensors[name] for name in names)
        found[f"{layer}.weight"] = (a, b, magnitude)
    return found


def _names(file: Path) -> list[str]:
    with safe_open(str(file), framework="pt") as opened:
        return list(opened.keys())


def _folder(base: str) -> Path:
    if Path(base).is_dir():
        return Path(base)
    try:
        config = cached_file(base, "config.json", local_files_only=True)
    except OSError as error:
        raise BadInput(f"{base} is not on this machine: download it once with `hf download {base}`.") from error
    assert config is not None
    return Path(config).parent
