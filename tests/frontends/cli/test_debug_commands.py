import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.fakes.account_lines import GOOD_ROOTS
from tests.fakes.node_folder import make_node
from truckee.core.client import account_convergence
from truckee.core.formats import base32, caps
from truckee.frontends.cli.main import run
from truckee.frontends.cli.output import Exit

VECTORS = Path(__file__).parents[2] / "vectors"


@pytest.fixture
def say(capsys):
    def call(*words):
        code = run(list(words))
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


def test_the_read_cap_of_a_file_is_computed_without_a_node(say, tmp_path):
    (tmp_path / "f").write_bytes(b"x" * 3000)
    convergence = base32.b2a(b"c" * 32)
    (tmp_path / "secret").write_text(convergence + "\n")
    code, out, _ = say("debug", "cap", str(tmp_path / "f"), "--convergence", convergence)
    cap = caps.parse_strict(out.strip())
    assert code == Exit.OK
    assert isinstance(cap, caps.ChkReadCap)
    assert (cap.needed_shares, cap.total_shares, cap.size) == (3, 10, 3000)
    code, again, _ = say("debug", "cap", str(tmp_path / "f"), f"--convergence=@{tmp_path}/secret")
    assert again == out
    _, other, _ = say(
        *["debug", "cap", str(tmp_path / "f"), "--convergence", convergence],
        *["--needed", "2", "--total", "4", "--segment-size", "1000"],
    )
    assert other != out
    (tmp_path / "f").write_bytes(b"abc")
    _, lit, _ = say("debug", "cap", str(tmp_path / "f"), "--convergence", "")
    assert lit == "URI:LIT:mfrgg\n"


def test_the_read_cap_is_the_one_that_an_account_of_the_node_gets(say, tmp_path):
    node = make_node(tmp_path / "node")
    (node / "private").rename(tmp_path / "stick")
    with (node / "truckee.cfg").open("a") as config:
        config.write(f"[node]\nprivate_dir = {tmp_path / 'stick'}\n")
    (tmp_path / "f").write_bytes(b"x" * 3000)
    secret = base32.a2b((tmp_path / "stick" / "convergence").read_text().strip())
    command = ["debug", "cap", str(tmp_path / "f")]
    _, plain, _ = say("-d", str(node), *command)
    assert plain == say(*command, "--convergence", base32.b2a(secret))[1]
    _, of_zoe, _ = say("-d", str(node), *command, "--account", "zoe\u0308")
    convergence = base32.b2a(account_convergence(secret, "zoë"))
    assert of_zoe == say(*command, "--convergence", convergence)[1] != plain


IMMUTABLE = json.loads((VECTORS / "immutable.json").read_text())
MUTABLE = json.loads((VECTORS / "mutable.json").read_text())


def stream(seed, size):
    blocks = range(-(-size // 32))
    data = b"".join(hashlib.sha256(seed.encode() + i.to_bytes(8, "big")).digest() for i in blocks)
    return data[:size]


@pytest.mark.parametrize("case", IMMUTABLE["shares"], ids=lambda case: case["name"])
def test_the_read_cap_is_the_one_that_tahoe_gives(say, tmp_path, case):
    (tmp_path / "f").write_bytes(stream(**case["plaintext"]))
    code, out, _ = say(
        *["debug", "cap", str(tmp_path / "f"), "--needed", str(case["k"])],
        *["--total", str(case["n"]), "--segment-size", str(case["max_segment_size"])],
        *["--convergence", base32.b2a(bytes.fromhex(case["convergence_hex"]))],
    )
    assert (code, out.strip()) == (Exit.OK, case["read_cap"])


def test_the_write_cap_of_a_key_is_the_one_that_tahoe_gives(say, tmp_path):
    for case in MUTABLE["files"]:
        (tmp_path / "pem").write_text(MUTABLE["keys"][case["key"]]["pem"])
        _, out, _ = say(
            *["debug", "cap", "--private-key", str(tmp_path / "pem")],
            *["--format", case["format"].lower()],
        )
        assert out.strip() == case["cap"]


@pytest.mark.threat("L1")
def test_share_files_are_described_without_their_secrets(say, tmp_path):
    (tmp_path / "0").write_bytes(bytes.fromhex(MUTABLE["container_v1"]["hex"]))
    _, out, _ = say("debug", "dump-share", str(tmp_path / "0"))
    assert "mutable, version 1" in out
    assert "57" * 8 not in out
    share = bytes.fromhex(IMMUTABLE["shares"][0]["full_share"]["hex"])
    lease = b"\0\0\0\0" + b"R" * 32 + b"C" * 32 + b"\1\2\3\4"
    header = (2).to_bytes(4) + len(share).to_bytes(4) + (1).to_bytes(4)
    (tmp_path / "1").write_bytes(header + share + lease)
    code, out, err = say("debug", "dump-share", str(tmp_path / "1"))
    assert code == Exit.OK, err
    assert "immutable, version 2" in out
    assert "share root hash" in out
    assert "RRRR" not in out


@pytest.mark.parametrize("kind", ["sdmf", "mdmf"])
def test_the_write_cap_of_a_private_key_is_computed(say, tmp_path, kind):
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "pem").write_bytes(pem)
    code, out, _ = say("debug", "cap", "--private-key", str(tmp_path / "pem"), "--format", kind)
    cap = caps.parse_strict(out.strip())
    assert code == Exit.OK
    assert isinstance(cap, caps.SdmfWriteCap if kind == "sdmf" else caps.MdmfWriteCap)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["cap"], Exit.USAGE),
        (["cap", "/absent", "--convergence", ""], Exit.NOT_FOUND),
        (["cap", "/etc/hostname", "--needed", "0", "--convergence", ""], Exit.USAGE),
        (["cap", "/etc/hostname", "--convergence", "not base32"], Exit.FAILED),
        (["cap", "/etc/hostname", "--convergence", "@/absent"], Exit.NOT_FOUND),
        (["cap", "--private-key", "/absent", "--format", "sdmf"], Exit.NOT_FOUND),
        (["cap", "--private-key", "/etc/hostname"], Exit.USAGE),
        (["cap", "--private-key", "/etc/hostname", "--format", "sdmf"], Exit.FAILED),
        (["dump-share", "/absent"], Exit.NOT_FOUND),
        (["dump-share", "/etc/hostname"], Exit.FAILED),
        (["dump-share", "/"], Exit.NOT_FOUND),
    ],
)
def test_what_cannot_be_done_is_told(say, words, code):
    found, out, err = say("debug", *words)
    assert found == code, err
    assert out == ""
    assert err


@pytest.mark.threat("L1")
@pytest.mark.parametrize("text", GOOD_ROOTS.values(), ids=GOOD_ROOTS)
def test_a_capability_is_described_without_its_keys(say, tmp_path, text):
    (tmp_path / "cap").write_text(text + "\n")
    code, out, _ = say("debug", "dump-cap", f"@{tmp_path}/cap")
    assert code == Exit.OK
    assert text not in out
    assert out.startswith("kind: URI:DIR2")


def test_an_unknown_capability_is_told(say, tmp_path):
    (tmp_path / "cap").write_text("URI:NEW:abc")
    assert say("debug", "dump-cap", f"@{tmp_path}/cap")[0] == Exit.FAILED


def test_the_version_is_told(say):
    code, out, _ = say("--version")
    assert code == Exit.OK
    assert out.startswith("truckee 0.")


def test_help_is_there_for_every_command(say):
    for words in ([], ["start"], ["run"], ["create"], ["account"], ["debug"], ["debug", "cap"]):
        code, out, _ = say(*words, "--help")
        assert code == Exit.OK
        assert out.startswith("Usage: truckee")


def test_an_error_of_our_own_shows_no_traceback(say, monkeypatch):
    monkeypatch.setattr("truckee.frontends.cli.debug._read", lambda path: json.loads("{"))
    code, _, err = say("debug", "dump-cap", "@x")
    assert code == Exit.FAILED
    assert "internal error" in err
    assert "--debug" in err
