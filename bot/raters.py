"""The quiz in the terminal: the article's protocol, any number of raters one after another."""

from pathlib import Path

from rich.markup import escape
from rich.prompt import Prompt

from bot import printing, standings
from bot.history import now
from bot.questions import LETTERS, RIGHT, name_of, new_quiz, order_for
from bot.quiz import KINDS
from bot.settings import Settings
from bot.standings import Standings
from bot.work import database, opened
from storage import quizzes
from storage.database import Database
from storage.errors import BadInput
from storage.quizzes import Question

ASKED = {"real": "Which is the real one?", "tuned": "Which sounds more like you?"}


async def play_quiz(settings: Settings, prompts: int, raters: int, duel: bool) -> Standings:
    """`likeme quiz`: every rater sees every question, each in an order of his own."""
    async with opened(settings) as (db, voice):
        with printing.progress() as bar:
            task = bar.add_task("preparing questions", total=prompts)

            async def tell(done: int, n: int) -> None:
                bar.update(task, completed=done, total=n)

            kinds = KINDS["duel" if duel else "three"]
            quiz_id = await new_quiz(db, voice, chat_id=None, n=prompts, kinds=kinds, tell=tell)
    async with database(settings) as db:
        asked = await quizzes.questions(db, quiz_id)
        for rater in range(1, raters + 1):
            if raters > 1:
                printing.err.print(f"\n[bold]Rater {rater} of {raters}[/bold]")
            for number, one in enumerate(asked, 1):
                await _ask(db, one, number, rater)
        played = {one.question_id for one in asked}
        return standings.of_answers([a for a in await quizzes.answers(db) if a.question_id in played])


async def show(settings: Settings, csv: Path | None) -> Standings:
    """`likeme standings`"""
    async with database(settings) as db:
        answers = await quizzes.answers(db)
    if csv is not None:
        _write(csv, standings.as_csv(answers))
    return standings.of_answers(answers)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path} can't be written ({error.strerror}): name another file.") from error


async def _ask(db: Database, one: Question, number: int, rater: int) -> None:
    order = order_for(one, -rater)
    printing.err.print(f"\n[bold]{number}[/bold]  {escape(one.prompt)}")
    for letter, index in zip(LETTERS, order, strict=False):
        printing.err.print(f"   [bold]{letter}[/bold]  {escape(one.replies[index].text)}")
    letters = [letter.lower() for letter in LETTERS[: len(order)]]
    pick = Prompt.ask(ASKED[RIGHT[one.kind]], choices=letters, console=printing.err, case_sensitive=False)
    source = one.replies[order[letters.index(pick.lower())]].source
    async with db.transaction():
        await quizzes.move(db, one.question_id, "candidate", "asked")
        await quizzes.vote(
            db,
            one.question_id,
            voter_id=-rater,  # no Telegram user has such an id
            voter_name=f"terminal {rater}",
            is_owner=False,
            source=source,
            now=now(),
        )
    printing.err.print(f"   that was {name_of(source)}")
