"""Histories on their way in: a Telegram Desktop export by `export.import_export`, which lists the steps."""
