"""SFTP requests that no client sends, through paramiko's connection: LOGIN VERB."""

import sys

from driving import drive
from paramiko.message import Message
from paramiko.sftp import CMD_CLOSE, CMD_HANDLE, CMD_OPEN, CMD_READ, CMD_STATUS, CMD_WRITE
from paramiko.sftp_attr import SFTPAttributes
from paramiko_driver import session

READ_WRITE_CREATE = 1 | 2 | 8


class Wire:
    """One request at a time, made of any bytes."""

    def __init__(self, sftp) -> None:
        self._sftp = sftp
        self._next = 1000

    def ask(self, kind: int, *fields: object, raw: bytes = b"") -> tuple[int, Message]:
        """Send a request; return kind and body of its reply."""
        self._next += 1
        message = Message()
        message.add_int(self._next)
        for field in fields:
            if isinstance(field, SFTPAttributes):
                field._pack(message)
            elif isinstance(field, bytes):
                message.add_string(field)
            elif field > 0xFFFF_FFFF or field == 0:
                message.add_int64(field & 0xFFFF_FFFF)
            else:
                message.add_int(field)
        message.add_bytes(raw)
        self._sftp._send_packet(kind, message)
        kind, data = self._sftp._read_packet()
        reply = Message(data)
        assert reply.get_int() == self._next
        return kind, reply

    def status(self, kind: int, *fields: object, raw: bytes = b"") -> int:
        """Send a request whose reply must be a status; return its code."""
        found, reply = self.ask(kind, *fields, raw=raw)
        assert found == CMD_STATUS, found
        return reply.get_int()

    def open(self, path: str) -> bytes:
        found, reply = self.ask(CMD_OPEN, path.encode(), READ_WRITE_CREATE, SFTPAttributes())
        assert found == CMD_HANDLE, found
        return reply.get_string()


def odd_requests(login, path):
    """Return the status of each odd request, then the file's bytes by an ordinary one."""
    with session(login) as sftp:
        wire = Wire(sftp)
        handle = wire.open(path)
        said = {
            "write with trailing bytes": wire.status(CMD_WRITE, handle, 0, b"data", raw=b"more"),
            "request cut short": wire.status(CMD_OPEN, raw=b"\0\0\0\x09abc"),
            "no fields at all": wire.status(CMD_READ),
            "unknown request": wire.status(99, b"x"),
            "close": wire.status(CMD_CLOSE, handle),
            "read on a closed handle": wire.status(CMD_READ, handle, 0, 10),
            "write on a closed handle": wire.status(CMD_WRITE, handle, 0, b"data"),
            "close again": wire.status(CMD_CLOSE, handle),
        }
        with sftp.open(path) as file:
            said["content"] = file.read().decode()
        return said


if __name__ == "__main__":
    drive(sys.modules[__name__])
