"""The owner's side of the house: the command line and the Telegram bot."""
