"""What an untrained model is told: manner without facts."""

from training.dataset.manner import describe, measure, script_of
from training.dataset.prompting import Exchange, prompted
from training.dataset.render import SYSTEM, Turn
from training.dataset.strangers import masked, name_words

NAMES = name_words(["Anna Müller", "Li", "Mr Harrington-Smith"])


def test_manner_is_what_the_replies_have_in_common() -> None:
    replies = [(chat, f"yeah {word}\nnot sure 😅") for chat in range(4) for word in ("ok", "later", "hm")]
    manner = measure(replies)
    assert manner is not None
    assert (manner.replies, manner.words, manner.lines) == (12, 5, 2)
    assert (manner.lower_case, manner.full_stop, manner.emoji) == (1, 0, 1)
    assert manner.openers == ("yeah",)
    assert manner.scripts == ("LATIN",)
    said = describe(manner)
    for part in ("about 5 words", "small letter", "leave out the full stop", "😅", "several short messages", "yeah"):
        assert part in said


def test_an_opening_word_of_few_chats_may_be_a_name_and_is_not_told() -> None:
    manner = measure([(1, "anna come here")] * 10 + [(2, "so what")] * 3)
    assert manner is not None
    assert manner.openers == ()


def test_of_a_handful_of_replies_nothing_is_said() -> None:
    assert measure([(1, "ok")] * 7) is None


def test_scripts() -> None:
    assert script_of("ну да ok") == "CYRILLIC"
    assert script_of("123 😅") is None


def test_other_people_s_facts_are_masked() -> None:
    assert masked("anna's train is at 17:45 from Paddington", NAMES) == "[name] train is at [number] from [name]"
    assert masked("Dinner at Mario's? I think so. Bring 2 bottles", NAMES) == (
        "Dinner at [name]? I think so. Bring [number] bottles"
    )
    assert masked("see https://example.org/x or @boris_k", NAMES) == "see [link] or [link]"
    assert masked("mail bob@example.org", NAMES) == "mail [email]"
    assert masked("I live at 5 Baker Street", NAMES) == "I live at [number] [name] [name]"
    assert masked("Not today. Maybe tomorrow", NAMES) == "Not today. Maybe tomorrow"


def test_the_prompt_holds_manner_examples_and_the_conversation() -> None:
    context = [Turn("user", "hi"), Turn("assistant", "hey"), Turn("user", "coming?")]
    assert prompted(context, None, [])[0] == {"role": "system", "content": SYSTEM}
    asked = prompted(context, measure([(1, "yeah ok")] * 10), [Exchange("coming over?", "on my way")])
    assert asked[0]["content"].startswith(SYSTEM)
    assert "They: coming over?\nYou: on my way" in asked[0]["content"]
    assert asked[1:] == [{"role": turn.role, "content": turn.text} for turn in context]
