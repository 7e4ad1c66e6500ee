"""Starts ``truckee start`` in a process of its own and talks to it as people do."""

import contextlib
import ftplib
import io
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

TRUCKEE = Path(sys.executable).parent / "truckee"
READY_WITHIN = 60
LOCAL = "tcp:0:interface=127.0.0.1"


@dataclass
class Node:
    """One node on a folder; start and kill it as often as needed."""

    folder: Path
    options: tuple[str, ...] = ("--servers", "10")
    through: tuple[str, ...] = ()
    """A command that runs the one that follows it."""
    process: subprocess.Popen | None = None
    ready: dict = field(default_factory=dict)

    def start(self) -> "Node":
        with (self.folder.parent / "stderr.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.through, TRUCKEE, "start", self.folder, *self.options]
                + ["--ftp", LOCAL, "--sftp", LOCAL, "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "USER": "ann", "LOGNAME": "ann"},
            )
        waited, _, _ = select.select([self.process.stdout], [], [], READY_WITHIN)
        line = self.process.stdout.readline() if waited else b""
        if not line:
            self.kill()
            raise AssertionError((self.folder.parent / "stderr.log").read_text()[-3000:])
        self.ready = json.loads(line)
        assert self.ready["ready"] is True
        return self

    def kill(self) -> None:
        """End it at once, as a power cut would (but for the page cache)."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self._reap()

    def stop(self) -> int:
        """End it in order; return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self._reap()

    def _reap(self) -> int:
        assert self.process is not None
        code = self.process.wait(45)
        if self.process.stdout:
            self.process.stdout.close()
        return code

    def restart(self) -> "Node":
        assert self.stop() == 0
        return self.start()

    def __enter__(self) -> "Node":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def account(self) -> str:
        return self.ready["account"]

    @property
    def password(self) -> str:
        return (self.folder / "private" / "first-password").read_text().split()[-1]

    @property
    def port(self) -> int:
        return self.ready["ftp"]["port"]

    @property
    def rootcap(self) -> str:
        text = (self.folder / "private" / "accounts").read_text()
        found = re.search(r"URI:DIR2:\S+", text)
        assert found
        return found.group()

    def server(self, i: int) -> Path:
        return self.folder / "servers" / f"{i:02d}"

    def servers(self) -> list[Path]:
        return sorted((self.folder / "servers").iterdir())

    def ftp(self) -> ftplib.FTP:
        ftp = ftplib.FTP(encoding="utf-8", timeout=90)
        try:
            ftp.connect("127.0.0.1", self.port)
            ftp.login(self.account, self.password)
        except BaseException:
            ftp.close()
            raise
        return ftp

    def put(self, name: str, data: bytes) -> None:
        with contextlib.closing(self.ftp()) as ftp:
            ftp.storbinary(f"STOR {name}", io.BytesIO(data))

    def get(self, name: str) -> bytes:
        taken = bytearray()
        with contextlib.closing(self.ftp()) as ftp:
            ftp.retrbinary(f"RETR {name}", taken.extend)
        return bytes(taken)

    def names(self, path: str = "") -> list[str]:
        with contextlib.closing(self.ftp()) as ftp:
            return ftp.nlst(path)

    def wait_for(self, condition, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.1)
