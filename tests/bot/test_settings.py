"""The settings pages and .env.example say the same."""

import re
from pathlib import Path

import pytest

from bot.settings import Settings as BotSettings
from bot.settings import load, require_bot
from storage.errors import BadInput, MissingSetting
from training import settings as model_page

ROOT = Path(__file__).resolve().parents[2]


def test_env_example_names_every_variable_and_no_other() -> None:
    named = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), flags=re.MULTILINE))
    fields = {*BotSettings.model_fields, *model_page.Settings.model_fields}
    assert named == {field.upper() for field in fields}


def test_env_example_shows_the_defaults() -> None:
    shown = dict(re.findall(r"^([A-Z_]+)=(.+)$", (ROOT / ".env.example").read_text(), flags=re.MULTILINE))
    for page in (BotSettings, model_page.Settings):
        for name, field in page.model_fields.items():
            if name.upper() in shown:
                assert str(field.default) == shown[name.upper()]


def test_secrets_are_not_in_the_settings_representation() -> None:
    settings = BotSettings(bot_token="123:abc", owner_id=1, model_token="hush")
    assert "123:abc" not in repr(settings)
    assert "hush" not in repr(settings)


def test_a_wrong_time_or_zone_is_named_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, wrong in (("NIGHTLY", "half past three"), ("TIMEZONE", "Middle/Earth"), ("NIGHTLY_PAIRS", "0")):
        with monkeypatch.context() as changed:
            changed.setenv(name, wrong)
            with pytest.raises(BadInput, match=f"^{name}: "):
                load()


def test_a_missing_token_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingSetting, match="BOT_TOKEN"):
        require_bot(BotSettings(bot_token=""))
    with pytest.raises(MissingSetting, match="OWNER_ID"):
        require_bot(BotSettings(bot_token="1:a", owner_id=0))


def test_the_model_server_asks_for_a_token_beyond_loopback() -> None:
    with pytest.raises(MissingSetting, match="MODEL_TOKEN"):
        model_page.load(model_host="0.0.0.0")
    assert model_page.load(model_host="0.0.0.0", model_token="long").model_host == "0.0.0.0"
