"""The keys by which clients recognise this server: made once, kept for ever, never replaced here.

Knows OpenSSH's and PEM private keys; touches the private directory, blocking, at start-up. Errors
are ConfigError with the file's short name, and OSError.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)
from twisted.conch.ssh.keys import Key
from twisted.logger import Logger

from truckee.core import files
from truckee.core.errors import ConfigError
from truckee.frontends.sftp.negotiation import HOST_KEY_ALGORITHMS

ED25519_FILE = "ssh_host_ed25519_key"
RSA_FILE = "ssh_host_rsa_key"
RSA_BITS = 3072
RSA_MINIMUM_BITS = 2048

_LIMIT = 64 * 1024

PrivateKey = Ed25519PrivateKey | RSAPrivateKey

_log = Logger()


class HostKeys:
    """One key for each type; at least one in all."""

    def __init__(self, keys: Sequence[PrivateKey]) -> None:
        """Take the private keys."""
        self._pairs = {}
        for key in keys:
            private = Key(key)
            self._pairs[private.sshType()] = (private.public(), private)
        self.algorithms = [n for n, kind in HOST_KEY_ALGORITHMS.items() if kind in self._pairs]

    def pair(self, key_type: bytes) -> tuple[Key, Key]:
        """Return the public and the private key of a type."""
        return self._pairs[key_type]

    @property
    def fingerprints(self) -> list[tuple[str, str]]:
        """Types and fingerprints, as OpenSSH shows them to whoever connects for the first time."""
        return [
            (kind.decode(), _fingerprint(public.blob()))
            for kind, (public, _) in self._pairs.items()
        ]

    def __repr__(self) -> str:
        return f"<HostKeys {self.fingerprints}>"


def _fingerprint(blob: bytes) -> str:
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return f"SHA256:{digest}"


def load_or_create(private: Path, configured: Path | None = None) -> HostKeys:
    """Return the keys in the directory `private`; those that are missing are made.

    The key of the file `configured`, if any, takes the place of the one of its type, which is then
    neither made nor read. Raises ConfigError when a key may not be used: open to others, behind a
    passphrase, of another type, too short, or no key.
    """
    given = [] if configured is None else [_load(configured)]
    own: list[tuple[type[PrivateKey], str, Callable[[], PrivateKey]]] = [
        (Ed25519PrivateKey, ED25519_FILE, Ed25519PrivateKey.generate),
        (RSAPrivateKey, RSA_FILE, lambda: generate_private_key(65537, RSA_BITS)),
    ]
    keys: list[PrivateKey] = []
    for kind, name, generate in own:
        replacing = [key for key in given if isinstance(key, kind)]
        keys += replacing or [_kept(private / name, generate)]
    found = HostKeys(keys)
    for key_type, fingerprint in found.fingerprints:
        _log.info("ssh host key {type} {fingerprint}", type=key_type, fingerprint=fingerprint)
    return found


def _kept(path: Path, generate: Callable[[], PrivateKey]) -> PrivateKey:
    """Return the key in a file of ours; make both when there is no such file."""
    if not path.is_symlink() and not path.exists():
        files.make_private_directory(path.parent)
        with suppress(FileExistsError):
            files.create(path, _serialised(generate()))
    key = _load(path)
    public = path.with_name(path.name + ".pub")
    if not public.exists():
        files.replace(public, _public_line(key))
    return key


def _load(path: Path) -> PrivateKey:
    try:
        data = files.read(path, _LIMIT)
    except OSError as error:
        raise ConfigError(f"host key {path.name} cannot be read: {error.strerror}") from None
    load = load_ssh_private_key if b"BEGIN OPENSSH" in data else load_pem_private_key
    try:
        key = load(data, None)
    except TypeError:
        raise ConfigError(f"host key {path.name} needs a passphrase, which is nowhere") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"host key {path.name} is no private key that can be used") from None
    if not isinstance(key, Ed25519PrivateKey | RSAPrivateKey):
        raise ConfigError(f"host key {path.name} is neither Ed25519 nor RSA")
    if isinstance(key, RSAPrivateKey) and key.key_size < RSA_MINIMUM_BITS:
        raise ConfigError(f"host key {path.name} has fewer than {RSA_MINIMUM_BITS} bits")
    return key


def _serialised(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def _public_line(key: PrivateKey) -> bytes:
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return public + b" truckee\n"
