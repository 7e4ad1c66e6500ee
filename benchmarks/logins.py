"""How many logins a second: keys over SSH, passwords over FTP and over SSH.

Key logins are whole sessions of OpenSSH's sftp that do nothing, eight at a time. A password costs
a bcrypt hash on purpose; the rate is given beside what the machine can hash at all.
"""

import ftplib
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bcrypt

from benchmarks.clients import ClientError, sftp_command
from benchmarks.fleet import Fleet
from benchmarks.measure import Report, Row
from benchmarks.node import Node
from benchmarks.peers import Conch, Login, OpenSsh, Server

AT_ONCE = 8


def measure(report: Report, folder: Path, fleet: Fleet, *, quick: bool) -> None:
    """Add rows for keys, for passwords by FTP, and for passwords by SFTP."""
    count = 8 if quick else 64
    with Node(folder / "logins", 1) as node:
        ours = rate(node, node.login, count, by_key)
        for peer in fleet.some(Conch, OpenSsh):
            theirs = rate(peer, peer.login, count, by_key)
            report.add(
                Row(
                    "SFTP logins with a key",
                    told(*ours),
                    f"{peer.name}: {told(*theirs)}",
                    f"{ours[0] / theirs[0]:.0%}",
                )
            )
        hashes = hashing()
        script = folder / "password"
        script.write_text(f"#!/bin/sh\necho '{node.login.password}'\n")
        script.chmod(0o700)
        for what, login, way in (
            ("FTP", node.ftp_login, by_ftp),
            ("SFTP", node.login, lambda given: by_password(given, script)),
        ):
            found = rate(node, login, count // 2, way)
            report.add(
                Row(
                    f"{what} logins with a password",
                    told(*found),
                    f"bcrypt alone, {len(os.sched_getaffinity(0))} threads: {hashes:.1f}/s",
                    f"{found[0] / hashes:.0%}",
                )
            )


def told(each: float, cpu: float) -> str:
    return f"{each:.1f}/s, {1000 * cpu:.0f} CPU ms each"


def rate(server: Server, login: Login, count: int, way) -> tuple[float, float]:
    """Return logins per second and the server's processor seconds for one."""
    cpu, begin = server.cpu(), time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(way, [login] * count))
    wall = time.perf_counter() - begin
    return count / wall, (server.cpu() - cpu) / count


def by_key(login: Login) -> None:
    _enter(sftp_command(login), {})


def by_password(login: Login, script: Path) -> None:
    """Log in by SSH with the password alone, which OpenSSH takes from a program."""
    command = sftp_command(login, "-o", "PreferredAuthentications=password", "-o", "BatchMode=no")
    command = [word for word in command if word != "BatchMode=yes" and "IdentityFile" not in word]
    _enter(_paired(command), {"SSH_ASKPASS": str(script), "SSH_ASKPASS_REQUIRE": "force"})


def _paired(command: list[str]) -> list[str]:
    """Return the command without an -o that lost its value."""
    return [
        word
        for word, after in zip(command, [*command[1:], ""], strict=True)
        if not (word == "-o" and (after == "-o" or after.startswith("-")))
    ]


def _enter(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(
        command,
        input=b"",
        capture_output=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )
    if done.returncode:
        raise ClientError(f"login: {done.stderr.decode(errors='replace')[-300:]}")


def by_ftp(login: Login) -> None:
    with ftplib.FTP(timeout=120) as ftp:
        ftp.connect(login.host, login.port)
        ftp.login(login.user, login.password)


def hashing() -> float:
    """Return how many passwords a second all cores can check, at the cost that accounts get."""
    salt = bcrypt.gensalt(12)
    cores = len(os.sched_getaffinity(0))
    begin = time.perf_counter()
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(lambda _: bcrypt.hashpw(b"password", salt), range(4 * cores)))
    return 4 * cores / (time.perf_counter() - begin)
