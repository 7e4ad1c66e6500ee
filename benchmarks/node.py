"""A node in a process of its own, for what is measured from outside."""

import ftplib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

TRUCKEE = Path(sys.executable).parent / "truckee"
OPTIONS = ("--ftp", "tcp:0:interface=127.0.0.1", "--json")


class Node:
    """``truckee start`` on a new folder; `ftp()` logs in."""

    def __init__(self, folder: Path, servers: int) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [TRUCKEE, "start", folder, "--servers", str(servers), *OPTIONS],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={**os.environ, "USER": "ann", "LOGNAME": "ann"},
        )
        self.ready = json.loads(self.process.stdout.readline())

    @property
    def pid(self) -> int:
        return self.process.pid

    def ftp(self) -> ftplib.FTP:
        ftp = ftplib.FTP(encoding="utf-8", timeout=600)
        ftp.connect("127.0.0.1", self.ready["ftp"]["port"])
        password = (self.folder / "private" / "first-password").read_text().split()[-1]
        ftp.login(self.ready["account"], password)
        return ftp

    def __enter__(self) -> "Node":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
