"""The owner's account over the wire: sign-in, sign-out, cloud drafts, and what is never told."""

import logging
from pathlib import Path

import pytest

from bot import account
from bot.sandbox.mtproto.accounts import TwoStep
from bot.sandbox.mtproto.server import MtprotoServer
from bot.settings import Settings
from storage.errors import BadInput, MissingSetting, NotSignedIn, TelegramError
from storage.records import Account as Owner
from tests.mtproto_fixtures import PASSWORD, PHONE, Answers, anybody
from tests.sandbox_fixtures import ANNA, OWNER


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_sign_in_with_a_code_keeps_a_private_session(telegram: MtprotoServer, account_settings: Settings) -> None:
    owner = await account.login(account_settings, Answers(telegram.accounts[PHONE]), anybody)
    assert (owner.user_id, owner.first_name) == (OWNER, "Owner")
    assert mode(account_settings.likeme_home / account.SESSION) == 0o600
    assert mode(account_settings.likeme_home) == 0o700
    async with account.opened(account_settings) as opened:
        assert (await opened.me()).user_id == OWNER
    assert telegram.sessions(OWNER) == 1


async def test_a_wrong_code_and_a_wrong_password_may_be_typed_again(
    telegram: MtprotoServer, account_settings: Settings
) -> None:
    known = telegram.accounts[PHONE]
    known.two_step = TwoStep(PASSWORD)
    person = Answers(known, "1", passwords=("wrong", PASSWORD))
    assert (await account.login(account_settings, person, anybody)).user_id == OWNER
    assert person.told == ["That is not the code; 2 tries left.", "That is not the password; 2 tries left."]


async def test_three_wrong_codes_or_passwords_end_it_and_leave_no_session(
    telegram: MtprotoServer, account_settings: Settings
) -> None:
    known = telegram.accounts[PHONE]
    with pytest.raises(BadInput, match="3 wrong codes"):
        await account.login(account_settings, Answers(known, "1", "2", "3"), anybody)
    known.two_step = TwoStep(PASSWORD)
    with pytest.raises(BadInput, match="3 wrong passwords"):
        await account.login(account_settings, Answers(known, passwords=("a", "b", "c")), anybody)
    assert not (account_settings.likeme_home / account.SESSION).exists()
    assert telegram.sessions(OWNER) == 0


async def test_a_code_that_expires_is_sent_again(telegram: MtprotoServer, account_settings: Settings) -> None:
    telegram.faults.refuse("SignIn", 400, "PHONE_CODE_EXPIRED")
    person = Answers(telegram.accounts[PHONE])
    await account.login(account_settings, person, anybody)
    assert person.told == ["That code has expired; Telegram sends another one."]


async def test_somebody_elses_account_is_signed_out_again(telegram: MtprotoServer, account_settings: Settings) -> None:
    async def refuse(owner: Owner) -> None:
        raise BadInput("not his home")

    with pytest.raises(BadInput, match="not his home"):
        await account.login(account_settings, Answers(telegram.accounts[PHONE]), refuse)
    assert telegram.sessions(OWNER) == 0
    assert not (account_settings.likeme_home / account.SESSION).exists()


async def test_sign_out_ends_the_session_on_the_server_and_deletes_the_file(
    telegram: MtprotoServer, signed_in: Settings
) -> None:
    assert telegram.sessions(OWNER) == 1
    assert await account.logout(signed_in)
    assert telegram.sessions(OWNER) == 0
    assert [path.name for path in signed_in.likeme_home.iterdir()] == ["account.lock"]
    with pytest.raises(NotSignedIn, match="nothing to end"):
        await account.logout(signed_in)


async def test_a_revoked_session_is_told_and_a_new_sign_in_mends_it(
    telegram: MtprotoServer, signed_in: Settings
) -> None:
    telegram.revoke(OWNER)
    with pytest.raises(NotSignedIn, match="ended this session: likeme login"):
        async with account.opened(signed_in):
            pass
    assert (await account.login(signed_in, Answers(telegram.accounts[PHONE]), anybody)).user_id == OWNER
    telegram.revoke(OWNER)
    assert not await account.logout(signed_in), "the server had ended it before"


async def test_two_processes_do_not_share_the_session(signed_in: Settings) -> None:
    async with account.opened(signed_in):
        with pytest.raises(TelegramError, match="Another likeme holds the account"):
            async with account.opened(signed_in):
                pass


async def test_wrong_settings_are_named(telegram: MtprotoServer, account_settings: Settings) -> None:
    def changed(**values: object) -> Settings:
        return Settings(**{**account_settings.model_dump(), **values})

    person = Answers(telegram.accounts[PHONE])
    for values, error, says in (
        ({"api_id": 0}, MissingSetting, "API_ID"),
        ({"api_hash": ""}, MissingSetting, "API_HASH"),
        ({"api_hash": "f" * 32}, BadInput, "API_ID and API_HASH"),
        ({"mtproto_server": "here"}, BadInput, "MTPROTO_SERVER"),
        ({"mtproto_key": "/nowhere"}, BadInput, "MTPROTO_KEY"),
    ):
        with pytest.raises(error, match=says):
            await account.login(changed(**values), person, anybody)


async def test_a_cloud_draft_is_written_beside_the_owner_never_over_him(
    telegram: MtprotoServer, signed_in: Settings
) -> None:
    world = telegram.world
    chat = world.between(OWNER, ANNA).chat_id
    world.write(ANNA, OWNER, "are you coming?")
    async with account.opened(signed_in) as opened:
        with pytest.raises(TelegramError, match="likeme sync"):
            await opened.draft(31337)
        await opened.client.get_dialogs()
        assert await opened.draft(ANNA) == ""
        assert await opened.put_draft(ANNA, "on my way")
        assert world.drafts[OWNER, chat].text == "on my way"
        assert await opened.put_draft(ANNA, "be there at 8", replaces="on my way")
        world.type_draft(OWNER, chat, "no, I am i")
        assert not await opened.put_draft(ANNA, "sure", replaces="be there at 8")
        assert world.drafts[OWNER, chat].text == "no, I am i"
        assert [m.text for m in world.history(chat)] == ["are you coming?"], "nothing was sent"


async def test_no_log_holds_a_secret_or_a_word(
    telegram: MtprotoServer, account_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    known = telegram.accounts[PHONE]
    known.two_step = TwoStep(PASSWORD)
    telegram.faults.drop("SignIn")
    telegram.faults.refuse("CheckPassword", 500, "INTERNAL")
    await account.login(account_settings, Answers(known, "77777"), anybody)
    telegram.world.write(ANNA, OWNER, "a word of hers")
    async with account.opened(account_settings, live=True) as opened:
        await opened.client.get_dialogs()
        telegram.drop_all()
        await opened.put_draft(ANNA, "a word of his")
    text = "\n".join(f"{record.getMessage()} {record.exc_text or ''}" for record in caplog.records)
    assert "Server closed the connection" in text
    for secret in (PHONE, PASSWORD, "77777", "word of h", account_settings.api_hash.get_secret_value()):
        assert secret not in text
