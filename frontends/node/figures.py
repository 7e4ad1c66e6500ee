"""Every figure of a running node, for whoever collects them and for ``truckee status``.

Knows the parts of a node that can be asked for a number, and the name of each; asks them at the
moment somebody wants to know. No label holds a name, an address or a path: all are words from lists
of our own.
"""

import os
import resource
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol, get_args

from truckee.frontends.gate.journal import Door, Ending, Method, Outcome, Verb
from truckee.frontends.gate.record import Record
from truckee.frontends.gate.registry import Registry
from truckee.frontends.node.openmetrics import Family, Labels, Sample
from truckee.frontends.node.watchdog import Watchdog
from truckee.frontends.vfs.process import Gauges

_PAGE = resource.getpagesize()


class Waiting(Protocol):
    """The queue in front of bcrypt."""

    @property
    def refused(self) -> int:
        """How many were sent away."""
        ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Accounts:
    """What the account file says."""

    usable: int
    bad_lines: int


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the figures come from."""

    record: Record
    registries: Mapping[Door, Registry]
    gauges: Callable[[], Gauges]
    bans: Callable[[], int]
    accounts: Callable[[], Accounts]
    passwords: Waiting
    stores: int
    absent: Callable[[], int]
    watchdog: Watchdog
    seconds: Callable[[], float]
    started: float
    lines_dropped: Callable[[], int] = lambda: 0
    logins_lost: Callable[[], int] = lambda: 0


def families(s: Sources) -> Iterator[Family]:
    """Return every figure as it is now."""
    yield _family("truckee", "info", "The version that runs.", (("version", version("truckee")),))
    yield _gauge("truckee_uptime_seconds", "Since the node started.", s.seconds() - s.started)
    yield from _visitors(s)
    yield from _transfers(s)
    yield from _storage(s)
    yield from _process(s)


def _visitors(s: Sources) -> Iterator[Family]:
    doors = tuple(s.registries)
    counts = s.record.counts
    snapshots = {door: registry.snapshot() for door, registry in s.registries.items()}
    sessions = {door: snapshots[door].sessions for door in doors}
    strangers = {door: snapshots[door].strangers for door in doors}
    yield _by_door("truckee_sessions", "gauge", "Connections now.", sessions)
    yield _by_door("truckee_strangers", "gauge", "Of these, those without a login.", strangers)
    text = "Connections taken in."
    yield _by_door(
        "truckee_connections", "counter", text, {d: counts.connections[d] for d in doors}
    )
    text = "Connections turned away by a ban or a limit."
    yield _by_door("truckee_refusals", "counter", text, {d: counts.refusals[d] for d in doors})
    yield Family(
        "truckee_logins",
        "counter",
        "Logins by their outcome.",
        tuple(
            Sample(counts.logins[d, m, o], (("door", d), ("method", m), ("outcome", o)))
            for d in doors
            for m in get_args(Method)
            for o in get_args(Outcome)
        ),
    )
    yield _gauge("truckee_banned_sources", "Addresses and networks shut out now.", s.bans())
    yield _counter("truckee_bans", "Bans pronounced.", counts.bans)
    accounts = s.accounts()
    yield _gauge("truckee_accounts", "Usable accounts.", accounts.usable)
    text = "Lines of the account file that are refused, and with each its account."
    yield _gauge("truckee_accounts_bad_lines", text, accounts.bad_lines)
    yield _gauge("truckee_bcrypt_waiting", "Logins that wait for bcrypt.", len(s.passwords))
    text = "Logins refused because too many waited."
    yield _counter("truckee_bcrypt_refused", text, s.passwords.refused)


def _transfers(s: Sources) -> Iterator[Family]:
    doors, counts = tuple(s.registries), s.record.counts
    yield Family(
        "truckee_transfers",
        "counter",
        "Files and listings on the wire, by how it ended.",
        tuple(
            Sample(counts.transfers[d, v, e], (("door", d), ("verb", v), ("ending", e)))
            for d in doors
            for v in get_args(Verb)
            for e in get_args(Ending)
        ),
    )
    for name, text, found in (
        ("truckee_received_bytes", "Bytes of files that clients sent.", counts.received),
        ("truckee_sent_bytes", "Bytes of files and listings that clients got.", counts.sent),
    ):
        yield _by_door(name, "counter", text, {d: found[d] for d in doors}, "bytes")


def _storage(s: Sources) -> Iterator[Family]:
    g = s.gauges()
    yield _gauge("truckee_pending_files", "Files being written or stored.", g.pending_files)
    yield _gauge("truckee_commits_pending", "Files being stored.", g.commits_running)
    yield _counter("truckee_commits_failed", "Files that could not be stored.", g.commits_failed)
    yield _gauge("truckee_spool_bytes", "Bytes in upload buffers.", g.spool_bytes)
    yield _gauge("truckee_spool_limit_bytes", "The most they may hold.", g.spool_limit)
    absent = s.absent()
    yield _gauge("truckee_stores_present", "Share stores that are there.", s.stores - absent)
    yield _gauge("truckee_stores_absent", "Share stores that are not there.", absent)


def _process(s: Sources) -> Iterator[Family]:
    text = "The longest turn of the reactor in the last one or two minutes."
    yield _gauge("truckee_reactor_delay_seconds", text, s.watchdog.delay())
    rooms = sorted({"core", "ftp", "sftp", "vfs", *s.watchdog.long_turns})
    yield Family(
        "truckee_reactor_long_turns",
        "counter",
        "Turns of the reactor of more than 100 ms, by the room that ran.",
        tuple(Sample(s.watchdog.long_turns[room], (("room", room),)) for room in rooms),
    )
    yield _gauge("truckee_resident_memory_bytes", "Memory of the process.", resident_memory())
    yield _gauge("truckee_open_files", "Open file descriptors.", open_files())
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    yield _gauge("truckee_open_files_limit", "The most there may be.", limit)
    text = "Lines of the log that were counted instead of written."
    dropped = s.record.lines_dropped + s.lines_dropped()
    yield _counter("truckee_log_lines_dropped", text, dropped)
    text = "Logins that could not be written to the history of their account."
    yield _counter("truckee_login_history_lost", text, s.logins_lost())


def _family(name: str, kind: str, text: str, labels: Labels) -> Family:
    return Family(name, "info", text, (Sample(1, labels),))


def _gauge(name: str, text: str, value: float) -> Family:
    unit = next((u for u in ("seconds", "bytes") if name.endswith(f"_{u}")), "")
    return Family(name, "gauge", text, (Sample(value),), unit)


def _counter(name: str, text: str, value: float) -> Family:
    return Family(name, "counter", text, (Sample(value),))


def _by_door(name: str, kind: str, text: str, values: Mapping[Door, int], unit: str = "") -> Family:
    samples = tuple(Sample(value, (("door", door),)) for door, value in values.items())
    return Family(name, "gauge" if kind == "gauge" else "counter", text, samples, unit)


def resident_memory() -> int:
    """Return how many bytes of memory the process holds; 0 where that cannot be found out."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    return 0


def open_files() -> int:
    """Return how many descriptors are open; 0 where that cannot be found out."""
    with suppress(OSError):
        return len(os.listdir("/proc/self/fd"))
    return 0


def as_fields(found: Iterator[Family]) -> dict[str, object]:
    """Return the figures for JSON: a number, or a list of objects with labels and value."""
    fields: dict[str, object] = {}
    for family in found:
        if family.kind == "info":
            continue
        name = family.name.removeprefix("truckee_")
        if len(family.samples) == 1 and not family.samples[0].labels:
            fields[name] = family.samples[0].value
        else:
            fields[name] = [{**dict(s.labels), "value": s.value} for s in family.samples]
    return fields
