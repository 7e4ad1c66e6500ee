"""An SSH agent with the keys of tests; security keys in it are touched by nobody, or always."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.fakes.account_lines import string
from tests.fakes.ssh_keys import Key

REQUEST_IDENTITIES, SIGN_REQUEST = 11, 13
FAILURE, IDENTITIES, SIGNATURE = 5, 12, 14
SHA512 = 4


class Agent:
    """Answers one client after the other on a socket."""

    def __init__(self, path: Path, keys: Sequence[Key], flags: int = 1) -> None:
        self.path = path
        self.keys = keys
        self.flags = flags
        self.signed = 0
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(path))
        self.listening.listen()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.thread.join()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listening.accept()
                with client, client.makefile("rwb") as stream:
                    while head := stream.read(4):
                        message = stream.read(struct.unpack(">I", head)[0])
                        stream.write(string(self._answer(message)))
                        stream.flush()

    def _answer(self, message: bytes) -> bytes:
        if message[0] == REQUEST_IDENTITIES:
            known = [string(key.blob) + string(b"in the agent") for key in self.keys]
            return bytes([IDENTITIES]) + struct.pack(">I", len(known)) + b"".join(known)
        if message[0] != SIGN_REQUEST:
            return bytes([FAILURE])
        blob, data, flags = _strings(message[1:])
        key = next(key for key in self.keys if key.blob == blob)
        self.signed += 1
        algorithm = b""
        if key.key_type == "ssh-rsa":
            algorithm = b"rsa-sha2-512" if flags == struct.pack(">I", SHA512) else b"rsa-sha2-256"
        return bytes([SIGNATURE]) + string(key.sign(data, algorithm, flags=self.flags))


def _strings(message: bytes) -> tuple[bytes, bytes, bytes]:
    """Return two strings and what follows them."""
    found = []
    for _ in range(2):
        size = struct.unpack(">I", message[:4])[0]
        found.append(message[4 : 4 + size])
        message = message[4 + size :]
    return found[0], found[1], message


@contextlib.contextmanager
def agent(folder: Path, *keys: Key, flags: int = 1) -> Iterator[Agent]:
    folder.mkdir(exist_ok=True)
    running = Agent(folder / "agent", keys, flags)
    try:
        yield running
    finally:
        running.close()
        running.path.unlink()
