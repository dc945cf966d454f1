"""Holds what goes over the sandbox's wire against Telegram's own schema, ../shared/telegram-bot-api."""

import json
from pathlib import Path
from typing import Any

SCHEMA = Path(__file__).resolve().parents[2] / "shared" / "telegram-bot-api" / "10.0.json"


class Validator:
    """Collects every way in which a request, a response or an update breaks the schema."""

    def __init__(self) -> None:
        schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
        self._types = schema["types"]
        self._methods = {name.lower(): method for name, method in schema["methods"].items()}
        self.violations: list[str] = []
        self.exchanges = 0

    def __call__(self, method: str, parameters: dict[str, Any], answer: dict[str, Any]) -> None:
        """Check one exchange."""
        self.exchanges += 1
        known = self._methods.get(method.lower())
        if known is None:
            self.violations.append(f"unknown method {method}")
            return
        fields = {field["name"]: field for field in known.get("fields", [])}
        for name, value in parameters.items():
            if name not in fields:
                self.violations.append(f"{method}: unknown parameter {name}")
            elif not isinstance(value, tuple):  # an uploaded file
                self._check(value, fields[name]["types"], f"{method}.{name}")
        if answer["ok"]:
            self._missing(parameters, known.get("fields", []), method)
            self._check(answer["result"], known["returns"], f"{method} result")
        elif not isinstance(answer.get("description"), str):
            self.violations.append(f"{method}: an error without a description")

    def _missing(self, value: dict[str, Any], fields: list[dict[str, Any]], where: str) -> None:
        for field in fields:
            if field["required"] and field["name"] not in value:
                self.violations.append(f"{where}: {field['name']} is missing")

    def _check(self, value: Any, types: list[str], where: str) -> None:
        problems = [self._problems(value, name, where) for name in types]
        if all(problems):
            self.violations.extend(min(problems, key=len))

    def _problems(self, value: Any, name: str, where: str) -> list[str]:
        if name.startswith("Array of "):
            if not isinstance(value, list):
                return [f"{where}: not a list"]
            return [p for i, item in enumerate(value) for p in self._problems(item, name[9:], f"{where}[{i}]")]
        plain = {"Integer": int, "String": str, "Boolean": bool, "Float": (int, float), "True": bool}.get(name)
        if plain is not None:
            wrong = not isinstance(value, plain) or (name in ("Integer", "Float") and isinstance(value, bool))
            return [f"{where}: {value!r} is no {name}"] if wrong else []
        if name == "InputFile":
            return [] if isinstance(value, str | tuple) else [f"{where}: no file"]
        return self._object(value, name, where)

    def _object(self, value: Any, name: str, where: str) -> list[str]:
        described = self._types[name]
        if subtypes := described.get("subtypes"):
            attempts = [self._object(value, subtype, where) for subtype in subtypes]
            return min(attempts, key=len)
        if not isinstance(value, dict):
            return [f"{where}: {value!r} is no {name}"]
        fields = {field["name"]: field for field in described.get("fields", [])}
        found = [f"{where}: {name} has no field {key}" for key in value if key not in fields]
        for key, field in fields.items():
            if key in value:
                options = [self._problems(value[key], kind, f"{where}.{key}") for kind in field["types"]]
                found += min(options, key=len)
            elif field["required"]:
                found.append(f"{where}: {name}.{key} is missing")
        return found
