"""What was picked: by everybody, by version, by judge, friends and strangers apart, and on one scale."""

import asyncio
import csv
import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from telegram import Update

from bot import charts
from bot.context import Context
from bot.questions import SOURCES, name_of
from bot.statistics import SMALL, Choice, Share, strengths_with_intervals, wilson
from bot.texts import say
from storage import quizzes
from storage.database import Database
from storage.quizzes import Answer, Kind, Source

Rows = list[tuple[str, Share]]
CAPTION = 1024  # Telegram's
MOST_ROWS = 30  # of a picture that a phone can show
DUELS: tuple[Kind, ...] = ("stock", "real")


@dataclass(frozen=True, slots=True)
class Group:
    """The three-way picks of some judges."""

    name: str
    rows: Rows

    @property
    def n(self) -> int:
        """Their answers."""
        return self.rows[0][1].n


@dataclass(frozen=True, slots=True)
class Standings:
    """All of it. `scale`: (name, strength, low, high), the strongest first."""

    judges: int
    everybody: Group
    groups: list[Group]
    duels: Rows
    scale: list[tuple[str, float, float, float]]

    @property
    def n(self) -> int:
        """All answers, duels included."""
        return self.everybody.n + sum(share.n for _, share in self.duels)


async def compute(database: Database, model: str | None = None) -> Standings:
    """The standings of all versions or of one."""
    return of_answers([a for a in await quizzes.answers(database) if model in (None, a.model)])


def of_answers(answers: Sequence[Answer]) -> Standings:
    """The same from answers alone."""
    three = [answer for answer in answers if answer.kind == "three"]
    groups = [
        *_split(three, lambda a: say("standings_friends" if a.is_friend else "standings_strangers")),
        *_split(three, lambda a: a.model),
        *_split(three, lambda a: a.voter_name or say("standings_judge", number=a.voter_id)),
    ]
    duels = []
    for kind in DUELS:
        picks = [answer.source for answer in answers if answer.kind == kind]
        if picks:
            duels.append((say(f"duel_{kind}"), wilson(picks.count("tuned"), len(picks))))
    return Standings(
        len({a.voter_id for a in answers}), _group(say("standings_everybody"), three), groups, duels, _scale(answers)
    )


def text(it: Standings) -> str:
    """In words; a clear one leads where they say nothing yet."""
    lines = [say("standings_title", n=it.n, judges=it.judges)]
    lines += [say("standings_small", n=it.n)] if it.n < SMALL else []
    if it.everybody.n:
        lines += [say("standings_line", name=name, **_numbers(share)) for name, share in it.everybody.rows]
    else:
        lines.append(say("standings_none_three"))
    lines += [say("standings_duel", what=what, **_numbers(share)) for what, share in it.duels]
    for group in it.groups:
        shares = ", ".join(say("standings_share", name=name, **_numbers(s)) for name, s in group.rows)
        lines.append(say("standings_group", group=group.name, n=group.n, shares=shares))
    if it.scale:
        players = ", ".join(f"{name} {value:.2f} ({low:.2f}–{high:.2f})" for name, value, low, high in it.scale)
        lines.append(say("standings_scale", players=players))
    return "\n".join(lines)


def as_csv(answers: Sequence[Answer]) -> str:
    """One answer a line; judges are numbered in the order of their first answer, not named."""
    numbers: dict[int, int] = {}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["answered_at", "version", "question", "kind", "judge", "friend", "picked"])
    for a in answers:
        judge = numbers.setdefault(a.voter_id, len(numbers) + 1)
        when = a.voted_at.isoformat()
        writer.writerow([when, a.model, a.question_id, a.kind, judge, int(a.is_friend), a.source])
    return out.getvalue()


async def standings(update: Update, context: Context) -> None:
    """/standings"""
    message = update.effective_message
    assert message is not None
    found = await compute(context.services.database)
    if found.n == 0:
        await message.reply_text(say("standings_none"))
        return
    said = text(found)
    picture = await asyncio.to_thread(charts.standings, said.split("\n")[0], picture_rows(found))
    head = said if len(said) <= CAPTION else said[: said.rindex("\n", 0, CAPTION)]
    await message.reply_photo(picture, caption=head)
    if rest := said[len(head) :].strip():
        await message.reply_text(rest[:4096])


def picture_rows(it: Standings) -> Rows:
    """What the picture shows: everybody's picks, the voice's by friends, strangers, version and judge, the duels."""
    rows = list(it.everybody.rows) if it.everybody.n else []
    voice = name_of("tuned")
    rows += [
        (say("standings_share_of", name=name, group=group.name), share)
        for group in it.groups
        for name, share in group.rows
        if name == voice
    ]
    return [*rows[:MOST_ROWS], *it.duels]


def _split(answers: Sequence[Answer], by: Callable[[Answer], str]) -> list[Group]:
    parts: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        parts[by(answer)].append(answer)
    return [_group(name, part) for name, part in sorted(parts.items())]


def _group(name: str, answers: Sequence[Answer]) -> Group:
    picks = [answer.source for answer in answers]
    return Group(name, [(name_of(source), wilson(picks.count(source), len(picks))) for source in SOURCES["three"]])


def _scale(answers: Sequence[Answer]) -> list[tuple[str, float, float, float]]:
    by_judge: dict[int, list[Choice]] = defaultdict(list)
    for answer in answers:
        among = frozenset(_player(answer.model, source) for source in SOURCES[answer.kind])
        by_judge[answer.voter_id].append((_player(answer.model, answer.source), among))
    found = strengths_with_intervals(list(by_judge.values())) if by_judge else {}
    return sorted(((name, *numbers) for name, numbers in found.items()), key=lambda row: -row[1])


def _player(model: str, source: Source) -> str:
    return model if source == "tuned" else name_of(source)


def _numbers(share: Share) -> dict[str, float]:
    return {"share": share.share, "picks": share.picks, "n": share.n, "low": share.low, "high": share.high}
