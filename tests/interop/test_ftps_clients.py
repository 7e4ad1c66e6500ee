"""FTPS with real clients against a real node: lftp, curl, rclone, ftplib and openssl.

What TLS adds to the acceptance table (test_acceptance.py has the columns of these clients): that
they accept the certificate, which ways of protection they may choose, what they are refused, and
what a stranger sees who does not ask for TLS. The node listens on every address, so that loopback
and the machine's own can both be tried.
"""

import contextlib
import ftplib
import io
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.ftps import client_context
from tests.fakes.running import Running, command

pytestmark = pytest.mark.interop

NAME = "naïve é 日本.bin"
SIZE = 10 * 2**20 + 7
SMALL = [f"é {i:02}.bin" for i in range(12)]
STAMP = 981173106  # 2001-02-03 04:05:06 UTC


@dataclass(frozen=True)
class Node:
    port: int
    user: str
    password: str
    certificate: Path

    @property
    def url(self) -> str:
        return f"ftp://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def client(self, host="127.0.0.1") -> Iterator[ftplib.FTP_TLS]:
        c = ftplib.FTP_TLS(context=client_context(), encoding="utf-8", timeout=60)
        try:
            c.connect(host, self.port)
            c.login(self.user, self.password)
            c.prot_p()
            yield c
        finally:
            c.close()


@contextlib.contextmanager
def started(folder: Path, *lines: str) -> Iterator[Node]:
    """A node with these lines in its section [ftpd]."""
    code, _, said = command("create", folder, "--servers", "3")
    assert code == 0, said
    path = folder / "truckee.cfg"
    path.write_text(path.read_text().replace("[ftpd]\n", "\n".join(["[ftpd]", *lines, ""])))
    doors = ["--ftp", "tcp:0:interface=0.0.0.0", "--sftp", "0"]
    with Running("start", folder, *doors, "--json") as running:
        ready = running.ready()
        private = folder / "private"
        yield Node(
            ready["ftp"]["port"],
            ready["account"],
            (private / "first-password").read_text().split()[-1],
            private / "ftp_certificate.pem",
        )
        assert running.stop() == 0


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Iterator[Node]:
    with started(tmp_path_factory.mktemp("ftps") / "node") as node:
        yield node


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / NAME).write_bytes(os.urandom(SIZE))
    os.utime(folder / NAME, (STAMP, STAMP))
    (folder / "small").mkdir()
    for i, name in enumerate(SMALL):
        (folder / "small" / name).write_bytes(os.urandom(997 * i))
    return folder


@pytest.fixture
def home(node, request) -> str:
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    with node.client() as c:
        c.mkd(name)
    return name


def need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def run(command, *, text=None, code=0, cwd=None, seconds=120):
    home = str(cwd or "/nonexistent")
    environment = {"PATH": os.environ["PATH"], "HOME": home, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    done = subprocess.run(
        list(map(str, command)),
        input=text,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        env=environment,
        cwd=cwd,
        check=False,
    )
    assert done.returncode == code, (command, done.returncode, done.stdout, done.stderr)
    return done


def same_folder(a: Path, b: Path) -> bool:
    names = sorted(p.name for p in a.iterdir())
    assert names == sorted(p.name for p in b.iterdir())
    return all((a / n).read_bytes() == (b / n).read_bytes() for n in names)


# lftp


class Lftp:
    def __init__(self, node: Node, cwd: Path, home: str) -> None:
        self.program, self.node, self.cwd, self.home = need("lftp"), node, cwd, home

    def __call__(self, *commands: str, code=0, password=None, more=()) -> str:
        password = password or self.node.password
        script = [
            "set net:max-retries 1",
            "set net:timeout 60",
            "set cmd:fail-exit yes",
            "set ftp:ssl-force yes",
            "set ftp:ssl-protect-data yes",
            "set ftp:ssl-protect-list yes",
            f"set ssl:ca-file {self.node.certificate}",
            *more,
            f"open -u {self.node.user},{password} {self.node.url}",
            f"cd {self.home}",
            *commands,
        ]
        text = "\n".join(script) + "\n"
        done = run([self.program, "-f", "/dev/stdin"], text=text, code=code, cwd=self.cwd)
        return done.stdout + done.stderr


@pytest.fixture
def lftp(node, tmp_path, home) -> Lftp:
    return Lftp(node, tmp_path, home)


def test_lftp_up_down_and_again(lftp, files, tmp_path) -> None:
    content = (files / NAME).read_bytes()
    lftp(f'put "{files}/{NAME}"', f"mirror -R -P4 {files}/small small")
    lftp(f'get "{NAME}"', "mirror -P4 small down", f'pget -n 4 "{NAME}" -o pieces')
    assert (tmp_path / NAME).read_bytes() == (tmp_path / "pieces").read_bytes() == content
    assert same_folder(tmp_path / "down", files / "small")
    assert (tmp_path / NAME).stat().st_mtime == STAMP
    again = lftp(f"mirror -R --verbose=3 {files}/small small")
    assert "Transferring" not in again
    listing = lftp("cls -1 small", "ls", f'cls -l --time-style=%s "{NAME}"')
    assert all(name in listing for name in SMALL)
    assert str(SIZE) in listing
    assert str(STAMP) in listing


def test_lftp_in_active_mode_and_without_protected_data(lftp, files, tmp_path) -> None:
    small = (files / "small" / SMALL[9]).read_bytes()
    active = ["set ftp:passive-mode off"]
    clear = ["set ftp:ssl-protect-data no", "set ftp:ssl-protect-list no"]
    for i, more in enumerate((active, clear, [*active, *clear])):
        lftp(f'put "{files}/small/{SMALL[9]}" -o {i}', "ls", f"get {i}", more=more)
        assert (tmp_path / str(i)).read_bytes() == small


def test_lftp_with_a_wrong_password_or_another_certificate_fails(lftp, node, tmp_path) -> None:
    began = time.monotonic()
    assert "530" in lftp("ls", code=1, password="wrong")
    assert time.monotonic() - began < 15
    (tmp_path / "other.pem").write_text("")
    assert "ertificate" in lftp("ls", code=1, more=[f"set ssl:ca-file {tmp_path}/other.pem"])


# curl


class Curl:
    def __init__(self, node: Node, home: str) -> None:
        self.program, self.node, self.url = need("curl"), node, f"{node.url}/{home}"

    def __call__(self, *arguments: str, code=0, password=None) -> str:
        user = f"{self.node.user}:{password or self.node.password}"
        trust = ["--cacert", str(self.node.certificate)]
        command = [self.program, "-sS", "-q", "--ssl-reqd", *trust, "-u", user, *arguments]
        done = run(command, code=code)
        return done.stdout + done.stderr


@pytest.fixture
def curl(node, home) -> Curl:
    return Curl(node, home)


def test_curl_up_down_and_again(curl, files, tmp_path) -> None:
    content, url = (files / NAME).read_bytes(), curl.url
    said = curl("-v", "-T", str(files / NAME), f"{url}/x.bin")
    assert "> AUTH SSL" in said  # its first try, and the same to us
    assert "> PROT P" in said
    out = tmp_path / "out"
    curl("-o", str(out), f"{url}/x.bin")
    assert out.read_bytes() == content
    os.truncate(out, 1_234_567)
    curl("-C", "-", "-o", str(out), f"{url}/x.bin")
    assert out.read_bytes() == content
    (tmp_path / "tail").write_bytes(b"tail")
    curl("-a", "-T", str(tmp_path / "tail"), f"{url}/x.bin")
    assert curl("-r", f"{SIZE - 2}-{SIZE + 3}", f"{url}/x.bin").endswith("tail")
    assert f"Content-Length: {SIZE + 4}" in curl("-I", f"{url}/x.bin")
    assert "x.bin" in curl(f"{url}/")


def test_curl_in_active_mode(curl, files, tmp_path) -> None:
    version = run([curl.program, "--version"]).stdout.split()[1]
    if version.startswith(("7.87.", "7.88.")):
        pytest.skip(f"curl {version} forgets TLS in active mode (fixed in 8.0)")
    curl("-P", "-", "-T", str(files / NAME), f"{curl.url}/active")
    curl("-P", "-", "-o", str(tmp_path / "out"), f"{curl.url}/active")
    assert (tmp_path / "out").read_bytes() == (files / NAME).read_bytes()


def test_curl_wrong_password_and_a_certificate_it_does_not_know(curl, node) -> None:
    curl(f"{curl.url}/", code=67, password="wrong")
    run([curl.program, "-sS", "-q", "--ssl-reqd", f"{curl.url}/"], code=60)
    curl("--tls-max", "1.1", f"{curl.url}/", code=35)


# rclone


class Rclone:
    def __init__(self, node: Node, home: str, cwd: Path) -> None:
        self.program, self.cwd = need("rclone"), cwd
        obscured = run([self.program, "obscure", "-"], text=node.password).stdout.strip()
        (cwd / "rclone.conf").write_text(
            f"[grid]\ntype = ftp\nhost = 127.0.0.1\nport = {node.port}\nuser = {node.user}\n"
            f"pass = {obscured}\nexplicit_tls = true\nno_check_certificate = true\n"
        )
        self.at = f"grid:{home}"

    def __call__(self, *arguments: str, code=0) -> str:
        configuration = ["--config", self.cwd / "rclone.conf", "--retries", "1"]
        done = run([self.program, *configuration, *arguments], code=code, cwd=self.cwd)
        return done.stdout + done.stderr


@pytest.fixture
def rclone(node, home, tmp_path) -> Rclone:
    return Rclone(node, home, tmp_path)


def test_rclone_copies_checks_and_purges(rclone, files, tmp_path) -> None:
    at = rclone.at
    rclone("copy", "--transfers", "4", files, f"{at}/all")
    assert "0 differences" in rclone("check", "--download", files, f"{at}/all")
    again = rclone("copy", "-v", files, f"{at}/all")
    assert "Copied" not in again  # times and sizes were kept
    rclone("copy", "--transfers", "4", f"{at}/all/small", tmp_path / "down")
    assert same_folder(tmp_path / "down", files / "small")
    assert f"{SIZE} 2001-02-03 04:05:06" in rclone("lsl", f"{at}/all", "--include", NAME)
    rclone("purge", f"{at}/all")
    assert rclone("lsf", at) == ""


# versions and sessions


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("tls_max = 1.3", marks=pytest.mark.threat("N9")),
        pytest.param("data_tls_resumption = require", marks=pytest.mark.threat("N7")),
    ],
)
def test_all_take_tls_1_3_and_resume_their_sessions(line, files, tmp_path) -> None:
    """With 1.3 an upload was cut where tickets were sent that nobody read."""
    content = (files / NAME).read_bytes()
    with started(tmp_path / "node", line) as node:
        curl, lftp, rclone = Curl(node, ""), Lftp(node, tmp_path, "/"), Rclone(node, "", tmp_path)
        for i in range(2):
            curl("-T", str(files / NAME), f"{node.url}/curl{i}")
            lftp(f'put "{files}/{NAME}" -o lftp{i}')
            rclone("copyto", files / NAME, f"grid:rclone{i}")
        curl("-o", str(tmp_path / "curl"), f"{node.url}/curl1")
        lftp("get lftp1 -o lftp", "ls")
        rclone("copyto", "grid:rclone1", tmp_path / "rclone")
        for name in ("curl", "lftp", "rclone"):
            assert (tmp_path / name).read_bytes() == content


# Python


def test_ftplib(node, home, files) -> None:
    content = (files / NAME).read_bytes()
    with node.client() as c:
        c.cwd(home)
        c.storbinary(f"STOR {NAME}", io.BytesIO(content), blocksize=1 << 20)
        out = bytearray()
        c.retrbinary(f"RETR {NAME}", out.extend, rest=1_000_001)
        assert out == content[1_000_001:]
        assert c.nlst() == [NAME]
        assert dict(c.mlsd())[NAME]["size"] == str(SIZE)
        c.rename(NAME, "other")
        c.delete("other")
        c.quit()


# strangers


def own_address() -> str:
    """This machine's address toward others, without asking any of them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has a loopback address alone")
        found = s.getsockname()[0]
    if found.startswith("127."):
        pytest.skip("this machine has a loopback address alone")
    return str(found)


@pytest.mark.threat("N5")
def test_x2_from_another_address_no_password_is_asked_for_in_clear(node) -> None:
    host = own_address()
    with contextlib.closing(ftplib.FTP(timeout=30)) as c:
        c.connect(host, node.port)
        with pytest.raises(ftplib.error_perm, match="530 TLS required: send AUTH TLS"):
            c.sendcmd(f"USER {node.user}")
        with pytest.raises(ftplib.error_perm, match="503"):
            c.sendcmd(f"PASS {node.password}")
    with contextlib.closing(ftplib.FTP(timeout=30, source_address=(host, 0))) as c:
        c.connect("127.0.0.1", node.port)
        with pytest.raises(ftplib.error_perm, match="530 TLS required"):
            c.login(node.user, node.password)
    with node.client(host) as c:
        assert c.pwd() == "/"
        assert c.nlst("/") is not None


@pytest.mark.threat("N4")
def test_x3_commands_behind_auth_in_clear_are_ignored(node) -> None:
    with socket.create_connection(("127.0.0.1", node.port), timeout=30) as s:
        assert s.recv(1000).startswith(b"220 ")
        s.sendall(
            f"AUTH TLS\r\nUSER {node.user}\r\nPASS {node.password}\r\nMKD /planted\r\n".encode()
        )
        answer = b""
        while not answer.endswith(b"\n"):
            answer += s.recv(1000)
        assert answer == b"234 go on with TLS\r\n"
        with client_context().wrap_socket(s) as secure:
            secure.sendall(b"PWD\r\n")
            assert secure.recv(1000).startswith(b"530 ")
    with node.client() as c:
        assert "planted" not in c.nlst("/")


# openssl


def s_client(node, *arguments, text="", code=0):
    address = f"127.0.0.1:{node.port}"
    words = [need("openssl"), "s_client", "-starttls", "ftp", "-connect", address, *arguments]
    done = run(words, text=text, code=code)
    return done.stdout + done.stderr


@pytest.mark.threat("N3")
def test_openssl_sees_tls_1_2_with_authenticated_ciphers_and_the_certificate(node) -> None:
    said = s_client(node, "-CAfile", node.certificate)
    assert "Verify return code: 0 (ok)" in said
    assert "TLSv1.2" in said
    assert "ECDHE-ECDSA-AES256-GCM-SHA384" in said
    assert "Compression: NONE" in said
    for old in ("-tls1", "-tls1_1"):
        s_client(node, old, "-cipher", "ALL:@SECLEVEL=0", code=1)
    for weak in ("AES128-SHA", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA"):
        s_client(node, "-tls1_2", "-cipher", weak, code=1)


@pytest.mark.threat("N6")
def test_openssl_is_refused_with_a_protocol_that_is_not_ours(node) -> None:
    assert "no application protocol" in s_client(node, "-alpn", "http/1.1", code=1)
    assert "ALPN protocol: ftp" in s_client(node, "-alpn", "h2,ftp")
    said = s_client(node, "-quiet", text="GET /MARKER HTTP/1.1\r\nHost: MARKER\r\n\r\n")
    assert "MARKER" not in said
    assert "421 " in said


@pytest.mark.threat("N12")
def test_openssl_cannot_renegotiate(node) -> None:
    command = [
        need("openssl"),
        "s_client",
        "-starttls",
        "ftp",
        "-connect",
        f"127.0.0.1:{node.port}",
    ]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdin is not None
    time.sleep(1)
    process.stdin.write(b"R\n")
    process.stdin.flush()
    said, _ = process.communicate(timeout=30)
    assert b"RENEGOTIATING" in said
    assert b"no renegotiation" in said or b"no_renegotiation" in said
