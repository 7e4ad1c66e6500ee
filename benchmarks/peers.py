"""The servers that people would use instead, over plain files on loopback, and stock Tahoe-LAFS.

Each is a `Server`: an address, a login, a folder for remote files, and what it costs. All keep
their keys, configuration and files in one folder of their own and end with the ``with`` block.
A peer that is not installed is left out, and `missing` says why.
"""

import contextlib
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import processes
from benchmarks.tahoe_grid import TAHOE, TahoeGrid, free_port

HERE = Path(__file__).resolve().parent
CLIENTS = HERE.parent / ".peers" / "clients" / "bin" / "python"
SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin")
VSFTPD = shutil.which("vsftpd", path=os.environ.get("PATH", "") + ":/usr/sbin")
LARGE = 1 << 20


@dataclass(frozen=True)
class Login:
    """How a client comes in: where, who, and with what."""

    port: int
    user: str
    key: Path | None = None
    password: str | None = None
    base: str = ""  # what stands before the name of a remote file, with its slash
    host: str = "127.0.0.1"


class Server:
    """A running server; `name` is what tables call it."""

    name: str
    login: Login
    roots: Sequence[int]

    def cpu(self) -> float:
        """Return the processor seconds used so far by all of it."""
        return processes.cpu_of(self.roots)

    def forget(self) -> None:
        """Give back the disk that large files take."""


def make_key(path: Path, kind: str = "ed25519", *options: str) -> Path:
    """Make a key pair without a passphrase; return its private half."""
    if not path.exists():
        command = ["ssh-keygen", "-q", "-N", "", "-t", kind, *options, "-f", path]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


def public_half(key: Path) -> str:
    """Return the line that servers take, without its comment."""
    return " ".join(key.with_name(key.name + ".pub").read_text().split()[:2])


class PlainPeer(Server):
    """A server over a plain folder, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = folder / "files"
        self.files.mkdir(parents=True)
        self.port = free_port()
        self.process: subprocess.Popen | None = None

    def prepare(self) -> list[str | Path]:
        """Set `login` and return the command that serves in the foreground."""
        raise NotImplementedError

    def __enter__(self) -> "PlainPeer":
        command = self.prepare()
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.roots = [self.process.pid]
        deadline = time.monotonic() + 30
        while not _answers(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                text = (self.folder / "log").read_text()[-2000:]
                raise RuntimeError(f"{self.name} did not start: {text}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.files, ignore_errors=True)

    def forget(self) -> None:
        for path in self.files.iterdir():
            if path.is_file() and path.stat().st_size > LARGE:
                path.unlink()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


class OpenSsh(PlainPeer):
    """OpenSSH's own sshd with internal-sftp, as whoever runs this."""

    name = "OpenSSH"

    def prepare(self) -> list[str | Path]:
        host_key = make_key(self.folder / "host")
        key = make_key(self.folder / "user")
        authorized = self.folder / "authorized"
        authorized.write_text(public_half(key) + "\n")
        authorized.chmod(0o600)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where it locks its unprivileged half in
        config = self.folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {host_key}\n"
            f"AuthorizedKeysFile {authorized}\nPidFile none\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "PermitRootLogin prohibit-password\nMaxStartups 1000\nLogLevel ERROR\n"
            "PerSourceMaxStartups none\nSubsystem sftp internal-sftp\n"
        )
        self.login = Login(self.port, getpass.getuser(), key, None, f"{self.files}/")
        return [SSHD, "-D", "-e", "-f", config]


class Conch(PlainPeer):
    """Twisted's stock SFTP server."""

    name = "conch"

    def prepare(self) -> list[str | Path]:
        host_key = make_key(self.folder / "host")
        key = make_key(self.folder / "user")
        authorized = self.folder / "authorized"
        authorized.write_text(public_half(key) + "\n")
        self.login = Login(self.port, "ann", key, None, f"{self.files}/")
        script = HERE / "conch_server.py"
        return [sys.executable, script, str(self.port), host_key, authorized]


class Vsftpd(PlainPeer):
    """vsftpd with an anonymous account that may write, as whoever runs this."""

    name = "vsftpd"

    def prepare(self) -> list[str | Path]:
        config = self.folder / "vsftpd.conf"
        options = {
            "listen": "YES", "listen_address": "127.0.0.1", "listen_port": self.port,
            "background": "NO", "anonymous_enable": "YES", "no_anon_password": "YES",
            "anon_root": self.files, "write_enable": "YES", "anon_upload_enable": "YES",
            "anon_mkdir_write_enable": "YES", "anon_other_write_enable": "YES",
            "anon_world_readable_only": "NO", "anon_umask": "022", "seccomp_sandbox": "NO",
            "allow_writeable_chroot": "YES", "xferlog_enable": "NO", "max_clients": 0,
            "max_per_ip": 0, "run_as_launching_user": "YES",
        }  # fmt: skip
        config.write_text("".join(f"{key}={value}\n" for key, value in options.items()))
        self.login = Login(self.port, "anonymous", None, "x@y.example")
        return [VSFTPD, config]


class Pyftpdlib(PlainPeer):
    """pyftpdlib with one account."""

    name = "pyftpdlib"

    def prepare(self) -> list[str | Path]:
        self.login = Login(self.port, "ann", None, "secret")
        script = HERE / "pyftpdlib_server.py"
        return [CLIENTS, script, str(self.port), self.files, "ann", "secret"]


def missing(kind: type[Server]) -> str:
    """Return why a peer cannot be run here, or nothing."""
    if kind is OpenSsh and SSHD is None:
        return "no sshd"
    if kind is Vsftpd and VSFTPD is None:
        return "no vsftpd"
    if kind is Tahoe and not TAHOE.exists():
        return "no stock Tahoe-LAFS: make peers"
    if kind is Pyftpdlib:
        if not CLIENTS.exists():
            return "no pyftpdlib: make peers"
        probe = subprocess.run(
            [CLIENTS, "-c", "import pyftpdlib"], check=False, capture_output=True
        )
        return "no pyftpdlib: make peers" if probe.returncode else ""
    return ""


class Tahoe(Server):
    """A stock Tahoe-LAFS grid of 10 servers, 3-of-10, whose client node serves SFTP."""

    name = "Tahoe"
    SERVERS = 10

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.grid = TahoeGrid(folder, self.SERVERS, 3, 7, 10)

    def __enter__(self) -> "Tahoe":
        try:
            self.grid.create()
            self.grid.start()
            self._serve()
        except BaseException:
            self.grid.stop()
            raise
        return self

    def _serve(self) -> None:
        """Make a directory and start the client again, with an account that owns it."""
        self.root = self.grid.tahoe("mkdir").decode().strip()
        key = make_key(self.folder / "user")
        host = make_key(self.folder / "host", "rsa", "-m", "PEM")
        accounts = self.folder / "accounts"
        accounts.write_text(f"ann {public_half(key)} {self.root}\n")
        port = free_port()
        with (self.grid.client / "tahoe.cfg").open("a") as config:
            config.write(
                f"\n[sftpd]\nenabled = true\nport = tcp:{port}:interface=127.0.0.1\n"
                f"host_pubkey_file = {host}.pub\nhost_privkey_file = {host}\n"
                f"accounts.file = {accounts}\n"
            )
        self.restart_client()
        self.login = Login(port, "ann", key, None, "/")

    def restart_client(self) -> None:
        """Give the client node a new process, which remembers nothing."""
        self.grid.restart_client()
        self.roots = [p.pid for p in self.grid.processes()]
        self.client_pid = self.roots[-1]

    def __exit__(self, *_: object) -> None:
        self.grid.stop()
        for i in range(self.SERVERS):
            shutil.rmtree(self.grid.storage(i), ignore_errors=True)

    def forget(self) -> None:
        for i in range(self.SERVERS):
            for share in (self.grid.storage(i) / "shares").glob("??/*/*"):
                if share.stat().st_size > LARGE:
                    share.unlink()

    def make_names(self, name: str, names: Sequence[str]) -> None:
        """Make a directory of tiny files, in one request."""
        children = {n: ["filenode", {"ro_uri": "URI:LIT:nbswy3dp"}] for n in names}
        request = urllib.request.Request(
            f"{self.grid.url}uri/{self.root}/{name}?t=mkdir-with-children",
            json.dumps(children).encode(),
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=300) as answer:
            answer.read()
