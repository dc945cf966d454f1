"""The captured step on a real card: the same gradients as operation by operation, at every shape. Skips without one."""

import copy
import random
from typing import Any

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from training.dataset.render import IGNORED, Encoded
from training.engine import dora, layers, recipe
from training.engine.model import Base, prepared
from training.engine.packing import shared_beginning
from training.engine.step import Captured, Eager
from training.generate import Sampling, _tokens

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]

RECIPE = recipe.load("fast", targets="all-linear")


class Ids:
    """What `prepared` asks of a tokenizer."""

    unk_token_id, pad_token_id, chat_template, eos_token = None, 3, "given", "<|im_end|>"

    def convert_tokens_to_ids(self, _: str) -> int:
        return 2


def tiny() -> Base:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=1000,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        tie_word_embeddings=False,
    )
    return prepared("tiny", Qwen3ForCausalLM(config).to("cuda", torch.bfloat16), Ids())


def batches() -> list[list[Encoded]]:
    draw = random.Random(0)

    def example() -> Encoded:
        ids = [*range(10, 18), *(draw.randrange(100, 900) for _ in range(draw.randrange(10, 60)))]
        prompt = draw.randrange(10, len(ids) - 2)
        return Encoded(ids, [IGNORED] * prompt + ids[prompt:])

    return [[example() for _ in range(size)] for size in (16, 16, 5, 16)]


@pytest.mark.parametrize("host_embeddings", [False, True])
def test_captured_steps_give_the_gradients_of_uncaptured_ones(host_embeddings: bool) -> None:
    base = tiny()
    base.host_embeddings(host_embeddings)
    voices = [dora.voice(base.model, "all-linear", 16, 32, 0.0).train() for _ in range(2)]
    with torch.no_grad():
        for one, other in zip(*map(dora.parameters, voices), strict=True):
            one.add_(torch.randn_like(one), alpha=0.02)
            other.copy_(one)
    for voice in voices:
        dora.refresh(voice)
    captured, plain = Captured(base, voices[0], RECIPE, 400), Eager(base, voices[1], RECIPE)
    for batch in batches():
        rows = base.rows(batch, 400, shared_beginning(batches()[0]))
        assert rows
        replies = sum(len(row.targets) for row in rows)
        losses = [[float(step.add(step.prepare(row, replies))) for row in rows] for step in (captured, plain)]
        assert sum(losses[0]) == pytest.approx(sum(losses[1]), rel=1e-2)
        ours, theirs = (
            torch.cat([p.grad.flatten() for p in step.parameters if p.grad is not None]) for step in (captured, plain)
        )
        assert (ours - theirs).norm() <= 0.03 * theirs.norm()
        captured.update(1e-3)
        plain.update(1e-3)
        with torch.no_grad():
            for one, other in zip(captured.parameters, plain.parameters, strict=True):
                assert (one - other).abs().mean() < 1e-3
                other.copy_(one)
            dora.refresh(voices[1])


def test_packed_examples_stay_apart_on_the_card() -> None:
    base = tiny()
    assert base.packs
    again = copy.copy(base)
    assert again.rows(batches()[0], 4096, 8)[0].shared == 8


def test_captured_decoding_gives_the_logits_of_uncaptured_layers() -> None:
    base = tiny()
    assert base.decoder is not None
    targets: list[Any] = ["all-linear", ["q_proj"]]
    voices = [None, *(dora.voice(base.model, chosen, 8, 8, 0.0) for chosen in targets)]
    for voice in voices[1:]:
        with torch.no_grad():
            for _, layer in dora.layers(voice):
                layer.lora_B.normal_(0, 0.05)
        dora.refresh(voice)
        voice.eval()
    draw = random.Random(1)
    for length in (7, 64, 65, 150, 7):
        for voice in (*voices, voices[0]):
            prompt = [draw.randrange(900) for _ in range(length)]
            replies = [[draw.randrange(900) for _ in range(4)] for _ in range(3)]
            with torch.no_grad():
                given = torch.tensor([[*prompt, *reply] for reply in replies], device="cuda")
                wanted = (voice or base.model)(input_ids=given, use_cache=False).logits[:, length - 1 :].float()
            writing = base.decoder.begin(voice, prompt, 3, 5)
            assert writing is not None
            found = [writing.logits.float().clone()]
            for ids in zip(*replies, strict=True):
                found.append(writing.go_on(torch.tensor(ids, device="cuda")).float().clone())
            assert (torch.stack(found, 1) - wanted).norm() < 0.02 * wanted.norm()


@pytest.mark.parametrize("heads", [(32, 8, 128), (9, 3, 64)], ids=str)
@pytest.mark.parametrize("normed", [True, False])
def test_the_kernel_attends_as_the_operations_do(heads: tuple[int, int, int], normed: bool) -> None:
    kernels = pytest.importorskip("training.engine.kernels")
    number, key_heads, size = heads
    for read, at in ((200, 31), (7, 0), (256, 63), (64, 1)):
        norms = (torch.rand(size, device="cuda") + 0.5, torch.rand(size, device="cuda") + 0.5) if normed else None
        angles = 3 * torch.rand(1, size // 2, device="cuda").repeat(1, 2)
        made = torch.randn(4, (number + 2 * key_heads) * size, device="cuda")
        prompt = torch.randn(2, key_heads, 256, size, device="cuda")
        own = torch.randn(2, 4, key_heads, 64, size, device="cuda")
        places = (torch.tensor([read], device="cuda"), torch.tensor([at], device="cuda"))
        given = own.clone(), own.clone()
        found, wanted = (
            attend(made, norms, (angles.cos(), angles.sin()), tuple(prompt), tuple(kept), *places, 1e-6)
            for attend, kept in zip((kernels.attend, layers.attend), given, strict=True)
        )
        assert (found - wanted).norm() < 3e-3 * wanted.norm()  # its products are made in tf32
        torch.testing.assert_close(given[0], given[1], rtol=1e-4, atol=1e-5)


def test_a_seed_draws_the_same_replies_again_on_the_card() -> None:
    base = tiny()
    assert base.decoder is not None
    drawn = []
    for _ in range(2):
        sampling = Sampling(n=3, max_tokens=20, seed=5)
        generator = torch.Generator(device="cuda").manual_seed(5)
        drawn.append(list(_tokens(base, None, list(range(30)), sampling, generator)))
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 20
