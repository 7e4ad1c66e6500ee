"""A whole node with both doors: started, stopped, started again, and accounts that are revoked."""

import contextlib
import ftplib
import hashlib
import re
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.fakes.node_folder import make_node
from tests.fakes.openssh import HAS_OPENSSH, OpenSSH
from tests.fakes.running import LOCAL, Running, command
from tests.system.node import Node

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not HAS_OPENSSH, reason="OpenSSH's client is not installed"),
]


@pytest.fixture
def ssh(tmp_path) -> OpenSSH:
    return OpenSSH(tmp_path / "client")


def add(node: Node, name: str, ssh: OpenSSH, *more: str) -> None:
    words = ["--no-password", "--key", ssh.public, "-d", node.folder, *more]
    code, _, err = command("account", "add", name, *words)
    assert code == 0, err


def edit(node: Node, pattern: str, new: str) -> None:
    """Change the account file as an editor does, and tell nobody."""
    path = node.folder / "private" / "accounts"
    changed, count = re.subn(pattern, new, path.read_text(), flags=re.MULTILINE)
    assert count
    copy = path.with_name("accounts.new")
    copy.touch(0o600)
    copy.write_text(changed)
    copy.rename(path)


def test_files_by_one_door_are_there_by_the_other_and_after_a_restart(tmp_path, ssh) -> None:
    (tmp_path / "file").write_bytes(b"by SFTP" * 10_000)
    with Node(tmp_path / "node", ("--servers", "1")) as node:
        assert set(node.ready["sftp"]) == {"host", "port"}
        add(node, "bob", ssh)
        root = re.search(r"^bob - (\S+)", (node.folder / "private" / "accounts").read_text(), re.M)
        assert root
        done = ssh.sftp("bob", node.ready["sftp"]["port"], "put file", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        node.restart()
        again = tmp_path / "again"
        again.mkdir()
        known = ssh.known.read_text().split()[1:3]
        ssh.known.write_text(" ".join([f"[127.0.0.1]:{node.ready['sftp']['port']}", *known]) + "\n")
        port = node.ready["sftp"]["port"]
        done = ssh.sftp("bob", port, "get file", checking="yes", cwd=again)
        assert done.returncode == 0, done.stderr  # with the host key it had before
        assert (again / "file").read_bytes() == b"by SFTP" * 10_000
        edit(node, r"^ann (\S+) \S+", rf"ann \1 {root[1]}")
        node.wait_for(lambda: "file" in _names(node))


def _names(node: Node) -> list[str]:
    try:
        return node.names()
    except ftplib.Error:
        return []


WAYS = ("lock", "remove", "ro", "proto", "root")


def revoke(node: Node, how: str) -> None:
    """Take something away from the account that has the name of the way."""
    match how:
        case "lock" | "remove":
            code, _, err = command("account", how, how, "-d", node.folder)
            assert code == 0, err
        case "ro":
            edit(node, r"^(ro \$.*)$", r"\1 ro")
        case "proto":
            edit(node, r"^(proto \$.*)$", r"\1 proto=web")
        case "root":
            edit(node, r"^(root \$\S+) \S+$", rf"\1 {node.rootcap}")


@pytest.mark.threat("A7")
def test_sessions_of_both_doors_end_when_an_account_may_less(tmp_path, ssh) -> None:
    with Node(tmp_path / "node", ("--servers", "1")) as node, contextlib.ExitStack() as stack:
        for name in (*WAYS, "eve"):
            add(node, name, ssh, "--root", f"@{_root(node)}")
        edit(node, rf"^({'|'.join(WAYS)}) - ", rf"\1 {_hash_of_ann(node)} ")
        port = node.ready["sftp"]["port"]
        held = {name: stack.enter_context(ssh.hold(name, port)) for name in (*WAYS, "eve")}
        logins = {
            name: stack.enter_context(contextlib.closing(_ftp_login(node, name))) for name in WAYS
        }
        for how in WAYS:
            assert held[how].alive
            revoke(node, how)
            assert held[how].ends_within(20), how
            with pytest.raises((EOFError, ftplib.error_temp, OSError)):
                for _ in range(3):
                    logins[how].voidcmd("NOOP")
        assert held["eve"].alive


def _root(node: Node) -> Path:
    """Return a file with the capability of a directory that is not ann's."""
    path = node.folder.parent / "root"
    if not path.exists():
        code, _, err = command("account", "add", "first", "--no-password", "-d", node.folder)
        assert code == 0, err
        text = (node.folder / "private" / "accounts").read_text()
        found = re.search(r"^first - (\S+)", text, re.MULTILINE)
        assert found
        path.touch(0o600)
        path.write_text(found[1])
    return path


def _hash_of_ann(node: Node) -> str:
    text = (node.folder / "private" / "accounts").read_text()
    found = re.search(r"^ann (\$\S+)", text, re.MULTILINE)
    assert found
    return found[1].replace("\\", "\\\\")


def _ftp_login(node: Node, name: str) -> ftplib.FTP:
    ftp = ftplib.FTP(timeout=30)
    for _ in range(20):
        ftp.connect("127.0.0.1", node.port)
        with contextlib.suppress(ftplib.error_perm):  # the edit is not read yet
            ftp.login(name, node.password)
            return ftp
        ftp.close()
    raise AssertionError("no login")


def test_an_older_node_without_a_word_on_sftp_still_starts(tmp_path, ssh) -> None:
    folder = make_node(tmp_path / "node")
    cfg = folder / "truckee.cfg"
    cfg.write_text(cfg.read_text().partition("[sftpd]")[0])
    with Running("start", folder, "--ftp", LOCAL, "--json") as running:
        ready = running.ready()
        assert "ftp" in ready
        assert "sftp" not in ready
        assert not (folder / "private" / "ssh_host_ed25519_key").exists()
        assert running.stop() == 0
    with Running("start", folder, "--ftp", LOCAL, "--sftp", LOCAL, "--json") as running:
        port = running.ready()["sftp"]["port"]
        done = ssh.sftp("nobody", port, "ls")
        assert "Permission denied" in done.stderr
        assert running.stop() == 0


def test_the_banner_shows_where_sftp_is_by_which_key_and_what_to_try(tmp_path) -> None:
    folder = make_node(tmp_path / "node")
    with Running("start", folder, "--ftp", LOCAL, "--sftp", LOCAL) as running:
        text = running.line()
        assert running.stop() == 0
    text += running.rest
    found = re.search(
        r"^SFTP     sftp://ann@127\.0\.0\.1:(\d+)/ +\(key (SHA256:\S{43})\)$", text, re.M
    )
    assert found, text
    assert f"\nTry      sftp -P {found[1]} ann@127.0.0.1\n" in text
    keygen = shutil.which("ssh-keygen")
    key = folder / "private" / "ssh_host_ed25519_key.pub"
    assert found[2] in _run(keygen, "-l", "-f", key)


def test_the_banner_shows_the_certificate_that_ftps_clients_meet(tmp_path) -> None:
    folder = make_node(tmp_path / "node")
    with Running("start", folder, "--ftp", LOCAL, "--sftp", LOCAL) as running:
        text = running.line()
        assert running.stop() == 0
    text += running.rest
    certificate = (folder / "private" / "ftp_certificate.pem").read_text()
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).digest().hex(":").upper()
    assert f"(FTPS explicit, cert SHA-256 {digest})" in text
    with Running("start", folder, "--ftp", LOCAL, "--sftp", LOCAL, "--json") as running:
        port = running.ready()["ftp"]["port"]
        context = ssl.create_default_context(cadata=certificate)
        with ftplib.FTP_TLS(context=context, timeout=30) as ftp:
            ftp.connect("localhost", port)
            ftp.auth()
            assert ftp.sock.version() == "TLSv1.2"
            assert ftp.sendcmd("PBSZ 0").startswith("200")
        assert running.stop() == 0


def _run(*words) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout
