"""Fixtures of the whole house."""

pytest_plugins = ["tests.sandbox_fixtures", "tests.model_fixtures", "tests.mtproto_fixtures"]
