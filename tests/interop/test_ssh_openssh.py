"""OpenSSH's own programs against the SSH of an SFTP server: algorithms, new keys, refusals."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from twisted.internet import reactor  # noqa: TID251 - real sockets
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.fakes import ssh_keys
from tests.fakes.sftp_node import SftpNode
from truckee.frontends.sftp import ciphers, negotiation
from truckee.frontends.sftp.host_keys import HostKeys

pytestmark = pytest.mark.interop

BOTH = HostKeys([Ed25519PrivateKey.generate(), ssh_keys.rsa_key(3)])
USERS = [ssh_keys.key("ssh-ed25519", 1), ssh_keys.key("rsa-sha2-256", 4)]
USERS += [ssh_keys.key(f"ecdsa-sha2-{curve}") for curve in ssh_keys.CURVES]
REMOVED = [
    *[f"-oCiphers={name}" for name in ("aes128-cbc", "aes256-cbc", "3des-cbc")],
    *[
        f"-oCiphers=aes128-ctr -oMACs={name}"
        for name in ("hmac-sha1", "hmac-md5", "hmac-sha1-etm@openssh.com", "umac-64@openssh.com")
    ],
    *[
        f"-oKexAlgorithms=diffie-hellman-{name}"
        for name in ("group1-sha1", "group14-sha1", "group-exchange-sha1", "group-exchange-sha256")
    ],
    "-oHostKeyAlgorithms=ssh-rsa",
    "-oPubkeyAcceptedAlgorithms=ssh-rsa -oIdentityFile={rsa}",
]


class OpenSshTests(TestCase):
    """One node each; the clients are processes."""

    timeout = 120

    async def begin(self, own_keys=BOTH, **settings) -> None:
        for program in ("ssh", "sftp", "scp", "ssh-keyscan"):
            if shutil.which(program) is None:
                self.skipTest(f"{program} is not installed")
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.identities = []
        for i, key in enumerate(USERS):
            path = self.folder / f"id{i}"
            path.touch(0o600)
            path.write_bytes(
                key.private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
            )
            self.identities.append(path)
        blobs = [key.blob for key in USERS]
        self.node = SftpNode(reactor, self.folder, blobs, own_keys=own_keys, **settings)
        await self.node.start()
        self.addCleanup(self.node.end)

    def options(self, *more: str) -> list[str]:
        fixed = ["-F", "none", "-oBatchMode=yes", "-oIdentitiesOnly=yes"]
        fixed += ["-oUserKnownHostsFile=/dev/null", "-oStrictHostKeyChecking=no"]
        fixed += [f"-oPort={self.node.port}"]
        named = [word.format(rsa=self.identities[1]) for words in more for word in words.split()]
        if not any("IdentityFile" in word for word in named):
            named.append(f"-oIdentityFile={self.identities[0]}")
        return fixed + named

    async def run_program(self, name: str, *words: object, **environment: str):
        out, errors, status = await getProcessOutputAndValue(
            shutil.which(name), [str(w) for w in words], env={**os.environ, **environment}
        )
        return status, out, errors.decode()

    async def sftp(self, *options: str, commands: str = "pwd"):
        batch = self.folder / "batch"
        batch.write_text(commands + "\n")
        words = [*self.options(*options), "-b", batch, "alice@127.0.0.1"]
        return await self.run_program("sftp", *words)

    async def works(self, *options: str, commands: str = "pwd") -> None:
        status, _, errors = await self.sftp(*options, commands=commands)
        assert status == 0, (options, errors)

    async def there_and_back(self, size: int, *options: str) -> None:
        source, target = self.folder / "source", self.folder / "target"
        source.write_bytes(os.urandom(size))
        await self.works(*options, commands=f"put {source} file\nget file {target}")
        assert source.read_bytes() == target.read_bytes()

    async def test_every_cipher_mac_and_exchange_that_is_offered_is_used(self):
        await self.begin()
        _, out, _ = await self.run_program("ssh", "-Q", "kex")
        known = set(out.splitlines())
        for cipher in ciphers.CIPHERS:
            await self.there_and_back(200_000, f"-oCiphers={cipher.decode()}")
        for mac in ciphers.MACS:
            await self.there_and_back(200_000, f"-oCiphers=aes128-ctr -oMACs={mac.decode()}")
        for exchange in [n for n in negotiation.KEY_EXCHANGES if n in known]:
            await self.works(f"-oKexAlgorithms={exchange.decode()}")
        for algorithm in negotiation.HOST_KEY_ALGORITHMS:
            await self.works(f"-oHostKeyAlgorithms={algorithm.decode()}")

    @pytest.mark.threat("N3")
    async def test_what_was_removed_is_refused(self):
        await self.begin()
        for words in REMOVED:
            status, _, errors = await self.sftp(words)
            assert status != 0, words
            assert "Connection timed out" not in errors
        await self.works()

    @pytest.mark.threat("N2")
    async def test_strict_key_exchange_is_used(self):
        await self.begin()
        status, _, errors = await self.sftp("-vv")
        assert status == 0
        assert "kex-strict-s-v00@openssh.com" in errors
        if "kex-strict-c-v00@openssh.com" not in errors:
            self.skipTest("this OpenSSH is older than strict key exchange")
        assert "resetting send seqnr" in errors
        assert "resetting read seqnr" in errors
        assert "server-sig-algs=<ssh-ed25519,sk-ssh-ed25519@openssh.com," in errors

    async def test_every_kind_of_user_key_lets_in(self):
        await self.begin()
        for path in self.identities:
            await self.works(f"-oIdentityFile={path}")

    async def test_an_rsa_user_key_works_beside_a_host_key_of_another_kind(self):
        await self.begin(own_keys=HostKeys([Ed25519PrivateKey.generate()]))
        await self.works(f"-oIdentityFile={self.identities[1]}")

    async def test_a_client_may_want_new_keys_all_the_time(self):
        await self.begin()
        for cipher in ("aes256-gcm@openssh.com", "aes128-ctr"):
            await self.there_and_back(500_000, f"-oRekeyLimit=100K -oCiphers={cipher}")

    async def test_the_server_may_want_new_keys_all_the_time(self):
        await self.begin(rekey_bytes=100_000)
        for cipher in ("aes256-gcm@openssh.com", "aes128-ctr"):
            await self.there_and_back(3_000_000, f"-oCiphers={cipher}")

    async def test_a_client_that_is_asked_for_signs_of_life_stays(self):
        await self.begin(keepalive=0.2)
        await self.works(commands="pwd\n!sleep 1.5\nls")
        await self.there_and_back(100_000)

    async def test_programs_shells_and_forwarding_are_refused_at_once(self):
        await self.begin()
        here = "alice@127.0.0.1"
        for words in (["md5sum", "x"], []):
            status, _, errors = await self.run_program("ssh", *self.options("-T"), here, *words)
            assert status == 255, errors
            assert "request failed" in errors
        words = self.options("-W", f"127.0.0.1:{self.node.port}")
        status, _, errors = await self.run_program("ssh", *words, here)
        assert status != 0
        assert "administratively prohibited" in errors
        source = self.folder / "source"
        source.write_bytes(b"x")
        words = [*self.options("-O"), source, f"{here}:x"]
        status, _, _ = await self.run_program("scp", *words)
        assert status != 0
        words = [*self.options(), source, f"{here}:x"]
        status, _, errors = await self.run_program("scp", *words)
        assert status == 0, errors

    async def test_passwords_come_in_and_wrong_ones_do_not(self):
        await self.begin()
        ask = self.folder / "ask"
        options = ["-oBatchMode=no", "-oPubkeyAuthentication=no", "-oNumberOfPasswordPrompts=1"]
        environment = {"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
        batch = self.folder / "batch"
        batch.write_text("pwd\n")
        for word, good in (("secret", True), ("wrong", False)):
            ask.write_text(f"#!/bin/sh\necho {word}\n")
            ask.chmod(0o700)
            fixed = [w for w in self.options() if w != "-oBatchMode=yes"]
            words = [*options, *fixed, "-b", batch, "alice@127.0.0.1"]
            status, _, errors = await self.run_program("sftp", *words, **environment)
            assert ("Permission denied" in errors) != good, errors
            assert (status == 0) == good

    @pytest.mark.threat("N10")
    async def test_the_fingerprints_that_were_logged_are_those_that_clients_see(self):
        await self.begin()
        words = ["-p", self.node.port, "127.0.0.1"]
        _, out, _ = await self.run_program("ssh-keyscan", *words)
        found = self.folder / "keys"
        found.write_bytes(out)
        _, out, _ = await self.run_program("ssh-keygen", "-lf", found)
        shown = {line.split()[1] for line in out.decode().splitlines()}
        assert shown == {fingerprint for _, fingerprint in self.node.host_keys.fingerprints}
