"""A node for programs to talk to: both frontends, keys in the account file, quick passwords."""

import ftplib
import io
import re
import subprocess
import sys
import time
from calendar import timegm
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import bcrypt

from tests.interop.clients.base import Server
from tests.system.node import TRUCKEE, Node
from truckee.core import files
from truckee.frontends.node import control

ROOT = Path(__file__).resolve().parents[3]
PASSWORD = "correct-horse-battery-staple"
BOTH = ("--sftp", "tcp:0:interface=127.0.0.1")


def make_keys(folder: Path) -> Path:
    """Make one key of each kind that programs are given, and PuTTY's form of one."""
    folder.mkdir()
    for kind, more in (("ed25519", []), ("rsa", ["-b", "2048"])):
        key = folder / f"id_{kind}"
        subprocess.run(
            ["ssh-keygen", "-q", "-t", kind, *more, "-N", "", "-C", "a test", "-f", key], check=True
        )
    converted = folder / "id_ed25519.ppk"
    command = ["puttygen", folder / "id_ed25519", "-O", "private", "-o", converted]
    subprocess.run(command, check=False, capture_output=True)
    return folder


def _remove_children(ftp: ftplib.FTP, path: str) -> None:
    for name, facts in list(ftp.mlsd(path)):
        child = f"{path}/{name}"
        if facts["type"] == "dir":
            _remove_children(ftp, child)
            ftp.rmd(child)
        else:
            ftp.sendcmd(f"SITE CHMOD 644 {child}")
            ftp.delete(child)


@dataclass
class ClientNode(Node):
    """A node whose accounts are written before it starts; it sees all through FTP itself."""

    settings: str = ""
    """Lines for the section [ftpd]."""
    more_users: tuple[str, ...] = ()
    """Accounts with the same root, password and keys."""

    password = PASSWORD  # type: ignore[assignment]
    keys: Path = field(init=False)

    def make(self, *, plant: bool = False) -> "ClientNode":
        servers = self.options
        command = [TRUCKEE, "create", self.folder, *servers, "--json"]
        env = {"PATH": "/usr/bin:/bin", "USER": "ann", "LOGNAME": "ann", "HOME": "/nonexistent"}
        subprocess.run(command, check=True, capture_output=True, env=env)
        root = self.rootcap
        self.keys = make_keys(self.folder.parent / "keys")
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        lines = ["#truckee-accounts: 2"]
        for user in ("ann", *self.more_users):
            lines.append(f"{user} {hashed} {root}")
            for key in sorted(self.keys.glob("*.pub")):
                lines.append(f"{user} {key.read_text().strip()} =")
        accounts = self.folder / "private" / "accounts"
        files.replace(accounts, ("\n".join(lines) + "\n").encode())
        config = self.folder / "truckee.cfg"
        if self.settings:
            text = config.read_text().replace("[ftpd]\n", f"[ftpd]\n{self.settings}\n")
            files.replace(config, text.encode())
        if plant:
            command = [sys.executable, "-m", "tests.interop.clients.planting", self.folder, root]
            subprocess.run(command, check=True, cwd=ROOT)
        self.options = BOTH
        return self

    @property
    def server(self) -> Server:
        port, private = self.ready["sftp"]["port"], self.folder / "private"
        lines = []
        for public in sorted(private.glob("ssh_host_*.pub")):
            kind, key = public.read_text().split()[:2]
            lines.append(f"[127.0.0.1]:{port} {kind} {key}\n")
        known = self.folder.parent / "known_hosts"
        known.write_text("".join(lines))
        public = private / "ssh_host_ed25519_key.pub"
        shown = subprocess.check_output(["ssh-keygen", "-lf", public], text=True)
        fingerprint = shown.split()[1]
        return Server("127.0.0.1", self.port, port, "ann", PASSWORD, self.keys, known, fingerprint)

    # what is in the filestore

    def mkdir(self, path: str) -> None:
        with closing(self.ftp()) as ftp:
            ftp.mkd(path)

    def empty(self, path: str) -> None:
        """Make the directory, or remove all that is in it."""
        with closing(self.ftp()) as ftp:
            if path.lstrip("/") in ftp.nlst("/"):
                _remove_children(ftp, path)
            else:
                ftp.mkd(path)

    def size(self, path: str) -> int | None:
        """Return the size, of an upload in progress too, or None for what is not there."""
        with closing(self.ftp()) as ftp:
            ftp.voidcmd("TYPE I")
            folder, _, name = path.rpartition("/")
            return next(
                (int(facts["size"]) for found, facts in ftp.mlsd(folder) if found == name), None
            )

    def mtime(self, path: str) -> int:
        with closing(self.ftp()) as ftp:
            when = ftp.voidcmd(f"MDTM {path}").split()[1]
        return timegm(time.strptime(when[:14], "%Y%m%d%H%M%S"))

    def set_mtime(self, path: str, when: int) -> None:
        with closing(self.ftp()) as ftp:
            ftp.voidcmd(f"MFMT {time.strftime('%Y%m%d%H%M%S', time.gmtime(when))} {path}")

    def put_all(self, folder: str, contents: dict[str, bytes]) -> None:
        with closing(self.ftp()) as ftp:
            ftp.cwd(folder)
            for name, data in contents.items():
                ftp.storbinary(f"STOR {name}", io.BytesIO(data))

    def get_all(self, folder: str) -> dict[str, bytes]:
        contents: dict[str, bytes] = {}
        with closing(self.ftp()) as ftp:
            ftp.cwd(folder)
            for name in ftp.nlst():
                taken = bytearray()
                ftp.retrbinary(f"RETR {name}", taken.extend)
                contents[name] = bytes(taken)
        return contents

    def forgive(self) -> None:
        """Let the next wrong password be answered as the first one."""
        control.ask(self.folder / "private", {"do": "unban", "source": "127.0.0.1"})

    def shares(self) -> set[Path]:
        """Return the files that hold shares."""
        return {p for p in self.folder.rglob("shares/*/*/*") if re.fullmatch(r"\d+", p.name)}
