"""PEFT's DoRA without building B·A: the same numbers, the same files (arXiv 2402.09353).

PEFT multiplies B and A out through an identity matrix, in fp32, at every forward, to get the row norms
of W + s·BA. Here they come from ‖W‖² + 2s⟨W,BA⟩ + s²‖BA‖², row by row, and are kept until A or B change:
fused AdamW does not bump a tensor's version, so the optimiser's own step hook says when that is.
"""

from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from peft.tuners.lora.layer import Linear
from peft.tuners.lora.variants import DoraLinearVariant


class Factored(DoraLinearVariant):
    """Takes DoraLinearVariant's place in one layer for one adapter."""

    def __init__(self) -> None:
        self._squares: torch.Tensor | None = None  # ‖W‖² of each row: constant
        self.inverse_norm: torch.Tensor | None = None  # 1 / ‖W + s·BA‖ of each row; None: A or B have changed

    def forward(  # type: ignore[override]  # PEFT's are static and keep nothing
        self, module: Any, active_adapter: str, x: torch.Tensor, result: torch.Tensor, **_: Any
    ) -> torch.Tensor:
        """`result` is Wx + bias; returns the layer's whole output, m/‖W + s·BA‖ · (W + s·BA)x + bias.

        With dropout PEFT's way: Wx + (g-1)·W·drop(x) + g·s·BA·drop(x), the norm a constant either way.
        """
        base: torch.nn.Linear = module.get_base_layer()
        scaling: float = module.scaling[active_adapter]
        magnitude: torch.Tensor = module.lora_magnitude_vector[active_adapter].weight
        g = magnitude * self._inverse_norm(module, active_adapter)  # (out,)
        dropout = module.lora_dropout[active_adapter]
        dropped = dropout(x)
        low: torch.Tensor = module.lora_B[active_adapter](module.lora_A[active_adapter](dropped))
        if module.training and not isinstance(dropout, torch.nn.Identity):
            return result + ((g - 1) * F.linear(dropped.to(base.weight.dtype), base.weight) + g * scaling * low)
        if base.bias is None:
            return g * torch.add(result, low, alpha=scaling)
        return g * torch.add(result - base.bias, low, alpha=scaling) + base.bias

    def _inverse_norm(self, module: Any, adapter: str) -> torch.Tensor:
        if self.inverse_norm is None:
            # A normal tensor even when a draft asks for it first: the backward pass will want to keep it.
            with torch.inference_mode(False), torch.no_grad():
                weight = module.get_base_layer().weight.float()
                if self._squares is None:
                    self._squares = weight.square().sum(1)
                a = module.lora_A[adapter].weight.float()
                b = module.lora_B[adapter].weight.float()
                s = module.scaling[adapter]
                cross = (b * (weight @ a.T)).sum(1)
                own = (b * (b @ (a @ a.T))).sum(1)
                self.inverse_norm = (self._squares + 2 * s * cross + s * s * own).rsqrt()
        return self.inverse_norm


def install(model: PeftModel, adapter: str) -> None:
    """Let `adapter`'s linear DoRA layers compute the short way. Its parameters stay PEFT's own."""
    for layer in _layers(model, adapter):
        if isinstance(layer.lora_variant.get(adapter), DoraLinearVariant):
            layer.lora_variant[adapter] = Factored()


def watch(optimizer: torch.optim.Optimizer, model: PeftModel, adapter: str) -> None:
    """Have every step of `optimizer` forget the norms that `adapter`'s layers keep."""
    kept = [layer.lora_variant[adapter] for layer in _layers(model, adapter)]

    def forget(*_: Any) -> None:
        for variant in kept:
            if isinstance(variant, Factored):
                variant.inverse_norm = None

    optimizer.register_step_post_hook(forget)


def _layers(model: PeftModel, adapter: str) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, Linear) and adapter in m.lora_A]
