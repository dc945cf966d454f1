"""Where the model is trained.

model.py    a base model by name, from disk; the embedded one from its package
recipe.py   the numbers of a training run, read from recipes/*.toml
packing.py  examples -> rows without padding
loop.py     the training loop: reads from the top down
"""
