"""The numbers of a training run, as a frozen record read from TOML."""

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from storage.errors import BadInput

RECIPES = Path(__file__).parent.parent / "recipes"


class Recipe(BaseModel):
    """One training recipe. Every field is in every file: nothing is decided where it can't be read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    # The adapter (DoRA, arXiv 2402.09353)
    rank: int = Field(gt=0)
    alpha: int = Field(gt=0)
    dropout: float = Field(ge=0, lt=1)
    targets: tuple[str, ...] | Literal["all-linear"]
    # The optimiser: AdamW, linear warm-up, cosine to zero
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    warmup_steps: int = Field(ge=0)
    max_gradient_norm: float = Field(gt=0)
    epochs: int = Field(gt=0)
    early_stopping: bool  # end when the held-out loss rises, and keep the best epoch
    examples_per_step: int = Field(gt=0)
    # Lengths and memory
    max_tokens: int = Field(gt=16)  # of one example
    row_tokens: int = Field(gt=0)  # of one packed row, at most: what goes through the model at once
    gradient_checkpointing: bool
    # The gate: share of the stock model's right answers to general questions that may be lost beyond chance
    most_forgotten: float = Field(ge=0, le=1)


def load(name: str, **changes: object) -> Recipe:
    """The recipe `name` of training/recipes, or a path to a TOML file; `changes` replace single numbers."""
    path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
    if not path.is_file():
        raise BadInput(f"There is no recipe {name!r}: choose one of {', '.join(names())}.")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        return Recipe(**{**values, **changes, "name": path.stem})
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"Recipe {path.name} is no valid TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadInput(f"Recipe {path.name}, {where}: {first['msg'].lower()}.") from error


def names() -> list[str]:
    """The recipes that come with likeme."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))
