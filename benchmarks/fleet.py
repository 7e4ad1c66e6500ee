"""The servers of one run, each started when it is first wanted and ended with the run."""

import contextlib
from pathlib import Path

from benchmarks.measure import Report
from benchmarks.peers import PlainPeer, Server, Tahoe, missing


class Fleet:
    """``with Fleet(folder, report) as fleet: conch = fleet.get(Conch)``."""

    def __init__(self, folder: Path, report: Report) -> None:
        self._folder = folder / "peers"
        self._report = report
        self._running: dict[type[Server], Server | None] = {}
        self._stack = contextlib.ExitStack()

    def get(self, kind: type[PlainPeer] | type[Tahoe]) -> Server | None:
        """Return the running peer, or None where it is not installed (which is noted once)."""
        if kind not in self._running:
            why = missing(kind)
            if why:
                self._report.note(f"left out: {kind.name}: {why}")
                self._running[kind] = None
            else:
                server = kind(self._folder / kind.name)
                self._running[kind] = self._stack.enter_context(server)
        return self._running[kind]

    def some(self, *kinds: type[PlainPeer] | type[Tahoe]) -> list[Server]:
        """Return those of the peers that are installed."""
        found = [self.get(kind) for kind in kinds]
        return [server for server in found if server is not None]

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
