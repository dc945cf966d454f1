"""What a model is told before a prompt: the owner's manner and his answers to similar lines."""

from training.dataset.render import SYSTEM, Message
from training.evaluation.ways import EXCHANGES, told


def example(said: str, reply: str) -> list[Message]:
    roles = ("system", "user", "assistant")
    return [{"role": role, "content": text} for role, text in zip(roles, (SYSTEM, said, reply), strict=True)]


def test_the_most_similar_answers_stand_before_the_prompt_the_nearest_last() -> None:
    training = [example(f"did you feed cat number {n}?", f"yep, fed {n}") for n in range(12)]
    training.append(example("is the blue boat fixed?", "nope, still leaking"))
    ((system, line),) = told(training, [example("when will the blue boat be fixed?", "")[:-1]])
    assert line == {"role": "user", "content": "when will the blue boat be fixed?"}
    assert system["role"] == "system"
    assert system["content"].startswith(SYSTEM)
    assert "still leaking" in system["content"]
    assert 1 <= system["content"].count("They: ") <= EXCHANGES
    assert system["content"].rindex("They: ") < system["content"].index("still leaking")


def test_nothing_similar_means_the_manner_alone() -> None:
    training = [example(f"did you feed cat number {n}?", f"yep, fed {n}") for n in range(12)]
    ((system, _),) = told(training, [example("zzz", "")[:-1]])
    assert "They: " not in system["content"]
    assert len(system["content"]) > len(SYSTEM)
