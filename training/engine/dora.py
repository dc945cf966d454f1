"""DoRA over frozen linear layers (arXiv 2402.09353): PEFT's numbers and PEFT's files, computed the short way.

PEFT multiplies B and A out, in fp32, at every forward, to get the row norms of W + s·BA. Here they come
from ‖W‖² + 2s⟨W,BA⟩ + s²‖BA‖², row by row, and are kept until A or B change. Fused AdamW bumps no tensor's
version, so it is the optimiser's own step hook, and loading, that make them anew.

A voice is a copy of the base's module tree that shares every weight with it and has `DoraLinear` where the
recipe says: the base itself is never touched, and any number of voices stand beside it.
"""

import copy
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

_PREFIX = "base_model.model."  # of PEFT's names
_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
_ROWS = 1024  # of a weight at once in fp32
_TINY = 1e-12


class DoraLinear(nn.Module):
    """y = g·(Wx + s·BAx) + bias with g = m / ‖W + s·BA‖, the norm a constant in the backward pass.

    With dropout PEFT's way, Wx + (g-1)·W·drop(x) + g·s·BA·drop(x): twice the price, another regulariser.
    """

    def __init__(self, base_layer: nn.Module, rank: int, alpha: int, dropout: float) -> None:
        super().__init__()
        weight = plain_weight(base_layer)
        rows, columns = weight.shape
        self.base_layer = base_layer
        self.scaling = alpha / rank
        self.dropout = dropout
        self.lora_A = nn.Parameter(torch.empty(rank, columns, device=weight.device, dtype=torch.float32))
        self.lora_B = nn.Parameter(torch.zeros(rows, rank, device=weight.device, dtype=torch.float32))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))  # as PEFT does
        squares = torch.cat([part.float().square().sum(1) for part in weight.split(_ROWS)])
        self.magnitude = nn.Parameter(squares.sqrt())  # fp32: in bf16 its small steps would all be rounded away
        self.squares = nn.Buffer(squares)  # of each row of W: constant
        self.inverse_norm = nn.Buffer(squares.rsqrt())  # of W + s·BA

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, columns) -> (…, rows), in x's type; the sum is made in fp32."""
        dropped = F.dropout(x, self.dropout) if self.training and self.dropout else x
        low = F.linear(F.linear(dropped, self.lora_A.to(x.dtype)), self.lora_B.to(x.dtype)).float()
        g = self.magnitude * self.inverse_norm
        base: torch.Tensor = self.base_layer(x).float()
        bias: torch.Tensor | None = getattr(self.base_layer, "bias", None)
        again = base if dropped is x else self.base_layer(dropped).float()
        if bias is not None:
            again = again - bias
        tuned = g * (again + self.scaling * low)
        if dropped is not x:
            tuned = base - again + tuned
        elif bias is not None:
            tuned = tuned + bias
        return tuned.to(x.dtype)


def voice(model: PreTrainedModel, targets: Sequence[str] | str, rank: int, alpha: int, dropout: float) -> Any:
    """A copy of `model` that shares its weights, with a fresh adapter around each target layer."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, shared)
    twin.requires_grad_(False)
    for name in _target_names(twin, targets):
        layer = model.get_submodule(name)
        twin.set_submodule(name, DoraLinear(layer, rank, alpha, dropout))
    return twin


def layers(model: nn.Module) -> Iterator[tuple[str, DoraLinear]]:
    """The adapted layers with their names."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, DoraLinear))


def parameters(model: nn.Module) -> list[nn.Parameter]:
    """What is trained: A, B and m of every adapted layer."""
    return [p for _, layer in layers(model) for p in (layer.lora_A, layer.lora_B, layer.magnitude)]


@torch.no_grad()
def refresh(model: nn.Module) -> None:
    """Make the norms anew: A or B have changed. Layers of one shape go together, for the sake of a GPU's launches."""
    of_shape: dict[torch.Size, list[DoraLinear]] = {}
    for _, layer in layers(model):
        of_shape.setdefault(layer.lora_B.shape + layer.lora_A.shape, []).append(layer)
    for alike in of_shape.values():
        along_a = torch.stack([_along_a(layer) for layer in alike])
        a, b = (torch.stack([getattr(layer, name) for layer in alike]) for name in ("lora_A", "lora_B"))
        squares = torch.stack([layer.squares for layer in alike])
        norms = _fused() if a.is_cuda else _inverse_norms
        made = norms(squares, along_a, a, b, alike[0].scaling)
        torch._foreach_copy_([layer.inverse_norm for layer in alike], list(made.unbind(0)))


def checkpoint_layers(model: Any, number: int) -> None:
    """Let the first `number` decoder layers compute their activations again in the backward pass."""
    if not number:
        model.gradient_checkpointing_disable()
        return
    # Random numbers are drawn again alike only where there is dropout; a captured graph can't be asked for them.
    again = any(layer.dropout for _, layer in layers(model))
    options = {"use_reentrant": False, "preserve_rng_state": again}
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
    for layer in model.base_model.layers[number:]:
        layer.gradient_checkpointing = False


def save(model: nn.Module, folder: Path, base_name: str, targets: Sequence[str] | str) -> None:
    """Write the adapter as PEFT does: PeftModel.from_pretrained loads it and computes the same."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    first = None
    for name, layer in layers(model):
        first = first or layer
        for key, tensor in _peft_tensors(layer).items():
            tensors[f"{_PREFIX}{name}.{key}"] = tensor.detach().cpu().contiguous()
    assert first is not None
    rank = first.lora_A.shape[0]
    config = LoraConfig(
        r=rank,
        lora_alpha=round(first.scaling * rank),
        lora_dropout=first.dropout,
        use_dora=True,
        target_modules=targets if isinstance(targets, str) else sorted(targets),
        task_type="CAUSAL_LM",
        base_model_name_or_path=base_name,  # not this machine's path
        inference_mode=True,
    )
    config.save_pretrained(str(folder))
    save_file(tensors, str(folder / _WEIGHTS), metadata={"format": "pt"})


def load(model: PreTrainedModel, folder: Path) -> Any:
    """A voice of `model` from files that `save` or PEFT wrote. Raises ValueError, OSError or SafetensorError."""
    config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    if not config.get("use_dora"):
        raise ValueError("it is no DoRA adapter")
    tensors = load_file(str(folder / _WEIGHTS))
    speaking = voice(model, list(peft_names(tensors)), int(config["r"]), int(config["lora_alpha"]), 0.0)
    _fill(speaking, tensors)
    return speaking.requires_grad_(False).eval()


def go_on_from(model: nn.Module, folder: Path) -> None:
    """Give a fresh voice the numbers of a saved one. Raises as `load`, ValueError where the two differ in shape."""
    config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    rank, first = int(config["r"]), next(layers(model))[1]
    if rank != first.lora_A.shape[0] or int(config["lora_alpha"]) != round(first.scaling * rank):
        raise ValueError("its rank and alpha are not the recipe's")
    _fill(model, load_file(str(folder / _WEIGHTS)))


def peft_names(tensors: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The adapted layers' names, each with its tensors' as PEFT writes them: A, B, magnitude."""
    names = sorted({key.removeprefix(_PREFIX).rsplit(".lora_", 1)[0] for key in tensors})
    kinds = ("lora_A.weight", "lora_B.weight", "lora_magnitude_vector")
    return {name: tuple(f"{_PREFIX}{name}.{kind}" for kind in kinds) for name in names}


LOAD_ERRORS = (ValueError, KeyError, OSError, RuntimeError, AttributeError, SafetensorError)


def plain_weight(layer: nn.Module) -> torch.Tensor:
    """A layer's weight as numbers: (rows, columns). 4-bit ones are dequantised."""
    weight: torch.Tensor = layer.weight  # type: ignore[assignment]
    state = getattr(weight, "quant_state", None)
    if state is None:
        return weight
    import bitsandbytes.functional as bnb  # only where a 4-bit base was loaded

    plain: torch.Tensor = bnb.dequantize_4bit(weight.data, state)
    return plain


@torch.no_grad()
def _fill(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    for name, layer in layers(model):
        for key, tensor in _peft_tensors(layer).items():
            tensor.copy_(tensors.pop(f"{_PREFIX}{name}.{key}"))
    refresh(model)
    if tensors:
        raise ValueError("it has layers that are not adapted here")


def _along_a(layer: DoraLinear) -> torch.Tensor:
    weight = plain_weight(layer.base_layer)
    return F.linear(weight, layer.lora_A.to(weight.dtype))  # W·Aᵀ: (rows, rank)


def _inverse_norms(
    squares: torch.Tensor, along_a: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scaling: float
) -> torch.Tensor:
    """(layers, rows) from stacks of ‖W‖², W·Aᵀ, A and B."""
    cross = (b * along_a.float()).sum(2)
    own = (b * (b @ (a @ a.transpose(1, 2)))).sum(2)
    return (squares + 2 * scaling * cross + scaling**2 * own).clamp_min(_TINY).rsqrt()


@cache
def _fused() -> Any:
    return torch.compile(_inverse_norms)


def _peft_tensors(layer: DoraLinear) -> dict[str, torch.Tensor]:
    return {
        "lora_A.weight": layer.lora_A,
        "lora_B.weight": layer.lora_B,
        "lora_magnitude_vector": layer.magnitude,
    }


def _target_names(model: PreTrainedModel, targets: Sequence[str] | str) -> list[str]:
    head = model.get_output_embeddings()
    linear = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head]
    if targets == "all-linear":
        return linear
    wanted = tuple(targets)
    found = [name for name in linear if name.endswith(wanted) and _ends_at_a_dot(name, wanted)]
    if not found:
        raise ValueError(f"the base model has no layer named {', '.join(wanted[:4])}")
    return found


def _ends_at_a_dot(name: str, wanted: Sequence[str]) -> bool:
    return any(name == suffix or name.endswith(f".{suffix}") for suffix in wanted)
