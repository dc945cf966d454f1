"""Secrets go, look-alikes stay, and masking what is masked changes nothing."""

from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.training.dataset.generated_secrets import LOOK_ALIKES, SECRETS, samples
from tests.training.dataset.secrets_table import CAUGHT, LEFT_ALONE, masked_as
from training.dataset.redact import masks_in, redact, redact_answer

WORDS = (
    "password",
    "is",
    "code",
    "token",
    "пароль",
    "order",
    "call",
    "+",
    ":",
    "=",
    " ",
    "\n",
    "@",
    "-",
    "[",
    "]",
    "1",
)
pieces = st.one_of(
    st.text(max_size=12),
    st.sampled_from(WORDS),
    st.sampled_from([text for kind in CAUGHT.values() for text, _ in kind]),
    st.sampled_from([text for kind in LEFT_ALONE.values() for text in kind]),
    st.builds(lambda make, seed: make(Random(seed)), st.sampled_from(list(SECRETS.values())), st.integers(0, 999)),
    st.builds(lambda make, seed: make(Random(seed)), st.sampled_from(list(LOOK_ALIKES.values())), st.integers(0, 999)),
)


@pytest.mark.parametrize("kind", CAUGHT)
def test_every_secret_of_the_table_is_masked_and_nothing_around_it(kind: str) -> None:
    for text, masked in CAUGHT[kind]:
        assert redact(text)[0] == masked
        assert masks_in(masked) == redact(text)[1]


@pytest.mark.parametrize("kind", LEFT_ALONE)
def test_look_alikes_of_the_table_stay_as_they_are(kind: str) -> None:
    for text in LEFT_ALONE[kind]:
        assert redact(text) == (text, {})


@settings(max_examples=5 * settings().max_examples)
@given(st.lists(pieces, max_size=8), st.sampled_from(("", " ", "\n")))
@example(["2001:db8::ff00:42:8329", "+4915123451743", " ", "2001:db8::ff00:42:8329"], "")
def test_masking_twice_changes_nothing(parts: list[str], between: str) -> None:
    masked, _ = redact(between.join(parts))
    assert redact(masked) == (masked, {})
    answer, _ = redact_answer("what's the password?", masked)
    assert redact_answer("what's the password?", answer) == (answer, {})


@pytest.mark.parametrize("kind", SECRETS)
def test_drawn_secrets_are_masked_as_what_they_are(kind: str) -> None:
    missed = [text for text in samples(SECRETS[kind], 300) if masked_as(text) != [kind.partition(",")[0]]]
    assert len(missed) <= 3, missed[:10]


@pytest.mark.parametrize("kind", LOOK_ALIKES)
def test_drawn_look_alikes_stay(kind: str) -> None:
    masked = [text for text in samples(LOOK_ALIKES[kind], 300) if masked_as(text)]
    assert len(masked) <= 3, masked[:10]
