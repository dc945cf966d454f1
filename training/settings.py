"""The model server's environment, on one page."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from storage.errors import BadInput, MissingSetting

Quantization = Literal["", "nf4", "none"]
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Settings(BaseSettings):
    """Read from the environment and .env."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_file=".env")

    likeme_home: Path = Path("data")  # one owner's folder
    base_model: str = ""  # path or hub name; empty: Qwen/Qwen3-8B with a GPU, smollm2 without
    quantization: Quantization = ""  # nf4: 4 bits a weight; empty: where the card is too small for 16
    model_host: str = "127.0.0.1"
    model_port: int = Field(default=8765, ge=0, le=65535)  # 0: any free one
    model_token: SecretStr = SecretStr("")  # bearer token; needed beyond loopback
    gpu_dollars_per_hour: float = Field(default=0.3, ge=0)  # what a training run's cost is reckoned by
    log_level: str = "INFO"


def load(**changes: object) -> Settings:
    """The settings; `changes` (from the command line) win. Raises before anything starts."""
    try:
        settings = Settings(**{name: value for name, value in changes.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"{'.'.join(map(str, first['loc'])).upper()}: {first['msg'].lower()}.") from error
    if settings.model_host not in LOOPBACK and not settings.model_token.get_secret_value():
        raise MissingSetting(
            f"MODEL_HOST={settings.model_host} can be reached from other machines: set MODEL_TOKEN to a long "
            "random word, the same for the bot, or listen on 127.0.0.1."
        )
    return settings
