"""What all programs have in common: a server to talk to, a folder of their own, and verbs.

A verb returns when the program says that it worked, and raises `Refused` with the program's exit
code and words when it says that it did not. What is in the filestore afterwards is asked elsewhere.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.interop.clients.expectations import REFUSALS

LONGEST = 120


class Refused(Exception):
    """The program says that it did not work."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"exit {code}: {text[-1500:]}")
        self.code = code
        self.text = text

    def is_as(self, expected: str) -> bool:
        """Return whether this is how the table says it is refused."""
        if not expected.isdigit():
            return re.search(REFUSALS[expected], self.text, re.IGNORECASE) is not None
        return self.code == int(expected) if len(expected) == 2 else expected in self.text


@dataclass(frozen=True)
class Server:
    """Where a node listens, and how to log in."""

    host: str
    ftp_port: int
    sftp_port: int
    user: str
    password: str
    keys: Path
    """Holds ``id_ed25519``, ``id_rsa`` and, for PuTTY, ``id_ed25519.ppk``."""
    known_hosts: Path
    fingerprint: str
    """Of the Ed25519 host key."""
    login: str = "key"
    """SFTP: by ``key``, ``rsa`` or ``password``."""

    @property
    def key(self) -> Path:
        return self.keys / ("id_rsa" if self.login == "rsa" else "id_ed25519")


class Client:
    """One program; paths in the filestore are absolute, folders of this machine are `Path`."""

    programs: tuple[str, ...] = ()
    longest = LONGEST
    closes_late = False
    """Whether it may say that an upload worked before the server has it (and never heard of it)."""

    def __init__(self, server: Server, work: Path) -> None:
        self.server = server
        self.work = work

    def missing(self) -> str:
        """Return why it cannot run here, or nothing."""
        absent = [p for p in self.programs if shutil.which(p) is None]
        return f"not installed: {', '.join(absent)}" if absent else ""

    def close(self) -> None:
        """Let go of what it holds."""

    def environment(self) -> dict[str, str]:
        path = os.environ["PATH"]
        return {"PATH": path, "HOME": str(self.work), "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    def run(self, command: Sequence[object], text: str | None = None) -> str:
        """Run it to its end; return what it printed."""
        done = subprocess.run(
            [str(word) for word in command],
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=self.longest,
            env=self.environment(),
            cwd=self.work,
            check=False,
        )
        if done.returncode != 0:
            raise Refused(done.returncode, done.stdout + done.stderr)
        return done.stdout

    def spawn(self, command: Sequence[object], text: str = "") -> subprocess.Popen:
        """Start it in a process group of its own, which `kill` ends."""
        with (self.work / "spawned.err").open("wb") as said:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                env=self.environment(),
                cwd=self.work,
                start_new_session=True,
            )
        assert process.stdin is not None
        process.stdin.write(text.encode())
        process.stdin.flush()
        return process

    def kill(self, process: subprocess.Popen) -> None:
        """End it as the out-of-memory killer would."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        if process.stdin:
            process.stdin.close()

    # verbs that are made of others

    def parallel(self, sources: list[Path], remote: str, target: Path) -> None:
        """Upload all files at once, then download all at once."""
        with ThreadPoolExecutor(len(sources)) as pool:
            list(pool.map(lambda p: self.upload(p, f"{remote}/{p.name}"), sources))
            list(pool.map(lambda p: self.download(f"{remote}/{p.name}", target / p.name), sources))

    def upload_for_sure(self, source: Path, remote: str) -> None:
        """Upload, and hear of it when that fails."""
        self.upload(source, remote)

    def check_login(self) -> None:
        """Log in and look at the root."""
        self.names("/")


def quoted(text: str) -> str:
    """Return the text as one word for programs that know quotes and backslashes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def q(path: object) -> str:
    return quoted(str(path))


def last_parts(lines: str) -> list[str]:
    """Return the names of a listing with one path per line."""
    return [line.rstrip("\r").rstrip("/").rpartition("/")[2] for line in lines.split("\n") if line]
