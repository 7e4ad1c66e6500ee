import functools
import io
import json
import re

import bcrypt
import pytest

from tests.fakes.account_lines import BCRYPT, ED25519, OTHER, WRITE, rsa
from tests.fakes.node_folder import make_node
from truckee.auth.passwords import hash_password
from truckee.core import files
from truckee.core.errors import AccountError
from truckee.frontends.cli import account_place as place
from truckee.frontends.cli import passwords
from truckee.frontends.cli.main import run
from truckee.frontends.cli.output import Exit

GOOD = "plum-otter-quarry-tulip-71"


class Shell:
    """Runs commands on a node and keeps what they said."""

    def __init__(self, node, capsys, monkeypatch):
        self.node = node
        self.capsys = capsys
        self.monkeypatch = monkeypatch
        self.out = self.err = ""
        # the real cost, a third of a second each, is for the tests of the checker
        cheap = functools.partial(hash_password, cost=4)
        monkeypatch.setattr("truckee.frontends.cli.account.hash_password", cheap)

    def __call__(self, *words, stdin=""):
        self.monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = run(["-d", str(self.node), *words])
        self.out, self.err = self.capsys.readouterr()
        for secret in (WRITE, OTHER, BCRYPT, GOOD):
            assert secret not in self.out + self.err
        assert "Traceback" not in self.err
        return code

    @property
    def accounts(self):
        return (self.node / "private" / "accounts").read_text()


@pytest.fixture
def shell(tmp_path, capsys, monkeypatch):
    return Shell(make_node(tmp_path / "node"), capsys, monkeypatch)


@pytest.fixture
def rootcap(tmp_path):
    path = tmp_path / "rootcap"
    path.write_text(OTHER + "\n")
    return f"@{path}"


@pytest.mark.threat("L1")
def test_accounts_are_listed_without_secrets(shell):
    assert shell("account", "list") == Exit.OK
    assert shell.out == "ann  password\nbob  password, read-only\n"
    assert shell("account", "list", "--json") == Exit.OK
    ann, bob = map(json.loads, shell.out.splitlines())
    assert (ann["v"], ann["name"], bob["read_only"]) == (1, "ann", True)


def test_one_account_is_shown(shell):
    assert shell("account", "show", "ann", "--json") == Exit.OK
    assert json.loads(shell.out)["keys"] == 0
    assert shell("account", "show", "ann") == Exit.OK
    assert "locked        no\n" in shell.out
    assert shell("account", "show", "eve") == Exit.NOT_FOUND


def test_an_account_file_with_wrong_rights_says_what_helps(shell):
    (shell.node / "private" / "accounts").chmod(0o640)
    for words in (["list"], ["lock", "ann"], ["add", "eve", "--no-password"]):
        assert shell("account", *words) == Exit.FAILED
        assert "it must be 0600\n  try: chmod go-rwx on it" in shell.err
    assert "runuser" in place.rights(AccountError("accounts belongs to user 7"))


def test_a_list_tells_what_limits_an_account(shell, tmp_path):
    (tmp_path / "key.pub").write_text(f"ssh-ed25519 {ED25519} eve\n")
    limits = ["--protocols", "sftp,ftp", "--from", "10.0.0.0/8,::1/128", "--max-sessions", "3"]
    limits += ["--expires", "2999-12-31", "--no-password", "--key", str(tmp_path / "key.pub")]
    assert shell("account", "add", "eve", "--root", "-", *limits, stdin=OTHER) == Exit.OK
    assert shell("account", "list") == Exit.OK
    only = "only ftp sftp, only from 10.0.0.0/8 ::1/128, 3 at a time, until 2999-12-31"
    assert shell.out.splitlines()[-1] == f"eve  1 key, {only}"
    assert shell("account", "show", "eve") == Exit.OK
    assert "from          10.0.0.0/8 ::1/128\n" in shell.out


def test_an_account_is_added_from_files_and_standard_input(shell, rootcap, tmp_path):
    (tmp_path / "key.pub").write_text(f"# mine\nssh-ed25519 {ED25519} eve at home\n")
    options = ["--protocols", "ftp", "--from", "10.0.0.0/8", "--expires", "2031-01-01"]
    options += ["--max-sessions", "3", "--read-only", "--key", str(tmp_path / "key.pub")]
    code = shell(
        "account", "add", "eve", "--root", rootcap, "--password-stdin", *options, stdin=GOOD + "\n"
    )
    assert code == Exit.OK, shell.err
    assert shell("account", "show", "eve", "--json") == Exit.OK
    found = json.loads(shell.out)
    assert found == found | {
        "keys": 1,
        "password": True,
        "protocols": ["ftp"],
        "from": ["10.0.0.0/8"],
        "expires": "2031-01-01",
        "max_sessions": 3,
        "read_only": True,
    }
    hashed = re.search(r"^eve (\S+)", shell.accounts, re.M)
    assert hashed
    assert bcrypt.checkpw(GOOD.encode(), hashed[1].encode())


def test_a_made_up_password_is_not_printed_but_kept_until_it_is_changed(shell, rootcap):
    assert shell("account", "add", "eve", "--root", rootcap, "--generate") == Exit.OK
    kept = shell.node / "private" / "password-eve"
    assert kept.stat().st_mode & 0o777 == 0o600
    password = kept.read_text().strip()
    assert password not in shell.out + shell.err
    assert re.fullmatch(r"([a-z]+-){4}\d\d", password)
    assert shell("account", "passwd", "eve", "--password-stdin", stdin=GOOD + "\n") == Exit.OK
    assert not kept.exists()


@pytest.mark.threat("L2")
@pytest.mark.threat("L2")
def test_there_is_no_option_that_takes_a_password_or_a_capability(shell):
    assert shell("account", "add", "eve", "--password", "x") == Exit.USAGE
    assert shell("account", "add", "eve", "--root", OTHER, "--no-password") == Exit.USAGE


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["add", "ann", "--no-password"], Exit.CONFLICT),
        (["add", "a/b", "--no-password"], Exit.FAILED),
        (["add", "eve", "--generate", "--no-password"], Exit.USAGE),
        (["add", "eve", "--no-password", "--root", "@/absent"], Exit.NOT_FOUND),
        (["add", "eve", "--no-password", "--expires", "soon"], Exit.FAILED),
        (["add", "eve"], Exit.USAGE),
        (["passwd", "eve", "--generate"], Exit.NOT_FOUND),
        (["lock", "eve"], Exit.NOT_FOUND),
        (["unlock", "ann"], Exit.FAILED),
        (["remove", "eve"], Exit.NOT_FOUND),
        (["bans"], Exit.UNREACHABLE),
        (["bans", "--clear", "192.0.2.1"], Exit.UNREACHABLE),
        (["bans", "--clear", "2001:db8::/64"], Exit.UNREACHABLE),
        (["bans", "--clear", "nobody"], Exit.USAGE),
        (["bogus"], Exit.USAGE),
        ([], Exit.USAGE),
    ],
)
def test_what_goes_wrong_has_its_exit_code_and_changes_nothing(shell, rootcap, words, code):
    before = shell.accounts
    if words[:1] == ["add"] and "--root" not in words:
        words = [*words, "--root", rootcap]
    assert shell("account", *words) == code, shell.err
    assert shell.accounts == before
    assert shell.err


def test_an_account_is_locked_unlocked_and_removed(shell):
    assert shell("account", "lock", "ann") == Exit.OK
    assert shell("account", "show", "ann", "--json") == Exit.OK
    assert json.loads(shell.out)["locked"]
    assert shell("account", "unlock", "ann") == Exit.OK
    assert shell("account", "remove", "ann") == Exit.OK
    assert "ann" not in shell.accounts
    kept = shell.node / "private" / "removed-accounts"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert WRITE in kept.read_text()


@pytest.mark.threat("O5")
@pytest.mark.threat("O5")
def test_the_first_password_goes_when_it_is_changed_and_only_then(shell):
    first = shell.node / "private" / "first-password"
    files.create(first, b"x\n")  # the hash of ann and bob is that of "x"
    assert shell("account", "add", "eve", "--root", "-", "--no-password", stdin=OTHER) == Exit.OK
    assert first.exists()
    assert shell("account", "passwd", "bob", "--generate") == Exit.OK
    assert not first.exists()
    files.create(first, b"another\n")
    assert shell("account", "passwd", "ann", "--generate") == Exit.OK
    assert first.exists()


def test_plaintext_passwords_are_found_and_hashed(tmp_path, capsys, monkeypatch):
    node = make_node(tmp_path / "n", f"#truckee-accounts: 2\nann 'open sesame' {WRITE}\n")
    shell = Shell(node, capsys, monkeypatch)
    assert shell("account", "check") == Exit.OK
    assert "plaintext on lines 2" in shell.err
    assert shell("account", "hash") == Exit.OK
    assert "sesame" not in shell.accounts
    assert shell("account", "hash") == Exit.OK
    assert "no password" in shell.out


def test_a_hash_can_be_made_for_a_line_by_hand(shell):
    assert shell("account", "hash", "--print", "--password-stdin", stdin=GOOD + "\n") == Exit.OK
    assert bcrypt.checkpw(GOOD.encode(), shell.out.strip().encode())


def test_bad_lines_are_told_with_their_number(tmp_path, capsys, monkeypatch):
    text = f"ann {BCRYPT} {WRITE}\nbob {BCRYPT} {OTHER} nonsense\n"
    shell = Shell(make_node(tmp_path / "n", text), capsys, monkeypatch)
    assert shell("account", "check") == Exit.PARTLY
    assert "accounts:2: bob: unknown option" in shell.err
    assert shell("account", "list") == Exit.PARTLY


@pytest.mark.parametrize("spoil", [lambda p: p.chmod(0o644), lambda p: p.unlink()])
def test_an_account_file_that_cannot_be_used_is_told(shell, spoil):
    spoil(shell.node / "private" / "accounts")
    assert shell("account", "check") == Exit.FAILED
    assert shell("account", "lock", "ann") == Exit.FAILED
    assert shell.err.startswith("truckee: ")


def test_without_a_node_commands_say_so(tmp_path, capsys):
    assert run(["account", "list", "-d", str(tmp_path / "absent")]) == Exit.NOT_FOUND
    assert "no node" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"ssh-rsa {rsa(1024)} me", "shorter"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nabc", "private key"),
        ("ssh-dss AAAA", "not supported"),
        ("hello", "no public key"),
    ],
)
def test_keys_that_may_not_be_used_are_refused(shell, rootcap, tmp_path, text, why):
    (tmp_path / "key").write_text(text)
    words = ["account", "add", "eve", "--no-password", "--root", rootcap]
    assert shell(*words, "--key", str(tmp_path / "key")) == Exit.FAILED
    assert why in shell.err


@pytest.mark.parametrize(
    ("password", "good"),
    [
        (GOOD, True),
        ("correct horse battery staples", True),
        ("a bc de fg hi jk", True),
        ("h7#kQ-91mmzL", True),
        ("short", False),
        ("elevenchars", False),
        ("x" * 73, False),
        ("é" * 37, False),
        ("aaaaaaaaaaaaaaaa", False),
        ("Password1234", False),
        ("annannannann", False),
        ("with\x00zero byte", False),
        ("", False),
    ],
)
def test_weak_passwords_are_refused(password, good):
    weakness = passwords._weakness(password, "annannannann")
    assert bool(weakness) != good, weakness


def test_the_word_list_gives_enough_chance():
    words = passwords.words()
    assert len(words) >= 1024
    assert len(set(words)) == len(words)
    assert all(re.fullmatch("[a-z]{3,8}", word) for word in words)
    assert len({passwords.generate() for _ in range(50)}) == 50
    assert not passwords._weakness(passwords.generate(), "ann")
