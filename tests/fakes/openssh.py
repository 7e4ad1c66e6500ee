"""OpenSSH's own programs against a node: keys, one command after the other, and held sessions."""

import os
import select
import shutil
import subprocess
from pathlib import Path

HAS_OPENSSH = all(map(shutil.which, ("ssh", "sftp", "ssh-keygen")))
INIT = b"\0\0\0\x05\x01\0\0\0\x03"  # SFTP: version 3, please
VERSION = b"\x02\0\0\0\x03"


class OpenSSH:
    """One user with a key and a list of known hosts, all in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.key = folder / "id_ed25519"
        self.known = folder / "known_hosts"
        if not self.key.exists():
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", self.key],
                check=True,
            )

    @property
    def public(self) -> Path:
        return self.key.with_suffix(".pub")

    def options(self, checking: str = "accept-new", **more: str) -> list[str]:
        given = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "IdentityFile": self.key,
            "StrictHostKeyChecking": checking,
            "UserKnownHostsFile": self.known,
            "ConnectTimeout": 20,
            **more,
        }
        words = ["-F", "/dev/null"]
        return words + [word for pair in given.items() for word in ("-o", f"{pair[0]}={pair[1]}")]

    def sftp(self, user: str, port: int, *commands: str, checking="accept-new", cwd=None, **more):
        """Run commands in batch mode; return what the program says and how it ends."""
        return subprocess.run(
            [
                "sftp",
                *self.options(checking, **more),
                "-b",
                "-",
                "-P",
                str(port),
                f"{user}@127.0.0.1",
            ],
            input="\n".join(commands) + "\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=cwd,
            env={k: v for k, v in os.environ.items() if k != "SSH_AUTH_SOCK"},
        )

    def hold(self, user: str, port: int) -> "Held":
        return Held(
            ["ssh", *self.options(), "-p", str(port), "-s", f"{user}@127.0.0.1", "sftp"],
        )


class Held:
    """A session that is open and says nothing; an error when it cannot be opened."""

    def __init__(self, words) -> None:
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.process.stdin.write(INIT)
        self.process.stdin.flush()
        waited, _, _ = select.select([self.process.stdout], [], [], 30)
        answer = os.read(self.process.stdout.fileno(), 9) if waited else b""
        if answer[4:] != VERSION:
            self.process.kill()
            said = self.process.communicate()[1].decode()
            raise ConnectionError(said)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def ends_within(self, seconds: float) -> bool:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def __enter__(self) -> "Held":
        return self

    def __exit__(self, *_) -> None:
        if self.alive:
            self.process.kill()
        self.process.communicate()
