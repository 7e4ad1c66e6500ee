"""AUTH, PBSZ, PROT and what they change, over transports in memory."""

import pytest

from tests.fakes.fake_vfs import FakeSession
from tests.fakes.ftp_wire import Client, Server, final_replies
from tests.fakes.ftps import TLSClient, client_context, identity
from truckee.frontends.ftp.settings import FTPSettings

OFF = ("10.0.0.5", "10.0.0.1")


def server(**settings) -> Server:
    vfs = FakeSession(root={"d": {}, "a": b"123"})
    return Server(FTPSettings(**settings), vfs=vfs, identity=identity())


class Secure:
    """A client that has sent AUTH TLS and shaken hands."""

    def __init__(self, client: Client, context=None) -> None:
        self.client, self.tls = client, TLSClient(context)
        for _ in range(4):
            client.wire.feed(self.tls.step())
            self.tls.put(client.wire.read())
        self.tls.step()

    def ask(self, *lines: str) -> str:
        self.client.wire.feed(self.tls.say(b"".join(line.encode() + b"\r\n" for line in lines)))
        return self.text()

    def text(self) -> str:
        return self.tls.take(self.client.wire.read()).decode()

    def codes(self, *lines: str) -> list[str]:
        return [reply[:3] for reply in final_replies(self.ask(*lines))]


def secured(at: Server, *where: str, mechanism="TLS") -> Secure:
    client = at.connect(*where)
    assert client.ask(f"AUTH {mechanism}").startswith("234 ")
    return Secure(client)


@pytest.mark.parametrize("mechanism", ["TLS", "SSL", "TLS-C", "tls"])
def test_auth_begins_tls_and_a_login_works_from_anywhere(mechanism) -> None:
    secure = secured(server(), *OFF, mechanism=mechanism)
    assert secure.codes("USER alice", "PASS secret", "PWD") == ["331", "230", "257"]
    assert secure.codes("AUTH TLS") == ["503"]
    assert secure.codes("QUIT") == ["221"]
    secure.client.pass_time(1)
    assert secure.client.wire.closed


def test_auth_wants_a_mechanism_that_exists_and_a_certificate() -> None:
    assert server().connect().finals("AUTH GSSAPI", "AUTH", "AUTH X")[0].startswith("504")
    assert Server().connect().ask("AUTH TLS").startswith("431")
    off = server(tls="off").connect()
    assert [f[:3] for f in off.finals("AUTH TLS", "PBSZ 0", "PROT P", "CCC")] == ["502"] * 4
    assert "TLS" not in off.ask("FEAT")


def test_feat_lists_tls_where_it_is() -> None:
    text = server().connect().ask("FEAT")
    for name in ("AUTH TLS", "AUTH SSL", "PBSZ", "PROT"):
        assert f" {name}\r\n" in text


@pytest.mark.threat("N5")
@pytest.mark.parametrize(
    ("tls", "where", "allowed"),
    [
        ("auto", ("127.0.0.1", "127.0.0.1"), True),
        ("auto", OFF, False),
        ("auto", ("127.0.0.1", "10.0.0.1"), False),
        ("auto", ("10.0.0.1", "127.0.0.1"), False),
        ("auto", ("::1", "::1"), True),
        ("required", ("127.0.0.1", "127.0.0.1"), False),
        ("required", OFF, False),
        ("off", ("127.0.0.1", "127.0.0.1"), True),
        ("off", OFF, False),
    ],
)
def test_a_password_in_clear_is_asked_for_inside_this_machine_alone(tls, where, allowed) -> None:
    at = server(tls=tls)
    client = at.connect(*where)
    answer = client.ask("USER alice")
    if allowed:
        assert answer.startswith("331")
        return
    assert answer.startswith("530 TLS required: ")
    assert ("send AUTH TLS" in answer) == (tls != "off")
    assert client.ask("PASS secret").startswith("503")
    assert at.portal.seen == []


def test_passwords_in_clear_are_taken_from_anywhere_only_when_told_so() -> None:
    client = server(tls="off", insecure_plaintext=True).connect(*OFF)
    assert client.ask("USER alice").startswith("331")
    client = server(tls="required", insecure_plaintext=True).connect(*OFF)
    assert client.ask("USER alice").startswith("530")


# N4


@pytest.mark.threat("N4")
@pytest.mark.parametrize(
    "behind", [b"USER alice\r\nPASS secret\r\nDELE a\r\n", b"NOOP\r\n", b"USER mal", b"x" * 100]
)
def test_what_comes_in_clear_behind_auth_is_dropped(behind) -> None:
    at = server()
    client = at.connect()
    text = client.ask(b"AUTH TLS\r\n" + behind)
    assert [f[:3] for f in final_replies(text)] == ["234"]
    secure = Secure(client)
    assert secure.codes("NOOP") == ["200"]
    assert at.portal.seen == []
    assert at.vfs.root == {"d": {}, "a": b"123"}


@pytest.mark.threat("N4")
def test_what_comes_in_clear_after_the_reply_to_auth_ends_the_connection() -> None:
    at = server()
    client = at.connect()
    client.ask("AUTH TLS")
    client.send("USER alice", "PASS secret")
    assert "331" not in client.wire.read().decode("latin-1")
    client.pass_time(6)
    assert client.wire.closed
    assert at.portal.seen == []


@pytest.mark.threat("N4")
@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (["USER alice"], ["PASS secret"], ["503"]),
        (["USER alice", "PASS secret"], ["PWD"], ["530"]),
        (["USER alice", "PASS secret", "CWD d"], ["USER alice", "PASS secret", "MLST a"], "250"),
        (["USER alice", "PASS secret", "RNFR a"], ["USER alice", "PASS secret", "RNTO b"], "503"),
        (["USER alice", "PASS secret", "EPSV ALL"], ["USER alice", "PASS secret", "PASV"], "227"),
        (["USER alice", "PASS secret", "TYPE A"], ["USER alice", "PASS secret", "SIZE a"], "213"),
        (["USER alice", "PASS secret", "EPSV"], ["USER alice", "PASS secret", "RETR a"], "425"),
        (["PBSZ 0", "PROT P"], ["PROT P"], ["503"]),
        (["PBSZ 0"], ["PROT C"], ["503"]),
    ],
)
def test_nothing_that_was_said_in_clear_counts_after_auth(before, after, expected) -> None:
    client = server().connect()
    client.ask(*before, "AUTH TLS")
    codes = Secure(client).codes(*after)
    assert codes[-1] == (expected if isinstance(expected, str) else expected[0])


@pytest.mark.threat("N4")
def test_offsets_sizes_and_facts_said_in_clear_are_forgotten_too() -> None:
    at = server()
    client = at.login()
    client.ask("REST 3", "ALLO 10", "OPTS MLST type;", "AUTH TLS")
    session = client.protocol.session
    assert (session.rest, session.announced, len(session.facts)) == (0, None, 6)
    assert at.vfs.logged_out == 1
    assert at.ftp.registry.accounts() == set()


@pytest.mark.threat("N4")
def test_a_login_before_auth_does_not_stop_the_clock_of_the_next() -> None:
    at = server(idle_timeout=1000)
    client = at.login()
    client.ask("AUTH TLS")
    secure = Secure(client)
    for _ in range(59):
        client.server.reactor.advance(1)
        assert secure.codes("NOOP") == ["200"]
    client.server.reactor.advance(2)
    assert secure.text().startswith("421 ")


# the handshake


def test_a_client_that_does_not_shake_hands_is_dropped() -> None:
    client = server().connect()
    client.ask("AUTH TLS")
    assert client.wire.closed is None
    client.pass_time(12)
    assert client.wire.closed
    assert client.server.ftp.sessions == 0


@pytest.mark.threat("N6")
def test_a_browsers_tls_is_refused_and_its_request_over_tls_closes_unreflected() -> None:
    client = server().connect()
    client.ask("AUTH TLS")
    with pytest.raises(Exception, match="no application protocol"):
        Secure(client, client_context(["http/1.1"]))
    client.pass_time(6)
    assert client.wire.closed
    secure = secured(server())
    text = secure.ask("GET /<script>MARKER HTTP/1.1", "Host: MARKER", "")
    assert text.startswith("421 ")
    assert "MARKER" not in text
    secure.client.pass_time(6)
    assert secure.client.wire.closed


def test_a_client_that_says_it_sends_no_more_has_left() -> None:
    secure = secured(server())
    secure.codes("USER alice", "PASS secret")
    secure.client.wire.feed(secure.tls.end())
    secure.client.server.reactor.advance(1)
    assert secure.client.wire.closed
    assert secure.client.server.ftp.sessions == 0


def test_the_last_reply_is_followed_by_the_end_of_tls() -> None:
    secure = secured(server())
    secure.client.wire.feed(secure.tls.say(b"QUIT\r\n"))
    assert secure.text().startswith("221")
    secure.tls.end()  # fails if the server did not say that it ends


@pytest.mark.threat("N12")
def test_a_flood_of_handshakes_that_reads_nothing_is_dropped() -> None:
    secure = secured(server())
    wire = secure.client.wire
    wire.limit = 0
    secure.client.wire.feed(secure.tls.say(b"NOOP\r\n" * 3))
    assert wire.full
    secure.client.protocol._engine._unsent.append(b"an answer to a handshake")
    wire.feed(secure.tls.say(b"NOOP\r\n"))
    secure.client.pass_time(1)
    assert wire.closed


# PBSZ, PROT, CCC


def test_prot_needs_pbsz_and_pbsz_needs_auth() -> None:
    client = server().connect()
    assert [f[:3] for f in client.finals("PBSZ 0", "PROT P", "PROT C", "CCC")] == [
        "503",
        "503",
        "503",
        "534",
    ]
    secure = secured(server())
    assert secure.codes("PROT P", "PBSZ x", "PBSZ", "PBSZ 0") == ["503", "501", "501", "200"]
    assert secure.ask("PBSZ 1000") == "200 PBSZ=0\r\n"
    codes = secure.codes("PROT P", "PROT C", "prot p", "PROT S", "PROT E", "PROT X", "PROT", "CCC")
    assert codes == ["200", "200", "200", "536", "536", "504", "504", "534"]


def test_with_tls_required_nothing_moves_in_clear() -> None:
    at = server(tls="required")
    secure = secured(at)
    assert secure.codes("PBSZ 0", "PROT C", "USER alice", "PASS secret")[1:] == [
        "534",
        "331",
        "230",
    ]
    transfers = ["LIST", "NLST", "MLSD", "RETR a", "STOR b", "APPE a", "STOU"]
    for line in transfers:
        assert secure.codes("EPSV", line) == ["229", "521"]
    assert secure.codes("RETR a", "PWD", "MLST a", "SIZE a") == ["425", "257", "250", "213"]
    assert secure.codes("PROT P", "STAT") == ["200", "211"]


def test_a_new_login_keeps_prot_and_rein_does_not() -> None:
    secure = secured(server())
    secure.codes("PBSZ 0", "PROT P", "USER alice", "PASS secret", "USER alice")
    assert secure.client.protocol.session.protected
    assert secure.codes("REIN", "PROT P", "USER alice") == ["220", "503", "331"]
    assert not secure.client.protocol.session.protected


def test_stat_tells_what_is_protected() -> None:
    secure = secured(server())
    secure.codes("USER alice", "PASS secret")
    assert "control connection under TLS, data connections in clear" in secure.ask("STAT")
    secure.codes("PBSZ 0", "PROT P")
    assert "data connections under TLS" in secure.ask("STAT")


def test_a_node_that_stops_between_auth_and_tls_just_closes() -> None:
    at = server()
    client = at.connect()
    client.ask("AUTH TLS")
    client.protocol.shut_down("the node stops")
    client.pass_time(1)
    assert client.wire.closed
