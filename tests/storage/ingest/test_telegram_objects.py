"""Telegram's own objects become the records that an export's entries become."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from telethon.tl import types

from storage.ingest.sync.objects import message_of
from storage.records import Message, MessageKind

ME, FRIEND = 1, 2
WHEN = datetime(2025, 1, 1, tzinfo=UTC)


def told(**content: Any) -> Message:
    sent = types.Message(id=7, peer_id=types.PeerUser(FRIEND), date=WHEN, **{"message": "", "out": False, **content})
    found = message_of(sent, ME, {})
    assert found is not None
    return found


def document(*attributes: Any) -> Any:
    return types.MessageMediaDocument(
        document=types.Document(1, 1, b"", WHEN, "x/y", 1, 2, list(attributes), thumbs=None)
    )


@pytest.mark.parametrize(
    ("media", "kind"),
    [
        (types.MessageMediaPhoto(), MessageKind.PHOTO),
        (document(types.DocumentAttributeAudio(1, voice=True)), MessageKind.VOICE),
        (document(types.DocumentAttributeAudio(1)), MessageKind.AUDIO),
        (document(types.DocumentAttributeVideo(1, 1, 1, round_message=True)), MessageKind.VIDEO_NOTE),
        (document(types.DocumentAttributeVideo(1, 1, 1)), MessageKind.VIDEO),
        (document(types.DocumentAttributeVideo(1, 1, 1), types.DocumentAttributeAnimated()), MessageKind.ANIMATION),
        (document(types.DocumentAttributeFilename("a.pdf")), MessageKind.FILE),
        (types.MessageMediaGeo(types.GeoPointEmpty()), MessageKind.LOCATION),
        (types.MessageMediaContact("1", "a", "b", "", 3), MessageKind.CONTACT),
        (types.MessageMediaUnsupported(), MessageKind.OTHER),
    ],
)
def test_media_have_their_kinds(media: Any, kind: MessageKind) -> None:
    assert told(media=media).kind is kind


def test_a_sticker_keeps_its_emoji() -> None:
    sticker = told(media=document(types.DocumentAttributeSticker("😂", types.InputStickerSetEmpty())))
    assert (sticker.kind, sticker.emoji) == (MessageKind.STICKER, "😂")


def test_entities_are_the_export_s_parts_counted_in_utf_16() -> None:
    marks = [types.MessageEntityBold(3, 4), types.MessageEntityTextUrl(8, 2, "https://x.org")]
    found = told(message="😂 bold at", entities=marks)
    assert json.loads(found.entities) == [
        {"type": "plain", "text": "😂 "},
        {"type": "bold", "text": "bold"},
        {"type": "plain", "text": " "},
        {"type": "text_link", "text": "at", "href": "https://x.org"},
    ]
    assert told(message="plain").entities == ""


def test_senders_edits_and_empty_messages() -> None:
    assert (told(out=True, message="a").sender, told(out=True, message="a").is_own) == ("user1", True)
    assert told(message="a").sender == "user2"
    assert told(message="a", edit_date=WHEN).edited_at == WHEN
    assert told(message="a", edit_date=WHEN, edit_hide=True).edited_at is None, "a reaction is no edit"
    assert message_of(types.MessageEmpty(id=7, peer_id=None), ME, {}) is None
