"""The control connection: logins, order, floods, clocks."""

import pytest

from tests.fakes.fake_vfs import FakePortal, FakeSession, Gate
from tests.fakes.ftp_wire import Server, final_replies
from truckee.core.errors import TemporaryLoginError
from truckee.frontends.ftp.settings import FTPSettings


def test_a_greeting_comes_first_and_names_no_version() -> None:
    greeting = Server().connect().greeting
    assert greeting.startswith("220 ")
    assert not any(c.isdigit() for c in greeting[4:])


@pytest.mark.threat("A1")
def test_user_answers_the_same_for_every_name() -> None:
    server = Server()
    assert len({server.connect().ask(f"USER {n}") for n in ("alice", "nobody", "root")}) == 1


@pytest.mark.threat("N5")
@pytest.mark.parametrize(
    ("peer", "local"),
    [("10.0.0.5", "10.0.0.1"), ("127.0.0.1", "10.0.0.1"), ("10.0.0.5", "127.0.0.1")],
)
def test_off_loopback_no_password_is_asked_for(peer, local) -> None:
    server = Server()
    client = server.connect(peer, local)
    assert client.finals("USER alice", "PASS secret")[0].startswith("530 ")
    assert server.portal.seen == []


def test_a_mapped_loopback_address_is_loopback() -> None:
    client = Server().connect("::ffff:127.0.0.1", "::ffff:127.0.0.1")
    assert client.ask("USER alice").startswith("331")


def test_pass_without_user_is_out_of_order() -> None:
    assert Server().connect().ask("PASS secret").startswith("503")


def test_the_third_wrong_password_closes() -> None:
    client = Server().connect()
    for expected in ("530", "530", "421"):
        client.ask("USER alice")
        assert client.ask("PASS wrong").startswith(expected)
    assert client.pass_time(1) == ""
    assert client.wire.closed


def test_the_checker_is_told_where_the_login_comes_from() -> None:
    server = Server()
    server.login()
    credentials, mind = server.portal.seen[0]
    assert (credentials.source, credentials.protocol) == ("127.0.0.1", "ftp")
    assert mind.host == "127.0.0.1"
    assert "secret" not in repr(credentials)


@pytest.mark.threat("A12")
@pytest.mark.parametrize("error", [TemporaryLoginError("busy"), ValueError("bug")])
def test_a_checker_that_breaks_lets_nobody_in(error) -> None:
    def broken(_credentials):
        raise error

    client = Server(portal=FakePortal(broken)).connect()
    client.ask("USER alice")
    assert client.ask("PASS secret").startswith("421")


@pytest.mark.threat("A12")
def test_a_realm_that_gives_something_else_lets_nobody_in() -> None:
    client = Server(portal=FakePortal(lambda c: None)).connect()
    client.ask("USER alice")
    answer = client.ask("PASS secret")
    assert answer[:1] == "4"
    assert client.ask("PWD")[:3] in ("530", "")


def test_a_name_that_is_not_text_is_refused() -> None:
    client = Server().connect()
    assert client.ask(b"USER \xc3\x28").startswith("331")
    assert client.ask("PASS secret").startswith("530")


@pytest.mark.threat("A4")
def test_an_endless_password_never_reaches_the_checker() -> None:
    server = Server()
    client = server.connect()
    client.ask("USER alice")
    assert client.ask("PASS " + "x" * 2000).startswith("530")
    assert server.portal.seen == []


def test_user_again_logs_out_and_forgets() -> None:
    server = Server(vfs=FakeSession(root={"d": {}}))
    client = server.login()
    client.ask("CWD d", "REST 5", "EPSV ALL")
    client.ask("USER alice")
    assert server.vfs.logged_out == 1
    client.ask("PASS secret")
    assert '"/"' in client.ask("PWD")
    assert client.ask("PASV").startswith("227")


def test_rein_asks_for_a_new_login() -> None:
    server = Server()
    client = server.login()
    assert client.finals("REIN", "PWD") == ["220 ready for a new login", client_530()]
    assert server.vfs.logged_out == 1


def client_530() -> str:
    return "530 please log in with USER and PASS"


@pytest.mark.threat("A12")
def test_logout_happens_when_the_client_leaves_while_the_password_is_checked() -> None:
    server = Server()
    server.portal.held = []
    client = server.connect()
    client.send("USER alice", "PASS secret")
    client.wire.lose()
    assert server.ftp.sessions == 1
    server.portal.held[0].callback(None)
    assert server.vfs.logged_out == 1
    assert server.ftp.sessions == 0


# browsers and noise


@pytest.mark.threat("W8")
def test_a_browsers_post_is_hung_up_on_and_nothing_in_it_is_done() -> None:
    server = Server(vfs=FakeSession(root={"a": b""}))
    client = server.connect()
    body = "POST / HTTP/1.1\r\nHost: x\r\n\r\nUSER alice\r\nPASS secret\r\nDELE a"
    assert client.finals(body)[0].startswith("421 ")
    client.send("USER alice", "PASS secret")
    assert client.text() == ""
    assert server.portal.seen == []
    assert "HTTP" not in client.greeting


def test_the_third_unknown_word_before_login_closes() -> None:
    client = Server().connect()
    assert [f[:3] for f in client.finals("A", "B", "C", "USER alice")] == ["500", "500", "421"]


def test_after_login_unknown_words_are_only_answered() -> None:
    client = Server().login()
    assert [f[:3] for f in client.finals(*["XYZZY"] * 10)] == ["500"] * 10


@pytest.mark.threat("N6")
def test_nothing_a_client_says_before_login_comes_back() -> None:
    client = Server().connect()
    text = client.ask("MARKER1", "USER MARKER2", "PASS MARKER3", "CWD MARKER4", b"\x01MARKER5")
    assert "MARKER" not in text


@pytest.mark.threat("F3")
def test_a_line_without_end_is_answered_and_closed() -> None:
    client = Server().login()
    client.wire.feed(b"x" * 5000)
    assert client.text() == ""
    client.wire.feed(b"x" * 5000)
    assert client.text().startswith("500 ")
    client.wire.feed(b"\r\nDELE a\r\n" * 100)
    assert client.text() == ""
    client.pass_time(6)
    assert client.wire.closed


@pytest.mark.threat("F3")
def test_commands_sent_ahead_wait_and_the_socket_is_not_read_for_ever() -> None:
    server = Server()
    client = server.login()
    server.vfs.gates["mkdir"] = Gate(held=[])
    client.send("MKD d")
    fed = 0
    while client.wire.reading and fed < 10_000:
        client.send(*["PWD"] * 1000)
        fed += 1000
    assert fed < 10_000
    assert len(client.protocol._queue) <= 32
    server.vfs.gates["mkdir"].release()
    assert len(final_replies(client.pass_time(1))) == fed + 1
    assert client.wire.reading


@pytest.mark.threat("F3")
def test_a_client_that_reads_no_replies_gets_no_more_and_is_dropped() -> None:
    server = Server(settings=FTPSettings(idle_timeout=300))
    client = server.login()
    client.wire.limit = 2000
    fed = 0
    while client.wire.reading and fed < 100_000:
        client.send(*["FEAT"] * 1000)
        fed += 1000
    assert fed < 100_000
    assert len(client.wire.dataBuffer) < 10_000
    clock = server.reactor
    for _ in range(310):
        clock.advance(1)
    assert client.wire.closed


def test_replies_go_on_when_the_client_reads_again() -> None:
    client = Server().login()
    client.wire.limit = 100
    client.send(*["PWD"] * 500)
    text = ""
    for _ in range(2000):
        text += client.text()
    assert len(final_replies(text)) == 500


def test_a_long_status_listing_waits_for_the_client() -> None:
    root = {f"file-{i:05}": b"" for i in range(5000)}
    server = Server(vfs=FakeSession(root=root))
    client = server.login()
    client.wire.limit = 1000
    client.send("STAT /")
    assert len(client.wire.dataBuffer) < 50_000
    text = ""
    for _ in range(5000):
        text += client.text()
    assert text.count("file-") == 5000
    assert len(final_replies(text)) == 1


def test_a_client_that_never_reads_a_long_status_is_dropped() -> None:
    server = Server(vfs=FakeSession(root={f"f{i}": b"" for i in range(5000)}))
    client = server.login()
    client.wire.limit = 1000
    client.send("STAT /")
    for _ in range(70):
        server.reactor.advance(1)
    assert client.wire.closed
    assert server.ftp.sessions == 0


# clocks


@pytest.mark.threat("D1")
def test_the_login_must_be_done_in_time_whatever_is_sent() -> None:
    client = Server().connect()
    text = ""
    for _ in range(59):
        text += client.pass_time(1) + client.ask("NOOP")
    assert "421" not in text
    assert client.pass_time(2).startswith("421 ")


@pytest.mark.threat("D1")
def test_idling_is_counted_from_the_last_whole_command() -> None:
    client = Server().login()
    client.pass_time(299)
    assert client.ask("NOOP").startswith("200")
    for _ in range(299):
        client.wire.feed(b"x")
        assert client.pass_time(1) == ""
    assert client.pass_time(2).startswith("421 ")


def test_nobody_idles_while_a_command_runs() -> None:
    server = Server()
    client = server.login()
    server.vfs.gates["mkdir"] = Gate(held=[])
    client.send("MKD d")
    assert client.pass_time(1000, 10) == ""
    server.vfs.gates["mkdir"].release()
    assert client.text().startswith("257")


def test_a_client_that_does_not_take_the_last_reply_is_cut_off() -> None:
    server = Server()
    client = server.login()
    client.wire.limit = 0
    client.send("QUIT")
    for _ in range(7):
        server.reactor.advance(1)
    assert client.wire.closed == "ConnectionAborted"


# order


def test_rnto_follows_rnfr_at_once() -> None:
    server = Server(vfs=FakeSession(root={"a": b"1"}))
    client = server.login()
    assert [f[:3] for f in client.finals("RNFR a", "PWD", "RNTO b", "RNFR x")] == [
        "350",
        "257",
        "503",
        "550",
    ]
    assert [f[:3] for f in client.finals("RNFR a", "RNTO b", "RNTO c")] == ["350", "250", "503"]
    assert list(server.vfs.root) == ["b"]


def test_rnto_replaces_a_file_and_refuses_a_directory() -> None:
    server = Server(vfs=FakeSession(root={"a": b"1", "b": b"2", "d": {}}))
    client = server.login()
    assert [f[:3] for f in client.finals("RNFR a", "RNTO b")] == ["350", "250"]
    assert server.vfs.root == {"b": b"1", "d": {}}
    assert [f[:3] for f in client.finals("RNFR b", "RNTO d")] == ["350", "550"]


def test_epsv_all_ends_the_other_ways() -> None:
    client = Server().login()
    client.ask("EPSV ALL")
    lines = ["PASV", "PORT 127,0,0,1,100,1", "EPRT |1|127.0.0.1|30000|", "EPSV"]
    assert [f[:3] for f in client.finals(*lines)] == ["503", "503", "503", "229"]


def test_type_a_takes_no_size_and_no_rest() -> None:
    client = Server(vfs=FakeSession(root={"a": b"12345"})).login()
    lines = ["SIZE a", "REST 3", "TYPE A", "SIZE a", "REST 3", "REST 0", "TYPE E", "TYPE L 8"]
    assert [f[:3] for f in client.finals(*lines)] == [
        "213",
        "350",
        "200",
        "550",
        "501",
        "350",
        "504",
        "200",
    ]


def test_feat_lists_what_is_on_and_no_tls() -> None:
    text = Server().login().ask("FEAT")
    for name in (
        "EPSV",
        "EPRT",
        "MDTM",
        "MFMT",
        "MLST type*;",
        "REST STREAM",
        "SIZE",
        "TVFS",
        "UTF8",
    ):
        assert f" {name}" in text
    assert "TLS" not in text
    assert "PBSZ" not in text
    off = Server(settings=FTPSettings(active_mode=False)).login()
    assert "EPRT" not in off.ask("FEAT")
    assert off.ask("PORT 127,0,0,1,100,1").startswith("502")


def test_opts_mlst_chooses_facts() -> None:
    client = Server(vfs=FakeSession(root={"a": b"1"})).login()
    assert client.ask("OPTS MLST size;bogus;TYPE;") == "200 MLST OPTS type;size;\r\n"
    assert " type=file;size=1; /a\r\n" in client.ask("MLST a")
    assert "MLST type*;size*;modify;" in client.ask("FEAT")
    client.ask("OPTS MLST")
    assert "\r\n  /a\r\n" in client.ask("MLST a")


# names


def test_quotes_in_a_path_are_doubled() -> None:
    server = Server()
    client = server.login()
    assert client.ask('MKD say "hi"') == '257 "/say ""hi""" created\r\n'
    client.ask('CWD say "hi"')
    assert client.ask("PWD").startswith('257 "/say ""hi""" ')


@pytest.mark.threat("F1")
@pytest.mark.parametrize(
    "name",
    ["../../etc", "/../..", "d/../../x", "%2e%2e/x", "//x", "./x", "d//x", "uri/URI:DIR2:x"],
)
@pytest.mark.parametrize("command", ["CWD", "MKD", "SIZE", "DELE", "RETR"])
def test_no_spelling_leaves_the_root(name, command) -> None:
    server = Server(vfs=FakeSession(root={"d": {}}))
    client = server.login()
    client.ask(f"{command} {name}")
    answer = client.ask("PWD")
    assert answer.startswith('257 "/')
    assert ".." not in answer or "%2e" in name


@pytest.mark.threat("U6")
@pytest.mark.parametrize(
    "raw", [b"MKD a\x00b", b"MKD a\rb", b"MKD \xff\xff", b"MKD \xc3\x28", b"MKD " + b"n" * 300]
)
def test_names_that_may_not_be_are_553(raw) -> None:
    server = Server()
    assert server.login().ask(raw).startswith("553 ")
    assert server.vfs.root == {}


def test_unicode_names_go_both_ways() -> None:
    server = Server()
    client = server.login()
    name = "naïve é 日本"
    client.ask(f"MKD {name}", f"CWD {name}")
    assert list(server.vfs.root) == [name]
    assert name in client.ask("PWD")


# times and modes


def test_times_and_modes_can_be_set_in_every_way() -> None:
    server = Server(vfs=FakeSession(root={"a b": b""}))
    client = server.login()
    for line, stamp in [
        ("MFMT 20010203040506 a b", 981173106),
        ("MDTM 20020203040506 a b", 1012709106),
        ("SITE UTIME 200302030405 a b", 1044245100),
        ("SITE UTIME a b 20010203040507 20010203040506 20010203040508 UTC", 981173106),
    ]:
        assert client.ask(line)[:1] == "2"
        assert server.vfs.times[("a b",)] == stamp
    assert client.ask("MFMT 20010203040506 a b") == "213 Modify=20010203040506; /a b\r\n"
    assert client.ask("SITE CHMOD 444 a b").startswith("200")
    assert server.vfs.modes[("a b",)] == 0o444
    assert client.ask("MDTM 20010203040506 nowhere").startswith("550")
    assert client.ask("MDTM nowhere").startswith("550")
    assert client.ask("MFMT 2001 a b").startswith("501")
    assert client.ask("SITE CHMOD u+w a b").startswith("501")


def test_a_file_whose_name_begins_with_a_time_is_asked_about() -> None:
    server = Server(vfs=FakeSession(root={"20010203040506 a": b"", "a": b""}))
    client = server.login()
    assert client.ask("MDTM 20010203040506 a").startswith("213 1970")
    assert server.vfs.times == {}


@pytest.mark.threat("F2")
def test_a_read_only_account_changes_nothing() -> None:
    server = Server(vfs=FakeSession(root={"a": b"1", "d": {}}, readonly=True))
    client = server.login()
    for line in ["DELE a", "RMD d", "MKD e", "MFMT 20010203040506 a", "SITE CHMOD 644 a"]:
        assert client.ask(line).startswith("550 "), line
    for line in ["STOR a", "STOR new", "APPE a", "STOU"]:
        client.open_data()
        assert client.ask(line).startswith("550 "), line
    assert client.finals("RNFR a", "RNTO b")[1].startswith("550")
    assert server.vfs.root == {"a": b"1", "d": {}}


def test_the_roots_own_name_cannot_be_taken_away() -> None:
    client = Server().login()
    assert client.ask("RMD /").startswith("550")
    assert client.ask("RNFR /").startswith("550")
    assert client.ask("RMD").startswith("501")


def test_anonymous_needs_no_password_where_it_is_on() -> None:
    server = Server(
        FTPSettings(anonymous=True), portal=FakePortal(lambda c: FakeSession("anonymous"))
    )
    client = server.connect()
    client.ask("USER ftp")
    assert client.ask("PASS me@example.org").startswith("230 ")
    assert not hasattr(server.portal.seen[0][0], "password")


def test_the_rest_of_the_small_commands() -> None:
    client = Server().login()
    answers = client.finals(
        "ACCT x", "SYST", "CLNT me", "OPTS X", "OPTS UTF8 OFF", "TYPE", "SITE HELP", "SITE", "MKD"
    )
    assert [a[:3] for a in answers] == [
        "202",
        "215",
        "200",
        "501",
        "501",
        "501",
        "200",
        "504",
        "501",
    ]


def test_a_session_held_up_in_a_transfer_still_answers_a_line_too_long() -> None:
    server = Server()
    client = server.login()
    data = client.open_data()
    client.ask("STOR a")
    data.feed(b"x")
    assert client.ask("x" * 9000).startswith("426 ") or client.wire.write_closed
    client.pass_time(6)
    assert client.wire.closed
    assert server.vfs.root == {}
    assert server.ftp.sessions == 0
