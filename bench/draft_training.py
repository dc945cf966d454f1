"""Drafts while a voice is trained on the same card: how long they wait, what they cost the training, what they say."""

import json
import random
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from draft_workload import ATTENTION, REPLIES, TOKENS, random_voice

EVERY_MS = 500
WARM, ALONE, WITH_SECONDS = 40, 60, 12  # steps until the shapes are captured, steps alone, seconds with drafts
PROMPT_IN_TRAINING = 41  # tokens on average; the reply has some 15


def measure(base: Any) -> dict[str, Any]:
    """A real run, as the model server's job makes it; drafts come in between its steps, from another thread."""
    import torch

    from training.accelerator import Accelerator
    from training.engine import loop, recipe
    from training.generate import Sampling, complete

    if base.decoder is not None:
        base.decoder.release()
    base.voices["voice"] = random_voice(base, ATTENTION)
    accelerator, over, trained = Accelerator(), threading.Event(), threading.Event()
    steps: list[float] = []
    drafts: list[float] = []
    words: set[str] = set()

    def draft() -> float:
        began = time.perf_counter()
        with accelerator.hold():
            answer = complete(base, "voice", [], Sampling(n=REPLIES, max_tokens=TOKENS, seed=1))
        words.add(json.dumps([one.text for one in answer.completions]))
        return (time.perf_counter() - began) * 1e3

    def friends() -> None:
        trained.wait()
        while not over.wait(EVERY_MS / 1e3):
            drafts.append(draft())

    def between() -> loop.Wish:
        accelerator.hand_over()
        steps.append(time.perf_counter())
        if len(steps) == WARM + ALONE:
            trained.set()
        return "cancel" if len(steps) > WARM + ALONE and steps[-1] - steps[WARM + ALONE - 1] > WITH_SECONDS else "go on"

    for _ in range(3):
        draft()
    alone = statistics.median(draft() for _ in range(5))
    asking = threading.Thread(target=friends)
    asking.start()
    examples = _examples()
    try:
        with tempfile.TemporaryDirectory() as folder, accelerator.hold():
            loop.train(base, recipe.load("fast", epochs=50), examples, [], Path(folder), _nothing, between)
    finally:
        over.set()
        trained.set()
        asking.join()
    draft()
    step_alone = (steps[WARM + ALONE - 1] - steps[WARM]) / (ALONE - 1) * 1e3
    count = len(steps) - WARM - ALONE
    step_with = (steps[-1] - steps[WARM + ALONE - 1]) / count * 1e3
    ordered = sorted(drafts)
    return {
        "every_ms": EVERY_MS,
        "tokens": PROMPT_IN_TRAINING + 15,
        "drafts": len(drafts),
        "p50": ordered[len(ordered) // 2],
        "p95": ordered[int(len(ordered) * 0.95)],
        "alone": alone,
        "step_alone": step_alone,
        "step_with": step_with,
        "cost": (step_with - step_alone) * count / len(drafts),
        "same": len(words) == 1,
        "peak": torch.cuda.max_memory_reserved() / 2**30,
    }


def told(it: dict[str, Any]) -> list[str]:
    if "error" in it:
        return [f"drafts while a voice is trained: {it['error']}"]
    return [
        f"while a voice is trained (recipe fast, 16 examples of {it['tokens']} tokens a step), "
        f"{it['drafts']} drafts, one every {it['every_ms']} ms:",
        f"  a draft     p50 {it['p50']:.0f} ms, p95 {it['p95']:.0f} ms, waiting for the step before it included; "
        f"alone {it['alone']:.0f} ms",
        f"  a step      {it['step_alone']:.0f} ms alone; with the drafts between {it['step_with']:.0f} ms on average: "
        f"a draft costs the training {it['cost']:.0f} ms",
        f"  the voice   writes the same words before, while and after: {'yes' if it['same'] else 'NO'}; "
        f"peak {it['peak']:.2f} GiB",
    ]


def _nothing(_: dict[str, Any]) -> None:
    pass


def _examples() -> list[list[dict[str, str]]]:
    """Conversations as `Ids` reads them: a text is its number of tokens."""
    draw = random.Random(0)
    prompts = [draw.randint(15, 2 * PROMPT_IN_TRAINING - 15) for _ in range(1024)]
    return [[{"role": "user", "content": str(n)}, {"role": "assistant", "content": "14"}] for n in prompts]
