"""The bodies of OpenAI's requests, as far as this server reads them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from training.dataset.sampling import MAX_TOKENS, TEMPERATURE, TOP_P
from training.generate import Sampling


class ChatMessage(BaseModel):
    """One message; content may be text or OpenAI's list of text parts."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[dict[str, Any]]

    def plain(self) -> dict[str, str]:
        """As the renderer takes it."""
        text = self.content if isinstance(self.content, str) else "".join(p.get("text", "") for p in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class StreamOptions(BaseModel):
    """Whether the last chunk carries the usage."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """POST /v1/chat/completions. Unknown fields are let through unread, as other engines do.

    `rank` is ours: each choice comes with "suits", by how many nats the prompt makes it likelier.
    """

    model_config = ConfigDict(extra="ignore")

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    n: int = Field(default=1, ge=1, le=16)
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1, le=4096)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=4096)
    stop: str | list[str] | None = None
    seed: int | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    rank: bool = False


class Hyperparameters(BaseModel):
    """The numbers of OpenAI's that a job may change; the rest stands in the recipe."""

    model_config = ConfigDict(extra="forbid")

    n_epochs: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    learning_rate_multiplier: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"


class JobRequest(BaseModel):
    """POST /v1/fine_tuning/jobs. `model`: the base, or a voice to go on from. metadata["recipe"] names the recipe."""

    model_config = ConfigDict(extra="ignore")

    model: str
    training_file: str
    validation_file: str | None = None
    seed: int | None = None
    hyperparameters: Hyperparameters | None = None
    metadata: dict[str, str] | None = None


class SamplingParams(BaseModel):
    """How the drafts of an evaluation are drawn: as the bot draws them, or the numbers say nothing about it."""

    model_config = ConfigDict(extra="ignore")

    temperature: float = Field(default=TEMPERATURE, ge=0, le=2)
    top_p: float = Field(default=TOP_P, gt=0, le=1)
    max_completion_tokens: int = Field(default=MAX_TOKENS, ge=1, le=4096)
    seed: int = 0

    def sampling(self) -> Sampling:
        """As the decoder takes it."""
        return Sampling(1, self.temperature, self.top_p, self.max_completion_tokens, seed=self.seed)


class EvalSource(BaseModel):
    """{"type": "file_id", "id": …}"""

    type: Literal["file_id"]
    id: str


class EvalData(BaseModel):
    """The model and the held-out file of an evaluation."""

    type: Literal["completions"]
    model: str
    source: EvalSource
    sampling_params: SamplingParams = SamplingParams()


class EvalRequest(BaseModel):
    """POST /v1/evals/voice/runs."""

    model_config = ConfigDict(extra="ignore")

    data_source: EvalData
    # "serving": the voice to be held against; "evaluation": full or short; "audit": "canaries" or nothing
    metadata: dict[str, str] | None = None
