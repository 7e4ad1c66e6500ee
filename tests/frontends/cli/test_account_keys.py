import functools
import json
from datetime import UTC, datetime, timedelta

import bcrypt
import click
import pytest

from tests.fakes.account_lines import BCRYPT, ED25519, GOOD_KEYS, OTHER, WRITE, rsa
from tests.fakes.node_folder import make_node
from tests.frontends.cli.test_account_commands import Shell
from truckee.auth import public_keys
from truckee.auth.passwords import hash_password
from truckee.frontends.cli.output import Exit

KEY = public_keys.parse("ssh-ed25519", ED25519)
RSA = public_keys.parse("ssh-rsa", GOOD_KEYS["ssh-rsa"])


@pytest.fixture
def shell(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    cheap = functools.partial(hash_password, cost=4)
    monkeypatch.setattr("truckee.frontends.cli.account_import.hash_password", cheap)
    return Shell(make_node(tmp_path / "node"), capsys, monkeypatch)


def keep(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return str(path)


# keys


def test_keys_are_added_listed_and_removed(shell, tmp_path):
    one = keep(tmp_path / "one.pub", f"ssh-ed25519 {ED25519} ann at home\n")
    many = keep(
        tmp_path / "authorized_keys",
        f"# mine\n\nssh-rsa {GOOD_KEYS['ssh-rsa']} desk\n"
        f"ecdsa-sha2-nistp256 {GOOD_KEYS['ecdsa-sha2-nistp256']}\n",
    )
    assert shell("account", "key", "add", "ann", one, many) == Exit.OK
    assert KEY.fingerprint in shell.out
    assert shell("account", "key", "list", "ann") == Exit.OK
    assert shell.out.splitlines()[0] == f"{KEY.fingerprint}  ssh-ed25519  ann at home"
    assert len(shell.out.splitlines()) == 3
    assert shell("account", "key", "remove", "ann", RSA.fingerprint) == Exit.OK
    assert shell("account", "key", "remove", "ann", "ann at home") == Exit.OK
    assert shell("account", "key", "list", "ann", "--json") == Exit.OK
    assert json.loads(shell.out)["type"] == "ecdsa-sha2-nistp256"


def test_a_key_that_is_not_there_leads_to_the_list_of_keys(shell):
    assert shell("account", "key", "remove", "ann", "SHA256:abc") == Exit.NOT_FOUND
    assert "there is no such key; give 6 letters of the fingerprint" in shell.err
    assert "try: truckee account key list ann" in shell.err
    assert shell("account", "key", "remove", "ann", "SHA256:abcdef") == Exit.NOT_FOUND
    assert "no such key\n" in shell.err


def test_a_key_may_come_from_standard_input(shell):
    text = f"ssh-ed25519 {ED25519}\n"
    assert shell("account", "key", "add", "ann", "-", stdin=text) == Exit.OK
    assert shell("account", "key", "add", "ann", "-", stdin=text) == Exit.CONFLICT


def test_ones_own_key_is_offered_on_a_terminal(shell, tmp_path, monkeypatch):
    assert shell("account", "key", "add", "ann") == Exit.USAGE
    assert "ssh-keygen" in shell.err
    keep(tmp_path / "home" / "x", "")
    keep(tmp_path / "home" / ".ssh" / "id_ed25519.pub", f"ssh-ed25519 {ED25519} me\n")
    assert shell("account", "key", "add", "ann") == Exit.USAGE
    assert "id_ed25519.pub" in shell.err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    from truckee.frontends.cli import account_keys

    class Terminal:
        @staticmethod
        def isatty():
            return True

    class Sys:
        stdin = Terminal()

    monkeypatch.setattr(account_keys, "sys", Sys)
    monkeypatch.setattr(click, "confirm", lambda *args, **kwargs: False)
    assert shell("account", "key", "add", "ann") == Exit.INTERRUPTED
    monkeypatch.setattr(click, "confirm", lambda *args, **kwargs: True)
    assert shell("account", "key", "add", "ann") == Exit.OK
    assert ED25519 in shell.accounts


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"ssh-rsa {rsa(1024)} me", "shorter"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nabc", "private key"),
        ("PuTTY-User-Key-File-3: ssh-ed25519", "private key"),
        ("ssh-dss AAAA", "not supported"),
        (f'from="10.0.0.1" ssh-ed25519 {ED25519} me', "options"),
        (f"ssh-ed25519 {ED25519} me\nnonsense", "line 2"),
        ("# nothing\n", "no public key"),
    ],
)
def test_keys_that_may_not_be_used_are_refused(shell, tmp_path, text, why):
    before = shell.accounts
    assert shell("account", "key", "add", "ann", keep(tmp_path / "k", text)) == Exit.FAILED
    assert why in shell.err
    assert shell.accounts == before


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["add", "eve", "FILE"], Exit.NOT_FOUND),
        (["add", "ann", "/absent"], Exit.NOT_FOUND),
        (["list", "eve"], Exit.NOT_FOUND),
        (["remove", "eve", KEY.fingerprint], Exit.NOT_FOUND),
        (["remove", "ann", KEY.fingerprint], Exit.NOT_FOUND),
        (["remove", "ann"], Exit.USAGE),
    ],
)
def test_what_goes_wrong_has_its_exit_code(shell, tmp_path, words, code):
    file = keep(tmp_path / "k.pub", f"ssh-ed25519 {ED25519}\n")
    assert shell("account", "key", *[file if w == "FILE" else w for w in words]) == code


# import


def test_accounts_of_tahoe_are_imported(shell, tmp_path):
    old = keep(
        tmp_path / "accounts",
        f"# from Tahoe-LAFS\ncarol ssh-ed25519 {ED25519} {OTHER}\n"
        f"dave sesame'street {WRITE}\nann sesame {WRITE}\n"
        f"eve ssh-dss AAAA {WRITE}\nlong {'x' * 73} {OTHER}\n",
    )
    assert shell("account", "import", old) == Exit.PARTLY
    assert "2 accounts imported: carol, dave" in shell.out
    assert "ann: there is an account of that name already" in shell.err
    assert "accounts:5: eve: key type ssh-dss not supported" in shell.err
    assert "long: its password is over 72 bytes" in shell.err
    assert "sesame" not in shell.accounts + shell.out + shell.err
    hashed = next(line.split()[1] for line in shell.accounts.splitlines() if line[:4] == "dave")
    assert bcrypt.checkpw(b"sesame'street", hashed.encode())
    assert shell("account", "key", "list", "carol") == Exit.OK
    assert KEY.fingerprint in shell.out


def test_a_file_that_is_none_is_not_imported(shell, tmp_path):
    before = shell.accounts
    assert shell("account", "import", "-", stdin="") == Exit.FAILED
    assert shell("account", "import", str(tmp_path / "absent")) == Exit.NOT_FOUND
    assert shell("account", "import", "-", stdin=f"frank sesame {OTHER}\n") == Exit.OK
    assert shell.accounts.startswith(before)


# test


def trial(tmp_path, capsys, monkeypatch, *lines):
    text = "#truckee-accounts: 2\n" + "".join(f"{line}\n" for line in lines)
    return Shell(make_node(tmp_path / "n", text), capsys, monkeypatch)


YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
LINES = [
    f"ann {BCRYPT} {WRITE}",
    f"ann ssh-ed25519 {ED25519} =",
    f"plain 'x y' {WRITE} ro",
    f"keys ssh-ed25519 {ED25519} {WRITE}",
    f"locked {BCRYPT} {WRITE}",
    "locked ! =",
    f"expired {BCRYPT} {WRITE} expires={YESTERDAY}",
    f"narrow {BCRYPT} {WRITE} proto=sftp from=10.0.0.0/8",
    f"broken {BCRYPT} {WRITE} nonsense",
]


@pytest.mark.parametrize(
    ("words", "password", "failing"),
    [
        (["ann"], "x", None),
        (["ann"], "y", "password"),
        (["ann"], "x" * 73, "password"),
        (["plain"], "x y", None),
        (["plain"], "x", "password"),
        (["keys"], "x", "password"),
        (["locked"], "x", "lock"),
        (["expired"], "x", "date"),
        (["narrow"], "x", None),
        (["narrow", "--protocol", "ftp"], "x", "protocol"),
        (["narrow", "--protocol", "sftp", "--from", "10.9.9.9"], "x", None),
        (["narrow", "--from", "192.0.2.1"], "x", "address"),
        (["broken"], "x", "name"),
        (["nobody"], "x", "name"),
        (["ann", "--key", "RSA"], "", "key"),
        (["ann", "--key", "ED25519"], "", None),
    ],
)
def test_the_step_that_fails_is_named(tmp_path, capsys, monkeypatch, words, password, failing):
    shell = trial(tmp_path, capsys, monkeypatch, *LINES)
    keep(tmp_path / "RSA", f"ssh-rsa {GOOD_KEYS['ssh-rsa']}\n")
    keep(tmp_path / "ED25519", f"ssh-ed25519 {ED25519}\n")
    words = [str(tmp_path / w) if w in ("RSA", "ED25519") else w for w in words]
    code = shell("account", "test", *words, "--password-stdin", "--json", stdin=password + "\n")
    assert code == (Exit.OK if failing is None else Exit.FAILED), shell.err
    told = json.loads(shell.out)
    assert told["ok"] is (failing is None)
    assert [s["step"] for s in told["steps"] if not s["ok"]] == ([failing] if failing else [])
    assert code == shell("account", "test", *words, "--password-stdin", stdin=password + "\n")
    assert ("FAIL" in shell.out) is (failing is not None)


def test_a_password_is_asked_for_only_when_it_matters(tmp_path, capsys, monkeypatch):
    shell = trial(tmp_path, capsys, monkeypatch, *LINES)
    assert shell("account", "test", "ann") == Exit.USAGE
    assert "--password-stdin" in shell.err
    assert shell("account", "test", "locked") == Exit.FAILED


@pytest.mark.parametrize(
    ("change", "words", "failing"),
    [
        (("enabled = yes", "enabled = no"), ["--protocol", "ftp"], "is off"),
        (("enabled = yes", "enabled = no"), ["--protocol", "sftp"], "is off"),
        (("[sftpd]", "[sftpd]\npassword_auth = no"), ["--protocol", "sftp"], "no passwords"),
        (("[sftpd]", "[sftpd]\npassword_auth = no"), ["--protocol", "sftp", "--key", "K"], None),
        (("[sftpd]", "[sftpd]"), ["--protocol", "ftp", "--key", "K"], "no keys"),
        (("[sftpd]", "[sftpd]"), ["--protocol", "ftp"], None),
    ],
)
def test_the_door_must_be_open(tmp_path, capsys, monkeypatch, change, words, failing):
    shell = trial(tmp_path, capsys, monkeypatch, *LINES)
    config = shell.node / "truckee.cfg"
    config.write_text(config.read_text().replace(*change))
    file = keep(tmp_path / "k.pub", f"ssh-ed25519 {ED25519}\n")
    words = [file if word == "K" else word for word in words]
    code = shell("account", "test", "ann", *words, "--password-stdin", stdin="x\n")
    assert code == (Exit.FAILED if failing else Exit.OK)
    assert (failing or "root") in shell.out.splitlines()[-1]


def test_a_password_is_typed_without_echo_on_a_terminal(tmp_path, capsys, monkeypatch):
    from truckee.frontends.cli import account_trial

    shell = trial(tmp_path, capsys, monkeypatch, *LINES)
    asked = []

    class Terminal:
        stdin = type("Stdin", (), {"isatty": staticmethod(lambda: True)})

    monkeypatch.setattr(account_trial, "sys", Terminal)
    monkeypatch.setattr(click, "prompt", lambda text, **given: asked.append(given) or "x")
    assert shell("account", "test", "ann") == Exit.OK
    assert asked[0]["hide_input"]


def test_a_name_that_only_the_url_can_know_has_no_keys(tmp_path, capsys, monkeypatch):
    shell = trial(tmp_path, capsys, monkeypatch, *LINES)
    config = shell.node / "truckee.cfg"
    address = "[ftpd]\naccounts.url = https://accounts.example/\n"
    config.write_text(config.read_text().replace("[ftpd]\n", address))
    file = keep(tmp_path / "k.pub", f"ssh-ed25519 {ED25519}\n")
    assert shell("account", "test", "dave", "--key", file) == Exit.FAILED
    assert "only that has keys" in shell.out


def test_an_account_that_was_seen_expired_is_told(tmp_path, capsys, monkeypatch):
    """Threat A7: the memory of the node is looked at, too."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    line = f"ann {BCRYPT} {WRITE} expires={tomorrow}"
    shell = trial(tmp_path, capsys, monkeypatch, line)
    words = ["account", "test", "ann", "--password-stdin"]
    assert shell(*words, stdin="x\n") == Exit.OK
    import hashlib

    mark = hashlib.sha256(f"ann\n{tomorrow}\n{WRITE}".encode()).hexdigest()
    marks = shell.node / "private" / "accounts-expired"
    marks.write_text(mark + "\n")
    marks.chmod(0o600)
    assert shell(*words, stdin="x\n") == Exit.FAILED
    assert "FAIL  date" in shell.out


def test_a_file_that_cannot_be_used_is_told(tmp_path, capsys, monkeypatch):
    shell = trial(tmp_path, capsys, monkeypatch, *LINES)
    (shell.node / "private" / "accounts").chmod(0o644)
    assert shell("account", "test", "ann") == Exit.FAILED
    assert "cannot read the account file" in shell.err
    assert shell("account", "test", "ann", "--from", "nowhere") == Exit.USAGE
