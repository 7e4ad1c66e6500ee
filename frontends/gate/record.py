"""The journal that is kept: lines in the log, counters, and the last logins of each account.

Knows what each kind of event writes; touches the log and the history it is given. A line has
addresses, names of accounts, sizes and times; paths only where the configuration asks for them;
never a password or a capability, which do not come here. Of one kind at most ten lines a second are
written for each source, the others are counted and the count is told later.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, LogLevel

from truckee.frontends.gate.history import Journaled
from truckee.frontends.gate.journal import Door, Ending, Method, Outcome, Verb
from truckee.frontends.gate.pacing import Pacer

SETTLE = 10.0
_LONGEST_NAME = 64
_LONGEST_PATH = 1000
_RECEIVING = frozenset({"put", "append"})

_log = Logger()


@dataclass(slots=True)
class Counts:
    """Numbers that only grow, under the values of their labels."""

    connections: Counter[Door] = field(default_factory=Counter)
    refusals: Counter[Door] = field(default_factory=Counter)
    logins: Counter[tuple[Door, Method, Outcome]] = field(default_factory=Counter)
    transfers: Counter[tuple[Door, Verb, Ending]] = field(default_factory=Counter)
    received: Counter[Door] = field(default_factory=Counter)
    sent: Counter[Door] = field(default_factory=Counter)
    bans: int = 0


class Record:
    """A `Journal` that is kept."""

    def __init__(
        self,
        clock: IReactorTime,
        history: Journaled | None = None,
        *,
        log_paths: bool = False,
        is_exempt: Callable[[str], bool] = lambda peer: False,
    ) -> None:
        """Take a monotonic clock, where logins are kept, and whether paths may be written.

        `is_exempt` tells the addresses that the throttle never shuts out.
        """
        self._clock = clock
        self._history = history
        self._log_paths = log_paths
        self._is_exempt = is_exempt
        self._pacer = Pacer(clock.seconds)
        self._settling = LoopingCall(self.settle)
        self._settling.clock = clock
        self._exempt: dict[str, set[str]] = {}
        self.counts = Counts()

    @property
    def lines_dropped(self) -> int:
        """Return how many lines were counted instead of written."""
        return self._pacer.dropped

    def start(self) -> None:
        """Tell every ten seconds what was not written."""
        _ = self._settling.start(SETTLE, now=False)

    def stop(self) -> None:
        """Tell it a last time."""
        if self._settling.running:
            self._settling.stop()
        self.settle()

    def settle(self) -> None:
        """Write how many lines were left out since the last time."""
        for left_out in self._pacer.settle():
            _log.info(
                "{count} more lines of the kind {kind} from {peer} were not written",
                count=left_out.count,
                kind=left_out.kind,
                peer=left_out.source,
            )

    # what the frontends report

    def connected(self, door: Door, peer: str) -> None:
        """Count and write an accepted connection."""
        self.counts.connections[door] += 1
        self._line("connect", "{door} connection from {peer}", peer, door=door)

    def refused(self, door: Door, peer: str, reason: str) -> None:
        """Count and write a connection turned away."""
        self.counts.refusals[door] += 1
        self._line("refuse", "{door} refuses {peer}: {reason}", peer, door=door, reason=reason)

    def login(self, door: Door, peer: str, name: str, method: Method, outcome: Outcome) -> None:
        """Count, write and keep a login."""
        self.counts.logins[door, method, outcome] += 1
        text = "{door} login of {name} from {peer} by {method}: {outcome}"
        self._line(
            "login" if outcome == "ok" else "failed-login",
            text,
            peer,
            door=door,
            name=_shown(name[:_LONGEST_NAME]),
            method=method,
            outcome=outcome,
        )
        if self._history is not None:
            self._history.note(name, door, peer, method, outcome)
        if outcome == "ok" and method != "anonymous" and self._is_exempt(peer):
            self._came_from_exempt(peer, name)

    def left(self, door: Door, peer: str, name: str | None, seconds: float) -> None:
        """Write the end of a connection."""
        text = "{door} connection from {peer} ended after {seconds:.1f} s"
        self._line("leave", text, peer, door=door, seconds=seconds)

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
        """Count and write a transfer."""
        self.counts.transfers[door, verb, ending] += 1
        (self.counts.received if verb in _RECEIVING else self.counts.sent)[door] += max(0, size)
        text = "{door} {verb} of {name} from {peer}: {size} bytes in {seconds:.3f} s, {ending}"
        fields: dict[str, object] = {
            "door": door,
            "name": _shown(name[:_LONGEST_NAME]),
            "verb": verb,
            "size": size,
            "seconds": seconds,
            "ending": ending,
        }
        if self._log_paths:
            text += " {path}"
            fields["path"] = _shown(path[:_LONGEST_PATH])
        self._line("transfer", text, peer, **fields)

    # what auth reports

    def banned(self, source: str, seconds: float) -> None:
        """Count and write that an address or network is shut out."""
        self.counts.bans += 1
        text = "{peer} is shut out for {seconds:.0f} s"
        self._line("ban", text, source, LogLevel.warn, seconds=seconds)

    # threat A9

    def shared_exempt_sources(self) -> dict[str, int]:
        """Return the exempt addresses from which more than one account came, and how many did.

        A proxy or tunnel in front makes everybody come from there, and nobody is ever shut out.
        """
        return {peer: len(names) for peer, names in self._exempt.items() if len(names) > 1}

    def _came_from_exempt(self, peer: str, name: str) -> None:
        names = self._exempt.get(peer)
        if names is None:
            if len(self._exempt) >= 100:
                return
            names = self._exempt[peer] = set()
        if len(names) < 1000:
            names.add(name)

    def _line(
        self,
        kind: str,
        text: str,
        peer: str,
        level: Any = LogLevel.info,  # noqa: ANN401
        **fields: object,
    ) -> None:
        more = self._pacer.admit(kind, peer)
        if more is None:
            return
        if more:
            text += " (and {more} more like it)"
            fields["more"] = more
        _log.emit(level, text, kind=kind, peer=peer, paced=True, **fields)


def _shown(text: str) -> str:
    """Return the text without characters that could begin a line of their own or hide others."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in text)
