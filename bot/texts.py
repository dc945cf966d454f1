"""Every word the bot sends, by key. Values are str.format templates."""

from html import escape
from typing import Any

TEXTS = {
    "start": "Hello {name}. I draft replies in your voice and let your friends judge them blind.\n\n"
    "Forward me a message, or paste it, and I answer with three drafts. /help shows the rest.",
    "stranger": "This bot belongs to somebody else and answers nobody but him. Your user id is {user_id}.",
    "help": "Forward or paste a message: three drafts, none is sent to anybody.\n\n"
    "/train — learn from your history, a new voice version\n"
    "/cancel — stop the training\n"
    "/quiz — which of these is really me? In a group with friends, or here, with a link for each friend; "
    "/quiz 10 duel asks about two replies at a time\n"
    "/standings — what they picked\n"
    "/report — what was measured of a voice\n"
    "/versions — your voices; /rollback N — go back to one\n"
    "/sync — fetch what is new from your account\n"
    "/chats — whose words I may learn from; /forget CHAT takes them back for good\n"
    "/mode — in which chats you want drafts; /quiet 23-7 — when not\n"
    "/status — how things stand",
    "status": "History: {messages:,} messages in {chats:,} chats, {own:,} of them yours.\n"
    "Voice: {voice}\nModel server: {server}\nTraining: {training}",
    "voice_stock": "the stock model, untrained",
    "voice_version": "version {number}, held-out loss {loss}",
    "no_message": "I can draft a reply to words only; this message has none.",
    "drafting": "Drafting …",
    "drafts": "{drafts}\n\n<i>{voice}</i>",
    "draft_chosen": "{text}",
    "draft_taken": "That one has been taken already.",
    "draft_gone": "These drafts are no longer known.",
    "card_you": "you",
    "card_done": "{head}\n\n{words}\n\n<i>Sent to {name}.</i>",
    "card_skipped": "{name}: skipped.",
    "card_skipped_short": "Skipped.",
    "card_answered": "{name}: you have answered by yourself.",
    "card_replaced": "{name}: a newer card stands below.",
    "card_your_words": "Your words to {name}? What you answer here is sent.",
    "card_edited": "They have changed their message; new drafts are on the way.",
    "card_deleted": "They have deleted a message of these.",
    "card_interrupted": "I was stopped while sending: {sent} of {lines} lines are known to stand in the chat. "
    "Look there before you send the rest.",
    "card_no_answer": "Telegram did not answer: {sent} of {lines} lines are known to stand in the chat. "
    "Look there before you send the rest.",
    "card_no_connection": "Not sent: this bot is no longer connected to your account. "
    "Connect it in Settings → Telegram Business → Chatbots, then tap again.",
    "card_no_reply": "Not sent: the bot may not reply for you. "
    "Allow it in Settings → Telegram Business → Chatbots, then tap again.",
    "card_day_over": "Not sent: Telegram lets a bot answer for you only within 24 hours of their last message. "
    "Copy it and send it yourself.",
    "card_peer": "Not sent: Telegram does not let the bot write to this chat. Copy it and send it yourself.",
    "card_premium": "Not sent: they take messages from Premium accounts only. Copy it and send it yourself.",
    "card_refused": "Not sent: Telegram answered «{reason}». Tap again, or copy it and send it yourself.",
    "connected": "You are connected. When a friend writes, I put three drafts here; nothing is sent before you tap. "
    "/mode says where I do that, /quiet when I don't.",
    "connected_no_reply": "You are connected, but I may not reply for you: drafts come, you send them yourself. "
    "Settings → Telegram Business → Chatbots allows it.",
    "connection_changed": "Your connection has changed; cards say what I may still do.",
    "disconnected": "You are no longer connected; no more cards come.",
    "modes": "Where do you want drafts? Groups never get any.",
    "modes_none": "I know none of your chats yet: connect me in Settings → Telegram Business → Chatbots, "
    "or likeme import brings your history in.",
    "mode_off": "off",
    "mode_card": "cards",
    "mode_cloud": "in the input line",
    "modes_all": "all others",
    "quiet_is": "Quiet hours: {span}. Drafts wait until they are over. /quiet off ends them.",
    "quiet_none": "There are no quiet hours. /quiet 23-7 sets them.",
    "no_drafts": "The model found no words for this one. Try /again later, or train a voice first.",
    "training_running": "A training is running already; /cancel stops it.",
    "training_none": "No training is running.",
    "training_data": "{train:,} examples to train on, {validation:,} held out.",
    "training_starting": "Getting ready: {data}",
    "training_progress": "Training: {bar} {percent:.0f} %\nstep {step} of {total}, loss {loss:.3f}, "
    "{speed:,.0f} tokens/s, {eta} left",
    "training_done": "Version {number} is ready, after {duration}.\n"
    "Held-out loss {loss}, stock model {stock}.\n{verdict}",
    "training_serves": "{reason}\nIt speaks from now on. /report shows all that was measured, /rollback goes back.",
    "training_waits": "{reason}\nSo it does not speak; /report {number} shows all that was measured, "
    "/rollback {number} lets it speak all the same.",
    "evaluating": "Evaluating: {bar} {percent:.0f} %\n{part}, {eta}",
    "report_none": "Nothing has been measured of {which} yet: likeme evaluate does it.",
    "report_which": "the stock model",
    "training_cancelled": "The training was cancelled; nothing has changed.",
    "training_failed": "The training failed: {reason}",
    "server_died": "The model server has stopped; I am starting it again.",
    "server_back": "The model server is back.",
    "versions_none": "There is no voice yet: /train makes the first.",
    "version_line": "{mark} {number}  {date}  held-out loss {loss} (stock {stock}){note}",
    "version_kept_back": ", kept back",
    "version_marked": ", trained on {chats} chat(s) that you have forgotten",
    "rolled_back": "Version {number} speaks from now on.",
    "rolled_to_stock": "The stock model speaks from now on.",
    "no_version": "There is no version {number}: /versions shows them.",
    "quiz_no_voice": "There is no trained voice to be judged yet: /train first.",
    "quiz_no_prompts": "There is no held-out prompt left that has not been asked; import more history and train again.",
    "quiz_preparing": "Preparing {n} questions; they come to you first, no friend sees one before your tap.",
    "quiz_progress": "{done} of {n} questions are ready, {eta}.",
    "quiz_write_me": "Write to me in private first, so that I can show you the questions.",
    "quiz_candidate": "<b>Question {number} for {group}</b>\n\n{prompt}\n\n{replies}\n\n"
    "<i>{right} Nobody sees this before you tap.</i>",
    "quiz_right_real": "Real: {letter}.",
    "quiz_right_tuned": "Your tuned voice: {letter}.",
    "quiz_by_link": "friends by link",
    "quiz_reply": "<b>{letter}</b>  {text}",
    "quiz_ready": "{n} questions for {group} stand above.",
    "quiz_sent": "Sent to the group.",
    "quiz_approved": "Approved.",
    "quiz_own_chat": "Its words come from a chat with a member of this group: it can't be asked here.",
    "quiz_kept_back": "{n} of them come from chats with members of this group: they were not asked there.",
    "quiz_dropped": "Dropped.",
    "quiz_gone": "This question is no longer open.",
    "quiz_body": "{prompt}\n\n{replies}",
    "quiz_question": "Which of these did {name} really write?",
    "quiz_question_stock": "Which of these sounds more like {name}?",
    "quiz_explanation_three": "{real} was really {name}. {tuned} was his tuned voice, {stock} the stock model.",
    "quiz_explanation_real": "{real} was really {name}, {tuned} his tuned voice.",
    "quiz_explanation_stock": "{tuned} was the voice tuned on {name}, {stock} the stock model.",
    "link_new": "A link for one friend, open for {days} days; whoever opens it first has it. Send it to him:\n{url}",
    "link_revoked": "This link leads nowhere any more.",
    "link_closed": "This link is closed. Ask for a new one.",
    "link_taken": "This link belongs to somebody else. Ask for one of your own.",
    "link_own": "This link is for a friend: send it to one.",
    "link_welcome": "Which message is really {name}? Some are his, some a machine wrote. Leave whenever you like: "
    "the same link brings you back to where you were.",
    "link_done": "That was the last one: {right} of {n} right. Thank you! {name} sees in /standings how often the "
    "machine passed for him.",
    "standings_none": "Nobody has answered a question yet.",
    "standings_title": "Picked as the real one: {n} answers of {judges} judges",
    "standings_line": "{name}: {share:.0%} ({picks} of {n}; 95 % interval {low:.0%}–{high:.0%})",
    "standings_small": "{n} answers are too few to say anything: the intervals overlap widely below 30.",
    "chats": "{chats} chats, I learn from {on} of them (✓). A tap switches one. Page {page} of {pages}.",
    "chats_forgotten": "\nForgotten: {ids}.",
    "forget_which": "Which one? /forget NAME or /forget ID; /chats lists them.",
    "forget_sure": "Forget {name}? Its {messages:,} messages here go, with what I drafted in it, its quiz questions "
    "and the training sets that hold it, and no import or sync brings them back. In Telegram itself nothing changes.",
    "forget_kept": "Nothing was changed.",
    "forget_done": "Forgotten: {messages:,} messages, {drafts} drafts, {questions} quiz questions.\n{voices}",
    "forget_voices": "Voices that were trained on it: {voices}. /train makes one without it, from the base.",
    "forget_no_voices": "No voice was trained on it.",
    "forget_undone": "The next import or sync may bring it back.",
    "button_forget": "forget",
    "button_keep": "keep",
    "button_undo": "undo",
    "sync_signed_out": "Your own account is not connected. On the machine where I run: likeme login. I notice it by "
    "myself within seconds.",
    "sync_running": "I am fetching your history already.",
    "sync_starting": "Fetching your history …",
    "sync_progress": "Fetching: {bar}\n{chats} of {total_chats} chats, {messages:,} messages, about {eta} left",
    "sync_flood": "Telegram asks to wait {wait}; I go on by myself then.",
    "sync_offline": "No connection; the next try is in {wait}.",
    "sync_takeout_delay": "Telegram lets this device export at full speed in {wait} only (or when you confirm it in "
    "another Telegram app of yours). I go on at the ordinary pace.",
    "sync_failed": "The sync stopped: {reason} What came is kept, /sync goes on from there.",
    "standings_none_three": "No three-way question has been answered yet.",
    "standings_group": "{group} (n = {n}): {shares}",
    "standings_duel": "{what}: {share:.0%} ({picks} of {n}; 95 % interval {low:.0%}–{high:.0%})",
    "standings_scale": "On one scale (Bradley–Terry; all picks, 95 % by judges): {players}",
    "error": "Something went wrong ({kind}); it is in the log. Nothing was sent to anybody.",
    "button_again": "again",
    "button_edit": "edit",
    "button_skip": "skip",
    "button_rest": "send the rest",
    "button_cancel": "cancel",
    "button_send": "send to the group",
    "button_drop": "drop",
    "button_send_all": "send all",
    "button_approve": "approve",
    "button_approve_all": "approve all",
    "button_link": "a link for a friend",
    "button_revoke": "revoke",
    "command_start": "what this is",
    "command_mode": "in which chats you want drafts",
    "command_quiet": "when not",
    "command_help": "what I can do",
    "command_status": "how things stand",
    "command_sync": "fetch your history",
    "command_chats": "whose words I may learn from",
    "command_forget": "take a chat back for good",
    "command_train": "learn from your history",
    "command_cancel": "stop the training",
    "command_quiz": "a blind quiz: which is really me?",
    "command_report": "what was measured of a voice",
    "command_standings": "what friends picked",
    "command_versions": "your voices",
    "command_rollback": "go back to a voice",
}


def say(key: str, **values: Any) -> str:
    """A text with its values in it; words of people are escaped for HTML where the template has markup."""
    template = TEXTS[key]
    if "<" in template:
        values = {k: escape(v, quote=False) if isinstance(v, str) and not isinstance(v, Markup) else v
                  for k, v in values.items()}  # fmt: skip
    return template.format(**values)


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def duration(seconds: float) -> str:
    """74 → "1 min 14 s"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def left(seconds: float, share: float) -> str:
    """How long the rest takes, when `share` took `seconds`."""
    return f"{duration(seconds / share - seconds)} left" if share > 0.02 else "time left not known yet"


def loss(value: float | None) -> str:
    """A loss for people."""
    return "unknown" if value is None else f"{value:.3f}"


def bar(share: float, width: int = 12) -> str:
    """A bar of blocks."""
    full = round(max(0.0, min(1.0, share)) * width)
    return "▰" * full + "▱" * (width - full)
