"""Histories on their way in.

json_stream.py   a file as a real disk holds it -> bytes that are JSON
export.py        a Telegram Desktop export -> records in the database, and a report
"""
