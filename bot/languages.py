"""Who reads what the bot says, and in which language."""

from telegram import Update

from bot.context import Context, Services
from bot.texts import Reader, spoken, write_to
from storage import secretary
from storage.database import Database

_KEY = "language"


async def remembered(database: Database) -> Reader:
    """The owner, with the language he read when he was last heard of."""
    return Reader(spoken(await secretary.preference(database, _KEY)) or Reader().language)


async def listen(update: Update, context: Context) -> None:
    """Before any other handler: what an update leads to is for its user, in his language.

    Business updates carry friends as their users, but what comes of them is written to the owner.
    """
    services, user = context.services, update.effective_user
    if user is not None and user.id == services.settings.owner_id:
        await _note(services, spoken(user.language_code))
    elif user is not None and not _is_business(update):
        write_to(Reader(spoken(user.language_code) or Reader().language))
        return
    write_to(services.owner)


async def _note(services: Services, language: str | None) -> None:
    """Tasks that run hold the same reader: they change to his language at once."""
    if language is None or language == services.owner.language:
        return
    services.owner.language = language
    async with services.database.transaction():
        await secretary.set_preference(services.database, _KEY, language)


def _is_business(update: Update) -> bool:
    return (
        update.business_connection is not None
        or update.business_message is not None
        or update.edited_business_message is not None
        or update.deleted_business_messages is not None
    )
