import contextlib
import ftplib
import json
import os
import socket
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.fakes.account_lines import BCRYPT, WRITE
from tests.fakes.node_folder import ACCOUNTS, make_node
from tests.system.node import Node
from truckee.frontends.cli.main import run
from truckee.frontends.cli.output import Exit
from truckee.frontends.node import checkup, creation, surroundings


@pytest.fixture
def folder(tmp_path):
    node = make_node(tmp_path / "node")
    free_ports(node)
    return node


def free_ports(node):
    """Let the ports of a node be such that no other test has them."""
    change(node, "[ftpd]\n", "[ftpd]\nport = tcp:0:interface=127.0.0.1\n")
    change(node, "[sftpd]\n", "[sftpd]\nport = tcp:0:interface=127.0.0.1\n")
    change(node, "[grid]\n", "[node]\nmetrics.port = tcp:0:interface=127.0.0.1\n\n[grid]\n")


def change(node, old, new):
    config = node / "truckee.cfg"
    config.write_text(config.read_text().replace(old, new, 1))


def examine(folder, capsys):
    code = run(["doctor", str(folder), "--json"])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    found = json.loads(out)
    levels = {f["level"] for f in found["findings"]}
    worst = "FAIL" if "FAIL" in levels else "warn" if "warn" in levels else "ok"
    assert found["worst"] == worst
    assert code == {"ok": Exit.OK, "warn": Exit.PARTLY, "FAIL": Exit.FAILED}[worst]
    return worst, {f["check"]: f for f in found["findings"] if f["level"] == worst}


def test_a_new_node_is_in_order(folder, capsys):
    worst, found = examine(folder, capsys)
    assert worst == "ok", found
    wanted = {"configuration", "permissions", "accounts", "stores", "spool", "ports", "clock"}
    assert wanted | {"open files", "packages", "node", "host keys"} <= set(found)


def test_people_get_a_line_for_each_finding(folder, capsys):
    assert run(["doctor", str(folder)]) == Exit.OK
    out = capsys.readouterr().out
    assert all(line.startswith("ok   ") for line in out.splitlines())
    assert "ok   node          it does not run" in out


def test_a_configuration_that_cannot_be_read_is_a_failure(folder, capsys):
    change(folder, "[ftpd]", "[ftpd]\nbogus = 1")
    worst, found = examine(folder, capsys)
    assert worst == "FAIL"
    assert "bogus is not known" in found["configuration"]["text"]


@pytest.mark.threat("L5")
@pytest.mark.parametrize("name", ["accounts", "secret", "ssh_host_rsa_key"])
def test_private_files_that_others_can_read_are_a_failure(folder, capsys, name):
    path = folder / "private" / name
    path.touch(mode=0o600)
    path.chmod(0o644)
    worst, found = examine(folder, capsys)
    assert worst == "FAIL"
    assert name in found["permissions"]["text"]


def test_a_private_folder_that_is_open_is_a_failure(folder, capsys):
    (folder / "private").chmod(0o755)
    worst, found = examine(folder, capsys)
    assert worst == "FAIL"
    assert "open to others" in found["permissions"]["text"]


@pytest.mark.threat("L1")
def test_bad_lines_and_passwords_in_plaintext_are_warnings_without_secrets(folder, capsys):
    accounts = folder / "private" / "accounts"
    accounts.write_text(ACCOUNTS + f"eve plum-otter {WRITE}\nmallory {BCRYPT} {WRITE} bogus\n")
    worst, found = examine(folder, capsys)
    assert worst == "warn"
    assert "plaintext" in found["accounts"]["text"]
    run(["doctor", str(folder)])
    out = capsys.readouterr().out
    assert "mallory" in out
    for secret in ("plum-otter", BCRYPT, WRITE):
        assert secret not in out


def test_without_a_usable_account_nobody_can_log_in(folder, capsys):
    (folder / "private" / "accounts").write_text("# none\n")
    worst, found = examine(folder, capsys)
    assert worst == "FAIL"
    assert "nobody" in found["accounts"]["text"]


def test_a_store_that_is_gone_is_told(tmp_path, capsys):
    node = make_node(tmp_path / "node", servers=10)
    free_ports(node)
    (node / "servers" / "09").rename(tmp_path / "elsewhere")
    worst, found = examine(node, capsys)
    assert worst == "warn", found
    assert "09 is not there" in found["stores"]["text"]
    for i in range(3):
        (node / "servers" / f"0{i}").rename(tmp_path / f"elsewhere{i}")
    worst, found = examine(node, capsys)
    assert worst == "FAIL"
    assert found["stores"]["text"] == "6 stores are there, a write needs 7"


def test_full_disks_are_told(folder, capsys, monkeypatch):
    monkeypatch.setattr(checkup, "SCARCE", 1 << 62)
    worst, found = examine(folder, capsys)
    assert worst == "warn"
    assert {"stores", "spool"} <= set(found)


def test_a_taken_port_that_was_asked_for_is_a_failure(folder, capsys):
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        change(folder, "tcp:0:interface=127.0.0.1", f"tcp:{port}:interface=127.0.0.1")
        worst, found = examine(folder, capsys)
    assert worst == "FAIL"
    assert "another program has it" in found["ports"]["text"]


@pytest.mark.parametrize(
    ("port", "text"),
    [
        ("tcp:45001:interface=192.0.2.77", "192.0.2.77 is no address of this machine"),
        ("tcp:99999", "'tcp:99999': ports end at 65535"),
    ],
)
def test_a_port_that_cannot_be_is_told_from_one_that_is_taken(folder, capsys, port, text):
    change(folder, "tcp:0:interface=127.0.0.1", port)
    worst, found = examine(folder, capsys)
    assert worst == "FAIL"
    assert text in found["ports"]["text"]


def test_two_doors_with_one_port_are_a_failure(folder, capsys):
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
    for _ in range(3):
        change(folder, "tcp:0:interface=127.0.0.1", f"tcp:{port}:interface=127.0.0.1")
    worst, found = examine(folder, capsys)
    assert worst == "FAIL"
    assert f"on port {port}: " in found["ports"]["text"]
    assert found["ports"]["advice"] == "another port"


def test_a_private_folder_that_is_elsewhere_is_named(folder, capsys, tmp_path):
    (folder / "private").rename(tmp_path / "elsewhere")
    worst, found = examine(folder, capsys)
    assert worst == "FAIL"
    assert found["permissions"]["text"] == f"directory {folder / 'private'} is missing"
    assert "clock" not in found


def certificate(days_from, days_until):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(now + timedelta(days=days_from))
    builder = builder.not_valid_after(now + timedelta(days=days_until))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM), pem


def put(folder, name, contents):
    path = folder / "private" / name
    path.write_bytes(contents)
    path.chmod(0o600)


@pytest.mark.parametrize(
    ("pem", "level", "text"),
    [
        (certificate(-10, 100), "ok", "is valid until"),
        (certificate(-10, 5), "warn", "expires on"),
        (certificate(-10, -1), "FAIL", "expired on"),
        (certificate(1, 5), "FAIL", "not valid yet"),
        ((b"nonsense", certificate(-10, 100)[1]), "FAIL", "holds no certificate"),
        ((certificate(-10, 100)[0], certificate(-10, 100)[1]), "FAIL", "is not the key of"),
    ],
)
def test_the_dates_of_a_certificate_are_looked_at(folder, capsys, pem, level, text):
    put(folder, "ftp_certificate.pem", pem[0])
    put(folder, "ftp_key.pem", pem[1])
    worst, found = examine(folder, capsys)
    assert worst == level
    assert text in found["certificate"]["text"]


@pytest.mark.threat("L5")
def test_a_key_elsewhere_that_others_can_read_is_a_failure(folder, capsys, tmp_path):
    pem, key_pem = certificate(-10, 100)
    put(folder, "ftp_certificate.pem", pem)
    key = tmp_path / "key.pem"
    key.write_bytes(key_pem)
    key.chmod(0o644)
    places = f"tls_certificate = private/ftp_certificate.pem\ntls_key = {key}\n"
    change(folder, "[ftpd]\n", "[ftpd]\n" + places)
    worst, found = examine(folder, capsys)
    assert worst == "FAIL"
    assert "key.pem is open to others" in found["certificate"]["text"]


def test_a_certificate_behind_a_link_that_holds_its_key_is_as_good(folder, capsys, tmp_path):
    (tmp_path / "renewed.pem").write_bytes(b"".join(certificate(-10, 100)))
    (tmp_path / "renewed.pem").chmod(0o600)
    (tmp_path / "live.pem").symlink_to(tmp_path / "renewed.pem")
    change(folder, "[ftpd]\n", f"[ftpd]\ntls_certificate = {tmp_path}/live.pem\n")
    worst, found = examine(folder, capsys)
    assert worst == "ok"
    assert "live.pem is valid until" in found["certificate"]["text"]


def test_a_lost_host_key_is_a_warning(folder, capsys):
    put(folder, "ssh_host_rsa_key", b"key")
    worst, found = examine(folder, capsys)
    assert worst == "warn"
    assert "clients will warn" in found["host keys"]["text"]


def test_a_clock_behind_what_was_written_is_a_failure(folder, capsys):
    later = datetime.now(UTC).timestamp() + 90_000
    os.utime(folder, (later, later))
    worst, found = examine(folder, capsys)
    assert worst == "FAIL"
    assert "behind" in found["clock"]["text"]


def test_too_few_descriptors_are_a_warning(folder, capsys, monkeypatch):
    monkeypatch.setattr(surroundings.resource, "getrlimit", lambda _: (256, 256))
    worst, found = examine(folder, capsys)
    assert worst == "warn"
    assert "sessions" in found["open files"]["text"]


def test_packages_below_their_floor_are_a_failure(folder, capsys, monkeypatch):
    asked = surroundings.metadata.version
    monkeypatch.setattr(
        surroundings.metadata, "version", lambda n: "1.0.dev1" if n == "bcrypt" else asked(n)
    )
    worst, found = examine(folder, capsys)
    assert worst == "FAIL"
    assert found["packages"]["text"] == "bcrypt 1.0.dev1, needs 5"


def test_reports_of_broken_commands_are_told(folder, capsys):
    (folder / "logs").mkdir(mode=0o700)
    (folder / "logs" / "crash-20261120-120000.txt").write_text("x")
    worst, found = examine(folder, capsys)
    assert worst == "warn"
    assert "commands that broke" in found["log"]["text"]


@pytest.mark.threat("A9")
def test_with_the_node_up_its_ports_are_ours_and_it_is_asked_itself(tmp_path, capsys):
    with Node(tmp_path / "node", ("--servers", "1")) as node:
        node.names()
        worst, found = examine(node.folder, capsys)
        assert worst == "ok", found
        assert "it runs" in found["node"]["text"]
        assert "ours" in found["ports"]["text"]
        accounts = node.folder / "private" / "accounts"
        line = next(x for x in accounts.read_text().splitlines() if x.startswith("ann "))
        with accounts.open("a") as f:
            f.write("bob" + line.removeprefix("ann") + "\n")
        run(["-d", str(node.folder), "account", "lock", "nobody"])
        capsys.readouterr()

        def both_came():
            with closing(ftplib.FTP(timeout=30)) as ftp, contextlib.suppress(ftplib.Error):
                ftp.connect("127.0.0.1", node.port)
                ftp.login("bob", node.password)
                return True
            return False

        node.wait_for(both_came)
        worst, found = examine(node.folder, capsys)
        assert worst == "warn"
        assert "2 accounts log in from 127.0.0.1" in found["node"]["text"]


def test_a_node_that_hangs_is_a_failure(folder):
    (finding,) = surroundings.node(creation.load(folder), None, 4711)
    assert (finding.level, finding.text) == ("FAIL", "it runs, and does not answer")


def test_an_error_of_the_disk_ends_one_check_and_no_other(folder, capsys, monkeypatch):
    def broken(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checkup, "_free", broken)
    worst, found = examine(folder, capsys)
    assert worst == "FAIL"
    assert found["spool"]["text"] == "Input/output error"
    assert found["stores"]["text"] == "Input/output error"
