import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.account_lines import BCRYPT, ED25519, GOOD_KEYS, OTHER, WRITE
from truckee.auth import account_edits as edits
from truckee.auth import public_keys
from truckee.auth.accounts import HEADER, Policy, parse
from truckee.core.errors import AccountError

NEW = BCRYPT[:-1] + "q"
POLICY = Policy(key=b"k")


def document(*lines):
    return edits.Document([HEADER, *lines])


def accounts(found):
    table = parse(found.encode(), POLICY)
    assert not table.bad_lines
    return table.accounts


def test_an_account_is_added_with_its_options():
    found = edits.Document.new()
    edits.add(found, "bob s", BCRYPT, WRITE, ["ro", "proto=ftp"])
    edits.add_key(found, "bob s", public_keys.parse("ssh-ed25519", ED25519, "bob at home"))
    account = accounts(found)["bob s"]
    assert account.options.readonly
    assert account.keys[0].comment == "bob at home"


@pytest.mark.parametrize(
    ("name", "secret", "root", "options"),
    [
        ("alice", BCRYPT, OTHER, []),
        ("a/b", BCRYPT, OTHER, []),
        ("bob", "sesame", OTHER, []),
        ("bob", "$2b$04$short", OTHER, []),
        ("bob", BCRYPT, "URI:CHK:x", []),
        ("bob", BCRYPT, OTHER, ["rw"]),
    ],
)
def test_an_addition_that_breaks_a_rule_changes_nothing(name, secret, root, options):
    found = document(f"alice {BCRYPT} {WRITE}")
    before = found.encode()
    with pytest.raises(AccountError):
        edits.add(found, name, secret, root, options)
    assert found.encode() == before


def test_a_password_is_replaced_and_the_rest_of_the_line_stays():
    found = document("# note", f"alice {BCRYPT} {WRITE} ro", f"bob {BCRYPT} {OTHER}")
    edits.set_password(found, "alice", NEW)
    assert found.lines[2:] == [f"alice {NEW} {WRITE} ro", f"bob {BCRYPT} {OTHER}"]
    assert found.lines[1] == "# note"


def test_an_account_with_keys_alone_gets_a_password_line():
    found = document(f"alice ssh-ed25519 {ED25519} {WRITE}")
    edits.set_password(found, "alice", NEW)
    account = accounts(found)["alice"]
    assert account.password is not None
    assert account.keys


def test_a_lock_keeps_everything_for_the_unlock():
    found = document(f"alice {BCRYPT} {WRITE}", f"alice ssh-ed25519 {ED25519} =")
    before = found.encode()
    edits.lock(found, "alice")
    edits.lock(found, "alice")
    assert accounts(found)["alice"].locked
    edits.unlock(found, "alice")
    assert found.encode() == before
    with pytest.raises(AccountError):
        edits.unlock(found, "alice")


def test_unlocking_a_name_that_was_only_locked_keeps_its_root():
    found = document(f"alice * {WRITE} ro", "alice ! =")
    edits.unlock(found, "alice")
    account = accounts(found)["alice"]
    assert not account.locked
    assert account.password is None
    assert account.options.readonly


def test_a_new_password_does_not_unlock():
    found = document(f"alice ! {WRITE}")
    edits.set_password(found, "alice", NEW)
    assert accounts(found)["alice"].locked


def test_all_lines_of_a_name_are_removed():
    found = document(f"alice {BCRYPT} {WRITE}", f"bob {BCRYPT} {OTHER}", "alice ! =")
    edits.remove(found, "alice")
    assert set(accounts(found)) == {"bob"}
    with pytest.raises(AccountError):
        edits.remove(found, "alice")


def test_plaintext_passwords_become_hashes_in_place():
    found = document(f"alice 'open sesame' {WRITE}", f"bob {BCRYPT} {OTHER}", "carol x")
    assert edits.hash_plaintext(found, lambda p: NEW if p == b"open sesame" else "") == ["alice"]
    assert found.lines[1] == f"alice {NEW} {WRITE}"
    assert found.lines[3] == "carol x"


@pytest.mark.threat("A4")
def test_a_password_too_long_for_bcrypt_is_not_hashed():
    with pytest.raises(AccountError, match="72"):
        edits.hash_plaintext(document(f"alice {'x' * 73} {WRITE}"), lambda p: NEW)


def test_lines_end_at_newlines_only_and_the_others_stay_byte_for_byte():
    data = f"# a\u2028b\r\nalice sesame {WRITE}\r\n# c\r\n".encode()
    found = edits.Document.decode(data)
    assert found.encode() == data
    edits.hash_plaintext(found, lambda p: NEW)
    assert found.encode() == data.replace(b"sesame", NEW.encode()).replace(b"pq\r\n# c", b"pq\n# c")


def test_a_name_that_needs_quotes_asks_for_the_header():
    found = edits.Document([f"alice {BCRYPT} {WRITE}"])
    with pytest.raises(AccountError, match="first line"):
        edits.add(found, "bob s", BCRYPT, OTHER, [])


def test_an_edit_replaces_the_file_with_its_mode_and_leaves_nothing_beside_it(tmp_path):
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    path = folder / "accounts"
    with pytest.raises(AccountError):
        edits.edit(path, lambda d: None)
    edits.edit(path, lambda d: edits.add(d, "alice", BCRYPT, WRITE, []), create=True)
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    with pytest.raises(AccountError):
        edits.edit(path, lambda d: edits.add(d, "alice", BCRYPT, WRITE, []), create=True)
    assert path.read_bytes() == before
    assert [p.name for p in folder.iterdir()] == ["accounts"]


NAMES = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=20)


@given(NAMES)
def test_any_name_that_may_be_added_is_read_back(name):
    found = edits.Document.new()
    try:
        edits.add(found, name, BCRYPT, WRITE, [])
    except AccountError:
        assert "/" in name or ":" in name
    else:
        (account,) = accounts(found).values()
        edits.set_password(found, name, NEW)
        assert found.has(account.name)


def test_bytes_that_are_no_text_and_files_too_large_are_refused():
    with pytest.raises(AccountError, match="UTF-8"):
        edits.Document.decode(b"\xff")
    with pytest.raises(AccountError, match="1 MiB"):
        document("#" * (1 << 20)).encode()


LAPTOP = public_keys.parse("ssh-ed25519", ED25519, "laptop of alice")
DESK = public_keys.parse("ssh-rsa", GOOD_KEYS["ssh-rsa"], "desk")


def test_a_key_is_added_once():
    found = document(f"alice {BCRYPT} {WRITE}")
    edits.add_key(found, "alice", LAPTOP)
    edits.add_key(found, "alice", DESK)
    with pytest.raises(AccountError, match="already"):
        edits.add_key(found, "alice", LAPTOP)
    assert [key.blob for key in accounts(found)["alice"].keys] == [LAPTOP.blob, DESK.blob]


@pytest.mark.parametrize("comment", ["=", "URI:DIR2:x = #y", "a 'quote", "", "two words"])
@pytest.mark.parametrize("first", [HEADER, "# a file without quotes"])
def test_no_comment_of_a_key_makes_a_bad_line(comment, first):
    found = edits.Document([first, f"alice {BCRYPT} {WRITE}"])
    edits.add_key(found, "alice", public_keys.parse("ssh-ed25519", ED25519, comment))
    assert len(accounts(found)["alice"].keys) == 1


@pytest.mark.parametrize(
    "wanted",
    [LAPTOP.fingerprint, LAPTOP.fingerprint[7:15], LAPTOP.fingerprint[:14], "laptop of alice"],
)
def test_a_key_is_removed_by_fingerprint_or_comment(wanted):
    found = document(f"alice {BCRYPT} {WRITE}")
    edits.add_key(found, "alice", LAPTOP)
    edits.add_key(found, "alice", DESK)
    assert edits.remove_key(found, "alice", wanted).blob == LAPTOP.blob
    assert [key.blob for key in accounts(found)["alice"].keys] == [DESK.blob]
    assert len(found.lines) == 3


@pytest.mark.parametrize("wanted", ["", "SHA256:", LAPTOP.fingerprint[7:12], "nobody", "desk "])
def test_a_key_that_is_not_named_well_is_not_removed(wanted):
    found = document(f"alice {BCRYPT} {WRITE}")
    edits.add_key(found, "alice", LAPTOP)
    with pytest.raises(AccountError):
        edits.remove_key(found, "alice", wanted)
    assert len(accounts(found)["alice"].keys) == 1


def test_two_keys_with_one_comment_are_told_apart_by_their_fingerprints():
    found = document(f"alice {BCRYPT} {WRITE}")
    for key in (LAPTOP, DESK):
        edits.add_key(found, "alice", public_keys.PublicKey(key.key_type, key.blob, "same"))
    with pytest.raises(AccountError, match="more than one"):
        edits.remove_key(found, "alice", "same")


def test_what_the_line_of_a_removed_key_says_besides_stays():
    found = document(
        f"alice {LAPTOP.key_type} {LAPTOP.text} laptop {WRITE} ro",
        f"alice {DESK.key_type} {DESK.text} desk = from=10.0.0.0/8",
    )
    before = accounts(found)["alice"]
    edits.remove_key(found, "alice", "laptop")
    edits.remove_key(found, "alice", "desk")
    after = accounts(found)["alice"]
    assert after.keys == ()
    assert (after.rootcap, after.options) == (before.rootcap, before.options)
    edits.set_password(found, "alice", BCRYPT)
    edits.set_password(found, "alice", NEW)
    assert accounts(found)["alice"].password is not None


def test_accounts_of_another_file_are_added_with_their_passwords_hashed():
    source = edits.Document(
        [
            f"alice sesame {WRITE}",
            f"bob ssh-ed25519 {ED25519} {OTHER}",
            f"bob ssh-rsa {GOOD_KEYS['ssh-rsa']} {OTHER}",
            f"carol {'x' * 73} {OTHER}",
            f"'q {BCRYPT} {OTHER}",
        ]
    )
    names = ["alice", "bob", "carol", "'q"]
    lines = edits.lines_to_import(source, names, lambda password: BCRYPT)
    assert set(lines) == {"alice", "bob", "'q"}
    found = edits.Document.new()
    for name, fields in lines.items():
        edits.add_lines(found, name, fields)
    table = accounts(found)
    assert len(table["bob"].keys) == 2
    assert table["alice"].rootcap.text == WRITE
    assert "'q" in table
    assert b"sesame" not in found.encode()
    with pytest.raises(AccountError, match="already"):
        edits.add_lines(found, "alice", lines["alice"])
