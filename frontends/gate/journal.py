"""What happened at the doors, said once: to the log, the counters, and whoever asks later.

Knows who came, with which result, and what was moved; touches nothing by itself. Frontends call
`Journal`; they give paths and names as they are, what is written where is decided here. No method
raises, and none is given a password or a capability.
"""

from typing import Literal, Protocol

Door = Literal["ftp", "sftp", "web"]
Method = Literal["password", "key", "anonymous"]
Outcome = Literal["ok", "denied", "temporary", "limit"]
Verb = Literal["get", "put", "append", "list"]
Ending = Literal["ok", "failed", "aborted"]


class Journal(Protocol):
    """Where the frontends report to."""

    def connected(self, door: Door, peer: str) -> None:
        """Take note of an accepted connection."""
        ...

    def refused(self, door: Door, peer: str, reason: str) -> None:
        """Take note of a connection turned away before a login, by a ban or a limit."""
        ...

    def login(self, door: Door, peer: str, name: str, method: Method, outcome: Outcome) -> None:
        """Somebody asked to come in; `name` is whatever was given."""
        ...

    def left(self, door: Door, peer: str, name: str | None, seconds: float) -> None:
        """Take note of the end of a connection."""
        ...

    def transfer(
        self,
        door: Door,
        peer: str,
        name: str,
        verb: Verb,
        path: str,
        size: int,
        seconds: float,
        ending: Ending,
    ) -> None:
        """Take note of a file or listing on the wire; `size` is what moved, in bytes."""
        ...


class SilentJournal:
    """Takes everything and keeps nothing."""

    def connected(self, door: Door, peer: str) -> None:
        """Do nothing."""

    def refused(self, door: Door, peer: str, reason: str) -> None:
        """Do nothing."""

    def login(self, door: Door, peer: str, name: str, method: Method, outcome: Outcome) -> None:
        """Do nothing."""

    def left(self, door: Door, peer: str, name: str | None, seconds: float) -> None:
        """Do nothing."""

    def transfer(
        self,
        door: Door,
        peer: str,
        name: str,
        verb: Verb,
        path: str,
        size: int,
        seconds: float,
        ending: Ending,
    ) -> None:
        """Do nothing."""
