"""From messages to training examples. Pure: no torch, no I/O, no clock.

pairs.py    one chat's messages -> reply pairs, and what was left out, by reason
redact.py   e-mails, phone numbers, cards, keys and passwords -> [email], [phone], … (numeric.py, passwords.py)
split.py    all chats' pairs -> train and validation examples, JSONL and manifest (choose.py, copies.py, hold_out.py)
render.py   an example -> token ids and loss mask; the one rendering of the house
report.py   a manifest -> lines for people
"""
