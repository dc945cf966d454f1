"""Attention inside packed rows: each example by itself, through torch's causal kernel, no mask at all.

transformers would build a block-diagonal mask from restarting positions, but only with attention_mask
None *and* use_cache False: with its default the examples silently attend to each other. Here a row's
plan says which places belong together, so nothing can leak, and nothing is computed only to be masked.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from training.engine.packing import Row

NAME = "likeme_rows"
ROUNDING = {torch.float32: 1e-3}  # of the logits' norm: an example that sees its neighbour differs by more
COARSE_ROUNDING = 0.05  # bf16

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the tokens of a row's examples stand.

    Examples of about one length are one group: `gather[g]` (examples, longest) are their places in the
    row, padded behind with 0; causal attention never looks there. `scatter` (tokens,) finds a row's
    tokens again in the groups' outputs, laid end to end.
    """

    gather: tuple[torch.Tensor, ...]
    scatter: torch.Tensor


def plan(row: Row, device: torch.device) -> Plan:
    """The plan of one row. A token that several examples share is taken from the last of them."""
    scatter = [0] * len(row.ids)
    gather, behind = [], 0
    for group in _groups(row.spans):
        longest = len(group[0])
        gather.append(torch.tensor([span + [0] * (longest - len(span)) for span in group], device=device))
        for span in group:
            for index, place in enumerate(span):
                scatter[place] = behind + index
            behind += longest
    return Plan(tuple(gather), torch.tensor(scatter, device=device))


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,  # (1, heads, tokens, size)
    key: torch.Tensor,  # (1, key heads, tokens, size)
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    plan: Plan | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention function: as "sdpa", unless the call brings a row's plan."""
    if plan is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    outputs = []
    for gather in plan.gather:
        own_query, own_key, own_value = (_take(states, gather) for states in (query, key, value))
        output = F.scaled_dot_product_attention(
            own_query,
            own_key,
            own_value,
            dropout_p=options.get("dropout", 0.0),
            is_causal=True,
            scale=options.get("scaling"),
            enable_gqa=own_key.shape[1] != own_query.shape[1],
        )  # (examples, heads, longest, size)
        outputs.append(output.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs).index_select(0, plan.scatter)[None], None  # (1, tokens, heads, size)


def install(model: PreTrainedModel) -> bool:
    """Make `model` attend by plan where one is given. False: its examples would not stay apart."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    try:
        model.set_attn_implementation(NAME)
        return _stay_apart(model)
    except Exception as error:  # a model's own code may raise anything; there is a slower way that always works
        log.info("%s does not take packed rows (%s)", type(model).__name__, type(error).__name__)
        model.set_attn_implementation("sdpa")
        return False


@torch.inference_mode()
def _stay_apart(model: PreTrainedModel) -> bool:
    """Tried, not assumed: a packed example's logits against the same example's alone.

    State-space layers, sliding windows and attention of a model's own would show here.
    """
    if getattr(model.config.get_text_config(), "sliding_window", None):
        return False
    first, second, shared = list(range(40, 72)), list(range(90, 100)), list(range(20, 26))
    row = Row(
        ids=shared + first + second,
        positions=[*range(6), *range(6, 38), *range(6, 16)],
        keep=[*range(38, 48)],
        targets=[],
        spans=[[*range(38)], [*range(6), *range(38, 48)]],
    )
    packed = reply_logits(model, row, model.device).float()
    alone = model(input_ids=torch.tensor([shared + second], device=model.device), use_cache=False)
    expected = alone.logits[0, 6:].float()
    allowed = ROUNDING.get(alone.logits.dtype, COARSE_ROUNDING) * expected.norm()
    return bool((packed - expected).norm() < allowed)


def reply_logits(model: Any, row: Row, device: torch.device) -> torch.Tensor:
    """Logits at the places that predict reply tokens: (reply tokens, vocabulary)."""
    output = model(
        input_ids=torch.tensor([row.ids], device=device),
        position_ids=torch.tensor([row.positions], device=device),
        use_cache=False,
        logits_to_keep=torch.tensor(row.keep, device=device),
        **({"plan": plan(row, device)} if len(row.spans) > 1 else {}),
    )
    logits: torch.Tensor = output.logits[0]
    return logits


def _take(states: torch.Tensor, gather: torch.Tensor) -> torch.Tensor:
    """(1, heads, tokens, size) -> (examples, heads, longest, size)."""
    heads, _, size = states.shape[1:]
    taken = states[0].index_select(1, gather.flatten())
    return taken.view(heads, *gather.shape, size).transpose(0, 1)


def _groups(spans: Sequence[list[int]]) -> list[list[list[int]]]:
    """Longest first; a group ends where an example is less than half as long as the group's first."""
    groups: list[list[list[int]]] = []
    for span in sorted(spans, key=lambda span: -len(span)):
        if not groups or 2 * len(span) < len(groups[-1][0]):
            groups.append([])
        groups[-1].append(span)
    return groups
