"""Limits, who makes room for whom, and the end of a door."""

from dataclasses import dataclass, field

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from truckee.frontends.gate.journal import SilentJournal
from truckee.frontends.gate.registry import Ledger, Limits, Registry


@dataclass(eq=False)
class Guest:
    account: str | None = None
    busy: bool = False
    leaving: bool = False
    told: list = field(default_factory=list)

    def shut_down(self, text: str, *, now: bool = False) -> None:
        self.told.append((text, now))
        self.leaving = True


class Notes(SilentJournal):
    def __init__(self) -> None:
        self.lines: list = []

    def connected(self, door, peer) -> None:
        self.lines.append(("connected", door, peer))

    def refused(self, door, peer, reason) -> None:
        self.lines.append(("refused", door, peer, reason))

    def left(self, door, peer, name, seconds) -> None:
        self.lines.append(("left", door, peer, name, seconds))


def enter(registry: Registry, host="10.0.0.1", account=None, limit=None, **more) -> Guest | str:
    guest = Guest(**more)
    refusal = registry.enter(guest, host)
    if refusal:
        return refusal
    if account is not None:
        if not registry.admit(guest, account, limit):
            return "not admitted"
        guest.account = account
    return guest


def test_limits_hold_over_all_doors_together() -> None:
    ledger = Ledger()
    limits = Limits(max_sessions=3, max_sessions_per_user=2)
    ftp, sftp = Registry("ftp", limits, ledger=ledger), Registry("sftp", limits, ledger=ledger)
    enter(ftp, account="ann")
    enter(sftp, account="ann")
    assert enter(sftp, account="ann") == "not admitted"
    assert enter(ftp) == "too many sessions"
    assert (ftp.sessions, sftp.sessions) == (2, 2)
    assert ftp.accounts() == sftp.accounts() == {"ann"}


def test_an_account_is_counted_whether_its_session_says_so_yet_or_not() -> None:
    registry = Registry("sftp")
    guest = enter(registry, account="ann", limit=1)
    assert registry.admit(guest, "ann", 1)
    assert enter(registry, account="ann", limit=1) == "not admitted"
    assert enter(registry, account="bob", limit=1)


@pytest.mark.threat("D2")
def test_an_address_has_a_limit_unless_it_is_exempt() -> None:
    hits: list = []
    registry = Registry("sftp", Limits(max_sessions_per_ip=1), on_refusal=hits.append)
    enter(registry, "10.0.0.1")
    assert enter(registry, "10.0.0.1") == "too many sessions from your address"
    assert hits == ["10.0.0.1"]
    for host in ("127.0.0.1", "::1", "::ffff:127.0.0.2"):
        assert all(isinstance(enter(registry, host), Guest) for _ in range(3))


@pytest.mark.threat("D2")
def test_all_the_addresses_that_one_customer_has_are_one() -> None:
    registry = Registry("sftp", Limits(max_sessions_per_ip=1))
    enter(registry, "2001:db8::1")
    assert enter(registry, "2001:db8::2") == "too many sessions from your address"
    assert isinstance(enter(registry, "2001:db8:0:1::1"), Guest)
    enter(registry, "192.0.2.1")
    assert isinstance(enter(registry, "192.0.2.2"), Guest)


@pytest.mark.threat("D2")
def test_idle_strangers_of_any_door_make_room_and_busy_ones_do_not() -> None:
    ledger, limits = Ledger(), Limits(max_unauthenticated=2)
    ftp, sftp = Registry("ftp", limits, ledger=ledger), Registry("sftp", limits, ledger=ledger)
    first, second = enter(sftp), enter(sftp, busy=True)
    assert isinstance(enter(ftp, "10.0.0.2"), Guest)
    assert first.leaving
    assert not second.leaving
    third = enter(ftp, "10.0.0.3", busy=True)
    assert isinstance(third, Guest)
    assert enter(ftp, "10.0.0.4") == "too many sessions without a login"


@pytest.mark.threat("A2")
def test_who_is_banned_or_floods_is_hung_up_on() -> None:
    notes = Notes()
    limits = Limits(max_sessions=1)
    registry = Registry("ftp", limits, may_connect=lambda h: h != "10.0.0.9", journal=notes)
    assert registry.hang_up("10.0.0.9")
    assert not registry.hang_up("10.0.0.1")
    enter(registry)
    enter(registry)
    assert registry.hang_up("10.0.0.1")
    assert [line[0] for line in notes.lines] == ["refused", "connected", "refused", "refused"]


def test_the_journal_has_one_end_for_every_beginning() -> None:
    notes, clock = Notes(), Clock()
    limits = Limits(max_sessions=1)
    registry = Registry("sftp", limits, journal=notes, seconds=clock.seconds)
    guest, extra = Guest(), Guest()
    registry.enter(guest, "10.0.0.1")
    registry.enter(extra, "10.0.0.2")
    registry.admit(guest, "ann", None)
    clock.advance(5)
    for who in (extra, guest, guest):
        registry.left(who)
    assert notes.lines == [
        ("connected", "sftp", "10.0.0.1"),
        ("refused", "sftp", "10.0.0.2", "too many sessions"),
        ("left", "sftp", "10.0.0.1", "ann", 5),
    ]


@pytest.mark.threat("A7")
def test_closing_an_account_ends_its_sessions_at_this_door() -> None:
    registry = Registry("sftp")
    ann, bob = enter(registry, account="ann"), enter(registry, account="bob")
    assert registry.close_account("ann") == 1
    assert ann.told == [("the account was changed", True)]
    assert bob.told == []


def drain(registry: Registry, clock: Clock) -> list:
    done: list = []
    d = Deferred.fromCoroutine(registry.drain(clock, "bye", 10, 30))
    d.addCallback(done.append)
    return done


def test_a_door_that_closes_waits_for_its_own_sessions_alone() -> None:
    ledger, clock = Ledger(), Clock()
    ftp, sftp = Registry("ftp", ledger=ledger), Registry("sftp", ledger=ledger)
    mine, other = enter(ftp, account="ann"), enter(sftp, account="ann")
    done = drain(ftp, clock)
    assert mine.told == [("bye", False)]
    assert enter(ftp) == "the node is shutting down"
    assert not ftp.admit(mine, "ann", None)
    clock.advance(11)
    assert mine.told[-1] == ("bye", True)
    assert done == []
    for who in list(ledger.entries):
        if who is not other:
            ftp.left(who)
    assert done == [None]
    assert other.told == []
    assert not clock.getDelayedCalls()


def test_a_door_does_not_wait_for_ever() -> None:
    clock = Clock()
    registry = Registry("ftp")
    enter(registry)
    done = drain(registry, clock)
    clock.advance(31)
    assert done == [None]


def test_what_a_door_looks_like_is_told_by_a_snapshot() -> None:
    registry = Registry("ftp")
    for account in ("ann", "ann", "bob", None):
        enter(registry, account=account)
    shot = registry.snapshot()
    assert (shot.sessions, shot.strangers, shot.accounts) == (4, 1, {"ann": 2, "bob": 1})
