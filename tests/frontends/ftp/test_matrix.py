"""Every command in every state of a session: one final reply each, and the session lives on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.fake_vfs import FakeSession, Gate
from tests.fakes.ftp_wire import Client, Server, Wire, final_replies

COMMANDS = [
    "USER bob",
    "PASS secret",
    "ACCT x",
    "REIN",
    "QUIT",
    "NOOP",
    "SYST",
    "HELP",
    "CLNT x",
    "FEAT",
    "OPTS UTF8 ON",
    "OPTS MLST type;",
    "TYPE A",
    "TYPE",
    "MODE S",
    "MODE B",
    "STRU F",
    "STRU R",
    "PWD",
    "XPWD",
    "CWD d",
    "CWD nowhere",
    "CWD",
    "CDUP",
    "PASV",
    "EPSV",
    "EPSV 2",
    "EPSV ALL",
    "PORT 127,0,0,1,100,1",
    "PORT 10,0,0,1,100,1",
    "PORT x",
    "EPRT |1|127.0.0.1|30000|",
    "EPRT |9|127.0.0.1|30000|",
    "LIST",
    "LIST -la d",
    "NLST",
    "MLSD a",
    "MLST a",
    "SIZE a",
    "MDTM a",
    "MDTM 20010101000000 a",
    "MFMT 20010101000000 a",
    "MFMT soon a",
    "RETR a",
    "RETR nowhere",
    "STOR new",
    "STOR d",
    "APPE a",
    "STOU",
    "REST 3",
    "REST x",
    "ALLO 10",
    "ABOR",
    "DELE a",
    "DELE d",
    "RMD d",
    "MKD e",
    "RNFR a",
    "RNTO b",
    "STAT",
    "STAT d",
    "SITE CHMOD 644 a",
    "SITE EXEC x",
    "AUTH TLS",
    "PBSZ 0",
    "PROT P",
    "CCC",
    "LANG en",
    "XYZZY",
    "",
    "\x00\x01",
    "CWD \xff",
]


class State:
    """A session in some state, and how to bring what runs there to its end."""

    def __init__(self) -> None:
        root = {"a": bytes(300_000), "d": {"x": b"1"}, "empty": {}}
        self.vfs = FakeSession(root=root)
        self.server = Server(vfs=self.vfs)
        self.data: Wire | None = None
        self.expected = 1
        self.client: Client

    def finish(self) -> None:
        data = self.data
        for gate in list(self.vfs.gates.values()):
            gate.release()
        for _ in range(200):
            self.server.reactor.advance(0.01)
            if data is not None:
                data.read()
        if data is not None:
            data.lose()
        for _ in range(200):
            self.server.reactor.advance(0.1)


def connected() -> State:
    state = State()
    state.client = state.server.connect()
    return state


def named() -> State:
    state = connected()
    state.client.ask("USER alice")
    return state


def logged_in() -> State:
    state = State()
    state.client = state.server.login()
    return state


def read_only() -> State:
    state = logged_in()
    state.vfs.readonly = True
    return state


def listening() -> State:
    state = logged_in()
    state.client.ask("PASV")
    return state


def joined() -> State:
    state = logged_in()
    state.data = state.client.open_data()
    return state


def renaming() -> State:
    state = logged_in()
    state.client.ask("RNFR a")
    return state


def retrieving() -> State:
    state = joined()
    state.data.limit = 1000
    state.client.ask("RETR a")
    state.expected = 2
    return state


def storing() -> State:
    state = joined()
    state.client.ask("STOR up")
    state.data.feed(b"some")
    state.expected = 2
    return state


def committing() -> State:
    state = storing()
    state.vfs.gates["commit"] = Gate(held=[])
    state.data.lose()
    state.server.reactor.advance(0.1)
    assert state.vfs.gates["commit"].held
    return state


def opening() -> State:
    state = joined()
    state.vfs.gates["open_read"] = Gate(held=[])
    state.client.ask("RETR a")
    state.expected = 2
    return state


def working() -> State:
    state = logged_in()
    state.vfs.gates["mkdir"] = Gate(held=[])
    state.client.ask("MKD slow")
    state.expected = 2
    return state


STATES = [
    connected,
    named,
    logged_in,
    read_only,
    listening,
    joined,
    renaming,
    retrieving,
    storing,
    committing,
    opening,
    working,
]


@pytest.mark.threat("F6")
@pytest.mark.parametrize("make", STATES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("command", COMMANDS)
def test_one_final_reply(make, command: str) -> None:
    state = make()
    text = state.client.ask(command.encode("latin-1"))
    state.finish()
    text += state.client.text()
    finals = final_replies(text)
    assert len(finals) == state.expected, (command, text)
    assert "internal error" not in text
    if state.client.wire.closed is None:
        assert state.client.ask("NOOP").startswith("200")
    else:
        assert finals[-1][:3] in ("221", "421")
    state.client.wire.lose()
    state.finish()
    assert not state.vfs.open_writes
    assert not state.vfs.open_reads
    assert state.server.ftp.sessions == 0
    assert [c for c in state.server.reactor.getDelayedCalls() if c.active()] == []


@pytest.mark.parametrize("make", STATES, ids=lambda f: f.__name__)
def test_losing_the_control_connection_ends_everything_but_a_commit(make) -> None:
    state = make()
    state.client.wire.reset()
    state.finish()
    assert state.server.ftp.sessions == 0
    assert not state.vfs.open_writes
    assert not state.vfs.open_reads
    assert ("up" in state.vfs.root) == (make is committing)
    assert state.server.reactor.getDelayedCalls() == []
    if make not in (connected, named):
        assert state.vfs.logged_out == 1


pieces = st.lists(
    st.one_of(
        st.sampled_from([c.encode("latin-1") + b"\r\n" for c in COMMANDS]),
        st.sampled_from([b"\xff\xf4\xff\xf2", b"\r", b"\n", b" ", b"\xff", b"x" * 9000]),
        st.binary(max_size=20),
    ),
    max_size=40,
)


@pytest.mark.threat("F6")
@given(pieces, st.sampled_from(STATES))
def test_any_bytes_in_any_state_are_survived(parts, make) -> None:
    state = make()
    for part in parts:
        state.client.wire.feed(part)
    state.finish()
    final_replies(state.client.text())
    state.client.wire.lose()
    state.finish()
    assert state.server.ftp.sessions == 0
    assert state.server.reactor.getDelayedCalls() == []
    assert not state.vfs.open_writes
    assert not state.vfs.open_reads
