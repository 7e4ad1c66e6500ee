"""What OpenSSH, ssh-audit and paramiko see of the SSH side: algorithms, keys, odd requests."""

import json
import random
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.interop.clients.base import Refused
from tests.interop.clients.node import ClientNode
from tests.interop.clients.sftp import PEERS, Paramiko, Scp, Sftp

pytestmark = pytest.mark.interop

GOOD = {
    "KexAlgorithms": [
        "curve25519-sha256",
        "curve25519-sha256@libssh.org",
    ],
    "Ciphers": [
        "aes256-gcm@openssh.com",
        "aes128-gcm@openssh.com",
        "aes256-ctr",
        "aes192-ctr",
        "aes128-ctr",
    ],
    "MACs": [
        "hmac-sha2-256-etm@openssh.com",
        "hmac-sha2-512-etm@openssh.com",
        "hmac-sha2-256",
        "hmac-sha2-512",
    ],
    "HostKeyAlgorithms": ["ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256"],
}
BAD = {
    "KexAlgorithms": [
        "diffie-hellman-group1-sha1",
        "diffie-hellman-group14-sha1",
        "diffie-hellman-group-exchange-sha1",
        "ecdh-sha2-nistp256",
    ],
    "Ciphers": ["3des-cbc", "aes128-cbc", "aes256-cbc"],
    "MACs": ["hmac-sha1", "hmac-md5", "hmac-sha1-96-etm@openssh.com", "umac-64@openssh.com"],
    "HostKeyAlgorithms": ["ssh-rsa", "ssh-dss"],
}
DATA = random.Random(6).randbytes(500_000)

# what ssh-audit has to say about what is offered for old clients, and why that is borne
BORNE = {
    "hmac-sha2-256": "MAC beside the cipher, for clients that know no -etm",
    "hmac-sha2-512": "as above",
    "curve25519-sha256": "not safe from quantum computers; one that is comes first",
    "curve25519-sha256@libssh.org": "as above",
}


@pytest.fixture(scope="module")
def node(shared_node: ClientNode) -> ClientNode:
    shared_node.put("data", DATA)
    return shared_node


@pytest.fixture
def sftp(node: ClientNode, tmp_path: Path) -> Sftp:
    client = Sftp(node.server, tmp_path)
    if why := client.missing():
        pytest.skip(why)
    return client


def both(options: dict[str, list[str]]) -> list:
    return [pytest.param(k, v, id=f"{k}-{v}") for k, values in options.items() for v in values]


def with_option(option: str, algorithm: str) -> tuple[str, ...]:
    plain = ("-o", "Ciphers=aes256-ctr") if option == "MACs" else ()
    return ("-o", f"{option}={algorithm}", *plain)


@pytest.mark.parametrize(("option", "algorithm"), both(GOOD))
def test_bytes_are_the_same_with_each_algorithm(
    sftp: Sftp, node: ClientNode, tmp_path: Path, option: str, algorithm: str
) -> None:
    (tmp_path / "up").write_bytes(DATA)
    commands = (f'put "{tmp_path}/up" up', f'get up "{tmp_path}/down"', "rm up")
    sftp.do(*commands, options=with_option(option, algorithm))
    assert (tmp_path / "down").read_bytes() == DATA


@pytest.mark.threat("N2")
@pytest.mark.parametrize(("option", "algorithm"), both(BAD))
def test_what_is_weak_is_refused(sftp: Sftp, option: str, algorithm: str) -> None:
    with pytest.raises(Refused) as caught:
        sftp.do("ls", options=with_option(option, algorithm))
    words = ("Unable to negotiate", "no matching", "Bad ", "Unsupported", "unknown")
    assert any(word in caught.value.text for word in words), caught.value


@pytest.mark.threat("N2")
def test_strict_key_exchange_is_agreed_on(sftp: Sftp) -> None:
    done = subprocess.run(
        [str(word) for word in sftp.command("-vvv", batch="/dev/null")],
        env=sftp.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "kex-strict-s-v00@openssh.com" in done.stderr
    assert "will use strict KEX ordering" in done.stderr


@pytest.mark.parametrize("limit", ["100K", "16K"])
def test_new_keys_in_the_middle_of_a_transfer_change_no_byte(
    sftp: Sftp, node: ClientNode, tmp_path: Path, limit: str
) -> None:
    (tmp_path / "up").write_bytes(DATA)
    sftp.do(
        f'put "{tmp_path}/up" up',
        f'get up "{tmp_path}/down"',
        options=("-o", f"RekeyLimit={limit}"),
    )
    assert (tmp_path / "down").read_bytes() == DATA
    assert node.get("up") == DATA


def test_an_rsa_key_opens_a_server_that_shows_an_ed25519_key(sftp: Sftp, tmp_path: Path) -> None:
    client = Sftp(replace(sftp.server, login="rsa"), tmp_path)
    assert "data" in client.do("ls -1", options=("-o", "HostKeyAlgorithms=ssh-ed25519"))


def test_another_key_and_another_name_are_refused(sftp: Sftp, tmp_path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "id_ed25519"]
    subprocess.run(command, check=True)
    for server in (
        replace(sftp.server, keys=tmp_path),
        replace(sftp.server, user="nobody-we-know"),
    ):
        with pytest.raises(Refused) as caught:
            Sftp(server, tmp_path).do("ls")
        assert caught.value.is_as("denied")


@pytest.mark.parametrize(
    ("options", "command"),
    [
        pytest.param([], ["id"], id="command"),
        pytest.param(["-tt"], [], id="shell on a terminal"),
        pytest.param(["-N", "-R", "0:127.0.0.1:9"], [], id="port of the server"),
        pytest.param(["-W", "127.0.0.1:9"], [], id="port behind the server"),
    ],
)
def test_there_is_no_shell_no_command_and_no_forwarding(
    sftp: Sftp, options: list[str], command: list[str]
) -> None:
    place = f"{sftp.server.user}@{sftp.server.host}"
    always = [*sftp.options(), "-o", "ExitOnForwardFailure=yes", "-p", sftp.server.sftp_port]
    with pytest.raises(Refused):
        sftp.run(["ssh", *always, *options, place, *command], "exit\n")


def test_the_old_protocol_of_scp_fails_at_once(
    sftp: Sftp, node: ClientNode, tmp_path: Path
) -> None:
    scp = Scp(sftp.server, tmp_path)
    scp.longest = 20
    (tmp_path / "up").write_bytes(DATA)
    with pytest.raises(Refused):
        scp.do("-O", tmp_path / "up", scp.at("/by old scp"))
    assert "by old scp" not in node.names("/")


@pytest.mark.threat("N2")
def test_ssh_audit_finds_no_weak_algorithm_and_no_terrapin(node: ClientNode) -> None:
    if not (PEERS / "ssh-audit").exists():
        pytest.skip("not set up: make peers")
    port = str(node.server.sftp_port)
    done = subprocess.run(
        [PEERS / "ssh-audit", "-j", "--skip-rate-test", "-p", port, "127.0.0.1"],
        capture_output=True,
        timeout=120,
        check=False,
    )
    report = json.loads(done.stdout)
    assert report["cves"] == []
    assert report["banner"]["raw"] == "SSH-2.0-Truckee"
    assert report["compression"] == ["none"]
    offered = {item["algorithm"] for part in ("kex", "key", "enc", "mac") for item in report[part]}
    assert "kex-strict-s-v00@openssh.com" in offered
    marked = {
        item["algorithm"]
        for part in ("kex", "key", "enc", "mac")
        for item in report[part]
        if {"fail", "warn"} & set(item["notes"])
    }
    assert marked <= set(BORNE)
    assert all(item.get("keysize", 3072) >= 3072 for item in report["key"])


def test_odd_requests_get_one_answer_each_and_the_session_goes_on(
    node: ClientNode, tmp_path: Path
) -> None:
    client = Paramiko(node.server, tmp_path)
    if why := client.missing():
        pytest.skip(why)
    client.driver = "raw_sftp.py"
    assert json.loads(client.do("odd_requests", "/odd")) == {
        "write with trailing bytes": 0,
        "request cut short": 5,
        "no fields at all": 5,
        "unknown request": 8,
        "close": 0,
        "read on a closed handle": 4,
        "write on a closed handle": 4,
        "close again": 4,
        "content": "data",
    }
