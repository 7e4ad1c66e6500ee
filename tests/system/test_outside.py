"""A running node and other programs: one that knows accounts, and one that is told what happens."""

import contextlib
import ftplib
import io
import json
import re
import ssl
import subprocess
import threading
from collections.abc import Iterator
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import which

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.fakes.certificates import authority
from tests.system.node import TRUCKEE, Node

KNOWN = {"dave@example": "open sesame, dave"}
PATIENCE = 30


class Other(ThreadingHTTPServer):
    """Both programs in one: /accounts and /told."""

    daemon_threads = True

    def __init__(self, folder: Path | None) -> None:
        super().__init__(("127.0.0.1", 0), Talk)
        self.cap = ""
        self.asked: list[dict[str, str]] = []
        self.told: list[dict] = []
        if folder is not None:
            self.socket = _tls(folder).wrap_socket(self.socket, server_side=True)
        self.scheme = "http" if folder is None else "https"

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.server_port}"

    def handle_error(self, request, client_address) -> None:
        """A client that left."""


def _tls(folder: Path) -> ssl.SSLContext:
    presented = authority().certificate("localhost")
    pem = presented.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.pem").write_bytes(presented.certificate.public_bytes(Encoding.PEM) + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


class Talk(BaseHTTPRequestHandler):
    server: Other

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/told":
            self.server.told.append(json.loads(body))
            return self.answer(204, b"")
        fields = _form(self.headers["Content-Type"], body)
        self.server.asked.append(fields)
        good = KNOWN.get(fields["email"]) == fields["passwd"]
        return self.answer(200, self.server.cap.encode() if good else b"0")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Truckee-Options", "proto=ftp")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def _form(content_type: str, body: bytes) -> dict[str, str]:
    """Return the fields of a form, read by the parser for mail."""
    message = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    return {
        re.findall('name="([^"]+)"', part["Content-Disposition"])[0]: part.get_payload()
        for part in message.get_payload()
    }


@contextlib.contextmanager
def serving(folder: Path | None) -> Iterator[Other]:
    other = Other(folder)
    thread = threading.Thread(target=other.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield other
    finally:
        other.shutdown()
        other.server_close()
        thread.join()


def login(node: Node, name: str, password: str) -> ftplib.FTP:
    ftp = ftplib.FTP(timeout=PATIENCE)
    ftp.connect("127.0.0.1", node.port)
    try:
        ftp.login(name, password)
    except BaseException:
        ftp.close()
        raise
    return ftp


def configure(node: Node, *lines: str) -> None:
    path = node.folder / "truckee.cfg"
    text = path.read_text()
    path.write_text(text.replace("[ftpd]\n", "\n".join(["[ftpd]", *lines, ""]), 1))


def trial(node: Node, *words: str, password: str) -> subprocess.CompletedProcess:
    command = [TRUCKEE, "account", "test", *words, "--password-stdin", "-d", node.folder]
    return subprocess.run(
        command, input=password + "\n", capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.threat("N11", "L1")
def test_names_that_the_file_does_not_know_come_in_by_way_of_an_https_server(tmp_path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority().pem)
    with serving(tmp_path) as other, Node(tmp_path / "node", ("--servers", "1")) as node:
        node.stop()
        configure(node, f"accounts.url = {other.url}/accounts", f"accounts.url.ca_file = {ca}")
        node.start()
        other.cap = node.rootcap
        with contextlib.closing(login(node, "dave@example", KNOWN["dave@example"])) as ftp:
            ftp.storbinary("STOR from dave", io.BytesIO(b"hello"))
        assert "from dave" in node.names()
        assert [fields["email"] for fields in other.asked] == ["dave@example"]  # and not ann
        for name, password in (("dave@example", "wrong"), ("ann", "wrong"), ("eve", "x")):
            with pytest.raises(ftplib.error_perm, match="530"):
                login(node, name, password)
        assert [fields["email"] for fields in other.asked[1:]] == ["dave@example", "eve"]
        by_ftp = trial(node, "dave@example", "--protocol", "ftp", password=KNOWN["dave@example"])
        assert by_ftp.returncode == 0, by_ftp.stdout + by_ftp.stderr
        assert "it says yes" in by_ftp.stdout
        for protocol, password in (("sftp", KNOWN["dave@example"]), ("ftp", "wrong")):
            refused = trial(node, "dave@example", "--protocol", protocol, password=password)
            assert refused.returncode == 1
            assert "FAIL  url" in refused.stdout
        other.cap = "nonsense"
        with pytest.raises(ftplib.error_temp, match="421"):
            login(node, "dave@example", KNOWN["dave@example"])
        node.stop()
        logs = b"".join(path.read_bytes() for path in (node.folder / "logs").iterdir())
        assert b"sesame" not in logs
        assert b"the account URL does not work" in logs


def test_a_certificate_of_another_authority_lets_nobody_in(tmp_path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority(1).pem)
    with serving(tmp_path) as other, Node(tmp_path / "node", ("--servers", "1")) as node:
        node.stop()
        configure(node, f"accounts.url = {other.url}/accounts", f"accounts.url.ca_file = {ca}")
        node.start()
        other.cap = node.rootcap
        with pytest.raises(ftplib.error_temp, match="421"):
            login(node, "dave@example", KNOWN["dave@example"])
        assert other.asked == []
        node.put("a file", b"those of the file still come in")


@pytest.mark.interop
@pytest.mark.skipif(which("curl") is None, reason="curl is not installed")
def test_hooks_are_told_of_logins_and_uploads_by_both_doors(tmp_path) -> None:
    with serving(None) as other, Node(tmp_path / "node", ("--servers", "1")) as node:
        node.stop()
        configure(node, f"post_login = {other.url}/told", f"post_upload = {other.url}/told")
        node.start()
        node.put("by ftp", b"12345")
        port, user = node.ready["sftp"]["port"], f"ann:{node.password}"
        words = ["curl", "-sSk", "-u", user, "-T", "-", f"sftp://127.0.0.1:{port}/by%20sftp"]
        done = subprocess.run(words, input=b"1234567", capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        node.wait_for(lambda: len(other.told) >= 4)
        said = {(news["event"], news["door"]): news for news in other.told}
        assert set(said) == {(e, d) for e in ("login", "upload") for d in ("ftp", "sftp")}
        assert said["upload", "ftp"]["path"] == "/by ftp"
        assert said["upload", "sftp"]["size"] == 7
        assert all(news["account"] == "ann" for news in other.told)
        assert node.password not in json.dumps(other.told)
        other.shutdown()  # nobody takes news any more
        node.put("another", b"x")
        assert node.stop() == 0
