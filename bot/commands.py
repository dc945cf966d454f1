"""The command line: one thin function a command. Heavy imports wait until a command needs them."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from bot import printing
from bot.restore import finish
from bot.settings import Settings, require_bot
from bot.settings import load as load_settings
from storage.errors import BadInput

app = typer.Typer(
    help="A voice of one's own: learns how you write from your Telegram history, on your machine.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def load(home: Path | None) -> Settings:
    """The settings; a restore that was killed among its moves is done to its end before anything else is done."""
    settings = load_settings(home)
    finish(settings.likeme_home)
    return settings


Home = Annotated[
    Path | None, typer.Option("--home", envvar="LIKEME_HOME", help="The owner's folder.", show_default="./data")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def _examples(*lines: str) -> str:
    return "[bold]Examples[/bold]\n\n" + "\n\n".join(f"  {line}" for line in lines)


@app.command(epilog=_examples("likeme setup", "likeme setup --home ~/likeme"))
def setup(home: Home = None) -> None:
    """From nothing to a working installation, step by step; can be stopped and taken up again."""
    from bot.setup import main as lead

    lead(home)


@app.command("import", epilog=_examples("likeme import ~/Downloads/Telegram", "likeme import chat.json --me 12345"))
def import_(
    path: Annotated[Path, typer.Argument(help="result.json, result.json.gz, or the folder it lies in.")],
    me: Annotated[int | None, typer.Option(help="Your user id, for an export of one chat.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Bring in a Telegram Desktop export; again brings in only what is new."""
    from bot.work import import_history

    report = asyncio.run(import_history(load(home), path, me))
    printing.report("What came in", report.lines(), printing.plain(report), as_json)


@app.command(epilog=_examples("likeme login"))
def login(home: Home = None) -> None:
    """Sign in to your own Telegram account: phone, code, two-step password. Needs API_ID and API_HASH."""
    from bot.terminal import sign_in

    owner = asyncio.run(sign_in(load(home)))
    printing.report("Signed in", [f"as user {owner.user_id}; likeme sync fetches your history"], owner, False)


@app.command(epilog=_examples("likeme logout"))
def logout(home: Home = None) -> None:
    """End the session on Telegram's side and delete its file. The history stays."""
    from bot.account import logout as end

    ended = asyncio.run(end(load(home)))
    how = "the session is ended" if ended else "Telegram had ended the session already"
    printing.report("Signed out", [f"{how}; its file is deleted"], ended, False)


@app.command(epilog=_examples("likeme sync", "likeme sync --json"))
def sync(home: Home = None, as_json: Json = False) -> None:
    """Fetch your history from your account: all of it the first time, then what is new. Ctrl-C loses nothing."""
    from bot.terminal import sync_account

    report = asyncio.run(sync_account(load(home)))
    printing.report("Fetched", report.lines(), printing.plain(report), as_json)


@app.command(epilog=_examples("likeme chats", "likeme chats --off Anna", "likeme chats --on -1001234567890"))
def chats(
    on: Annotated[str | None, typer.Option(help="Switch this chat on: its id or name.")] = None,
    off: Annotated[str | None, typer.Option(help="Switch this chat off.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Whose words likeme learns from, with counts; switch a chat on or off."""
    from bot.work import list_chats

    printing.chats(asyncio.run(list_chats(load(home), on, off)), as_json)


@app.command(epilog=_examples("likeme forget Anna", "likeme forget 1234567 --yes", "likeme forget 1234567 --undo"))
def forget(
    chat: Annotated[str, typer.Argument(help="Its id or name.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Let imports and syncs bring it back.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Take a chat back for good: its messages, drafts, quiz questions and training sets."""
    from bot.work import forget_chat

    line, result = asyncio.run(forget_chat(load(home), chat, yes, undo))
    printing.report("Forgotten" if result else "Undone", line.splitlines(), printing.plain(result), as_json)


@app.command(epilog=_examples("likeme dataset", "likeme dataset --out my-set"))
def dataset(
    out: Annotated[Path | None, typer.Option(help="Write train, validation, index and manifest there.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Build the training set and show its report."""
    from bot.history import save_dataset
    from bot.work import dataset_of
    from training.dataset.report import lines

    built = asyncio.run(dataset_of(load(home)))
    if out is not None:
        save_dataset(built, out)
        sys.stderr.write(f"written to {out}\n")
    printing.report("The training set", lines(built.manifest), built.manifest, as_json)


@app.command(epilog=_examples("likeme train", "likeme train --recipe article", "likeme train --model Qwen/Qwen3-8B"))
def train(
    recipe: Annotated[str | None, typer.Option(help="article, fast, embedded; by the machine if not given.")] = None,
    model: Annotated[str | None, typer.Option(help="Base model: path, hub name, or smollm2.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Learn from the history: a new voice version, with loss, tokens/s and ETA."""
    from bot.work import train_voice

    _choose_base(model)
    result = asyncio.run(train_voice(load(home), recipe))
    printing.report("A new voice", printing.version_lines(result), result, as_json)


@app.command(epilog=_examples("likeme nightly", "likeme nightly 03:30", "likeme nightly off", "likeme nightly --now"))
def nightly(
    at: Annotated[str | None, typer.Argument(help="on, off, or a time of day; none: how things stand.")] = None,
    now: Annotated[bool, typer.Option("--now", help="Do a night's work here and now.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Learn what is new, every night while likeme run is up: fetch, train further, measure, let speak or not."""
    from bot.nightly import report
    from bot.terminal import night_now, switch_nights

    if now:
        ended = asyncio.run(night_now(load(home)))
        printing.report("The night", report(ended).split("\n"), printing.plain(ended), as_json)
    else:
        said = asyncio.run(switch_nights(load(home), at)).replace("/nightly", "likeme nightly")
        printing.report("Nights", said.split("\n"), {"said": said}, as_json)


@app.command(epilog=_examples('likeme draft "are you coming on friday?"', 'likeme draft "hi" -n 5 --chat 1234567'))
def draft(
    text: Annotated[str, typer.Argument(help="The message to answer.")],
    n: Annotated[int, typer.Option("-n", min=1, max=16, help="How many drafts.")] = 3,
    chat: Annotated[int | None, typer.Option(help="Id of the chat whose last turns go before it.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Draft replies in your voice. Nothing is sent."""
    from bot.work import draft_replies

    result = asyncio.run(draft_replies(load(home), text, n, chat))
    printing.drafts(result, as_json)


@app.command(epilog=_examples("likeme quiz", "likeme quiz --raters 1 --prompts 30", "likeme quiz --duel"))
def quiz(
    prompts: Annotated[int, typer.Option(min=1, max=100, help="How many questions.")] = 10,
    raters: Annotated[int, typer.Option(min=1, max=20, help="How many people answer, one after another.")] = 1,
    duel: Annotated[
        bool, typer.Option("--duel", help="Two replies at a time: tuned and stock, tuned and real.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Which one is really you? A blind quiz in the terminal; the answers count in the standings."""
    from bot.raters import play_quiz

    printing.standings(asyncio.run(play_quiz(load(home), prompts, raters, duel)), as_json)


@app.command(epilog=_examples("likeme standings", "likeme standings --csv answers.csv"))
def standings(
    csv: Annotated[Path | None, typer.Option(help="Write every answer there, judges numbered, not named.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """What was picked in all quizzes: by version, by judge, friends and strangers apart."""
    from bot.raters import show

    printing.standings(asyncio.run(show(load(home), csv)), as_json)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    epilog=_examples("likeme serve", "MODEL_TOKEN=… likeme serve --host 0.0.0.0"),
)
def serve(context: typer.Context) -> None:
    """The model server alone (OpenAI's protocol); likeme serve --help shows its options."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # heard by what comes in our place
    os.execv(sys.executable, [sys.executable, "-m", "training", *context.args])


@app.command(epilog=_examples("likeme run"))
def run(home: Home = None) -> None:
    """The Telegram bot; starts the model server as its child unless MODEL_URL names one."""
    from bot.application import run as run_bot

    settings = load(home)
    require_bot(settings)
    printing.log(settings)
    run_bot(settings)


@app.command(epilog=_examples("likeme versions", "likeme versions --json"))
def versions(home: Home = None, as_json: Json = False) -> None:
    """Your voices, and which one speaks."""
    from bot.work import list_versions

    printing.versions(asyncio.run(list_versions(load(home))), as_json)


@app.command(epilog=_examples("likeme rollback", "likeme rollback 3", "likeme rollback 0"))
def rollback(
    number: Annotated[
        int | None, typer.Argument(help="The version, 0 for the stock model; else the one before.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Let another version speak, from the next draft on."""
    from bot.work import roll_back

    result = asyncio.run(roll_back(load(home), number))
    name = f"version {result['serving']}" if result["serving"] else "the stock model"
    printing.report("Rolled back", [f"{name} speaks from now on"], result, as_json)


@app.command(epilog=_examples("likeme promote 3", "likeme promote 3 --force"))
def promote(
    number: Annotated[int, typer.Argument(help="The version.")],
    force: Annotated[bool, typer.Option("--force", help="Even if the gate keeps it back; this is noted.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Let a version speak that the gate lets through, or one that it does not."""
    from bot.work import promote as promote_version

    result = asyncio.run(promote_version(load(home), number, force))
    said = f"version {number} speaks from now on" + (", against the gate" if result["forced"] else "")
    printing.report("Promoted", [said, result["reason"]], result, as_json)


@app.command(epilog=_examples("likeme export 3", "likeme export 3 --out my-voice", "likeme export 3 --merged my-model"))
def export(
    number: Annotated[int, typer.Argument(help="The version.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the adapter in PEFT's format.")] = None,
    merged: Annotated[
        Path | None, typer.Option(help="Folder for one plain model, voice and base merged: vLLM loads it.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """A version as files for other programs, with a model card: a PEFT adapter, or a whole model."""
    from bot.work import export_voice

    folder = merged or out or Path(f"likeme-{number:04d}")
    result = asyncio.run(export_voice(load(home), number, folder, merged is not None))
    printing.report("Exported", [f"{result['folder']}", "it can repeat what it was trained on"], result, as_json)


@app.command(epilog=_examples("likeme evaluate", "likeme evaluate 3 --json", "likeme evaluate --audit"))
def evaluate(
    number: Annotated[int | None, typer.Argument(help="The version; none: the one that speaks.")] = None,
    audit: Annotated[
        bool,
        typer.Option("--audit", help="Plant made-up secrets in a voice of their own: as long as its trainings."),
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Measure a voice: likeness, fit, forgetting, leaks, and whether the gate lets it speak. Takes minutes."""
    from bot.work import evaluate_voice

    printing.evaluation(asyncio.run(evaluate_voice(load(home), number, audit)), as_json)


@app.command(epilog=_examples("likeme report", "likeme report 3"))
def report(
    number: Annotated[int | None, typer.Argument(help="The version; none: the one that speaks.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """What was measured of a voice, and the page that shows it."""
    from bot.work import report_of

    printing.evaluation(asyncio.run(report_of(load(home), number)), as_json)


@app.command(epilog=_examples("likeme backup", "likeme backup /media/usb/likeme.tar.gz"))
def backup(
    file: Annotated[Path | None, typer.Argument(help="Where to; none: likeme-DATE.tar.gz here.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """The home in one file, while the bot runs: history, voices, evaluations. Not the sign-in, not base models."""
    from bot.work import back_up_home

    made = asyncio.run(back_up_home(load(home), file))
    said = f"{made.path}, {made.bytes:,} bytes: {made.messages:,} messages and {made.files - 1:,} other files"
    printing.report("Backed up", [said, "whoever has the file can read your chats: keep it safe"], made, as_json)


@app.command(epilog=_examples("likeme restore likeme.tar.gz", "likeme restore --undo"))
def restore(
    file: Annotated[Path | None, typer.Argument(help="What likeme backup wrote.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Set a home that is in use aside.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Bring back what the last restore set aside.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a backup the home again: checked first, then moved in; what was there is set aside in the home."""
    from bot.work import restore_home

    restored, again = asyncio.run(restore_home(load(home), file, force, undo))
    said = [f"{restored.messages:,} messages"]
    said += [f"{again} chats stay forgotten, as they were before"] if again else []
    said += [f"what was there lies in {restored.aside}; likeme restore --undo swaps them"] if restored.aside else []
    printing.report("Restored", said, restored, as_json)


@app.command(epilog=_examples("likeme doctor", "likeme doctor --json"))
def doctor(home: Home = None, as_json: Json = False) -> None:
    """What is well, what is not, and the mend. Exits 1 when something is wrong."""
    from bot.doctor import examine

    checks = asyncio.run(examine(load(home)))
    printing.checks(checks, as_json)
    if any(not check.good for check in checks):
        raise typer.Exit(1)


@app.command(epilog=_examples("likeme demo", "likeme demo --history result.json --once", "likeme demo --no-script"))
def demo(
    history: Annotated[Path | None, typer.Option(help="Your own export instead of the sample.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Exit at the end instead of staying up.")] = False,
    script: Annotated[bool, typer.Option(help="The people act by themselves at first.")] = True,
    home: Annotated[Path, typer.Option("--home", help="The demo's own folder.")] = Path("data/demo"),
) -> None:
    """The whole job on this machine, in a messenger in the browser: import, drafts, training, a blind quiz."""
    from bot.demo import main
    from bot.stage import until_stopped

    if once and not script:
        raise BadInput("--once with --no-script: there would be nothing to wait for.")
    until_stopped(main(home, history, once=once, script=script))


@app.command(epilog=_examples("likeme sandbox", "likeme sandbox --port 8970 --script > box.env"))
def sandbox(
    script: Annotated[bool, typer.Option("--script", help="The friends act by themselves.")] = False,
    port: Annotated[int, typer.Option(help="Of the page and the Bot API; 0: any free one.")] = 0,
    home: Annotated[Path, typer.Option("--home", help="Where its key is put.")] = Path("data/sandbox"),
) -> None:
    """A Telegram in a box to try things in: prints what .env needs to lead likeme there; Ctrl-C ends it."""
    from bot.stage import serve, until_stopped

    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    until_stopped(serve(home, script=script, port=port))


def _choose_base(model: str | None) -> None:
    """The model server that this command starts reads its base model from the environment."""
    if model is not None:
        os.environ["BASE_MODEL"] = model
