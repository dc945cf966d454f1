"""How replies are drawn, in one place: by the bot, the quiz and an evaluation alike, or its numbers say nothing.

Low temperatures draw a caricature: more like the owner than he is, by any judge of manner. So they are chosen by
how hard replies are to tell from his own (AUC) and how well they fit their prompts: bench/results/voice.txt.
"""

TEMPERATURE = 1.0
TOP_P = 0.95
MAX_TOKENS = 128  # half of them cut a third of a verbose owner's replies (bench/day_one.py)
