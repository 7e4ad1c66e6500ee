"""What SSH and SFTP alone can do: our frontend over a core that does nothing, beside stock conch.

128 MiB by OpenSSH's sftp, one session each, in turns. Ours negotiates its own first choice of
cipher, and in a second row the one that conch takes.
"""

import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.clients import Sftp
from benchmarks.fleet import Fleet
from benchmarks.measure import Report, Row, Sample, random_file, rates
from benchmarks.peers import Conch, Login, Server, make_key
from benchmarks.sftp import Times, timed

GATES = {"get": 0.70, "put": 0.65}
SAME = ("-o", "Ciphers=aes128-ctr", "-o", "MACs=hmac-sha2-256")


class Noop(Server):
    """Our SFTP server without a core."""

    name = "Truckee"

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        root = Path(__file__).resolve().parent.parent
        command = [sys.executable, "-m", "benchmarks.noop_server", folder]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, cwd=root)
        self.roots = [self.process.pid]
        port = int(self.process.stdout.readline())
        self.login = Login(port, "ann", make_key(folder / "user"), None, "/")

    def __enter__(self) -> "Noop":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def measure(report: Report, folder: Path, fleet: Fleet, *, quick: bool) -> None:
    """Add rows for get and put; the gates hold for the median of the rounds' ratios."""
    conch = fleet.get(Conch)
    if conch is None:
        return
    size = (16 if quick else 128) << 20
    with (
        Noop(folder / "noop") as ours,
        Sftp(ours.login) as first,
        Sftp(ours.login, *SAME) as same,
        Sftp(conch.login) as stock,
    ):
        rows: list[tuple[str, Server, Sftp, Times]] = [
            ("no-op core, its own cipher", ours, first, {"put": [], "get": []}),
            ("no-op core, conch's cipher", ours, same, {"put": [], "get": []}),
            ("", conch, stock, {"put": [], "get": []}),
        ]
        target = folder / "came"
        for _ in range(1 if quick else 4):
            source = random_file(folder / "source", size)
            for _, server, session, times in rows:
                name = f"{server.login.base}bare"
                times["put"].append(timed(server, session, f"put {source} {name}"))
                times["get"].append(timed(server, session, f"get {name} {target}"))
                target.unlink()
                server.forget()
    theirs = rows[-1][3]
    for what, _, _, times in rows[:-1]:
        for verb in ("get", "put"):
            add(report, what, verb, size, times[verb], theirs[verb], gated="own" in what)


def add(
    report: Report,
    what: str,
    verb: str,
    size: int,
    ours: list[Sample],
    theirs: list[Sample],
    *,
    gated: bool,
) -> None:
    ratio = statistics.median(b.wall / a.wall for a, b in zip(ours, theirs, strict=True))
    report.add(
        Row(
            f"SFTP {verb} {size >> 20} MiB, {what}",
            rates(ours, size),
            "conch: " + rates(theirs, size),
            f"{ratio:.0%}",
            f">= {GATES[verb]:.0%}" if gated else "",
            ratio >= GATES[verb] if gated else None,
        )
    )
