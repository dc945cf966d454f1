"""A night's training set: what came since, old ones again, and the same replies held out for ever."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from storage.records import Chat, ChatKind, Message, MessageKind
from training.dataset.choose import Seen
from training.dataset.pairs import ChatPairs, Options, Pair, pairs_of
from training.dataset.render import Turn
from training.dataset.replay import replayed, with_replay
from training.dataset.split import Dataset, assemble

DAY = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OPTIONS = Options(max_pairs_per_chat=None)
# Words that no two numbers share: what looks alike is a copy and would be left out.
WORDS = "ba be bi bo bu da de di do du ga ge gi go gu la le li lo lu".split()


def words(number: int) -> str:
    return "".join(WORDS[int(digit)] for digit in f"{number:05d}")


def chat(chat_id: int, days: int, per_day: int = 2) -> ChatPairs:
    """`per_day` exchanges a day, an hour and more apart."""
    messages = []
    for day in range(days):
        for n in range(per_day):
            number = chat_id * 10_000 + day * 10 + n
            when = DAY + timedelta(days=day, hours=2 * n)
            for own in (False, True):
                sender, said = ("user1", f"yes {words(number)}") if own else ("user2", f"what about {words(number)}?")
                message_id, moment = 2 * (day * 10 + n) + own + 1, when + timedelta(minutes=own)
                messages.append(Message(chat_id, message_id, moment, sender, own, MessageKind.TEXT, said))
    return pairs_of(Chat(chat_id, ChatKind.PERSONAL, ""), messages, OPTIONS)


def until(chats: list[ChatPairs], moment: datetime) -> list[ChatPairs]:
    return [replace(c, pairs=tuple(pair for pair in c.pairs if pair.date <= moment)) for c in chats]


def keys(examples: object) -> set[tuple[int, int]]:
    return {(e.chat_id, e.message_id) for e in examples}  # type: ignore[attr-defined]


def night(chats: list[ChatPairs], before: Dataset, share: float | None = 0.5) -> Dataset:
    """The set of the night after `before`."""
    seen = Seen(frozenset(keys(before.validation)), datetime.fromisoformat(before.manifest["until"]))
    return assemble(chats, OPTIONS, seen, share)


def test_a_night_is_what_came_since_and_as_much_of_the_old() -> None:
    chats = [chat(1, 40), chat(2, 40), chat(3, 40)]
    first = assemble(until(chats, DAY + timedelta(days=30)), OPTIONS)
    second = night(chats, first)
    since = datetime.fromisoformat(first.manifest["until"])
    new = [example for example in second.train if example.date > since]
    old = [example for example in second.train if example.date <= since]
    assert second.manifest["new"] == len(new) == len(old) > 40
    assert keys(old) <= keys(first.train)
    assert max(Counter(example.chat_id for example in old).values()) <= len(old) // 3 + 1
    third = sorted(example.date for example in old)
    assert third[len(old) // 3] < DAY + timedelta(days=13), "a third of them from the oldest third"
    assert night(chats, first).train_jsonl() == second.train_jsonl(), "the same history gives the same bytes"


def test_what_is_held_out_once_is_never_trained_on_and_new_replies_join_it() -> None:
    chats = [chat(1, 60), chat(2, 60)]
    before = assemble(until(chats, DAY + timedelta(days=20)), OPTIONS)
    for days in range(25, 61, 5):
        known = until(chats, DAY + timedelta(days=days))
        tonight, whole = night(known, before), night(known, before, None)
        assert keys(before.validation) <= keys(tonight.validation)
        assert keys(tonight.validation) == keys(whole.validation)
        assert not keys(tonight.validation) & keys(whole.train)
        assert keys(tonight.train) <= keys(whole.train)
        assert len(tonight.validation) > len(before.validation)
        before = tonight
    assert len(before.validation) > 10


def test_a_copy_of_a_held_out_reply_does_not_come_in_by_a_new_chat() -> None:
    chats = [chat(1, 20), chat(2, 20)]
    before = assemble(chats, OPTIONS)
    held = before.validation[0].messages[-1]["content"]
    copied = Pair(9, 1, DAY + timedelta(days=30), (Turn("user", "well?"),), held)
    mine = Pair(9, 3, DAY + timedelta(days=30, hours=1), (Turn("user", "and?"),), "something quite different")
    tonight = night([*chats, ChatPairs(9, 4, (copied, mine), {})], before)
    assert (9, 1) not in keys(tonight.train)
    assert (9, 3) in keys(tonight.train) | keys(tonight.validation)


def test_replay_differs_from_night_to_night_and_shares_may_be_chosen() -> None:
    pairs = [pair for c in (chat(1, 50), chat(2, 50)) for pair in c.pairs]
    first, second = (
        {(p.chat_id, p.message_id) for p in with_replay(pairs, DAY + timedelta(days=days), 0.5, 0)} for days in (45, 46)
    )
    late = {(p.chat_id, p.message_id) for p in pairs if p.date > DAY + timedelta(days=46)}
    assert len((first & second) - late) < len(second - late) // 2
    assert with_replay(pairs, DAY + timedelta(days=45), 0.0, 0) == sorted(
        (p for p in pairs if p.date > DAY + timedelta(days=45)), key=lambda p: (p.date, p.chat_id, p.message_id)
    )
    assert replayed(pairs, 0, 0) == replayed([], 0, 0) == []
    few = with_replay(pairs[:4], DAY + timedelta(hours=1), 0.9, 0)
    assert len(few) == 4, "there is no more than there is"
