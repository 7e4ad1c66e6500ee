"""Nodes whose files were damaged while they were down: told or passed over, and the rest serves."""

import json
import os
import random
import shutil
import subprocess
import sys

import pytest

from tests.system.node import Node

GOOD = bytes(range(256)) * 400
PICKLE = b"cos\nsystem\n(S'touch %s'\ntR."
START = """
import sys
from truckee.frontends.cli.main import run
sys.exit(run(["start", sys.argv[1], "--json"]))
"""
NOISE = random.Random(5).randbytes(3000)
DAMAGE = {"empty": b"", "zeros": bytes(500), "noise": NOISE, "text": b"x: y\n[z\n"}
OPTIONS = ("--servers", "3", "--needed", "1", "--happy", "1", "--total", "3")
LEGAL = [("private/convergence", "empty"), ("known-stores", "empty")]
NEEDED = [
    "truckee.cfg",
    "known-stores",
    "private/secret",
    "private/convergence",
    "private/accounts",
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A node at rest with a file in it; each test works on a copy."""
    folder = tmp_path_factory.mktemp("saved")
    with Node(folder / "node", OPTIONS) as node:
        node.put("good", GOOD)
        assert node.stop() == 0
        yield node


@pytest.fixture
def node(saved, tmp_path):
    shutil.copytree(saved.folder, tmp_path / "node", symlinks=True)
    copy = Node(tmp_path / "node", saved.options)
    yield copy
    if copy.process is not None:
        copy.kill()


def plant_garbage(node: Node) -> int:
    """Put a hundred strange files among the shares; return how many."""
    dice = random.Random(7)
    shares = node.server(0) / "shares"
    real = next(p for p in shares.rglob("*") if p.is_file() and p.stat().st_size > 30_000)
    sound = real.read_bytes()
    planted = 0
    for i in range(80):
        slot = shares / f"{'abcdefgh'[i % 8]}a" / ("a" * 24 + "abcdefgh"[i % 8] + "a")
        slot.mkdir(parents=True, exist_ok=True)
        raw = bytearray(sound)
        at = dice.randrange(60)
        raw[at : at + 8] = dice.choice([b"\xff" * 8, bytes(8), dice.randbytes(8)])
        (slot / str(i)).write_bytes(raw[: dice.choice([0, 5, 11, 100, 30_000, len(raw)])])
        planted += 1
    slot = real.parent
    (slot / "11").symlink_to("/etc/passwd")
    (slot / "12").symlink_to(slot / "12")
    os.mkfifo(slot / "13")
    (slot / "14").mkdir()
    for name in ("-1", "256", "99999999999999999999", "0x1", "1_0", "٣", "a" * 255, ".", "1 "):
        if name != ".":
            (slot / name).write_bytes(sound)
    (shares / "zz").symlink_to("/")
    (shares / "not base32").mkdir()
    (shares / "file").write_bytes(NOISE)
    (shares / "incoming" / "left").write_bytes(NOISE)
    (shares / "incoming" / "loop").symlink_to(shares)
    return planted + 20


@pytest.mark.threat("D6", "O7")
def test_a_node_full_of_garbage_starts_and_serves_what_is_good(node, tmp_path):
    assert plant_garbage(node) >= 100
    pwned = tmp_path / "pwned"
    (node.folder / "running.process").write_bytes(NOISE)
    for name in ("bucket_counter.state", "lease_checker.state", "lease_checker.history"):
        (node.server(1) / name).write_bytes(PICKLE % str(pwned).encode())
    (node.folder / "tmp" / "spool" / "left").write_bytes(NOISE)
    (node.folder / "private" / "accounts-expired").write_bytes(NOISE)
    (node.folder / "private" / "removed-accounts").write_bytes(NOISE)
    (node.folder / "private" / "control").write_bytes(NOISE)
    with (node.folder / "logs" / "truckee.log").open("ab") as log:
        log.write(NOISE)
    with (node.folder / "private" / "accounts").open("a") as accounts:
        accounts.write("mallory $2b$99$ URI:DIR2:x\n\\\x07'\"\n")
    advisories = node.server(2) / "corruption-advisories"
    for i in range(50):
        (advisories / f"report-{i}").write_bytes(NOISE)
    node.start()
    assert node.get("good") == GOOD
    node.put("new", GOOD[::-1])
    assert node.get("new") == GOOD[::-1]
    assert sorted(node.names()) == ["good", "new"]
    assert not pwned.exists()
    assert node.stop() == 0
    log = (node.folder / "logs" / "truckee.log").read_bytes()
    assert b"Traceback" not in log


@pytest.mark.threat("D6", "O7")
def test_a_store_whose_own_files_are_damaged_is_a_failed_server(node):
    (node.server(0) / "nodeid").write_bytes(NOISE)
    shutil.rmtree(node.server(1) / "shares")
    (node.server(1) / "shares").write_bytes(NOISE)
    node.start()
    assert node.names() == ["good"]
    assert node.get("good") == GOOD
    assert node.stop() == 0


def start(folder) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", START, str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.threat("D6")
def test_what_cannot_be_done_without_is_told_in_three_lines(node):
    """One process per kind of damage would be slow: all are tried in one, and each is put right."""
    cases = [
        (name, kind, raw.hex())
        for name in NEEDED
        for kind, raw in DAMAGE.items()
        if name != "private/accounts" and (name, kind) not in LEGAL
    ]
    program = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from truckee.frontends.cli.main import run
folder = Path(sys.argv[1])
for name, kind, raw in json.load(sys.stdin):
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(bytes.fromhex(raw))
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(said):
        code = run(["start", str(folder), "--json"])
    path.write_bytes(whole)
    print(json.dumps([name, kind, code, said.getvalue()]), flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(node.folder)],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(cases), done.stderr[-2000:]
    for name, kind, code, said in answers:
        assert code not in (0, None), (name, kind)
        lines = [line for line in said.strip().split("\n") if "root" not in line]
        assert 1 <= len(lines) <= 3, (name, kind, said)
        assert "Traceback" not in said, (name, kind)


@pytest.mark.threat("D6", "A5")
@pytest.mark.parametrize("kind", ["zeros", "noise"])
def test_a_damaged_account_file_is_told_and_put_right_by_the_owner(node, kind):
    path = node.folder / "private" / "accounts"
    whole = path.read_bytes()
    path.write_bytes(DAMAGE[kind])
    code, said = start(node.folder)
    assert code not in (0, None)
    assert "Traceback" not in said
    path.write_bytes(whole)


@pytest.mark.threat("O9")
def test_two_nodes_share_no_secret(saved, tmp_path):
    from tests.fakes.node_folder import make_node

    other = make_node(tmp_path / "other", accounts=None, servers=3)
    for name in ("private/secret", "private/convergence", "servers/00/nodeid", "servers/01/nodeid"):
        assert (other / name).read_bytes() != (saved.folder / name).read_bytes()
    ids = {
        p.read_bytes()
        for p in (*other.glob("servers/*/nodeid"), *saved.folder.glob("servers/*/nodeid"))
    }
    assert len(ids) == 6


@pytest.mark.threat("S13")
def test_a_node_without_a_convergence_secret_is_warned(node):
    (node.folder / "private" / "convergence").write_bytes(b"")
    node.start()
    assert node.get("good") == GOOD
    assert node.stop() == 0
    assert "convergence secret is empty" in (node.folder / "logs" / "truckee.log").read_text()


@pytest.mark.threat("S13")
def test_the_convergence_secret_of_a_node_has_32_random_bytes(saved):
    from truckee.core.formats import base32

    for name in ("secret", "convergence"):
        raw = (saved.folder / "private" / name).read_text().strip()
        assert len(base32.a2b(raw)) == 32
        assert len(set(base32.a2b(raw))) > 16
