"""What may be shown as a draft."""

import pytest

from bot.suitable import Drawn, different, so_far, suitable
from training.dataset.render import Turn

ASKED = [Turn("user", "are you coming to the lake on friday?")]

UNFIT = {
    "empty": Drawn(""),
    "only spaces": Drawn(" \n "),
    "only signs": Drawn("..."),
    "only a thought": Drawn("<think>he wants to know"),
    "a role": Drawn("Assistant: sure"),
    "a special token": Drawn("sure<|im_start|>"),
    "a mask": Drawn("call me at [phone]"),
    "a phone number": Drawn("call me at +44 7700 900123"),
    "an e-mail address": Drawn("write to anna.k@example.org"),
    "endless emoji": Drawn("😂" * 30),
    "endless words": Drawn("no no no no no no no no"),
    "endless letters": Drawn("a" * 40),
    "the same sentence again and again": Drawn("I'm sorry. I'm so sorry. I'm sorry. I'm really sorry. I'm sorry."),
    "another script": Drawn("да, конечно"),
    "an echo": Drawn("Are you coming to the lake on Friday"),
    "a novel": Drawn("\n".join("abcdefgh")),
    "cut after a number": Drawn("here is my plan 1.", whole=False),
    "cut, no sentence whole": Drawn("well I was going to say that", whole=False),
}


@pytest.mark.parametrize("case", UNFIT)
def test_unfit(case: str) -> None:
    assert suitable(UNFIT[case], ASKED) is None


FIT = {
    "sure, what time?": Drawn("sure, what time?"),
    "sure": Drawn("<think>\n\n</think>\n\nsure"),
    "hahahaha yes": Drawn("hahahaha yes"),
    "no. no. no.": Drawn("no. no. no."),
    "👍": Drawn("👍"),
    "no idea\ntell you later": Drawn("no idea\n\n  tell you later "),
    "at 7:30, gate 22": Drawn("at 7:30, gate 22"),
    "first line": Drawn("first line\nand the second was c", whole=False),
    "A whole one.": Drawn("A whole one. And a half", whole=False),
    "?!": None,
}


@pytest.mark.parametrize("shown", [text for text, drawn in FIT.items() if drawn])
def test_fit(shown: str) -> None:
    drawn = FIT[shown]
    assert drawn is not None
    assert suitable(drawn, ASKED) == shown


def test_a_script_that_is_spoken_in_the_conversation_is_no_other_one() -> None:
    spoken = [Turn("user", "привет"), Turn("assistant", "hi"), Turn("user", "как дела?")]
    assert suitable(Drawn("fine"), spoken) == "fine"
    assert suitable(Drawn("хорошо"), spoken) == "хорошо"


def test_near_duplicates_go_and_the_most_typical_one_comes_first() -> None:
    drawn = ["see you at the lake", "no way", "See you at the lake!", "see you at the lake then", "maybe at the lake"]
    kept = different([Drawn(text) for text in drawn], 3)
    assert kept[0] == "see you at the lake"
    assert sorted(kept) == ["maybe at the lake", "no way", "see you at the lake"]


def test_the_better_of_the_first_two_comes_first_then_what_suits_most() -> None:
    drawn = [
        Drawn("ok", suits=-0.5),
        Drawn("no", suits=1.0),
        Drawn("At the lake!", suits=3.0),
        Drawn("at the lake", suits=9.0),
    ]
    assert different(drawn, 3) == ["no", "at the lake", "ok"]
    assert different(drawn[::-1], 3) == ["at the lake", "no", "ok"]
    assert different(drawn, 1) == ["no"]
    assert different(drawn[:1], 3) == ["ok"]
    assert different([], 3) == []


GROWING = {
    "": "",
    "su": "su",
    "sure, what ti": "sure, what ti",
    "<": "",
    "<thi": "",
    "<think>he asks whether": "",
    "<think>\n\n</thi": "",
    "<think>\n\n</think>\n\nsure": "sure",
    "sure <|im": "sure",
    "I <3 y": "I <3 y",
    "write to anna.k@example.org and": "",
}


@pytest.mark.parametrize("text", GROWING)
def test_what_is_seen_of_a_reply_that_still_grows(text: str) -> None:
    assert so_far(text) == GROWING[text]
