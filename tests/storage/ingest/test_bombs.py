"""Files made to fill the memory: each ends in a report or one clear line, in the memory that any import takes."""

import asyncio
import gzip
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from pathlib import Path

import pytest

HEAD = (
    b'{"personal_information":{"user_id":7001},"chats":{"list":[{"name":"A","type":"personal_chat","id":5,"messages":['
)
MESSAGE = b'{"id":1,"type":"message","date_unixtime":"1700000000","from_id":"user7001","text":'
BOMBS: dict[str, tuple[bytes, bytes, int]] = {  # what stands once, what comes again, how often
    "brackets": (HEAD, b"[" * 1000, 20_000),
    "objects in objects": (HEAD, b'{"a":' * 1000, 5_000),
    "a text without end": (HEAD + MESSAGE + b'"', b"long " * 1000, 60_000),
    "a key without end": (HEAD + b'{"', b"long " * 1000, 60_000),
    "a number without end": (HEAD + b'{"id":', b"9" * 1000, 50_000),
    "nothing but blanks": (b"", b" \n\t " * 1000, 80_000),
    "blanks inside": (HEAD, b"    " * 1000, 80_000),
    "parts of a text": (HEAD + MESSAGE + b"[", b'"a",' * 1000, 3_000),
    "keys of a message": (HEAD + MESSAGE + b'""', b',"k":{"a":1}' * 1000, 3_000),
    "empty messages": (HEAD + b"{}", b",{}" * 1000, 1_000),
    "lists of contacts": (b'{"personal_information":{"user_id":7001},"contacts":{"list":[1', b",[1]" * 1000, 5_000),
    "backslashes": (HEAD + MESSAGE + b'"', b"\\" * 1000, 30_000),
    "chats without messages": (HEAD + b"]}", b',{"type":"personal_chat","id":6,"name":"B"}' * 100, 2_000),
}
RUN = (
    "import sys\nfrom bot.__main__ import main\n"
    "try:\n    code = main()\nexcept SystemExit as stop:\n    code = stop.code\n"
    "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
    "print(peak.split()[1], file=sys.stderr)\nsys.exit(code)"
)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_file_made_to_fill_the_memory_does_not(tmp_path: Path, bomb: str) -> None:
    path = tmp_path / "result.json.gz"
    with gzip.open(path, "wb", compresslevel=1) as out:
        for piece in pieces(*BOMBS[bomb]):
            out.write(piece)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RUN, "import", str(path), "--home", str(tmp_path / "home"), "--json",
        stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    said, told = await process.communicate()
    *lines, peak_kib = told.decode().strip().splitlines()
    assert int(peak_kib) < 150_000
    assert "Traceback" not in told.decode()
    if process.returncode == 0:
        assert json.loads(said)["damage"]
    else:
        assert process.returncode == 2
        assert str(path) in " ".join(lines)


def pieces(head: bytes, again: bytes, times: int) -> Iterator[bytes]:
    """The file, piece by piece."""
    yield head
    for _ in range(times):
        yield again
