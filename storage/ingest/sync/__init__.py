"""The live account -> records in the database, through a Telethon client that bot.account has signed in.

objects.py    Telegram's own objects -> the records that an export's entries become too
patience.py   asking Telegram: floods and outages are waited out
pages.py      the history, page by page: newest first, then only what is new
events.py     what happens: new, edited, deleted messages, as it happens and after a gap
"""
