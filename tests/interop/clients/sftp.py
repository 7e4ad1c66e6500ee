"""Programs that speak SFTP, and the mount that sshfs makes of it."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

from tests.interop.clients.base import Client, Refused, Server, last_parts, q
from tests.interop.clients.ftp import SLOW, Curl, Driven, Lftp, Rclone

PEERS = Path(__file__).parents[3] / ".peers" / "clients" / "bin"


def ssh_options(server: Server, *more: str) -> list[str]:
    """Return what ssh and its kin are told: this server's key, this login, and no more."""
    options = [
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        f"UserKnownHostsFile={server.known_hosts}",
        "GlobalKnownHostsFile=/dev/null",
        "StrictHostKeyChecking=yes",
        "ConnectTimeout=20",
        *more,
    ]
    if server.login == "password":
        options += ["PubkeyAuthentication=no", "NumberOfPasswordPrompts=1"]
    else:
        options += ["BatchMode=yes", f"IdentityFile={server.key}"]
    return [word for option in options for word in ("-o", option)]


class OpenSSH(Client):
    """What all programs of OpenSSH have in common."""

    def options(self) -> list[str]:
        return ["-F", "none", *ssh_options(self.server)]

    def environment(self) -> dict[str, str]:
        """Let OpenSSH, which asks a terminal only, have the password from a program."""
        ask = self.work / "askpass"
        if not ask.exists():
            ask.write_text(f"#!/bin/sh\ncat <<'E'\n{self.server.password}\nE\n")
            ask.chmod(0o700)
        asking = {"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
        return super().environment() | asking


class Sftp(OpenSSH):
    programs = ("sftp",)

    def command(self, *options: str, batch: str = "-") -> list[object]:
        s = self.server
        words = [*self.options(), *options, "-P", s.sftp_port]
        # -b says BatchMode, with which no password is asked for
        if s.login != "password":
            words += ["-b", batch]
        return ["sftp", *words, f"{s.user}@{s.host}"]

    def do(self, *commands: str, options: tuple[str, ...] = ()) -> str:
        return self.run(self.command(*options), "\n".join([*commands, ""]))

    def names(self, remote: str) -> list[str]:
        listed = self.do(f"ls -1 {q(remote)}")
        return last_parts("\n".join(x for x in listed.split("\n") if not x.startswith("sftp>")))

    def upload(self, source: Path, remote: str) -> None:
        self.do(f"put {q(source)} {q(remote)}")

    def download(self, remote: str, target: Path) -> None:
        self.do(f"get {q(remote)} {q(target)}")

    def resume_download(self, remote: str, target: Path) -> None:
        self.do(f"reget {q(remote)} {q(target)}")

    def resume_upload(self, source: Path, remote: str) -> None:
        """Send it in two more steps: to two thirds by ``put -a``, the rest by ``reput``."""
        part = self.work / "two thirds"
        data = source.read_bytes()
        part.write_bytes(data[: len(data) * 2 // 3])
        self.do(f"put -a {q(part)} {q(remote)}", f"reput {q(source)} {q(remote)}")

    def rename(self, old: str, new: str) -> None:
        self.do(f"rename {q(old)} {q(new)}")

    def rename_other(self, old: str, new: str) -> None:
        self.do(f"rename -l {q(old)} {q(new)}")

    def delete(self, remote: str) -> None:
        self.do(f"rm {q(remote)}")

    def mkdir_p(self, remote: str) -> None:
        parts = remote.strip("/").split("/")
        paths = ["/" + "/".join(parts[: i + 1]) for i in range(len(parts))]
        self.do(*(f"-mkdir {q(path)}" for path in paths))

    def rmdir(self, remote: str) -> None:
        self.do(f"rmdir {q(remote)}")

    def upload_tree(self, source: Path, remote: str) -> None:
        self.do(f"mkdir {q(remote)}", f"put -r {q(str(source) + '/.')} {q(remote)}")

    def download_tree(self, remote: str, target: Path) -> None:
        self.do(f"get -r {q(remote + '/.')} {q(target)}")

    def stat(self, remote: str) -> tuple[int, int]:
        words = self.do(f"ls -l {q(remote)}").split("\n")[-2].split()
        when = " ".join(words[5:8])
        this_year = time.strftime("%Y ") + when
        if ":" in when:
            seconds = _seconds(this_year, "%Y %b %d %H:%M")
        else:
            seconds = _seconds(when, "%b %d %Y")
        return int(words[4]), seconds

    def upload_with_time(self, source: Path, remote: str) -> None:
        self.do(f"put -p {q(source)} {q(remote)}")

    def chmod(self, mode: str, remote: str) -> None:
        self.do(f"chmod {mode} {q(remote)}")

    def symlink(self, target: str, remote: str) -> None:
        self.do(f"symlink {q(target)} {q(remote)}")

    def slow_upload(self, source: Path, remote: str) -> subprocess.Popen:
        batch = self.work / "batch"
        batch.write_text(f"put {q(source)} {q(remote)}\n")
        return self.spawn(self.command("-l", str(SLOW * 8 // 1000), batch=str(batch)))

    def idle(self, remote: str, seconds: float) -> list[str]:
        listed = self.do(
            f"ls {q(remote)}", f"!sleep {seconds}", "!echo AWAKE", f"ls -1 {q(remote)}"
        )
        lines = listed.rpartition("AWAKE\n")[2].split("\n")
        return last_parts("\n".join(x for x in lines if not x.startswith("sftp>")))


def _seconds(text: str, form: str) -> int:
    from calendar import timegm

    return timegm(time.strptime(text, form))


class Scp(OpenSSH):
    programs = ("scp",)

    def do(self, *words: object) -> str:
        return self.run(["scp", *self.options(), "-P", self.server.sftp_port, *words])

    def at(self, remote: str) -> str:
        return f"{self.server.user}@{self.server.host}:{remote}"

    def check_login(self) -> None:
        note = self.work / "note"
        note.write_text("scp was here\n")
        self.do(note, self.at("/scp was here"))

    def upload(self, source: Path, remote: str) -> None:
        self.do(source, self.at(remote))

    def download(self, remote: str, target: Path) -> None:
        self.do(self.at(remote), target)

    def upload_tree(self, source: Path, remote: str) -> None:
        self.do("-r", source, self.at(remote))

    def download_tree(self, remote: str, target: Path) -> None:
        self.do("-r", self.at(remote), target)

    def upload_with_time(self, source: Path, remote: str) -> None:
        self.do("-p", source, self.at(remote))

    def slow_upload(self, source: Path, remote: str) -> subprocess.Popen:
        port = self.server.sftp_port
        limit = ("-l", SLOW * 8 // 1000)
        return self.spawn(["scp", *self.options(), "-P", port, *limit, source, self.at(remote)])


class Sshfs(OpenSSH):
    """A mount; the verbs are the programs that people use on any disk."""

    programs = ("sshfs", "fusermount3")
    closes_late = True  # the kernel sends CLOSE after close() has returned
    more: tuple[str, ...] = ()

    def __init__(self, server: Server, work: Path) -> None:
        super().__init__(server, work)
        self._process: subprocess.Popen | None = None
        self._mount = work / "mount"

    def missing(self) -> str:
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            return "/dev/fuse is not there, or not for us"
        return super().missing()

    @property
    def mount(self) -> Path:
        """Return where the filestore is mounted; it is, from now on."""
        if self._process is not None:
            return self._mount
        s = self.server
        self._mount.mkdir(exist_ok=True)
        options = ssh_options(s, "ServerAliveInterval=15")
        if s.login == "password":
            options += ["-o", "password_stdin"]
        for option in self.more:
            options += ["-o", option]
        words = ["-f", "-p", s.sftp_port, "-o", "ssh_command=ssh -F none", *options]
        with (self.work / "sshfs.err").open("wb") as errors:
            self._process = subprocess.Popen(
                ["sshfs", f"{s.user}@{s.host}:/", self._mount, *map(str, words)],
                stdin=subprocess.PIPE,
                stdout=errors,
                stderr=errors,
                env=self.environment(),
                start_new_session=True,
            )
        assert self._process.stdin is not None
        self._process.stdin.write(s.password.encode() + b"\n")
        self._process.stdin.close()
        while not os.path.ismount(self._mount):
            if self._process.poll() is not None:
                code, self._process = self._process.returncode, None
                raise Refused(code, (self.work / "sshfs.err").read_text())
            time.sleep(0.02)
        return self._mount

    def close(self) -> None:
        self._unmount()
        if self._process is None:
            return
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self._process = None

    def _unmount(self) -> None:
        """Take the mount away, also one that hangs or whose program is dead."""
        if str(self._mount) in Path("/proc/mounts").read_text():
            command = ["fusermount3", "-u", "-z", self._mount]
            subprocess.run(command, check=False, capture_output=True)

    def at(self, remote: str) -> Path:
        return self.mount / remote.lstrip("/")

    def names(self, remote: str) -> list[str]:
        return last_parts(self.run(["ls", "-1", "-U", self.at(remote)]))

    def upload(self, source: Path, remote: str) -> None:
        self.run(["cp", source, self.at(remote)])

    def download(self, remote: str, target: Path) -> None:
        self.run(["cp", self.at(remote), target])

    def upload_for_sure(self, source: Path, remote: str) -> None:
        self.run(["dd", f"if={source}", f"of={self.at(remote)}", "bs=64k", "conv=fsync"])

    def parallel(self, sources: list[Path], remote: str, target: Path) -> None:
        assert self.mount
        super().parallel(sources, remote, target)

    def append(self, tail: Path, remote: str) -> None:
        self.run(["sh", "-c", 'cat "$1" >> "$2"', "sh", tail, self.at(remote)])

    def rename(self, old: str, new: str) -> None:
        self.run(["mv", self.at(old), self.at(new)])

    def delete(self, remote: str) -> None:
        self.run(["rm", self.at(remote)])

    def mkdir_p(self, remote: str) -> None:
        self.run(["mkdir", "-p", self.at(remote)])

    def rmdir(self, remote: str) -> None:
        self.run(["rmdir", self.at(remote)])

    def upload_tree(self, source: Path, remote: str) -> None:
        self.run(["cp", "-r", source, self.at(remote)])

    def download_tree(self, remote: str, target: Path) -> None:
        self.run(["cp", "-r", f"{self.at(remote)}/.", target])

    def stat(self, remote: str) -> tuple[int, int]:
        size, when = self.run(["stat", "-c", "%s %Y", self.at(remote)]).split()
        return int(size), int(when)

    def upload_with_time(self, source: Path, remote: str) -> None:
        self.run(["cp", "-p", source, self.at(remote)])

    def chmod(self, mode: str, remote: str) -> None:
        self.run(["chmod", mode, self.at(remote)])

    def symlink(self, target: str, remote: str) -> None:
        self.run(["ln", "-s", target, self.at(remote)])

    def slow_upload(self, source: Path, remote: str) -> subprocess.Popen:
        code = (
            "import sys,time\n"
            "with open(sys.argv[1],'rb') as a, open(sys.argv[2],'wb') as b:\n"
            "    while data := a.read(16384): b.write(data); b.flush(); time.sleep(0.05)\n"
        )
        return self.spawn([sys.executable, "-c", code, source, self.at(remote)])

    def kill(self, process: subprocess.Popen) -> None:
        """Kill the mount with its ssh; then the program that wrote to it has nothing left."""
        assert self._process is not None
        Client.kill(self, self._process)
        self._process = None
        self._unmount()
        super().kill(process)

    def idle(self, remote: str, seconds: float) -> list[str]:
        self.names(remote)
        time.sleep(seconds)
        return self.names(remote)


class RcloneSftp(Rclone):
    programs = ("rclone",)

    def remote_settings(self) -> dict[str, str]:
        s = self.server
        login = {"PASS": self.obscured()} if s.login == "password" else {"KEY_FILE": str(s.key)}
        return login | {
            "TYPE": "sftp",
            "HOST": s.host,
            "PORT": str(s.sftp_port),
            "USER": s.user,
            "KNOWN_HOSTS_FILE": str(s.known_hosts),
        }


class LftpSftp(Lftp):
    programs = ("lftp", "ssh")

    def opening(self) -> list[str]:
        s = self.server
        options = ["-a", "-x", "-F", "none", *ssh_options(s)]
        return [
            f'set sftp:connect-program "ssh {" ".join(options)}"',
            f"open -u {s.user},{s.password} -p {s.sftp_port} sftp://{s.host}",
        ]


class Psftp(Client):
    programs = ("psftp",)

    def command(self, batch: Path) -> list[object]:
        s = self.server
        if s.login == "password":
            (self.work / "password").write_text(s.password + "\n")
            login: list[object] = ["-pwfile", self.work / "password"]
        else:
            login = ["-i", s.keys / "id_ed25519.ppk"]
        words = ["-batch", "-noagent", "-hostkey", s.fingerprint, "-P", s.sftp_port, "-l", s.user]
        return ["psftp", *words, *login, "-b", batch, s.host]

    def do(self, *commands: str) -> str:
        batch = self.work / "batch"
        batch.write_text("\n".join([*commands, "quit", ""]))
        return self.run(self.command(batch))

    def names(self, remote: str) -> list[str]:
        lines = self.do(f"ls {q(remote)}").split("\n")
        return [line.split(None, 8)[8] for line in lines if re.match(r"[-d][r-]", line)]

    def upload(self, source: Path, remote: str) -> None:
        self.do(f"put {q(source)} {q(remote)}")

    def download(self, remote: str, target: Path) -> None:
        self.do(f"get {q(remote)} {q(target)}")

    def resume_download(self, remote: str, target: Path) -> None:
        self.do(f"reget {q(remote)} {q(target)}")

    def resume_upload(self, source: Path, remote: str) -> None:
        self.do(f"reput {q(source)} {q(remote)}")

    def rename(self, old: str, new: str) -> None:
        self.do(f"mv {q(old)} {q(new)}")

    def delete(self, remote: str) -> None:
        self.do(f"rm {q(remote)}")

    def mkdir_p(self, remote: str) -> None:
        parts = remote.strip("/").split("/")
        self.do(*(f"mkdir {q('/' + '/'.join(parts[: i + 1]))}" for i in range(1, len(parts))))

    def rmdir(self, remote: str) -> None:
        self.do(f"rmdir {q(remote)}")

    def upload_tree(self, source: Path, remote: str) -> None:
        self.do(f"put -r {q(source)} {q(remote)}")

    def download_tree(self, remote: str, target: Path) -> None:
        self.do(f"get -r {q(remote)} {q(target)}")

    def stat(self, remote: str) -> tuple[int, int]:
        folder, _, name = remote.rpartition("/")
        line = next(x for x in self.do(f"ls {q(folder)}").split("\n") if x.endswith(name))
        words = line.split(None, 8)
        when = " ".join(words[5:8])
        return int(words[4]), _seconds(time.strftime("%Y ") + when, "%Y %b %d %H:%M")

    def chmod(self, mode: str, remote: str) -> None:
        self.do(f"chmod {mode} {q(remote)}")

    def slow_upload(self, source: Path, remote: str) -> subprocess.Popen:
        """Send so much that there is time to kill it: psftp cannot be told to be slow."""
        large = self.work / "large"
        shutil.copyfile(source, large)
        os.truncate(large, 2**30)
        batch = self.work / "batch"
        batch.write_text(f"put {q(large)} {q(remote)}\n")
        return self.spawn(self.command(batch))

    def idle(self, remote: str, seconds: float) -> list[str]:
        self_, lines = self, [f"ls {q(remote)}", f"!sleep {seconds}", f"ls {q(remote)}"]
        said = self_.do(*lines).rpartition("Listing directory")[2].split("\n")
        return [line.split(None, 8)[8] for line in said if re.match(r"[-d][r-]", line)]


class CurlSftp(Curl):
    def options(self) -> list[str]:
        s = self.server
        login = [] if s.login == "password" else ["--key", str(s.key), "--pubkey", f"{s.key}.pub"]
        return ["--hostpubsha256", s.fingerprint.removeprefix("SHA256:"), *login]

    def url(self, remote: str) -> str:
        return f"sftp://{self.server.host}:{self.server.sftp_port}{quote(remote)}"

    def command(self, *arguments: object) -> list[object]:
        s = self.server
        password = s.password if s.login == "password" else ""
        return ["curl", "-q", "-sS", "-u", f"{s.user}:{password}", *self.options(), *arguments]

    def order(self, *orders: str) -> None:
        self.do(*(word for order in orders for word in ("-Q", order)), "-l", self.url("/"))

    def delete(self, remote: str) -> None:
        self.order(f"rm {q(remote)}")

    def mkdir_p(self, remote: str) -> None:
        parts = remote.strip("/").split("/")
        paths = ["/" + "/".join(parts[: i + 1]) for i in range(1, len(parts))]
        self.order(*(f"mkdir {q(path)}" for path in paths))

    def rmdir(self, remote: str) -> None:
        self.order(f"rmdir {q(remote)}")


class _Peer(Driven):
    python = PEERS / "python"

    def login(self) -> dict[str, object]:
        s = self.server
        return {
            "host": s.host,
            "port": s.sftp_port,
            "user": s.user,
            "password": s.password if s.login == "password" else None,
            "key": None if s.login == "password" else str(s.key),
            "known_hosts": str(s.known_hosts),
        }


class Paramiko(_Peer):
    driver = "paramiko_driver.py"


class AsyncSSH(_Peer):
    driver = "asyncssh_driver.py"
