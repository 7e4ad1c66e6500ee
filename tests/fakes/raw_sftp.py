"""SFTP packets over OpenSSH's ssh, one at a time or many at once, read or left unread.

For clients that no program is: ones that ask for much and read nothing, that sit idle, that take
a few bytes a second. The connection, its encryption and its windows are OpenSSH's own.
"""

import os
import select
import signal
import struct
import subprocess

from benchmarks.clients import ssh_options
from benchmarks.peers import Login

INIT, VERSION, OPEN, CLOSE, READ, STAT = 1, 2, 3, 4, 5, 17
STATUS, HANDLE, DATA, ATTRS = 101, 102, 103, 105
FOR_READING = 1
PATIENCE = 60


def text(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


class RawSftp:
    """``with RawSftp(login) as sftp: …``."""

    def __init__(self, login: Login) -> None:
        options = [*ssh_options(login), "-p", str(login.port), "-s"]
        self.process = subprocess.Popen(
            ["ssh", *options, f"{login.user}@{login.host}", "sftp"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        self._input = bytearray()
        self._serial = 0

    def __enter__(self) -> "RawSftp":
        self.greet()
        return self

    def greet(self) -> None:
        self.process.stdin.write(struct.pack(">IBI", 5, INIT, 3))
        kind, _ = self.receive()
        assert kind == VERSION

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def send(self, kind: int, *parts: bytes) -> None:
        """Send one request; answers come in the order of the server."""
        self._serial += 1
        body = struct.pack(">BI", kind, self._serial) + b"".join(parts)
        self.process.stdin.write(text(body))

    def receive(self) -> tuple[int, bytes]:
        """Return type and body, request number included, of the next answer."""
        while True:
            if len(self._input) >= 4:
                size = int.from_bytes(self._input[:4], "big")
                if len(self._input) >= 4 + size:
                    packet = bytes(self._input[4 : 4 + size])
                    del self._input[: 4 + size]
                    return packet[0], packet[1:]
            self.take(1 << 16)

    def take(self, size: int) -> int:
        """Read at most `size` bytes of answers; return how many came."""
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        assert ready, "no answer"
        data = os.read(self.process.stdout.fileno(), size)
        assert data, "the connection is gone"
        self._input += data
        return len(data)

    def ask(self, kind: int, *parts: bytes) -> tuple[int, bytes]:
        self.send(kind, *parts)
        return self.receive()

    def stat(self, path: str) -> int:
        """Return the type of the answer."""
        return self.ask(STAT, text(path.encode()))[0]

    def open(self, path: str) -> bytes:
        """Open for reading; return the handle."""
        kind, body = self.ask(OPEN, text(path.encode()), struct.pack(">II", FOR_READING, 0))
        assert kind == HANDLE, body
        return body[8:]

    def ask_to_read(self, handle: bytes, offset: int, length: int) -> None:
        """Send a READ and leave its answer."""
        self.send(READ, text(handle), struct.pack(">QI", offset, length))

    def freeze(self) -> None:
        """Let ssh itself read nothing more, so that TCP fills up."""
        self.process.send_signal(signal.SIGSTOP)
