import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, LogPublisher

from tests.fakes.account_lines import BAD_ROOTS, BCRYPT, GOOD_ROOTS
from truckee.frontends.node.logs import RedactingObserver, escape, redact

SECRETS = [
    *GOOD_ROOTS.values(),
    *list(BAD_ROOTS.values())[:5],
    BCRYPT,
    "pb://abc@tcp:127.0.0.1:1/swissnumswissnum",
    "pb://abc@127.0.0.1:1/swissnumswissnum#v=1",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----",
]
MARKED = [
    ("passwd=plumotter", "plumotter"),
    ("password=plumotter&x=1", "plumotter"),
    ("Authorization: Bearer", "Bearer"),
    ("once=Kf83", "Kf83"),
    ("URI%3ADIR2%3Aabcdef", "abcdef"),
]


@pytest.mark.threat("L1")
@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("frame", ["{}", "a {} b", "'{}'", '"{}"', "<{}>", "x={}"])
@pytest.mark.threat("L1")
def test_what_looks_like_a_secret_is_cut_out(secret, frame):
    kept = redact(frame.format(secret))
    tail = secret.split(":")[-1] if secret.startswith("URI") else secret[8:]
    assert secret not in kept
    assert tail not in kept
    assert "[secret]" in kept


@pytest.mark.threat("L1")
@pytest.mark.parametrize(("text", "secret"), MARKED)
def test_named_secrets_are_cut_out(text, secret):
    assert secret not in redact(text)


@pytest.mark.threat("L10")
@given(st.text())
def test_nothing_that_moves_the_cursor_is_left_after_escaping(text):
    shown = escape(text)
    assert "\n" not in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "\u2028" not in shown


def observed(*events, seconds=lambda: 0.0):
    lines: list[str] = []
    log = Logger("truckee.room", observer=LogPublisher(RedactingObserver(lines.append, seconds)))
    for event in events:
        event(log)
    return lines


def test_an_event_is_one_line_with_level_room_and_text():
    (line,) = observed(lambda log: log.info("bytes: {n}", n=3))
    assert line.endswith(" info room: bytes: 3\n")


@pytest.mark.threat("L10")
@pytest.mark.threat("L10")
def test_a_hostile_field_can_neither_forge_a_line_nor_leak():
    cap = GOOD_ROOTS["DIR2"]
    (line,) = observed(lambda log: log.info("{name}", name=f"a\x1b[2J {cap} \u202e"))
    assert line.count("\n") == 1
    assert "\x1b" not in line
    assert cap not in line


@pytest.mark.threat("L1")
def test_a_traceback_is_indented_and_redacted():
    cap = GOOD_ROOTS["DIR2"]

    def broken(log):
        try:
            raise ValueError(cap)
        except ValueError:
            log.failure("it broke")

    (text,) = observed(broken)
    assert "it broke" in text
    assert "Traceback" in text
    assert cap not in text
    assert all(line.startswith("    ") for line in text.split("\n")[1:-1])


@pytest.mark.threat("D5")
def test_a_flood_of_one_kind_is_counted_instead_of_written():
    now = [0.0]
    events = [lambda log: log.info("flood")] * 100

    def later(log):
        now[0] = 1.5
        log.info("flood")

    lines = observed(*events, lambda log: log.info("other"), later, seconds=lambda: now[0])
    assert len(lines) == 12
    assert "(and 90 more like it)" in lines[-1]
