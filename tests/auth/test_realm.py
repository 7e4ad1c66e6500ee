import pytest
from zope.interface import Interface

from tests.fakes.account_lines import READ, WRITE
from truckee.auth.accounts import parse_rootcap
from truckee.auth.realm import Dispatcher, FTPAvatarID


class IShell(Interface):
    """What a frontend asks for."""


class IOther(Interface):
    """What no frontend offers."""


class FakeClient:
    def __init__(self, name):
        self.name = name

    def create_node_from_uri(self, writecap, readcap=None, deep_immutable=False, name=""):
        return (self.name, writecap, readcap)


def dispatcher(left):
    def factory(root, avatar_id, mind):
        return (root, avatar_id, mind), lambda: left.append(avatar_id.username)

    return Dispatcher(FakeClient, {IShell: factory})


def test_a_login_gets_the_avatar_of_the_interface_and_its_own_client():
    avatar_id = FTPAvatarID("alice", parse_rootcap(WRITE))
    interface, avatar, _ = dispatcher([]).requestAvatar(avatar_id, "mind", IOther, IShell)
    assert interface is IShell
    assert avatar == (("alice", WRITE.encode(), None), avatar_id, "mind")


@pytest.mark.threat("L7")
@pytest.mark.parametrize(("root", "readonly"), [(WRITE, True), (READ, False)])
@pytest.mark.threat("A12")
def test_a_read_only_login_never_sees_a_node_that_could_write(root, readonly):
    avatar_id = FTPAvatarID("alice", parse_rootcap(root), readonly=readonly)
    _, avatar, _ = dispatcher([]).requestAvatar(avatar_id, None, IShell)
    assert avatar[0] == ("alice", None, READ.encode())


@pytest.mark.threat("A12")
def test_logout_happens_once():
    left: list = []
    avatar_id = FTPAvatarID("alice", parse_rootcap(WRITE))
    _, _, logout = dispatcher(left).requestAvatar(avatar_id, None, IShell)
    logout()
    logout()
    assert left == ["alice"]


def test_an_interface_that_nobody_offers_is_an_error():
    with pytest.raises(NotImplementedError):
        dispatcher([]).requestAvatar(FTPAvatarID("alice", parse_rootcap(WRITE)), None, IOther)
