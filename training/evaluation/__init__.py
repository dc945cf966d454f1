"""How good a voice is, and whether it may speak.

evaluate.py    one voice measured; measured.py the records; versions.py a published one, by its manifest
voice.py       held-out loss          judges.py      the verifier, the fresh classifier
fit.py         reply to prompt        style.py       looks and variety
forgetting.py  general.tsv            recital.py     runs of the training set; audit.py canaries
ways.py        told instead of tuned  gate.py        the verdict
intervals.py   n and 95 %             replies.py     drafts in batches
"""
