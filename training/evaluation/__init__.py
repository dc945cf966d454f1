"""How good a voice is. voice.py: held-out loss, tuned against stock."""
