"""A node in a process of its own, for what is measured from outside."""

import ftplib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from benchmarks.peers import LARGE, Login, Server, make_key, public_half

TRUCKEE = Path(sys.executable).parent / "truckee"
LOCAL = "tcp:0:interface=127.0.0.1"
OPTIONS = ("--ftp", LOCAL, "--sftp", LOCAL, "--json")


class Node(Server):
    """``truckee start`` on a new folder, or on one it left; `ftp()` logs in.

    The account has a password and a key: `login` is for SFTP, `ftp_login` for FTP.
    """

    def __init__(self, folder: Path, servers: int, name: str = "Truckee") -> None:
        self.folder = folder
        self.name = name
        if not (folder / "truckee.cfg").exists():
            subprocess.run(
                [TRUCKEE, "create", folder, "--servers", str(servers), "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=self._environment(),
                check=True,
            )
            key = make_key(folder / "private" / "bench-key")
            with (folder / "private" / "accounts").open("a") as accounts:
                accounts.write(f"ann {public_half(key)} =\n")
        self._key = folder / "private" / "bench-key"
        with (folder / "stderr.log").open("ab") as errors:
            self.process = subprocess.Popen(
                [TRUCKEE, "start", folder, *OPTIONS],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self._environment(),
            )
        self.ready = json.loads(self.process.stdout.readline())
        self.roots = [self.process.pid]
        password = (folder / "private" / "first-password").read_text().split()[-1]
        account = self.ready["account"]
        self.ftp_login = Login(self.ready["ftp"]["port"], account, None, password)
        self.login = Login(self.ready["sftp"]["port"], account, self._key, password, "/")

    @staticmethod
    def _environment() -> dict[str, str]:
        return {**os.environ, "USER": "ann", "LOGNAME": "ann"}

    @property
    def pid(self) -> int:
        return self.process.pid

    def ftp(self) -> ftplib.FTP:
        ftp = ftplib.FTP(encoding="utf-8", timeout=600)
        ftp.connect("127.0.0.1", self.ftp_login.port)
        ftp.login(self.ftp_login.user, self.ftp_login.password)
        return ftp

    def forget(self) -> None:
        for share in (self.folder / "servers").glob("*/shares/??/*/*"):
            if share.stat().st_size > LARGE:  # keep the directories
                share.unlink()

    def __enter__(self) -> "Node":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.process.stdout.close()
