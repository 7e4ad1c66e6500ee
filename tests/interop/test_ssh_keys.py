"""OpenSSH's client logs in with keys of every type, those of an agent among them."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.openssh import HAS_OPENSSH
from tests.fakes.running import command
from tests.fakes.ssh_agent import Agent, agent
from tests.fakes.ssh_keys import KINDS, Key, key
from tests.system.node import Node

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not HAS_OPENSSH, reason="OpenSSH's client is not installed"),
]
KEYS = {kind: key(kind) for kind in KINDS if kind != "rsa-sha2-256"}
SECURITY_KEYS = [kind for kind in KEYS if kind.startswith("sk-")]


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Iterator[Node]:
    """A node with bob, who has every key, and pin, whose keys must know who touches them."""
    folder = tmp_path_factory.mktemp("keys")
    with Node(folder / "node", ("--servers", "1")) as running:
        (folder / "all.pub").write_text("".join(f"{k.line} {n}\n" for n, k in KEYS.items()))
        place = ["-d", running.folder]
        add = ["--no-password", "--key", folder / "all.pub"]
        for name in ("bob", "pin"):
            code, _, err = command("account", "add", name, *add, *place)
            assert code == 0, err
        accounts = running.folder / "private" / "accounts"
        lines = accounts.read_text().splitlines()
        marked = [f"{line} verify-required" if line[:6] == "pin - " else line for line in lines]
        copy = accounts.with_name("new")
        copy.touch(0o600)
        copy.write_text("\n".join(marked) + "\n")
        copy.replace(accounts)
        time.sleep(1.5)
        yield running


def login(node: Node, name: str, at: Agent, *options: str) -> subprocess.CompletedProcess:
    """Log in, ask where one is, and leave."""
    given = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "IdentityAgent": at.path,
        "IdentityFile": "/dev/null",
        "LogLevel": "ERROR",
    }
    words = [word for pair in given.items() for word in ("-o", f"{pair[0]}={pair[1]}")]
    return subprocess.run(
        ["sftp", "-F", "/dev/null", *words, *options, "-b", "-"]
        + ["-P", str(node.ready["sftp"]["port"]), f"{name}@127.0.0.1"],
        input="pwd\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("SSH_")},
    )


@contextlib.contextmanager
def holding(tmp_path: Path, *keys: Key, flags: int = 1) -> Iterator[Agent]:
    with agent(tmp_path / "a", *keys, flags=flags) as running:
        yield running


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_of_every_type_logs_in(node, tmp_path, kind) -> None:
    with holding(tmp_path, KEYS[kind]) as at:
        done = login(node, "bob", at)
    assert done.returncode == 0, done.stderr
    assert at.signed == 1


@pytest.mark.threat("A6")
@pytest.mark.parametrize("kind", SECURITY_KEYS)
def test_a_security_key_that_was_not_touched_does_not_log_in(node, tmp_path, kind) -> None:
    with holding(tmp_path, KEYS[kind], flags=0) as at:
        done = login(node, "bob", at)
    assert done.returncode == 255
    assert "Permission denied" in done.stderr
    assert at.signed == 1


@pytest.mark.threat("A6")
@pytest.mark.parametrize("kind", SECURITY_KEYS)
def test_a_security_key_is_asked_who_touched_it_where_the_account_wants_it(
    node, tmp_path, kind
) -> None:
    with holding(tmp_path, KEYS[kind], flags=1) as at:
        assert login(node, "pin", at).returncode == 255
    with holding(tmp_path, KEYS[kind], flags=5) as at:
        done = login(node, "pin", at)
    assert done.returncode == 0, done.stderr


@pytest.mark.threat("A6")
def test_rsa_with_sha1_is_not_even_asked_to_sign(node, tmp_path) -> None:
    with holding(tmp_path, KEYS["rsa-sha2-512"]) as at:
        done = login(node, "bob", at, "-oPubkeyAcceptedAlgorithms=ssh-rsa")
        assert done.returncode == 255
        assert at.signed == 0
        done = login(node, "bob", at, "-oPubkeyAcceptedAlgorithms=rsa-sha2-256")
    assert done.returncode == 0, done.stderr


@pytest.mark.threat("A1")
def test_no_key_is_asked_to_sign_for_somebody_elses_account(node, tmp_path) -> None:
    """A signature is asked for only when the key would do: an agent does not give itself away."""
    with holding(tmp_path, key("ssh-ed25519", 5)) as at:
        for name in ("bob", "nobody", "ann"):
            began = time.monotonic()
            assert login(node, name, at).returncode == 255
            assert time.monotonic() - began >= 0.5
    assert at.signed == 0


def test_the_right_key_may_be_the_last_of_nine_in_an_agent(node, tmp_path) -> None:
    others = [key("ssh-ed25519", n) for n in range(10, 18)]
    with holding(tmp_path, *others, KEYS["ssh-ed25519"]) as at:
        done = login(node, "bob", at)
    assert done.returncode == 0, done.stderr
    assert at.signed == 1


def test_an_agent_with_too_many_keys_is_shown_the_door(node, tmp_path) -> None:
    others = [key("ssh-ed25519", n) for n in range(10, 24)]
    with holding(tmp_path, *others, KEYS["ssh-ed25519"]) as at:
        done = login(node, "bob", at)
    assert done.returncode == 255
    assert at.signed == 0
