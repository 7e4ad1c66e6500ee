"""Real clients, driven: OpenSSH's sftp in one long session, lftp and curl."""

import os
import select
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers import Login

PATIENCE = 600
_MARK = "=end-of-batch="
_SSH = (
    "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
    "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=60",
)  # fmt: skip


class ClientError(RuntimeError):
    """A client failed, or gave no sign of life."""


def installed(program: str) -> bool:
    return shutil.which(program) is not None


def ssh_options(login: Login) -> list[str]:
    """Return the options of OpenSSH's clients that log in with a key and ask nothing."""
    return [*_SSH, "-o", f"IdentityFile={login.key}", "-o", "BatchMode=yes"]


def sftp_command(login: Login, *more: str) -> list[str]:
    """Return the command of an OpenSSH sftp that reads its commands from standard input."""
    destination = f"{login.user}@{login.host}"
    return ["sftp", *ssh_options(login), *more, "-P", str(login.port), "-b", "-", destination]


class Sftp:
    """``with Sftp(login) as sftp: seconds = sftp.do("put a b")``: commands in one session."""

    def __init__(self, login: Login, *more: str) -> None:
        self._command = sftp_command(login, *more)

    def __enter__(self) -> "Sftp":
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "SHELL": "/bin/sh"},
        )
        self.login_seconds = self.do()
        return self

    def do(self, *commands: str) -> float:
        """Run commands to the end of the last; return the seconds. ClientError when one fails."""
        begin = time.perf_counter()
        lines = "".join(f"{line}\n" for line in (*commands, f"!echo {_MARK}"))
        self._process.stdin.write(lines.encode())
        self._process.stdin.flush()
        wanted, tail = f"\n{_MARK}\n".encode(), b"\n"
        number = self._process.stdout.fileno()
        while wanted not in tail:
            ready, _, _ = select.select([number], [], [], PATIENCE)
            got = os.read(number, 1 << 16) if ready else b""
            if not got:
                raise ClientError(f"sftp: {tail.decode(errors='replace').strip()[-500:]}")
            tail = tail[-2000:] + got
        return time.perf_counter() - begin

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def run(command: Sequence[str | Path], text: str = "", **environment: str) -> float:
    """Run a program to its end; return the seconds. ClientError unless it succeeds."""
    begin = time.perf_counter()
    done = subprocess.run(
        list(map(str, command)),
        input=text.encode(),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, **environment},
    )
    seconds = time.perf_counter() - begin
    if done.returncode:
        error = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise ClientError(f"{command[0]}: exit {done.returncode}: {error[-500:]}")
    return seconds


def curl_put(login: Login, source: Path, name: str) -> float:
    """Upload by FTP; return the seconds from the end of the login to the end."""
    return _curl(login, name, "-T", str(source))


def curl_get(login: Login, name: str, target: Path) -> float:
    """Download by FTP; return the seconds from the end of the login to the end."""
    return _curl(login, name, "-o", str(target))


def _curl(login: Login, name: str, *more: str) -> float:
    url = f"ftp://{login.host}:{login.port}/{name}"
    command = ["curl", "-qsS", "-u", f"{login.user}:{login.password}", *more, url]
    command += ["-w", "%{stderr}%{time_total} %{time_pretransfer}"]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    if done.returncode:
        raise ClientError(f"curl: exit {done.returncode}: {done.stderr.decode()[-500:]}")
    total, before = map(float, done.stderr.split()[-2:])
    return total - before


def lftp(login: Login, *commands: str, timed: bool = True) -> float:
    """Run lftp's commands by FTP, or by SFTP when there is a key; return the seconds.

    With `timed` the time of a session that only logs in is taken off.
    """
    seconds = run(["lftp", "-f", "/dev/stdin"], lftp_script(login, commands))
    if timed:
        seconds -= run(["lftp", "-f", "/dev/stdin"], lftp_script(login, ("cd .",)))
    return seconds


def lftp_script(login: Login, commands: Sequence[str]) -> str:
    """Return what lftp reads to log in and run `commands`."""
    lines = ["set net:max-retries 1", "set cmd:fail-exit yes", "set ftp:ssl-allow no"]
    lines.append("set xfer:clobber yes")
    if login.key:
        program = " ".join(["ssh", "-a", "-x", *ssh_options(login)])
        lines.append(f'set sftp:connect-program "{program}"')
        lines.append(f"open -u {login.user},none sftp://{login.host}:{login.port}")
    else:
        lines.append(f"open -u {login.user},{login.password} ftp://{login.host}:{login.port}")
    return "\n".join([*lines, *commands]) + "\n"
