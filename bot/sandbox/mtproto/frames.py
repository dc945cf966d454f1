"""MTProto's full TCP transport: length, sequence number, payload, CRC32."""

import asyncio
import struct
from zlib import crc32

MOST = 1 << 24  # bytes; Telegram itself allows about a megabyte


class Frames:
    """One connection's frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._sent = 0

    async def receive(self) -> bytes:
        """The next payload. Raises EOFError at the end, ConnectionError on what is no frame."""
        head = await self._reader.readexactly(8)
        length, _ = struct.unpack("<ii", head)
        if not 12 <= length <= MOST:
            raise ConnectionError(f"a frame of {length} bytes")
        body = await self._reader.readexactly(length - 8)
        if crc32(head + body[:-4]) != struct.unpack("<I", body[-4:])[0]:
            raise ConnectionError("a frame with a wrong checksum")
        return body[:-4]

    def send(self, payload: bytes) -> None:
        """Hand a payload to the transport."""
        framed = struct.pack("<ii", len(payload) + 12, self._sent) + payload
        self._sent += 1
        self._writer.write(framed + struct.pack("<I", crc32(framed)))

    def close(self) -> None:
        """Drop the connection at once, as a lost network would."""
        self._writer.transport.abort()
