"""Attention inside packed rows: each example sees the shared beginning and itself, through torch's own kernels.

transformers would build a block-diagonal mask from restarting positions, but only with attention_mask
None *and* use_cache False: with its default the examples silently attend to each other. Here a row's
plan says which places belong together, so nothing can leak, and nothing is computed only to be masked.
"""

import inspect
import logging
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from training.engine.packing import Row

NAME = "likeme_rows"
ROUNDING = {torch.float32: 1e-3}  # of the logits' norm: an example that sees its neighbour differs by more
COARSE_ROUNDING = 0.05  # bf16
ROUNDINGS = 3  # times the model's own rounding: more is no rounding any more

log = logging.getLogger(__name__)


class Groups(NamedTuple):
    """For the CPU: where the tokens of a row's examples stand.

    Examples of about one length are one group: `gather[g]` (examples, longest) are their places in the
    row, padded behind with 0; causal attention never looks there. `scatter` (tokens,) finds a row's
    tokens again in the groups' outputs, laid end to end.
    """

    gather: tuple[torch.Tensor, ...]
    scatter: torch.Tensor


class Segments(NamedTuple):
    """For the GPU: the row cut into segments, the shared beginning first, then the examples, then padding.

    `keys` (key tokens,) are the places that the segments see, each example's led by the shared beginning;
    `query_ends`, `key_ends` (segments + 1,) are int32 running sums; `longest` bounds a segment's keys.
    """

    keys: torch.Tensor | None  # None: every segment sees itself
    query_ends: torch.Tensor
    key_ends: torch.Tensor
    longest: int


Plan = Groups | Segments


def plan(row: Row, device: torch.device) -> Plan:
    """The plan of one row, unpadded."""
    if device.type == "cuda":
        return segments(row, len(row.ids), len(row.ends), device)
    return groups(row, device)


def groups(row: Row, device: torch.device) -> Groups:
    """A token that several examples share is taken from the last of them."""
    beginning = range(row.shared)
    spans = sorted(([*beginning, *own] for own in row.spans()), key=lambda span: -len(span))
    scatter = [0] * len(row.ids)
    gather, behind = [], 0
    for group in _of_about_one_length(spans):
        longest = len(group[0])
        gather.append(torch.tensor([span + [0] * (longest - len(span)) for span in group], device=device))
        for span in group:
            for index, place in enumerate(span):
                scatter[place] = behind + index
            behind += longest
    return Groups(tuple(gather), torch.tensor(scatter, device=device))


def segments(row: Row, tokens: int, examples: int, device: torch.device | str) -> Segments:
    """The plan of a row padded to `tokens` and to `examples` of them: its shapes depend on these two and `shared`."""
    ends = [*row.ends, *[row.ends[-1]] * (examples - len(row.ends))]
    query = [0, row.shared, *ends, tokens]
    beginning = range(row.shared)
    keys: list[int] = list(beginning)
    key_ends = [0, row.shared]
    for start, end in pairwise([row.shared, *ends]):
        keys += [*beginning, *range(start, end)]
        key_ends.append(len(keys))
    keys += range(ends[-1], tokens)
    key_ends.append(len(keys))
    longest = max(b - a for a, b in pairwise(key_ends))
    return Segments(
        torch.tensor(keys, device=device) if row.shared else None,
        torch.tensor(query, dtype=torch.int32, device=device),
        torch.tensor(key_ends if row.shared else query, dtype=torch.int32, device=device),
        longest,
    )


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,  # (1, heads, tokens, size)
    key: torch.Tensor,  # (1, key heads, tokens, size)
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    plan: Plan | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention function: as "sdpa", unless the call brings a row's plan. (1, tokens, heads, size)"""
    if plan is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    return by_plan(query, key, value, plan, options.get("scaling"), options.get("dropout", 0.0)), None


def by_plan(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    plan: Plan,
    scale: float | None = None,
    dropout: float = 0.0,
) -> torch.Tensor:
    """(1, heads, tokens, size) and twice (1, key heads, tokens, size) -> (1, tokens, heads, size)."""
    if isinstance(plan, Segments):
        return _by_segments(query, key, value, plan, scale)
    outputs = []
    for gather in plan.gather:
        own_query, own_key, own_value = (_take(states, gather) for states in (query, key, value))
        output = F.scaled_dot_product_attention(
            own_query,
            own_key,
            own_value,
            dropout_p=dropout,
            is_causal=True,
            scale=scale,
            enable_gqa=own_key.shape[1] != own_query.shape[1],
        )  # (examples, heads, longest, size)
        outputs.append(output.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs).index_select(0, plan.scatter)[None]


def install(model: PreTrainedModel) -> bool:
    """Make `model` attend by plan where one is given. False: its examples would not stay apart."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    try:
        model.set_attn_implementation(NAME)
        why = _seen(model)
    except Exception as error:  # a model's own code may raise anything; there is a slower way that always works
        model.set_attn_implementation("sdpa")
        why = type(error).__name__
    if why:
        log.warning("%s does not take packed rows (%s): it trains slower", type(model).__name__, why)
    return not why


@torch.inference_mode()
def _seen(model: PreTrainedModel) -> str:
    """Tried, not assumed: a packed example's logits against the same example's alone; "", or what is wrong with them.

    State-space layers, sliding windows and attention or heads of a model's own would show here.
    """
    if getattr(model.config.get_text_config(), "sliding_window", None):
        return "a sliding window"
    first, second, shared = list(range(40, 72)), list(range(90, 100)), list(range(20, 26))
    row = Row(
        ids=shared + first + second,
        positions=[*range(6), *range(6, 38), *range(6, 16)],
        keep=[*range(38, 48)],
        targets=[],
        shared=6,
        ends=[38, 48],
    )
    packed = reply_logits(model, row, model.device).float()
    ids = torch.tensor([shared + second], device=model.device)
    alone = model(input_ids=ids, use_cache=False).logits[0, 6:]
    expected = alone.float()

    def apart(found: torch.Tensor) -> float:
        return float((found - expected).norm() / expected.norm())

    if apart(packed) <= ROUNDING.get(alone.dtype, COARSE_ROUNDING):
        return ""
    # A deep model's rounding alone may be more. It shows where the same model computes the same in two pieces: for a
    # comparison with fp32 the card that takes the model in 16 bits has no room.
    read = model(input_ids=ids[:, :6], use_cache=True)
    again = model(input_ids=ids[:, 6:], past_key_values=read.past_key_values, use_cache=True).logits[0].float()
    if apart(packed) <= ROUNDINGS * apart(again):
        return ""
    return f"logits {apart(packed):.1e} apart, {apart(again):.1e} by rounding"


def reply_logits(model: Any, row: Row, device: torch.device) -> torch.Tensor:
    """Logits at the places that predict reply tokens: (reply tokens, vocabulary)."""
    output = model(
        input_ids=torch.tensor([row.ids], device=device),
        position_ids=torch.tensor([row.positions], device=device),
        use_cache=False,
        logits_to_keep=torch.tensor(row.keep, device=device),
        **({"plan": plan(row, device)} if len(row.ends) > 1 else {}),
    )
    logits: torch.Tensor = output.logits[0]
    return logits


_WINDOW = "window_size" in inspect.signature(varlen_attn).parameters
_GROUPED = "enable_gqa" in inspect.signature(varlen_attn).parameters


def _by_segments(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, plan: Segments, scale: float | None
) -> torch.Tensor:
    """Causal inside each segment; a segment's queries are the last of its keys (flash attention's alignment)."""
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))  # (tokens, heads, size)
    options: dict[str, Any] = {"scale": scale} | ({"window_size": (-1, 0)} if _WINDOW else {"is_causal": True})
    if plan.keys is not None:
        key, value = key.index_select(0, plan.keys), value.index_select(0, plan.keys)
    if _GROUPED:  # older ones take fewer key heads without asking
        options["enable_gqa"] = True
    longest = plan.longest
    output: Any = varlen_attn(query, key, value, plan.query_ends, plan.key_ends, longest, longest, **options)
    attended: torch.Tensor = output[None]
    return attended


def _take(states: torch.Tensor, gather: torch.Tensor) -> torch.Tensor:
    """(1, heads, tokens, size) -> (examples, heads, longest, size)."""
    heads, _, size = states.shape[1:]
    taken = states[0].index_select(1, gather.flatten())
    return taken.view(heads, *gather.shape, size).transpose(0, 1)


def _of_about_one_length(longest_first: list[list[int]]) -> list[list[list[int]]]:
    """A group ends where an example is less than half as long as the group's first."""
    groups: list[list[list[int]]] = []
    for span in longest_first:
        if not groups or 2 * len(span) < len(groups[-1][0]):
            groups.append([])
        groups[-1].append(span)
    return groups
