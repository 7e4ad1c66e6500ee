"""What people run, as one command for each thing they do; the tests run it over a bad network.

A `Client` makes commands from names in the account's home directory and local files. A command
that its program does not have is None. Retries are off: what a program does by itself after an
accident is its own affair, what it says about it is not.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks.clients import lftp_script, sftp_command, ssh_options
from benchmarks.peers import Login

PATIENCE = 60


@dataclass(frozen=True)
class Command:
    """One run of a program."""

    words: list[str]
    text: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, folder: Path) -> subprocess.Popen:
        with (folder / "client.log").open("ab") as log:
            process = subprocess.Popen(
                self.words,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=folder,
                start_new_session=True,
                env={**os.environ, "HOME": str(folder), "LC_ALL": "C.UTF-8", **self.environment},
            )
        process.stdin.write(self.text.encode())
        process.stdin.close()
        return process


def end(process: subprocess.Popen) -> None:
    """Kill it with its children, as an impatient user does."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


class Client:
    """`sftp` and `ftp` are logins over the network under test."""

    programs: tuple[str, ...] = ()

    def __init__(self, sftp: Login, ftp: Login, folder: Path) -> None:
        self.sftp, self.ftp, self.folder = sftp, ftp, folder

    def check(self) -> None:
        for program in self.programs:
            if shutil.which(program) is None:
                pytest.skip(f"{program} is not installed")

    def upload(self, source: Path, name: str) -> Command | None:
        """Send a file, over another if there is one."""

    def append(self, source: Path, name: str) -> Command | None:
        """Go on with an upload of `source` whose beginning is there."""

    def download(self, name: str, target: Path) -> Command | None:
        """Fetch a file to a new local one."""

    def resume(self, name: str, target: Path) -> Command | None:
        """Go on with a download whose beginning is here."""

    def rename(self, name: str, new: str) -> Command | None:
        """Rename, over another file if there is one."""

    def mkdir(self, name: str) -> Command | None:
        """Make a directory."""

    def close(self) -> None:
        """Let go of what it holds."""

    def renew(self) -> None:
        """Come back after a cut, for a client that stays connected."""


class OpenSshSftp(Client):
    programs = ("sftp",)

    def _do(self, *lines: str) -> Command:
        return Command(sftp_command(self.sftp), "".join(f"{line}\n" for line in lines))

    def upload(self, source, name):
        return self._do(f"put {source} {name}")

    def append(self, source, name):
        return self._do(f"reput {source} {name}")

    def download(self, name, target):
        return self._do(f"get {name} {target}")

    def resume(self, name, target):
        return self._do(f"reget {name} {target}")

    def rename(self, name, new):
        return self._do(f"rename {name} {new}")

    def mkdir(self, name):
        return self._do(f"mkdir {name}")


class Scp(Client):
    programs = ("scp",)

    def _do(self, source: str, target: str) -> Command:
        options = [*ssh_options(self.sftp), "-P", str(self.sftp.port)]
        return Command(["scp", "-s", *options, source, target])

    def _remote(self, name: str) -> str:
        return f"{self.sftp.user}@{self.sftp.host}:{name}"

    def upload(self, source, name):
        return self._do(str(source), self._remote(name))

    def download(self, name, target):
        return self._do(self._remote(name), str(target))


class Lftp(Client):
    programs = ("lftp",)
    settings = (
        "set net:timeout 30",
        "set net:reconnect-interval-base 1",
        "set net:reconnect-interval-max 1",
        "set ftp:prefer-epsv yes",
        "set ftp:use-mdtm no",
    )

    @property
    def login(self) -> Login:
        return self.ftp

    def _do(self, line: str) -> Command:
        return Command(
            ["lftp", "-f", "/dev/stdin"], lftp_script(self.login, (*self.settings, line))
        )

    def upload(self, source, name):
        return self._do(f"put {source} -o {name}")

    def append(self, source, name):
        return self._do(f"put -c {source} -o {name}")

    def download(self, name, target):
        return self._do(f"get {name} -o {target}")

    def resume(self, name, target):
        return self._do(f"get -c {name} -o {target}")

    def rename(self, name, new):
        return self._do(f"mv {name} {new}")

    def mkdir(self, name):
        return self._do(f"mkdir {name}")


class LftpTls(Lftp):
    settings = (
        *Lftp.settings,
        "set ftp:ssl-allow yes",
        "set ftp:ssl-force yes",
        "set ftp:ssl-protect-data yes",
        "set ssl:verify-certificate no",
    )


class LftpSftp(Lftp):
    programs = ("lftp", "ssh")

    @property
    def login(self) -> Login:
        return self.sftp


class Curl(Client):
    programs = ("curl",)
    options: tuple[str, ...] = ()

    def _do(self, *words: str) -> Command:
        user = f"{self.ftp.user}:{self.ftp.password}"
        return Command(["curl", "-qsS", "-u", user, "--max-time", "50", *self.options, *words])

    def _url(self, name: str) -> str:
        return f"ftp://{self.ftp.host}:{self.ftp.port}/{name}"

    def upload(self, source, name):
        return self._do("-T", str(source), self._url(name))

    def append(self, source, name):
        return self._do("-C", "-", "-T", str(source), self._url(name))

    def download(self, name, target):
        return self._do("-o", str(target), self._url(name))

    def resume(self, name, target):
        return self._do("-C", "-", "-o", str(target), self._url(name))

    def rename(self, name, new):
        return self._do("-Q", f"RNFR {name}", "-Q", f"RNTO {new}", "-I", self._url(""))

    def mkdir(self, name):
        return self._do("-Q", f"MKD {name}", "-I", self._url(""))


class CurlTls(Curl):
    options = ("--ssl-reqd", "-k")


class CurlSftp(Curl):
    """curl over SSH; it resumes downloads and appends, and renames by quoted commands."""

    def _do(self, *words: str) -> Command:
        key = ["--key", str(self.sftp.key), "--pubkey", f"{self.sftp.key}.pub"]
        user = ["-u", f"{self.sftp.user}:", "-k", "--max-time", "50"]
        return Command(["curl", "-qsS", *user, *key, *words])

    def check(self) -> None:
        super().check()
        version = subprocess.run(["curl", "--version"], capture_output=True, check=True).stdout
        if b" sftp" not in version:
            pytest.skip("this curl knows no SFTP")

    def _url(self, name: str) -> str:
        return f"sftp://{self.sftp.host}:{self.sftp.port}/{name}"

    def rename(self, name, new):
        return self._do("-Q", f"rename /{name} /{new}", "-I", self._url(""))

    def mkdir(self, name):
        return self._do("-Q", f"mkdir /{name}", "-I", self._url(""))


class Rclone(Client):
    programs = ("rclone",)

    def _do(self, *words: str) -> Command:
        options = ["--config", "/dev/null", "--retries", "1", "--low-level-retries", "1"]
        return Command(["rclone", *options, "--contimeout", "30s", *words])

    def _remote(self, name: str) -> str:
        login = self.sftp
        return (
            f":sftp,host={login.host},port={login.port},user={login.user},"
            f"key_file='{login.key}',shell_type=none:{name}"
        )

    def upload(self, source, name):
        return self._do("copyto", str(source), self._remote(name))

    def download(self, name, target):
        return self._do("copyto", self._remote(name), str(target))

    def rename(self, name, new):
        return self._do("moveto", self._remote(name), self._remote(new))

    def mkdir(self, name):
        return self._do("mkdir", self._remote(name))


class Sshfs(Client):
    """A mount that stays; what counts as acknowledged is what was synced."""

    programs = ("sshfs", "fusermount3")

    def check(self) -> None:
        super().check()
        if not Path("/dev/fuse").exists():
            pytest.skip("no /dev/fuse here")
        self.mount = self.folder / "mount"
        self.mount.mkdir()
        self._process: subprocess.Popen | None = None
        self._enter()

    def _enter(self) -> None:
        login = self.sftp
        options = [word for word in ssh_options(login) if word != "-o"]
        words = ["sshfs", "-f", f"{login.user}@{login.host}:/", str(self.mount)]
        words += ["-p", str(login.port), "-o", "IdentityFile=" + str(login.key)]
        known = ("StrictHostKeyChecking", "UserKnownHostsFile", "IdentitiesOnly", "BatchMode")
        for option in options:
            if option.startswith(known):
                words += ["-o", option]
        words += ["-o", "dcache_timeout=1"]
        with (self.folder / "client.log").open("ab") as log:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 20
        while not os.path.ismount(self.mount):
            assert time.monotonic() < deadline, (self.folder / "client.log").read_text()[-2000:]
            assert self._process.poll() is None, (self.folder / "client.log").read_text()[-2000:]
            time.sleep(0.05)

    def _leave(self) -> None:
        if self._process is not None:
            end(self._process)
            subprocess.run(
                ["fusermount3", "-u", "-z", self.mount], capture_output=True, check=False
            )
            self._process = None

    def close(self) -> None:
        self._leave()

    def renew(self) -> None:
        self._leave()
        self._enter()

    def _do(self, *words: object) -> Command:
        return Command([str(word) for word in words])

    def upload(self, source, name):
        return self._do("dd", f"if={source}", f"of={self.mount / name}", "bs=64K", "conv=fsync")

    def append(self, source, name):
        there = (self.mount / name).stat().st_size
        return self._do(
            "dd", f"if={source}", f"of={self.mount / name}", "bs=64K", "conv=notrunc,fsync",
            "iflag=skip_bytes", f"skip={there}", "oflag=append",
        )  # fmt: skip

    def download(self, name, target):
        return self._do("cp", self.mount / name, target)

    def rename(self, name, new):
        return self._do("mv", self.mount / name, self.mount / new)

    def mkdir(self, name):
        return self._do("mkdir", self.mount / name)


Kind = Callable[[Login, Login, Path], Client]
KINDS: dict[str, Kind] = {
    "sftp": OpenSshSftp,
    "scp": Scp,
    "sshfs": Sshfs,
    "rclone": Rclone,
    "lftp ftp": Lftp,
    "lftp ftps": LftpTls,
    "lftp sftp": LftpSftp,
    "curl ftp": Curl,
    "curl ftps": CurlTls,
    "curl sftp": CurlSftp,
}
