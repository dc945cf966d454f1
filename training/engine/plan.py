"""What fits: how a training run uses the card's memory, from the fastest way down to the smallest.

The numbers are estimates, meant to be a little too high; `make bench-train` prints them beside what was
measured. Where they are wrong, or somebody starts a game, the loop goes down one rung and on from the same step.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedModel

from training.engine.decoder import USUAL
from training.engine.recipe import Recipe

GIB = 2**30
# What the graphs of drafts keep between the steps, with the libraries' workspaces and the room for a voice: on the 8B
# model drafting took 0.7 GiB on the card, 0.1 of it keys and values.
GRAPHS = 6 * GIB // 10
WASTE = 1.35  # what the allocator keeps for the activations of several captured shapes; measured on the 8B model
LEAST_FULL_ROW = 1024  # below it, checkpointing layers costs less than smaller rows do
SMALLEST_ROW = 256
LOGIT_CHUNK = 512  # reply tokens whose logits exist at once (reply_loss.py): fewer read the whole vocabulary too often


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to train. `checkpointed`: how many layers compute their activations again in the backward pass."""

    row_tokens: int
    checkpointed: int
    host_embeddings: bool


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on the card, by what they hold."""

    weights: int
    activations: int
    optimizer: int
    logits: int
    drafts: int  # between the steps

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.activations + self.optimizer + self.logits + self.drafts

    def __str__(self) -> str:
        parts = {"weights": self.weights, "activations": self.activations, "optimiser": self.optimizer}
        parts |= {"logits": self.logits, "drafts": self.drafts}
        listed = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts.items())
        return f"{listed}: {self.total / GIB:.1f} GiB"


def ladder(model: PreTrainedModel, recipe: Recipe) -> Iterator[Plan]:
    """Every plan, the fastest first: whole steps in a row, smaller rows, more and more layers checkpointed.

    Rows shrink by a tenth at a time: a step that just misses one row pays for the weights' way to the chip twice.
    """
    layers = model.config.get_text_config().num_hidden_layers
    first = layers if recipe.gradient_checkpointing else 0
    plan = Plan(recipe.row_tokens, first, False)
    yield plan
    if not _tied(model):
        plan = replace(plan, host_embeddings=True)
        yield plan
    while (smaller := plan.row_tokens * 9 // 10 // 64 * 64) >= LEAST_FULL_ROW:
        plan = replace(plan, row_tokens=smaller)
        yield plan
    for quarter in (1, 2, 3, 4):
        if layers * quarter // 4 > plan.checkpointed:
            plan = replace(plan, checkpointed=layers * quarter // 4)
            yield plan
    while plan.row_tokens >= 2 * SMALLEST_ROW:
        plan = replace(plan, row_tokens=plan.row_tokens // 2)
        yield plan


def choose(model: PreTrainedModel, recipe: Recipe, budget: int | None) -> Iterator[Plan]:
    """The ladder from the first plan that should fit `budget` bytes (None: from the top) down; never empty."""
    plans = list(ladder(model, recipe))
    fitting = (i for i, plan in enumerate(plans) if budget is None or needed(model, recipe, plan).total <= budget)
    return iter(plans[next(fitting, len(plans) - 1) :])


def smallest(model: PreTrainedModel, recipe: Recipe) -> Memory:
    """What the last rung takes: less than this can't train the model."""
    *_, last = ladder(model, recipe)
    return needed(model, recipe, last)


def needed(model: PreTrainedModel, recipe: Recipe, plan: Plan) -> Memory:
    """What a plan takes, estimated from the model's shape."""
    config = model.config.get_text_config()
    embeddings: torch.nn.Parameter = model.get_input_embeddings().weight  # type: ignore[assignment]
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    if plan.host_embeddings:
        weights -= embeddings.numel() * embeddings.element_size()
    size = embeddings.element_size()
    kept = config.num_hidden_layers - plan.checkpointed
    per_layer = _kept_numbers(config, recipe, fused=not recipe.dropout and _plain(model))
    # A checkpointed layer keeps its input, and one of them at a time is computed again in full.
    numbers = kept * per_layer + plan.checkpointed * config.hidden_size + (per_layer if plan.checkpointed else 0)
    return Memory(
        weights=weights,
        activations=int(plan.row_tokens * numbers * size * WASTE),
        optimizer=_trained_numbers(config, recipe) * 4 * 4,  # value, gradient, two moments, in fp32
        logits=LOGIT_CHUNK * config.vocab_size * 2 * 3,
        drafts=GRAPHS + _written_numbers(config) * size,
    )


def _kept_numbers(config: Any, recipe: Recipe, fused: bool) -> int:
    """Numbers a layer keeps for its backward pass, for each token."""
    hidden, inner = config.hidden_size, config.intermediate_size
    query, key = _attention_widths(config)
    if fused:  # gate and up; what the projections gave, then normed and turned; what was attended, and the residuals
        adapted = inner + hidden if recipe.targets == "all-linear" else 0
        return int(2 * inner + 4 * hidden + 4 * query + 4 * key + adapted)
    numbers = 2 * inner + 6 * hidden + 4 * query + 4 * key  # gate, up; norms and residuals; q, k, v, their sums
    if recipe.targets == "all-linear":
        numbers += 3 * inner + hidden
    return int(numbers)


def _trained_numbers(config: Any, recipe: Recipe) -> int:
    hidden, inner = config.hidden_size, config.intermediate_size
    query, key = _attention_widths(config)
    shapes = {
        "q_proj": (hidden, query),
        "k_proj": (hidden, key),
        "v_proj": (hidden, key),
        "o_proj": (query, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }
    wanted = shapes.keys() if recipe.targets == "all-linear" else set(recipe.targets)
    per_layer: int = sum(recipe.rank * sum(shape) + shape[1] for name, shape in shapes.items() if name in wanted)
    layers: int = config.num_hidden_layers
    return layers * per_layer


def _written_numbers(config: Any) -> int:
    """Keys and values of the replies to a usual card, and of its prompt."""
    prompt, replies, longest = USUAL
    _, key = _attention_widths(config)
    layers: int = config.num_hidden_layers
    return layers * 2 * key * (prompt + replies * longest)


def _attention_widths(config: Any) -> tuple[int, int]:
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return config.num_attention_heads * size, config.num_key_value_heads * size


def _plain(model: PreTrainedModel) -> bool:
    """Whether its weights are numbers as they are, which fused.py asks for."""
    head = model.get_output_embeddings()
    return all(type(m) is torch.nn.Linear for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head)


def _tied(model: PreTrainedModel) -> bool:
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    return head is None or head.weight is embeddings.weight
