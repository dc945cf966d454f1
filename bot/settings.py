"""The bot's environment, on one page. training/settings.py is the model server's."""

from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bot import schedule
from storage.errors import BadInput, MissingSetting


class Settings(BaseSettings):
    """Read from the environment and .env."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_file=".env", env_ignore_empty=True)

    bot_token: SecretStr = SecretStr("")  # from @BotFather
    owner_id: int = 0  # your Telegram user id: nobody else can command the bot
    bot_api_url: str = "https://api.telegram.org"  # or a Bot API server of your own
    api_id: int = 0  # your own account through the API: from my.telegram.org/apps
    api_hash: SecretStr = SecretStr("")  # beside it there
    mtproto_server: str = ""  # host:port of a test server instead of Telegram's
    mtproto_key: str = ""  # the file with that server's RSA key
    model_url: str = ""  # a model server elsewhere; empty: `likeme run` starts its own
    model_token: SecretStr = SecretStr("")  # that server's bearer token
    model_name: str = ""  # its one model, where it is another engine: vLLM, llama.cpp's server, Ollama
    burst_seconds: float = 8.0  # of silence before a friend's messages are answered with drafts
    quick_training: bool = False  # a part of the history and a short evaluation: minutes without a GPU
    nightly: str = ""  # when to learn what is new, like 03:30; empty: never. /nightly in the chat wins
    nightly_pairs: int = Field(default=30, ge=1)  # new replies that are worth a night
    timezone: str = ""  # the owner's, like Europe/Berlin; empty: the machine's
    likeme_home: Path = Path("data")  # everything of one owner
    log_level: str = "INFO"

    @field_validator("nightly")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        try:
            schedule.parse(value)
        except BadInput as error:
            raise ValueError(str(error)) from None
        return value

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value or "UTC")
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"{value!r} is no time zone: write it like Europe/Berlin") from None
        return value


def load(home: Path | None = None) -> Settings:
    """The settings; `home` from the command line wins. BadInput names the variable that is wrong."""
    try:
        return Settings() if home is None else Settings(likeme_home=home)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"{'.'.join(map(str, first['loc'])).upper()}: {first['msg'].lower()}.") from error


def require_bot(settings: Settings) -> None:
    """What `likeme run` can't do without."""
    if not settings.bot_token.get_secret_value():
        raise MissingSetting("BOT_TOKEN is not set: make a bot with @BotFather and put its token into .env.")
    if not settings.owner_id:
        raise MissingSetting("OWNER_ID is not set: put your Telegram user id into .env (@userinfobot tells it).")


def require_api(settings: Settings) -> None:
    """What the owner's own account can't do without."""
    for name, value in (("API_ID", settings.api_id), ("API_HASH", settings.api_hash.get_secret_value())):
        if not value:
            raise MissingSetting(f"{name} is not set: make an app on my.telegram.org/apps and put {name} into .env.")
