"""What all doors of a node share, without starting anything."""

import resource
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from twisted.conch.interfaces import IConchUser
from twisted.cred.credentials import IAnonymous, ISSHPrivateKey, IUsernamePassword
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.ftp import IFTPShell

from tests.fakes.account_lines import WRITE
from tests.fakes.tree import Tree
from truckee.auth.accounts import Options
from truckee.auth.realm import FTPAvatarID
from truckee.core import config
from truckee.core.cpu import InlineCpu
from truckee.core.errors import ConfigError
from truckee.frontends.ftp.shell import Handler
from truckee.frontends.gate.journal import SilentJournal
from truckee.frontends.node.access import Access, limits_for
from truckee.frontends.sftp.shell import SFTPUser


def parsed(tmp_path: Path, more: str = ""):
    text = f"[embedded]\nstores = s\n[ftpd]\n{more}\n"
    return config.parse(text, tmp_path).access


def access(tmp_path: Path, more: str = "", client: object = None) -> Access:
    client = client or SimpleNamespace(for_account=None)
    storage = SimpleNamespace(cpu=InlineCpu(), disk=InlineCpu(), client=client)
    return Access(parsed(tmp_path, more), storage, MemoryReactorClock(), SilentJournal())


@pytest.mark.threat("D2")
@pytest.mark.parametrize(
    ("descriptors", "wanted", "sessions"),
    [
        (256, 200, 64),
        (1024, 200, 200),
        (130, 200, 8),
        (resource.RLIM_INFINITY, 900, 900),
    ],
)
def test_no_more_sessions_than_descriptors_bear(
    tmp_path, monkeypatch, descriptors, wanted, sessions
):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (descriptors, descriptors))
    limits = limits_for(parsed(tmp_path, f"max_sessions = {wanted}"))
    assert limits.max_sessions == sessions
    assert 2 * limits.max_unauthenticated <= max(sessions, 200)


@dataclass(eq=False)
class Guest:
    account: str
    busy = leaving = gone = False

    def shut_down(self, text: str, *, now: bool = False) -> None:
        self.gone = now


@pytest.mark.threat("A7")
def test_a_revoked_name_is_shown_out_at_every_door(tmp_path):
    shared = access(tmp_path)
    guests = {(door, name): Guest(name) for door in ("ftp", "sftp") for name in ("ann", "bob")}
    for (door, _), guest in guests.items():
        assert shared.registry(door).enter(guest, "10.0.0.1") == ""
    shared._close(frozenset({"bob", "nobody"}))
    assert {key for key, guest in guests.items() if guest.gone} == {("ftp", "bob"), ("sftp", "bob")}


def test_doors_share_one_limit_and_each_has_one_registry(tmp_path):
    shared = access(tmp_path, "max_sessions = 1")
    assert shared.registry("ftp").enter(Guest("ann"), "10.0.0.1") == ""
    assert shared.registry("sftp").enter(Guest("ann"), "10.0.0.1") == "too many sessions"
    assert shared.registry("ftp") is shared.registry("ftp")


@pytest.mark.threat("A2")
def test_a_ban_holds_at_every_door(tmp_path):
    shared = access(tmp_path)
    for _ in range(10):
        shared.throttle.failed("192.0.2.1", "nobody", known=False)
    assert shared.registry("ftp").hang_up("192.0.2.1")
    assert shared.registry("sftp").hang_up("192.0.2.1")
    assert not shared.registry("sftp").hang_up("192.0.2.2")


def test_one_portal_knows_passwords_and_keys_and_strangers_where_they_are_let_in(tmp_path):
    kinds = set(access(tmp_path).portal.listCredentialsInterfaces())
    assert kinds == {IUsernamePassword, ISSHPrivateKey}
    with_strangers = access(tmp_path, f"anonymous.rootcap = {WRITE}")
    assert set(with_strangers.portal.listCredentialsInterfaces()) == kinds | {IAnonymous}


@pytest.mark.parametrize("readonly", [False, True])
def test_one_realm_has_an_avatar_for_each_door(tmp_path, readonly):
    tree = Tree(tmp_path)
    shared = access(tmp_path, client=tree.client)
    who = FTPAvatarID("ann", tree.root.get_cap(), readonly, Options(max_sessions=3))
    for interface, kind in ((IFTPShell, Handler), (IConchUser, SFTPUser)):
        given, avatar, _ = shared.portal.realm.requestAvatar(who, None, interface)
        assert given is interface
        assert isinstance(avatar, kind)
        assert avatar.max_sessions == 3
        assert avatar.session.readonly is readonly


@pytest.mark.threat("N11")
def test_a_ca_file_that_is_not_there_or_no_certificate_ends_the_start(tmp_path):
    more = "accounts.url = https://accounts.example/\naccounts.url.ca_file = ca.pem"
    with pytest.raises(ConfigError, match=r"accounts\.url\.ca_file"):
        access(tmp_path, more)
    (tmp_path / "ca.pem").write_text("nonsense")
    with pytest.raises(ConfigError):
        access(tmp_path, more)
