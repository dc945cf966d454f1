"""Uploaded JSONL on disk: checked line by line, named by its content, so an upload twice is one file."""

import hashlib
import json
import re
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from storage.durable import write_private
from storage.errors import BadInput
from training.dataset.render import Message

FILE_ID = re.compile(r"file-[0-9a-f]{24}")
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class File:
    """OpenAI's file object."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    object: str = "file"
    status: str = "processed"


class Files:
    """The files of one home, in home/files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writing = threading.Lock()  # uploads come in threads, and two of the same content are one file

    def add(self, content: bytes, filename: str, purpose: str) -> File:
        """Check and keep a file. BadInput names the first line that is no example."""
        parse(content)
        return self.keep(content, filename, purpose)

    def keep(self, content: bytes, filename: str, purpose: str) -> File:
        """Keep a file of our own making, whatever it holds."""
        name = f"file-{hashlib.sha256(content).hexdigest()[:24]}"
        file = File(name, len(content), int(time.time()), Path(filename).name, purpose)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._writing:
            write_private(self._folder / f"{name}.jsonl", content)
            write_private(self._folder / f"{name}.json", json.dumps(asdict(file)).encode())
        return file

    def get(self, file_id: str) -> File | None:
        """The file, or None."""
        if not FILE_ID.fullmatch(file_id):
            return None
        path = self._folder / f"{file_id}.json"
        return File(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None

    def content(self, file_id: str) -> bytes:
        """The bytes of a file. BadInput when it was deleted: jobs wait, and chats are forgotten meanwhile."""
        try:
            return (self._folder / f"{file_id}.jsonl").read_bytes()
        except FileNotFoundError:
            raise BadInput(f"The file {file_id} was deleted: begin again, with a new upload.") from None

    def all(self) -> list[File]:
        """Every file, newest first."""
        found = [self.get(path.stem) for path in self._folder.glob("file-*.json")]
        return sorted((file for file in found if file), key=lambda file: -file.created_at)

    def delete(self, file_id: str) -> None:
        """Remove a file that `get` knows."""
        (self._folder / f"{file_id}.json").unlink(missing_ok=True)
        (self._folder / f"{file_id}.jsonl").unlink(missing_ok=True)


def parse(content: bytes) -> list[list[Message]]:
    """The conversations of a JSONL file in OpenAI's chat format; each ends with the assistant's reply."""
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"The file is no UTF-8 text (byte {error.start}): upload JSONL.") from error
    examples = [_example(line, number) for number, line in enumerate(lines, 1) if line.strip()]
    if not examples:
        raise BadInput('The file holds no example: upload JSONL, one {"messages": […]} a line.')
    return examples


def _example(line: str, number: int) -> list[Message]:
    try:
        messages = json.loads(line)["messages"]
        roles = [message["role"] for message in messages]
        texts = [message["content"] for message in messages]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f'Line {number} is no {{"messages": [{{"role", "content"}}, …]}}.') from error
    if not all(role in _ROLES for role in roles) or not all(isinstance(text, str) for text in texts):
        raise BadInput(f"Line {number}: roles are {', '.join(_ROLES)}, contents are text.")
    if len(roles) < 2 or roles[-1] != "assistant" or not texts[-1].strip():
        raise BadInput(f"Line {number} has to end with the assistant's reply.")
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
