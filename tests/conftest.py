"""Fixtures of the whole house; how long it is fuzzed: `make test ARGS=--hypothesis-profile=long` for an hour."""

import os

from hypothesis import HealthCheck, settings

# Two workers on two cores: with a second torch thread each they stand in each other's way. Set before torch comes in.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = [
    "tests.sandbox_fixtures",
    "tests.model_fixtures",
    "tests.voice_fixtures",
    "tests.desk_fixtures",
    "tests.mtproto_fixtures",
    "tests.small_disk",
    "tests.wire",
    "tests.browser_fixtures",
]

_SLOW_DRAWS = (HealthCheck.too_slow, HealthCheck.data_too_large)
settings.register_profile("quick", max_examples=60, deadline=None, suppress_health_check=_SLOW_DRAWS)
settings.register_profile("long", settings.get_profile("quick"), max_examples=5000)
settings.load_profile("quick")
