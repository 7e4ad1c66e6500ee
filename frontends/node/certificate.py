"""The certificate that a listener shows: given by the operator, or made at the first start.

Knows X.509, and the rules of core.files for what is private; touches the folder it is given,
blocking: for start-up. One that we made stays as it is, and is never written over: clients remember
it. Every listener has its own, so that nothing said to one can be played to another.
"""

import ipaddress
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.logger import Logger

from truckee.core import files
from truckee.core.errors import ConfigError
from truckee.frontends.ftp.tls import Identity, PrivateKey

_log = Logger()

_LARGEST = 1 << 20
_MOST_CERTIFICATES = 10
_SMALLEST_RSA = 2048
_LIFETIME = timedelta(days=3650)
_EARLIER = timedelta(days=1)  # for clients whose clock is behind


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a listener shows, and how people recognise it."""

    identity: Identity
    fingerprint: str
    """SHA-256 over the certificate, as clients and openssl show it: ``AB:CD:…``."""
    made: bool
    """Whether it was made just now."""


def load_or_create(
    private: Path,
    listener: str,
    certificate_file: Path | None = None,
    key_file: Path | None = None,
    *,
    now: datetime | None = None,
) -> Certificate:
    """Return the certificate of a listener such as ``ftp``; without files given, our own.

    The key may be in the file of the certificate. Raises ConfigError when a file is missing, cannot
    be used or is open to others, or the key is another certificate's. One that has expired is used,
    with a warning.
    """
    now = now or datetime.now(UTC)
    made = False
    own = certificate_file is None
    certificate_file, key_file = places(private, listener, certificate_file, key_file)
    if own and not certificate_file.exists():
        _make(certificate_file, key_file, now)
        made = True
    identity = load(certificate_file, key_file)
    _warn_of_dates(identity.chain[0], certificate_file.name, now)
    fingerprint = identity.chain[0].fingerprint(hashes.SHA256()).hex(":").upper()
    _log.info(
        "{listener} certificate{made}: SHA256 {fingerprint}",
        listener=listener,
        made=" made" if made else "",
        fingerprint=fingerprint,
    )
    return Certificate(identity, fingerprint, made)


def places(
    private: Path, listener: str, certificate_file: Path | None, key_file: Path | None
) -> tuple[Path, Path]:
    """Return where certificate and key of a listener are, given what is configured."""
    if certificate_file is not None:
        return certificate_file, key_file or certificate_file
    if key_file is not None:
        raise ConfigError("tls_key needs tls_certificate")
    return private / f"{listener}_certificate.pem", private / f"{listener}_key.pem"


def load(certificate_file: Path, key_file: Path) -> Identity:
    """Return what the files hold; ConfigError when it cannot be used."""
    chain = _load_chain(certificate_file)
    key = _load_key(key_file)
    if _public_bytes(chain[0].public_key()) != _public_bytes(key.public_key()):
        raise ConfigError(f"{key_file.name} is not the key of {certificate_file.name}")
    return Identity(tuple(chain), key)


def _public_bytes(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return b""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _read(path: Path, *, private: bool) -> bytes:
    """Read a file that may be behind a link, as tools that renew certificates leave them."""
    try:
        return files.read(Path(os.path.realpath(path)), _LARGEST, private=private)
    except OSError as error:
        raise ConfigError(f"{path.name}: {error.strerror or 'it cannot be read'}") from None


def _load_chain(path: Path) -> Sequence[x509.Certificate]:
    data = _read(path, private=False)
    try:
        chain = x509.load_pem_x509_certificates(data)
    except ValueError:
        raise ConfigError(f"{path.name} holds no certificate in PEM form") from None
    if len(chain) > _MOST_CERTIFICATES:
        raise ConfigError(f"{path.name} holds more than {_MOST_CERTIFICATES} certificates")
    return chain


def _load_key(path: Path) -> PrivateKey:
    data = _read(path, private=True)
    try:
        key = load_pem_private_key(data, None)
    except TypeError:
        raise ConfigError(f"{path.name} is protected by a passphrase; none can be given") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{path.name} holds no private key in PEM form") from None
    match key:
        case ec.EllipticCurvePrivateKey():
            return key
        case rsa.RSAPrivateKey() if key.key_size >= _SMALLEST_RSA:
            return key
    raise ConfigError(f"{path.name}: a key must be elliptic, or RSA of {_SMALLEST_RSA} bits")


def _warn_of_dates(certificate: x509.Certificate, name: str, now: datetime) -> None:
    if now > certificate.not_valid_after_utc:
        _log.warn(
            "{name} has expired on {day}: careful clients refuse it",
            name=name,
            day=certificate.not_valid_after_utc.date().isoformat(),
        )
    elif now < certificate.not_valid_before_utc:
        _log.warn("{name} is not valid yet, or this machine's clock is wrong", name=name)


def _make(certificate_file: Path, key_file: Path, now: datetime) -> None:
    """Make both files. The key comes first: after a crash in between it is used, not replaced."""
    with suppress(FileExistsError):
        new = ec.generate_private_key(ec.SECP256R1())
        pem = new.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        files.create(key_file, pem)
    certificate = _self_signed(_load_key(key_file), now)
    files.create(certificate_file, certificate.public_bytes(Encoding.PEM))


def _self_signed(key: PrivateKey, now: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Truckee")])
    names = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]
    mark = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    above = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(mark)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(mark, critical=False)
        .add_extension(above, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    return builder.sign(key, hashes.SHA256())
