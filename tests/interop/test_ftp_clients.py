"""Real FTP clients against a real node: lftp, curl, tnftp and Python's ftplib.

Each client uploads 100 MB of random bytes and many small files with Unicode names, lists, renames,
resumes, appends, deletes and downloads; every byte is compared.
"""

import ftplib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.interop

BIG = 100_000_000
SMALL = 200
NAMES = [f"naïve é 日本 {i:03}.bin" for i in range(SMALL)]


@dataclass(frozen=True)
class Node:
    """A node that runs, and the account it made."""

    host: str
    port: int
    user: str
    password: str
    directory: Path

    @property
    def url(self) -> str:
        return f"ftp://{self.host}:{self.port}"

    def client(self) -> ftplib.FTP:
        client = ftplib.FTP(encoding="utf-8", timeout=60)
        client.connect(self.host, self.port)
        client.login(self.user, self.password)
        return client


def need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    directory = tmp_path_factory.mktemp("interop") / "node"
    command = [sys.executable, "-m", "truckee.frontends.cli.main"]
    code = "from truckee.frontends.cli.main import main; main()"
    command = [sys.executable, "-c", code]
    command += ["start", str(directory), "--servers", "3", "--ftp", "0", "--json"]
    errors = (directory.parent / "stderr").open("wb")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, (directory.parent / "stderr").read_text()
    ready = json.loads(line)
    password = (directory / "private" / "first-password").read_text().strip()
    try:
        yield Node(
            ready["ftp"]["host"], ready["ftp"]["port"], ready["account"], password, directory
        )
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            code_ = process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        errors.close()
        process.stdout.close()
    assert code_ == 0


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one big file and many small ones."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "big.bin").write_bytes(os.urandom(BIG))
    (folder / "small").mkdir()
    for i, name in enumerate(NAMES):
        (folder / "small" / name).write_bytes(os.urandom(17 * i))
    return folder


@pytest.fixture
def home(node: Node, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A directory of its own in the filestore for each test."""
    name = "home-" + "".join(c if c.isalnum() else "-" for c in request.node.name)
    with node.client() as c:
        c.mkd(name)
    return name


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def same_folder(a: Path, b: Path) -> bool:
    names = sorted(p.name for p in a.iterdir())
    assert names == sorted(p.name for p in b.iterdir())
    return all((a / n).read_bytes() == (b / n).read_bytes() for n in names)


def run(command: list[str], *, text: str | None = None, code: int = 0, cwd: Path | None = None):
    env = {"PATH": os.environ["PATH"], "HOME": str(cwd or "/nonexistent"), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        timeout=300,
        env=env,
        cwd=cwd,
        check=False,
    )
    assert done.returncode == code, (command, done.returncode, done.stdout, done.stderr)
    return done


# ftplib


def test_ftplib(node: Node, files: Path, home: str) -> None:
    big = (files / "big.bin").read_bytes()
    with node.client() as c:
        c.cwd(home)
        c.storbinary("STOR big.bin", io.BytesIO(big), blocksize=1 << 20)
        for name in NAMES:
            c.storbinary(f"STOR {name}", io.BytesIO((files / "small" / name).read_bytes()))
        assert sorted(c.nlst()) == sorted(["big.bin", *NAMES])
        facts = dict(c.mlsd())
        assert facts["big.bin"]["size"] == str(BIG)
        lines: list[str] = []
        c.retrlines("LIST", lines.append)
        assert len(lines) == SMALL + 1
        c.rename("big.bin", "große.bin")
        out = io.BytesIO()
        c.retrbinary("RETR große.bin", out.write, blocksize=1 << 20)
        assert out.getvalue() == big
        out = io.BytesIO()
        c.retrbinary("RETR große.bin", out.write, rest=BIG - 12345)
        assert out.getvalue() == big[-12345:]
        c.storbinary(f"APPE {NAMES[1]}", io.BytesIO(b"tail"))
        out = io.BytesIO()
        c.retrbinary(f"RETR {NAMES[1]}", out.write)
        assert out.getvalue() == (files / "small" / NAMES[1]).read_bytes() + b"tail"
        for name in NAMES[2:]:
            out = io.BytesIO()
            c.retrbinary(f"RETR {name}", out.write)
            assert out.getvalue() == (files / "small" / name).read_bytes()
        for name in ["große.bin", *NAMES]:
            c.delete(name)
        assert c.nlst() == []
        c.cwd("/")
        c.rmd(home)


def test_wrong_password(node: Node) -> None:
    c = ftplib.FTP(timeout=60)
    c.connect(node.host, node.port)
    began = time.monotonic()
    with pytest.raises(ftplib.error_perm, match="530"):
        c.login(node.user, "wrong")
    assert time.monotonic() - began < 20
    c.close()


# lftp


def lftp(node: Node, cwd: Path, *commands: str, code: int = 0) -> str:
    program = need("lftp")
    script = [
        "set net:max-retries 1",
        "set net:timeout 60",
        "set cmd:fail-exit yes",
        "set ftp:ssl-allow no",  # test_ftps_clients.py does the same under TLS
        f"open -u {node.user},{node.password} {node.url}",
        *commands,
    ]
    return run(
        [program, "-f", "/dev/stdin"], text="\n".join(script) + "\n", code=code, cwd=cwd
    ).stdout


def test_lftp(node: Node, files: Path, home: str, tmp_path: Path) -> None:
    big = files / "big.bin"
    lftp(node, tmp_path, f"cd {home}", f"put {big}", f"mirror -R {files}/small small")
    listing = lftp(node, tmp_path, f"cd {home}", "cls -1 small", "ls")
    assert all(name in listing for name in NAMES)
    lftp(node, tmp_path, f"cd {home}", "mv big.bin große.bin", "get große.bin", "mirror small down")
    assert digest(tmp_path / "große.bin") == digest(big)
    assert same_folder(tmp_path / "down", files / "small")
    # resume a download, then an upload
    part = tmp_path / "große.bin"
    os.truncate(part, BIG // 3)
    lftp(node, tmp_path, f"cd {home}", "get -c große.bin")
    assert digest(part) == digest(big)
    half = tmp_path / "half.bin"
    half.write_bytes(big.read_bytes()[: BIG // 2])
    lftp(node, tmp_path, f"cd {home}", "put half.bin -o whole.bin", f"put -c {big} -o whole.bin")
    lftp(node, tmp_path, f"cd {home}", "get whole.bin")
    assert digest(tmp_path / "whole.bin") == digest(big)
    stamps = lftp(node, tmp_path, f"cd {home}", "cls -l --time-style=%Y whole.bin")
    assert str(BIG) in stamps
    again = lftp(node, tmp_path, f"cd {home}", f"mirror -R --verbose=3 {files}/small small")
    assert "Transferring" not in again  # sizes and times agree: nothing is sent twice
    lftp(node, tmp_path, f"cd {home}", "chmod 444 whole.bin", "rm große.bin", "rm -r small", "ls")
    lftp(node, tmp_path, f"cd {home}", f"put {half} -o whole.bin", code=1)
    lftp(node, tmp_path, f"cd {home}", "rmdir nowhere", code=1)


def test_lftp_takes_several_at_once(node: Node, files: Path, home: str, tmp_path: Path) -> None:
    lftp(
        node,
        tmp_path,
        f"cd {home}",
        f"put {files}/big.bin",
        f"mirror -R -P4 {files}/small small",
        "mirror -P4 small down",
        "pget -n 4 big.bin -o big.bin",
    )
    assert same_folder(tmp_path / "down", files / "small")
    assert digest(tmp_path / "big.bin") == digest(files / "big.bin")


def test_lftp_wrong_password(node: Node, tmp_path: Path) -> None:
    bad = Node(node.host, node.port, node.user, "wrong", node.directory)
    lftp(bad, tmp_path, "ls", code=1)


# curl


def curl(node: Node, *arguments: str, code: int = 0) -> str:
    program = need("curl")
    return run(
        [program, "-sS", "-q", "-u", f"{node.user}:{node.password}", *arguments], code=code
    ).stdout


def test_curl(node: Node, files: Path, home: str, tmp_path: Path) -> None:
    big, url = files / "big.bin", f"{node.url}/{home}"
    curl(node, "-T", str(big), f"{url}/big.bin")
    some = [str(files / "small" / name) for name in NAMES]
    curl(node, "--ftp-create-dirs", "-T", "{" + ",".join(some) + "}", f"{url}/a/small/")
    listed = curl(node, "-l", f"{url}/a/small/").split("\n")
    assert sorted(line.rstrip("\r") for line in listed if line) == sorted(NAMES)
    assert str(BIG) in curl(node, f"{url}/")
    head = curl(node, "-I", f"{url}/big.bin")
    assert f"Content-Length: {BIG}" in head
    out = tmp_path / "out.bin"
    curl(node, "-o", str(out), f"{url}/big.bin")
    assert digest(out) == digest(big)
    os.truncate(out, 1_234_567)
    curl(node, "-C", "-", "-o", str(out), f"{url}/big.bin")
    assert digest(out) == digest(big)
    tail = tmp_path / "tail"
    tail.write_bytes(b"tail")
    curl(node, "-a", "-T", str(tail), f"{url}/big.bin")
    curl(node, "-o", str(out), f"{url}/big.bin")
    assert out.read_bytes() == big.read_bytes() + b"tail"
    curl(node, "-r", "5-9", "-o", str(out), f"{url}/big.bin")
    assert out.read_bytes() == big.read_bytes()[5:10]
    curl(node, "-Q", f"RNFR {home}/big.bin", "-Q", f"RNTO {home}/other.bin", f"{url}/")
    curl(node, "-Q", f"DELE {home}/other.bin", f"{url}/")
    assert "other.bin" not in curl(node, "-l", f"{url}/")
    curl(node, f"{url}/absent", code=78)
    curl(node, "-P", "-", "-T", str(tail), f"{url}/active")  # active mode
    assert curl(node, "-P", "-", f"{url}/active") == "tail"


def test_curl_several_at_once(node: Node, files: Path, home: str, tmp_path: Path) -> None:
    url = f"{node.url}/{home}"
    arguments: list[str] = []
    for i in range(8):
        arguments += ["-T", str(files / "small" / NAMES[100 + i]), f"{url}/{i}"]
    curl(node, "-Z", *arguments)
    for i in range(8):
        curl(node, "-o", str(tmp_path / "x"), f"{url}/{i}")
        assert (tmp_path / "x").read_bytes() == (files / "small" / NAMES[100 + i]).read_bytes()


def test_curl_wrong_password(node: Node, tmp_path: Path) -> None:
    bad = Node(node.host, node.port, node.user, "wrong", node.directory)
    curl(bad, f"{node.url}/", code=67)


# tnftp


def tnftp(node: Node, cwd: Path, *commands: str) -> str:
    program = shutil.which("tnftp") or need("ftp")
    script = [f"open {node.host} {node.port}", f"user {node.user} {node.password}", *commands]
    done = run([program, "-n", "-i", "-v"], text="\n".join([*script, "bye", ""]), cwd=cwd)
    return done.stdout + done.stderr


def test_tnftp(node: Node, files: Path, home: str, tmp_path: Path) -> None:
    big, small = files / "big.bin", files / "small"
    out = tnftp(
        node, tmp_path, f"cd {home}", "binary", f"put {big} big.bin", f"lcd {small}", "mput *"
    )
    assert out.count("226 ") == SMALL + 1, out
    out = tnftp(node, tmp_path, f"cd {home}", "ls", "nlist")
    assert all(name in out for name in NAMES)
    down = tmp_path / "down"
    down.mkdir()
    tnftp(node, down, f"cd {home}", "binary", "mget na*")
    assert same_folder(down, small)
    tnftp(node, tmp_path, f"cd {home}", "binary", "rename big.bin other.bin", "get other.bin")
    assert digest(tmp_path / "other.bin") == digest(big)
    os.truncate(tmp_path / "other.bin", 7_654_321)
    tnftp(node, tmp_path, f"cd {home}", "binary", "reget other.bin")
    assert digest(tmp_path / "other.bin") == digest(big)
    (tmp_path / "tail").write_bytes(b"tail")
    tnftp(node, tmp_path, f"cd {home}", "binary", "append tail other.bin", "get other.bin")
    assert (tmp_path / "other.bin").read_bytes() == big.read_bytes() + b"tail"
    (tmp_path / "text").write_bytes(b"one\ntwo\n")
    tnftp(node, tmp_path, f"cd {home}", "ascii", "put text", "get text text2")
    assert (tmp_path / "text2").read_bytes() == b"one\ntwo\n"
    out = tnftp(
        node, tmp_path, f"cd {home}", "size other.bin", "modtime other.bin", "mkdir d", "rmdir d"
    )
    assert str(BIG + 4) in out
    out = tnftp(
        node, tmp_path, f"cd {home}", "mdelete na*", "delete other.bin", "cd ..", f"rmdir {home}"
    )
    assert "550 directory not empty" in out  # the text file is still there


# clients that die


@pytest.mark.threat("F8")
@pytest.mark.parametrize("program", ["lftp", "curl"])
def test_a_killed_client_leaves_no_file(
    node: Node, files: Path, home: str, tmp_path: Path, program: str
) -> None:
    found = need(program)
    url, login = f"{node.url}/{home}/x", f"{node.user}:{node.password}"
    with node.client() as c:
        for delay in (0.05, 0.15, 0.3):
            if program == "curl":
                command = [
                    found,
                    "-sS",
                    "-u",
                    login,
                    "--limit-rate",
                    "50M",
                    "-T",
                    str(files / "big.bin"),
                    url,
                ]
            else:
                script = (
                    f"set ftp:ssl-allow no; set net:limit-rate 50000000; put {files}/big.bin -o x"
                )
                command = [found, "-e", script, f"ftp://{login}@{node.host}:{node.port}/{home}"]
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(0.3 + delay)
            process.kill()
            process.wait()
            time.sleep(0.2)
            assert c.nlst(home) == []
