"""Programs that speak FTP, each also over TLS where it can."""

import email.utils
import json
import re
import subprocess
import sys
import time
from calendar import timegm
from pathlib import Path
from urllib.parse import quote

from tests.interop.clients.base import Client, Refused, last_parts, q

SLOW = 300_000
"""Bytes per second of an upload that is to be killed."""

DRIVERS = Path(__file__).parent / "drivers"


class Lftp(Client):
    programs = ("lftp",)
    tls = False

    def opening(self) -> list[str]:
        s = self.server
        return [
            f"set ftp:ssl-force {'yes' if self.tls else 'no'}",
            f"set ftp:ssl-allow {'yes' if self.tls else 'no'}",
            "set ftp:ssl-protect-data yes",
            "set ssl:verify-certificate no",
            f"open -u {s.user},{s.password} ftp://{s.host}:{s.ftp_port}",
        ]

    def script(self, *commands: str) -> str:
        return "\n".join(
            [
                "set net:max-retries 1",
                "set net:timeout 30",
                "set cmd:fail-exit yes",
                "set cmd:interactive no",
                *self.opening(),
                *commands,
                "",
            ]
        )

    def do(self, *commands: str) -> str:
        return self.run(["lftp", "--norc", "-f", "/dev/stdin"], self.script(*commands))

    def names(self, remote: str) -> list[str]:
        return last_parts(self.do(f"cd {q(remote)}", "cls -1 --sort=name"))

    def upload(self, source: Path, remote: str) -> None:
        self.do(f"put {q(source)} -o {q(remote)}")

    def download(self, remote: str, target: Path) -> None:
        self.do(f"get {q(remote)} -o {q(target)}")

    def resume_download(self, remote: str, target: Path) -> None:
        self.do(f"get -c {q(remote)} -o {q(target)}")

    def resume_upload(self, source: Path, remote: str) -> None:
        self.do(f"put -c {q(source)} -o {q(remote)}")

    def rename(self, old: str, new: str) -> None:
        self.do(f"mv {q(old)} {q(new)}")

    def delete(self, remote: str) -> None:
        self.do(f"rm {q(remote)}")

    def mkdir_p(self, remote: str) -> None:
        self.do(f"mkdir -p {q(remote)}")

    def rmdir(self, remote: str) -> None:
        self.do(f"rmdir {q(remote)}")

    def upload_tree(self, source: Path, remote: str) -> None:
        self.do(f"mirror -R {q(source)} {q(remote)}")

    def download_tree(self, remote: str, target: Path) -> None:
        self.do(f"mirror {q(remote)} {q(target)}")

    def stat(self, remote: str) -> tuple[int, int]:
        line = self.do(f"cls -l --time-style=%Y-%m-%dT%H:%M:%S {q(remote)}")
        found = re.search(r"\s(\d+)\s+(\d+-\d\d-\d\dT\d\d:\d\d:\d\d)\s", line)
        assert found, line
        return int(found[1]), timegm(time.strptime(found[2], "%Y-%m-%dT%H:%M:%S"))

    upload_with_time = upload

    def chmod(self, mode: str, remote: str) -> None:
        self.do(f"chmod {mode} {q(remote)}")

    def symlink(self, target: str, remote: str) -> None:
        self.do(f"ln -s {q(target)} {q(remote)}")

    def parallel(self, sources: list[Path], remote: str, target: Path) -> None:
        self.do(
            f"mirror -R -P4 {q(sources[0].parent)} {q(remote)}",
            f"mirror -P4 {q(remote)} {q(target)}",
            f"pget -n 4 {q(remote + '/' + sources[0].name)} -o {q(self.work / 'in parts')}",
        )
        assert (self.work / "in parts").read_bytes() == sources[0].read_bytes()

    def slow_upload(self, source: Path, remote: str) -> subprocess.Popen:
        script = self.script(f"set net:limit-rate {SLOW}", f"put {q(source)} -o {q(remote)}")
        return self.spawn(["lftp", "--norc", "-f", "/dev/stdin"], script)

    def idle(self, remote: str, seconds: float) -> list[str]:
        listed = self.do(f"cd {q(remote)}", "cls -1", f"!sleep {seconds}", "echo AWAKE", "cls -1")
        return last_parts(listed.partition("AWAKE\n")[2])


class LftpTls(Lftp):
    tls = True


class Curl(Client):
    programs = ("curl",)
    tls = False

    def options(self) -> list[str]:
        return ["--ssl-reqd", "--insecure"] if self.tls else []

    def url(self, remote: str) -> str:
        return f"ftp://{self.server.host}:{self.server.ftp_port}{quote(remote)}"

    def command(self, *arguments: object) -> list[object]:
        login = f"{self.server.user}:{self.server.password}"
        return ["curl", "-q", "-sS", "-u", login, *self.options(), *arguments]

    def do(self, *arguments: object) -> str:
        return self.run(self.command(*arguments))

    def order(self, *orders: str) -> None:
        """Send commands; curl wants to do something else as well."""
        self.do(*(word for order in orders for word in ("-Q", order)), "-l", self.url("/"))

    def names(self, remote: str) -> list[str]:
        return last_parts(self.do("-l", self.url(remote + "/")))

    def upload(self, source: Path, remote: str) -> None:
        self.do("-T", source, self.url(remote))

    def download(self, remote: str, target: Path) -> None:
        self.do("-o", target, self.url(remote))

    def resume_download(self, remote: str, target: Path) -> None:
        self.do("-C", "-", "-o", target, self.url(remote))

    def append(self, tail: Path, remote: str) -> None:
        self.do("-a", "-T", tail, self.url(remote))

    def delete(self, remote: str) -> None:
        self.order(f"DELE {remote}")

    def mkdir_p(self, remote: str) -> None:
        empty = self.work / "empty"
        empty.touch()
        self.do("--ftp-create-dirs", "-T", empty, self.url(f"{remote}/empty"))
        self.order(f"DELE {remote}/empty")

    def rmdir(self, remote: str) -> None:
        self.order(f"RMD {remote}")

    def stat(self, remote: str) -> tuple[int, int]:
        head = self.do("-I", self.url(remote))
        size = re.search(r"Content-Length: (\d+)", head)
        modified = re.search(r"Last-Modified: (.*?)\r?\n", head)
        assert size, head
        assert modified, head
        return int(size[1]), int(email.utils.parsedate_to_datetime(modified[1]).timestamp())

    def parallel(self, sources: list[Path], remote: str, target: Path) -> None:
        both: list[object] = []
        for path in sources:
            both += ["-T", path, self.url(f"{remote}/{path.name}")]
        self.do("-Z", *both)
        both = []
        for path in sources:
            both += ["-o", target / path.name, self.url(f"{remote}/{path.name}")]
        self.do("-Z", *both)

    def slow_upload(self, source: Path, remote: str) -> subprocess.Popen:
        return self.spawn(self.command("--limit-rate", SLOW, "-T", source, self.url(remote)))


class CurlTls(Curl):
    tls = True


class Rclone(Client):
    programs = ("rclone",)
    tls = False

    def remote_settings(self) -> dict[str, str]:
        s = self.server
        return {
            "TYPE": "ftp",
            "HOST": s.host,
            "PORT": str(s.ftp_port),
            "USER": s.user,
            "PASS": self.obscured(),
            "EXPLICIT_TLS": "true" if self.tls else "false",
            "NO_CHECK_CERTIFICATE": "true",
        }

    def obscured(self) -> str:
        done = subprocess.run(
            ["rclone", "obscure", "-"],
            input=self.server.password.encode(),
            capture_output=True,
            check=True,
        )
        return done.stdout.decode().strip()

    def environment(self) -> dict[str, str]:
        settings = {f"RCLONE_CONFIG_T_{k}": v for k, v in self.remote_settings().items()}
        return super().environment() | settings | {"RCLONE_CONFIG": str(self.work / "rclone.conf")}

    def command(self, *arguments: object) -> list[object]:
        return ["rclone", "--retries", 1, "--low-level-retries", 1, *arguments]

    def do(self, *arguments: object) -> str:
        return self.run(self.command(*arguments))

    def names(self, remote: str) -> list[str]:
        return last_parts(self.do("lsf", f"T:{remote}"))

    def upload(self, source: Path, remote: str) -> None:
        self.do("copyto", "--ignore-times", source, f"T:{remote}")

    def download(self, remote: str, target: Path) -> None:
        self.do("copyto", f"T:{remote}", target)

    def rename(self, old: str, new: str) -> None:
        self.do("moveto", f"T:{old}", f"T:{new}")

    def delete(self, remote: str) -> None:
        self.do("deletefile", f"T:{remote}")

    def mkdir_p(self, remote: str) -> None:
        self.do("mkdir", f"T:{remote}")

    def rmdir(self, remote: str) -> None:
        self.do("purge", f"T:{remote}")

    def upload_tree(self, source: Path, remote: str) -> None:
        self.do("copy", "--create-empty-src-dirs", source, f"T:{remote}")

    def download_tree(self, remote: str, target: Path) -> None:
        self.do("copy", "--create-empty-src-dirs", f"T:{remote}", target)

    def stat(self, remote: str) -> tuple[int, int]:
        (item,) = json.loads(self.do("lsjson", f"T:{remote}"))
        when = item["ModTime"].partition(".")[0].rstrip("Z")
        assert str(item["Size"]) in self.do("lsl", f"T:{remote}")
        return item["Size"], timegm(time.strptime(when, "%Y-%m-%dT%H:%M:%S"))

    def upload_with_time(self, source: Path, remote: str) -> None:
        """Copy it, and see that a second copy sends nothing and `check` finds no difference."""
        folder = remote.rpartition("/")[0]
        copy = ["copy", "-v", "--stats-one-line", source, f"T:{folder}"]
        self.do(*copy)
        done = subprocess.run(
            [str(w) for w in self.command(*copy)],
            capture_output=True,
            text=True,
            env=self.environment(),
            check=True,
        )
        assert "Copied" not in done.stderr, done.stderr
        self.do("check", "--one-way", source, f"T:{folder}")

    def parallel(self, sources: list[Path], remote: str, target: Path) -> None:
        self.do("copy", "--transfers", 4, sources[0].parent, f"T:{remote}")
        self.do("copy", "--transfers", 4, f"T:{remote}", target)

    def slow_upload(self, source: Path, remote: str) -> subprocess.Popen:
        words = ("--bwlimit", f"{SLOW}B", "copyto", "--ignore-times", source, f"T:{remote}")
        return self.spawn(self.command(*words))


class RcloneTls(Rclone):
    tls = True


class Tnftp(Client):
    programs = ("tnftp",)

    def script(self, *commands: str) -> str:
        s = self.server
        opening = [f"open {s.host} {s.ftp_port}", f"user {s.user} {s.password}", "binary"]
        return "\n".join([*opening, *commands, "bye", ""])

    def do(self, *commands: str) -> str:
        """Run a script. Its exit code says nothing: the replies do."""
        said = self.run(["tnftp", "-n", "-i", "-v"], self.script(*commands))
        if re.search(r"^[45]\d\d[ -]", said, re.MULTILINE):
            raise Refused(0, said)
        return said

    def names(self, remote: str) -> list[str]:
        target = self.work / "listing"
        self.do(f"nlist {q(remote)} {q(target)}")
        return last_parts(target.read_text())

    def upload(self, source: Path, remote: str) -> None:
        self.do(f"put {q(source)} {q(remote)}")

    def download(self, remote: str, target: Path) -> None:
        self.do(f"get {q(remote)} {q(target)}")

    def upload_text(self, source: Path, remote: str) -> None:
        self.do("ascii", f"put {q(source)} {q(remote)}")

    def download_text(self, remote: str, target: Path) -> None:
        self.do("ascii", f"get {q(remote)} {q(target)}")

    def resume_download(self, remote: str, target: Path) -> None:
        self.do(f"restart {target.stat().st_size}", f"get {q(remote)} {q(target)}")

    def append(self, tail: Path, remote: str) -> None:
        self.do(f"append {q(tail)} {q(remote)}")

    def rename(self, old: str, new: str) -> None:
        self.do(f"rename {q(old)} {q(new)}")

    def delete(self, remote: str) -> None:
        self.do(f"delete {q(remote)}")

    def rmdir(self, remote: str) -> None:
        self.do(f"rmdir {q(remote)}")

    def stat(self, remote: str) -> tuple[int, int]:
        said = self.do(f"size {q(remote)}", f"modtime {q(remote)}")
        size = re.search(r"\t(\d+)$", said, re.MULTILINE)
        when = re.search(r"\t(\w{3}, \d+ \w{3} \d{4} [\d:]+ \+0000)$", said, re.MULTILINE)
        assert size, said
        assert when, said
        return int(size[1]), int(email.utils.parsedate_to_datetime(when[1]).timestamp())

    def chmod(self, mode: str, remote: str) -> None:
        self.do(f"chmod {mode} {q(remote)}")

    def slow_upload(self, source: Path, remote: str) -> subprocess.Popen:
        script = self.script(f"rate put {SLOW}", f"put {q(source)} {q(remote)}")
        return self.spawn(["tnftp", "-n", "-i", "-v"], script)


class Driven(Client):
    """A library, used by a small program under drivers/ that has the same verbs."""

    driver = ""
    python: Path = Path(sys.executable)

    def missing(self) -> str:
        return "" if self.python.exists() else "not set up: make peers"

    def login(self) -> dict[str, object]:
        s = self.server
        return {"host": s.host, "port": s.ftp_port, "user": s.user, "password": s.password}

    def command(self, verb: str, *arguments: object) -> list[object]:
        login = json.dumps(self.login())
        return [self.python, "-W", "ignore", DRIVERS / self.driver, login, verb, *arguments]

    def do(self, verb: str, *arguments: object) -> str:
        return self.run(self.command(verb, *arguments))

    def names(self, remote: str) -> list[str]:
        names = json.loads(self.do("names", remote))
        assert isinstance(names, list)
        return names

    def upload(self, source: Path, remote: str) -> None:
        self.do("upload", source, remote)

    def download(self, remote: str, target: Path) -> None:
        self.do("download", remote, target)

    def resume_download(self, remote: str, target: Path) -> None:
        self.do("resume_download", remote, target)

    def append(self, tail: Path, remote: str) -> None:
        self.do("append", tail, remote)

    def rename(self, old: str, new: str) -> None:
        self.do("rename", old, new)

    def rename_other(self, old: str, new: str) -> None:
        self.do("rename_other", old, new)

    def delete(self, remote: str) -> None:
        self.do("delete", remote)

    def mkdir_p(self, remote: str) -> None:
        self.do("mkdir_p", remote)

    def rmdir(self, remote: str) -> None:
        self.do("rmdir", remote)

    def stat(self, remote: str) -> tuple[int, int]:
        size, when = json.loads(self.do("stat", remote))
        return size, when

    def upload_with_time(self, source: Path, remote: str) -> None:
        self.do("upload_with_time", source, remote)

    def chmod(self, mode: str, remote: str) -> None:
        self.do("chmod", mode, remote)

    def symlink(self, target: str, remote: str) -> None:
        self.do("symlink", target, remote)

    def upload_tree(self, source: Path, remote: str) -> None:
        self.do("upload_tree", source, remote)

    def download_tree(self, remote: str, target: Path) -> None:
        self.do("download_tree", remote, target)

    def parallel(self, sources: list[Path], remote: str, target: Path) -> None:
        self.do("parallel", remote, target, *sources)

    def slow_upload(self, source: Path, remote: str) -> subprocess.Popen:
        return self.spawn(self.command("slow_upload", source, remote))

    def idle(self, remote: str, seconds: float) -> list[str]:
        names = json.loads(self.do("idle", remote, seconds))
        assert isinstance(names, list)
        return names


class Ftplib(Driven):
    driver = "ftplib_driver.py"
