"""A stock Tahoe-LAFS grid on loopback: an introducer, storage nodes, one client with a web API.

Needs the peer's own virtual environment (``make peers``). Everything lives in one folder and ends
with `stop`. The nodes start side by side, since each needs seconds of processor time to import.
"""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TAHOE = ROOT / ".peers" / "tahoe" / "bin" / "tahoe"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@dataclass
class TahoeGrid:
    """A running stock grid; shares lie in `storage(i)/shares`."""

    folder: Path
    servers: int
    k: int
    happy: int
    n: int
    _running: list[subprocess.Popen] = field(default_factory=list)
    url: str = ""

    def storage(self, i: int) -> Path:
        return self.folder / f"server{i}" / "storage"

    @property
    def client(self) -> Path:
        return self.folder / "client"

    def tahoe(self, *arguments: str, stdin: bytes = b"") -> bytes:
        done = subprocess.run(
            [TAHOE, "-d", self.client, *arguments],
            input=stdin,
            capture_output=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            raise AssertionError(
                f"tahoe {arguments[0]}: {done.returncode}: {done.stderr[-2000:]!r}"
            )
        return done.stdout

    def create(self) -> None:
        port = free_port()
        self._command(
            "create-introducer",
            f"--port=tcp:{port}:interface=127.0.0.1",
            f"--location=tcp:127.0.0.1:{port}",
            str(self.folder / "introducer"),
        )
        self._spawn(self.folder / "introducer")
        furl = self._wait_for(self.folder / "introducer" / "private" / "introducer.furl")
        creations = []
        for i in range(self.servers):
            port = free_port()
            creations.append(
                subprocess.Popen(
                    [
                        TAHOE,
                        "create-node",
                        f"--introducer={furl}",
                        f"--port=tcp:{port}:interface=127.0.0.1",
                        f"--location=tcp:127.0.0.1:{port}",
                        "--webport=none",
                        f"--nickname=server{i}",
                        str(self.folder / f"server{i}"),
                    ],
                    stdout=subprocess.DEVNULL,
                )
            )
        self._command(
            "create-client",
            f"--introducer={furl}",
            "--webport=tcp:0:interface=127.0.0.1",
            f"--shares-needed={self.k}",
            f"--shares-happy={self.happy}",
            f"--shares-total={self.n}",
            str(self.client),
        )
        for creation in creations:
            assert creation.wait() == 0
        for i in range(self.servers):
            config = self.folder / f"server{i}" / "tahoe.cfg"
            config.write_text(
                config.read_text().replace("reserved_space = 1G", "reserved_space = 0")
            )

    def start(self) -> None:
        for i in range(self.servers):
            self._spawn(self.folder / f"server{i}")
        self._start_client()

    def restart_client(self) -> None:
        """End the client node and start it again, with what its configuration says now."""
        process = self._running.pop()
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
        (self.client / "node.url").unlink()
        self._start_client()

    def processes(self) -> list[subprocess.Popen]:
        """Return what runs: the introducer, the servers, and last the client."""
        return list(self._running)

    def _start_client(self) -> None:
        self._spawn(self.client)
        self.url = self._wait_for(self.client / "node.url")
        deadline = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(self.url + "?t=json", timeout=10) as answer:
                    known = json.load(answer)["servers"]
                connected = sum(
                    1 for s in known if s["connection_status"].lower().startswith("connected")
                )
                if connected == self.servers:
                    return
            except OSError:
                pass
            assert time.monotonic() < deadline, "the stock grid did not come up"
            time.sleep(0.3)

    def stop(self) -> None:
        for process in self._running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in self._running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._running.clear()

    def _command(self, *arguments: str) -> None:
        subprocess.run([TAHOE, *arguments], check=True, stdout=subprocess.DEVNULL, timeout=60)

    def _spawn(self, node: Path) -> None:
        with (node / "output.log").open("wb") as log:
            self._running.append(
                subprocess.Popen(
                    [TAHOE, "run", "--allow-stdin-close", node],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    @staticmethod
    def _wait_for(path: Path) -> str:
        deadline = time.monotonic() + 60
        while not path.exists() or not path.read_text().strip():
            assert time.monotonic() < deadline, f"{path.name} did not appear"
            time.sleep(0.1)
        return path.read_text().strip()
