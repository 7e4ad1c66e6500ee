import contextlib
import unicodedata
from datetime import date

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fakes.account_lines import (
    BAD_ROOTS,
    BCRYPT,
    ED25519,
    GOOD_KEYS,
    GOOD_ROOTS,
    OTHER,
    READ,
    WRITE,
    blob,
    rsa,
)
from truckee.auth.accounts import (
    HEADER,
    AccountTable,
    BcryptHash,
    PlaintextDigest,
    Policy,
    parse,
    plaintext_digest,
)
from truckee.core.errors import AccountError

POLICY = Policy(key=b"k" * 32)
SECRETS = (WRITE, OTHER, READ, BCRYPT, ED25519, "sesame")


def table(*lines: str, policy: Policy = POLICY) -> AccountTable:
    return parse("\n".join(lines).encode(), policy)


def reason(*lines: str, policy: Policy = POLICY) -> str:
    found = table(*lines, policy=policy)
    assert len(found.bad_lines) == 1, found.bad_lines
    return found.bad_lines[0].reason


@pytest.mark.parametrize("root", GOOD_ROOTS.values(), ids=GOOD_ROOTS)
def test_every_directory_capability_may_be_a_root(root):
    account = table(f"alice {BCRYPT} {root}").accounts["alice"]
    assert account.rootcap.text == root
    assert account.password == BcryptHash(BCRYPT.encode())


@pytest.mark.parametrize("root", BAD_ROOTS.values(), ids=BAD_ROOTS)
def test_anything_else_is_a_bad_root(root):
    found = table(f"alice {BCRYPT} {root}", f"bob {BCRYPT} {WRITE}")
    assert set(found.accounts) == {"bob"}
    assert "root" in found.bad_lines[0].reason


@pytest.mark.parametrize(("key_type", "text"), GOOD_KEYS.items(), ids=GOOD_KEYS)
def test_public_keys_are_kept_with_their_comment(key_type, text):
    found = table(f"alice {key_type} {text} alice at home {WRITE} ro")
    (key,) = found.accounts["alice"].keys
    assert (key.key_type, key.comment) == (key_type, "alice at home")
    assert found.accounts["alice"].options.readonly
    assert found.accounts["alice"].password is None


BAD_KEYS = {
    "short rsa": ("ssh-rsa", rsa(1024), "RSA key shorter than 2048 bits"),
    "even exponent": ("ssh-rsa", rsa(2048, b"\x02"), "exponent"),
    "dss": ("ssh-dss", "AAAA", "key type ssh-dss not supported"),
    "other ssh": ("ssh-xyz", "AAAA", "not supported"),
    "certificate": ("ssh-ed25519-cert-v01@openssh.com", "AAAA", "not supported"),
    "not base64": ("ssh-ed25519", "A*A", "not base64"),
    "not ascii": ("ssh-ed25519", "ÄÄÄÄ", "not base64"),
    "of another type": ("ssh-ed25519", rsa(2048), "another type"),
    "cut": ("ssh-ed25519", ED25519[:24], "cut short"),
    "short point": ("ssh-ed25519", blob(b"ssh-ed25519", bytes(31)), "length"),
    "too many parts": ("ssh-ed25519", blob(b"ssh-ed25519", bytes(32), b""), "parts"),
    "compressed point": (
        "ecdsa-sha2-nistp256",
        blob(b"ecdsa-sha2-nistp256", b"nistp256", b"\x02" + bytes(64)),
        "uncompressed",
    ),
    "other curve": (
        "ecdsa-sha2-nistp256",
        blob(b"ecdsa-sha2-nistp256", b"nistp384", b"\x04" + bytes(96)),
        "parts",
    ),
    "no application": (
        "sk-ssh-ed25519@openssh.com",
        blob(b"sk-ssh-ed25519@openssh.com", bytes(32), b""),
        "application",
    ),
    "huge": ("ssh-ed25519", "AAAA" * 3000, "too long"),
}


@pytest.mark.parametrize(("key_type", "text", "why"), BAD_KEYS.values(), ids=BAD_KEYS)
def test_unusable_public_keys_are_bad_lines(key_type, text, why):
    assert why in reason(f"alice {key_type} {text} c {WRITE}")


def test_a_key_line_without_a_root_is_bad():
    assert "no root" in reason(f"alice ssh-ed25519 {ED25519} comment")


HASHES = {
    "cost 3": "$2b$03$" + BCRYPT[7:],
    "cost 17": "$2b$17$" + BCRYPT[7:],
    "2x": "$2x$04$" + BCRYPT[7:],
    "short": BCRYPT[:-1],
    "too long": BCRYPT + "a",
    "impossible salt": BCRYPT[:28] + "6" + BCRYPT[29:],
    "sha512": "$6$salt$hash",
    "dollar": "$",
}


@pytest.mark.threat("A4")
@pytest.mark.parametrize("word", HASHES.values(), ids=HASHES)
@pytest.mark.threat("A4")
def test_other_password_hashes_are_bad_lines(word):
    assert reason(f"alice {word} {WRITE}") == "unknown password hash"


@pytest.mark.parametrize("prefix", ["$2a$", "$2b$", "$2y$"])
def test_the_three_spellings_of_bcrypt_are_taken(prefix):
    found = table(f"alice {prefix}{BCRYPT[4:]} {WRITE}").accounts["alice"].password
    assert isinstance(found, BcryptHash)
    assert found.cost == 4


def test_a_plaintext_password_is_kept_as_a_digest_and_its_line_named():
    found = table("# comment", f"alice sesame {WRITE}")
    assert found.plaintext_lines == (2,)
    digest = plaintext_digest(POLICY.key, b"sesame")
    assert found.accounts["alice"].password == PlaintextDigest(digest)
    assert "sesame" not in repr(found)


def test_plaintext_can_be_refused():
    why = reason(f"alice sesame {WRITE}", policy=Policy("refuse", key=b"k"))
    assert why == "plaintext passwords are refused here"


@pytest.mark.parametrize("mark", ["!", "*"])
def test_a_lock_covers_the_keys_too(mark):
    found = table(f"alice ssh-ed25519 {ED25519} {WRITE}", f"alice {mark} =")
    assert found.accounts["alice"].locked
    assert len(found.accounts["alice"].keys) == 1


def test_a_lock_may_stand_beside_the_password():
    assert table(f"alice {BCRYPT} {WRITE}", "alice ! =").accounts["alice"].locked


def test_several_lines_of_a_name_become_one_account():
    found = table(
        f"alice {BCRYPT} {WRITE} from=10.0.0.0/8 expires=2031-01-02",
        f"alice ssh-ed25519 {ED25519} laptop = proto=ftp verify-required",
        f"alice ssh-rsa {rsa(3072)} {WRITE} proto=sftp from=::1/128,10.0.0.0/8 max-sessions=3",
    )
    account = found.accounts["alice"]
    assert len(account.keys) == 2
    options = account.options
    assert options.protocols == {"ftp", "sftp"}
    assert [str(n) for n in options.sources or ()] == ["10.0.0.0/8", "::1/128"]
    assert options.verify_required
    assert (options.max_sessions, options.expires) == (3, date(2031, 1, 2))
    assert not account.is_expired(date(2031, 1, 2))
    assert account.is_expired(date(2031, 1, 3))


LINE = f"alice {BCRYPT} {WRITE}"
BAD = {
    "equals after a bad line": (f"alice {BCRYPT} x\nalice - =", "an earlier line"),
    "name alone": ("alice", "at least 3 fields expected"),
    "two fields": (f"alice {BCRYPT}", "at least 3 fields expected"),
    "no root": (f"alice {BCRYPT} root", "no root capability after the secret"),
    "words before the root": (f"alice my secret {WRITE}", "no root capability after the secret"),
    "equals first": (f"alice {BCRYPT} =", "= stands on the first line of this name"),
    "unknown option": (LINE + " rw", "unknown option"),
    "option with value": (LINE + " ro=yes", "unknown option"),
    "proto": (LINE + " proto=ftp,scp", "proto= takes"),
    "empty proto": (LINE + " proto=", "proto= takes"),
    "from": (LINE + " from=10.0.0.0/33", "from= takes"),
    "from host bits": (LINE + " from=10.0.0.1/8", "from= takes"),
    "max-sessions": (LINE + " max-sessions=-1", "max-sessions= takes"),
    "date": (LINE + " expires=2031-02-30", "expires= takes"),
    "date form": (LINE + " expires=20310230", "expires= takes"),
    "slash": (f"a/b {BCRYPT} {WRITE}", "may not hold /"),
    "colon": (f"a:b {BCRYPT} {WRITE}", "may not hold /"),
    "control": (f"a\x07b {BCRYPT} {WRITE}", "control"),
    "bidi": (f"a\u202eb {BCRYPT} {WRITE}", "control"),
    "long name": (f"{'a' * 65} {BCRYPT} {WRITE}", "1 to 64"),
    "swapped": (f"$2b$04$abc alice {WRITE}", "like a hash"),
    "no space": (f"ann{BCRYPT} {WRITE}", "may not hold /"),
}


@pytest.mark.threat("L1")
@pytest.mark.parametrize(("line", "why"), BAD.values(), ids=BAD)
def test_a_bad_line_says_why_and_shows_no_secret(line, why):
    found = table(line, f"bob {BCRYPT} {OTHER}")
    assert why in found.bad_lines[-1].reason
    assert set(found.accounts) == {"bob"}
    assert str(found.bad_lines[0]).startswith("accounts:1: ")
    for secret in SECRETS:
        assert secret not in str(found.bad_lines[0])


@pytest.mark.parametrize("second", ["alice x", f"alice {BCRYPT} {OTHER}", "alice $9$ ="])
@pytest.mark.parametrize("first", [True, False])
def test_a_bad_line_switches_off_all_lines_of_its_name(second, first):
    lines = [second, LINE] if first else [LINE, second]
    found = table(*lines, f"alice ssh-ed25519 {ED25519} {WRITE}", f"bob {BCRYPT} {OTHER}")
    assert set(found.accounts) == {"bob"}
    assert found.bad_lines


def test_two_password_lines_are_bad():
    assert reason(LINE, f"alice {BCRYPT} =") == "a second password line"


@pytest.mark.threat("A8")
def test_anonymous_names_are_reserved_only_while_anonymous_logins_are_on():
    assert "ftp" in table(f"ftp {BCRYPT} {WRITE}").accounts
    why = reason(f"ftp {BCRYPT} {WRITE}", policy=Policy(anonymous=True))
    assert why == "this name stands for anonymous logins here"


@pytest.mark.threat("A8")
@pytest.mark.threat("A8")
def test_names_meet_in_nfc_and_keep_their_case():
    composed, decomposed = "Zoë", unicodedata.normalize("NFD", "Zoë")
    found = table(f"{decomposed} {BCRYPT} {WRITE}", f"zoë {BCRYPT} {OTHER}")
    assert set(found.accounts) == {composed, "zoë"}


def test_windows_line_ends_a_byte_order_mark_and_comments_are_no_trouble():
    text = f"\ufeff{HEADER}\r\n\r\n  # note\r\n\t'bob s'\t{BCRYPT}  {WRITE}  ro\r\n"
    found = parse(text.encode(), POLICY)
    assert found.accounts["bob s"].options.readonly
    assert found.bad_lines == ()


def test_quotes_are_letters_unless_the_header_says_otherwise():
    assert '"bob' in {b.name for b in table(f'"bob s" {BCRYPT} {WRITE}').bad_lines}
    assert table(f'a"b {BCRYPT} {WRITE}').accounts.keys() == {'a"b'}
    assert table(HEADER, f'"bob s" "pass word" {WRITE}').accounts.keys() == {"bob s"}


def test_an_unfinished_quote_switches_off_whatever_name_it_may_have_begun():
    found = table(
        HEADER,
        f'"bob s" {BCRYPT} {WRITE}',
        f"bob {BCRYPT} {OTHER}",
        f"carol {BCRYPT} {OTHER}",
        f'"bob s ! {WRITE}',
        f'carol "x {OTHER}',
    )
    assert set(found.accounts) == set()
    assert [b.line for b in found.bad_lines] == [5, 6]


def test_an_empty_password_is_bad():
    assert reason(HEADER, f'alice "" {WRITE}') == "the password is empty"


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"#" * (1 << 20) + b"#"])
def test_a_file_that_cannot_be_read_as_a_whole_raises(data):
    with pytest.raises(AccountError):
        parse(data, POLICY)


def test_sources_are_matched_with_mapped_addresses_too():
    options = table(LINE + " from=10.0.0.0/8").accounts["alice"].options
    assert options.allows_source("10.1.2.3")
    assert options.allows_source("::ffff:10.1.2.3")
    assert not options.allows_source("11.0.0.1")
    assert not options.allows_source("")


def test_the_dearest_hash_sets_the_cost():
    found = table(LINE, f"bob $2b$11${BCRYPT[7:]} {OTHER}", f"carol ! {OTHER}")
    assert found.highest_cost(12) == 11
    assert table(f"carol ! {OTHER}").highest_cost(12) == 12


WORDS = st.sampled_from(
    [
        "alice", "bob", "!", "-", "*", "=", "ro", "proto=ftp", "from=::/0", "#", '"', "'", "\\",
        HEADER, BCRYPT, "sesame", WRITE, OTHER, READ, "ssh-ed25519", ED25519, "\u00e9", "\x00", "$",
    ]
)  # fmt: skip
SPACES = st.sampled_from([" ", "\t", "  ", "\n", "\r\n", "\n\n"])


@pytest.mark.threat("L1")
@given(st.lists(st.tuples(WORDS, SPACES)).map(lambda pairs: "".join(a + b for a, b in pairs)))
@example(HEADER + "\n\\")
def test_any_text_gives_a_table_and_no_error_shows_a_secret(text):
    if not text:
        return
    found = parse(text.encode(), POLICY)
    for bad in found.bad_lines:
        assert bad.name not in found.accounts
        assert not any(s in str(bad) for s in (WRITE, OTHER, READ, BCRYPT))
    assert not any(s in repr(found) for s in (WRITE, OTHER, READ, BCRYPT))


@given(st.binary(max_size=200))
def test_any_bytes_give_a_table_or_an_account_error(data):
    with contextlib.suppress(AccountError):
        parse(data, POLICY)
