"""Logins over SSH: keys and passwords, what is confirmed to strangers, and when it is enough."""

import pytest
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred

from tests.fakes import ssh_keys
from tests.fakes.account_lines import string
from tests.fakes.ssh_wire import USER_KEY, Client, Server
from truckee.core.errors import TemporaryLoginError
from truckee.frontends.gate.journal import SilentJournal
from truckee.frontends.gate.registry import Limits, Registry
from truckee.frontends.sftp.settings import SFTPSettings

METHODS = string(b"publickey,password") + b"\0"
SERVICE = string(b"ssh-connection")


class Journal(SilentJournal):
    def __init__(self):
        self.logins = []

    def login(self, door, peer, name, method, outcome):
        self.logins.append((door, peer, name, method, outcome))


def refused(client):
    assert client.expect(51) == METHODS


def test_a_password_lets_in_and_is_told_to_the_journal():
    client = Client(Server(journal=Journal())).logging_in()
    client.password(b"wrong")
    refused(client)
    client.password()
    assert client.expect(52) == b""
    server = client.server
    assert server.session.account == "alice"
    assert server.journal.logins == [
        ("sftp", "192.0.2.7", "alice", "password", "denied"),
        ("sftp", "192.0.2.7", "alice", "password", "ok"),
    ]
    assert [(login.source, login.protocol) for login in server.door.asked] == [
        ("192.0.2.7", "sftp")
    ] * 2
    assert (server.realm.minds[0].host, server.realm.minds[0].protocol) == ("192.0.2.7", "sftp")


def test_a_key_is_asked_for_and_then_lets_in():
    client = Client(Server(journal=Journal())).logging_in()
    client.send(50, client.key_request(signature=b""))
    assert client.expect(60) == string(USER_KEY.algorithm) + string(USER_KEY.blob)
    assert not client.server.journal.logins
    client.send(50, client.key_request())
    client.expect(52)
    assert client.server.journal.logins == [("sftp", "192.0.2.7", "alice", "key", "ok")]


@pytest.mark.threat("A1")
def test_no_key_is_confirmed_but_one_that_lets_in_under_that_name():
    for key, name in [(ssh_keys.key("ssh-ed25519", 5), b"bob"), (USER_KEY, b"bob")]:
        client = Client().logging_in()
        client.send(50, client.key_request(key, name, signature=b""))
        refused(client)
    client = Client().logging_in()
    client.send(50, client.key_request(ssh_keys.key("ecdsa-sha2-nistp256"), signature=b""))
    refused(client)


@pytest.mark.threat("A6")
def test_a_signature_over_anything_else_is_refused():
    for words in (b"", b"x", string(b"ssh-ed25519") + string(bytes(64))):
        client = Client().logging_in()
        client.send(50, client.key_request(signature=words or string(b"")))
        refused(client)
    client, other = Client().logging_in(), Client().logging_in()
    client.send(50, other.key_request())
    refused(client)


@pytest.mark.threat("A6")
@pytest.mark.parametrize(
    "algorithm", [b"ssh-rsa", b"ssh-dss", b" ", b"rsa-sha2-256-cert-v01@openssh.com", b"x" * 9]
)
def test_an_algorithm_that_is_not_offered_reaches_no_checker(algorithm):
    key = ssh_keys.key("rsa-sha2-256")
    client = Client().logging_in()
    client.send(50, client.key_request(key, algorithm=algorithm, signature=b""))
    refused(client)
    client.send(50, client.key_request(key, algorithm=algorithm, signature=b"any"))
    refused(client)
    assert not client.server.door.asked


def test_who_signs_nothing_is_not_let_in_even_if_a_checker_says_so():
    client = Client().logging_in()
    client.server.door.answer = lambda: b"alice"
    client.send(50, client.key_request(signature=b""))
    refused(client)
    assert client.server.session.account is None
    assert client.server.realm.logouts == 1


def test_a_question_what_there_is_costs_nothing_once():
    client = Client().logging_in()
    for _ in range(12):
        client.send(50, string(b"alice") + SERVICE + string(b"none"))
        refused(client)
    client.send(50, string(b"alice") + SERVICE + string(b"none"))
    assert client.goodbye() == 14


@pytest.mark.parametrize("method", [b"keyboard-interactive", b"hostbased", b"gssapi-with-mic", b""])
def test_other_methods_are_refused(method):
    client = Client().logging_in()
    client.send(50, string(b"alice") + SERVICE + string(method) + bytes(20))
    refused(client)


def test_six_wrong_passwords_end_the_connection():
    client = Client().logging_in()
    for _ in range(5):
        client.password(b"wrong")
        refused(client)
    client.password(b"wrong")
    assert client.goodbye() == 14


def test_a_key_that_is_only_asked_about_counts_half():
    client = Client().logging_in()
    for _ in range(11):
        client.send(50, client.key_request(name=b"bob", signature=b""))
        refused(client)
    client.send(50, client.key_request(name=b"bob", signature=b""))
    assert client.goodbye() == 14


def test_a_new_password_is_not_taken():
    client = Client().logging_in()
    words = string(b"password") + b"\1" + string(b"secret") + string(b"new")
    client.send(50, string(b"alice") + SERVICE + words)
    refused(client)
    assert not client.server.door.asked


def test_passwords_can_be_switched_off():
    client = Client(Server(SFTPSettings(password_auth=False))).logging_in()
    client.password()
    assert client.expect(51) == string(b"publickey") + b"\0"
    assert not client.server.door.asked
    client.send(50, client.key_request())
    client.expect(52)


def test_another_service_is_refused():
    client = Client().secured()
    client.send(5, string(b"ssh-connection"))
    assert client.goodbye() == 7
    client = Client().logging_in()
    client.send(50, string(b"alice") + string(b"ssh-other") + string(b"none"))
    assert client.goodbye() == 7


@pytest.mark.parametrize("cut", [0, 3, 9, 20, 30, 45, 60, 100])
def test_a_request_cut_short_ends_the_connection(cut):
    client = Client().logging_in()
    client.send(50, client.key_request()[:cut])
    assert client.goodbye() == 2


def waiting(client):
    answers = []

    def answer():
        answers.append(Deferred())
        return answers[-1]

    client.server.door.answer = answer
    return answers


def test_each_login_is_answered_before_the_next_is_looked_at():
    client = Client().logging_in()
    answers = waiting(client)
    for word in (b"one", b"two", b"three"):
        client.password(word)
    assert [login.password for login in client.server.door.asked] == [b"one"]
    assert client.server.session.busy
    for _ in range(2):
        answers[-1].errback(UnauthorizedLogin())
        refused(client)
    assert client.silent()
    answers[-1].callback(b"alice")
    client.expect(52)
    assert not client.server.session.busy


def test_what_comes_while_a_login_is_checked_is_not_read_beyond_a_bound():
    client = Client().logging_in()
    answers = waiting(client)
    client.password(b"one")
    while client.server.tcp.producerState == "producing":
        client.password(b"x" * 8000)
        assert len(client.server.session._buffer) < 100_000
    answers[0].errback(UnauthorizedLogin())
    refused(client)


@pytest.mark.parametrize(
    ("error", "reason"), [(TemporaryLoginError("later"), 7), (ZeroDivisionError(), 11)]
)
def test_trouble_on_our_side_ends_the_connection_and_is_no_login(error, reason, capsys):
    client = Client(Server(journal=Journal())).logging_in()
    answers = waiting(client)
    client.password()
    answers[0].errback(error)
    assert client.goodbye() == reason
    assert client.server.session.account is None
    assert client.server.journal.logins[0][4] == "temporary"


def test_a_client_that_leaves_takes_its_login_with_it():
    client = Client().logging_in()
    cancelled = []
    client.server.door.answer = lambda: Deferred(cancelled.append)
    client.password()
    client.server.lose()
    assert len(cancelled) == 1
    assert not client.server.realm.minds
    assert client.server.registry.sessions == 0


def test_an_account_with_enough_sessions_gets_no_other():
    registry = Registry("sftp", Limits(max_sessions_per_user=1))
    Client(Server(registry=registry)).working()
    server = Server(registry=registry, journal=Journal())
    second = Client(server).logging_in()
    second.password()
    assert second.goodbye() == 12
    assert server.realm.logouts == 1
    assert server.journal.logins == [("sftp", "192.0.2.7", "alice", "password", "limit")]


def test_a_login_that_ends_after_the_goodbye_is_logged_out():
    client = Client().logging_in()
    answers = waiting(client)
    client.password()
    client.server.clock.advance(60)
    assert client.goodbye() == 11
    answers[0].callback(b"alice")
    assert client.server.realm.logouts == 1
    assert client.server.session.account is None


@pytest.mark.threat("N2")
def test_after_the_login_there_are_no_others():
    client = Client().working()
    client.password()
    assert client.goodbye() == 2
