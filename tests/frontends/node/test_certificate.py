"""The certificate of a listener: made once, kept, or checked when it is given."""

import hashlib
import os
import shutil
import ssl
import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from twisted.logger import globalLogPublisher

from tests.fakes.ftps import TLSClient, shake, sign
from truckee.core.errors import ConfigError
from truckee.frontends.ftp.tls import Engine, server_context
from truckee.frontends.node.certificate import load_or_create


@pytest.fixture
def private(tmp_path):
    folder = tmp_path / "private"
    folder.mkdir(0o700)
    return folder


@pytest.fixture
def log():
    events: list[dict] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def pem_of(key, protection=None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection or NoEncryption())


def write(folder, certificate, key, mode=0o600):
    (folder / "c.pem").write_bytes(certificate)
    (folder / "k.pem").touch(mode)
    (folder / "k.pem").chmod(mode)
    (folder / "k.pem").write_bytes(key)
    return folder / "c.pem", folder / "k.pem"


def given(folder, key=None, certificate_key=None, mode=0o600, protection=None, **dates):
    key = key or ec.generate_private_key(ec.SECP256R1())
    certificate = sign(certificate_key or key, **dates).public_bytes(Encoding.PEM)
    return write(folder, certificate, pem_of(key, protection), mode)


@pytest.mark.threat("O1")
def test_the_first_start_makes_one_for_its_owner_alone_and_says_its_fingerprint(
    private, log
) -> None:
    old = os.umask(0)
    try:
        found = load_or_create(private, "ftp")
    finally:
        os.umask(old)
    assert found.made
    names = sorted(p.name for p in private.iterdir())
    assert names == ["ftp_certificate.pem", "ftp_key.pem"]
    for path in private.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert isinstance(found.identity.key.curve, ec.SECP256R1)
    said = [e for e in log if "fingerprint" in e]
    assert said[0]["fingerprint"] == found.fingerprint
    assert len(found.fingerprint) == 32 * 3 - 1


def test_the_fingerprint_is_that_of_the_certificate_clients_are_shown(private) -> None:
    found = load_or_create(private, "ftp")
    client = TLSClient()
    shake(Engine(server_context(found.identity)), client)
    shown = hashlib.sha256(client.tls.getpeercert(binary_form=True)).hexdigest().upper()
    assert found.fingerprint.replace(":", "") == shown


def test_clients_that_trust_it_accept_it_for_this_machine(private) -> None:
    found = load_or_create(private, "ftp")
    context = ssl.create_default_context(cafile=str(private / "ftp_certificate.pem"))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    for host in ("localhost", "127.0.0.1", "::1"):
        client = TLSClient(context)
        client.tls = context.wrap_bio(client._in, client._out, server_hostname=host)
        shake(Engine(server_context(found.identity)), client)


def test_later_starts_show_the_same(private) -> None:
    first, second = load_or_create(private, "ftp"), load_or_create(private, "ftp")
    assert first.fingerprint == second.fingerprint
    assert not second.made


@pytest.mark.threat("N6")
def test_another_listener_has_another_key(private) -> None:
    ftp, web = load_or_create(private, "ftp"), load_or_create(private, "web")
    assert pem_of(ftp.identity.key) != pem_of(web.identity.key)


def test_a_key_that_a_crash_left_alone_is_used(private) -> None:
    first = load_or_create(private, "ftp")
    (private / "ftp_certificate.pem").unlink()
    again = load_or_create(private, "ftp")
    assert pem_of(again.identity.key) == pem_of(first.identity.key)
    assert again.made


def test_a_lost_key_is_told_and_nothing_is_made_up(private) -> None:
    load_or_create(private, "ftp")
    (private / "ftp_key.pem").unlink()
    with pytest.raises(ConfigError, match=r"ftp_key\.pem: No such file"):
        load_or_create(private, "ftp")


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)],
    ids=["ecdsa", "rsa"],
)
def test_one_that_is_given_is_shown(private, tmp_path, key) -> None:
    found = load_or_create(private, "ftp", *given(tmp_path, key))
    assert not found.made
    assert list(private.iterdir()) == []
    shake(Engine(server_context(found.identity)), TLSClient())


def test_a_chain_and_a_key_in_one_file_behind_a_link(private, tmp_path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    above = sign(ec.generate_private_key(ec.SECP256R1())).public_bytes(Encoding.PEM)
    pem = sign(key).public_bytes(Encoding.PEM) + above + pem_of(key)
    both, _ = write(tmp_path, pem, b"")
    both.chmod(0o600)
    link = tmp_path / "live.pem"
    link.symlink_to(both)
    found = load_or_create(private, "ftp", link)
    assert len(found.identity.chain) == 2
    both.chmod(0o644)
    with pytest.raises(ConfigError, match="open to others"):
        load_or_create(private, "ftp", link)


@pytest.mark.threat("O1")
@pytest.mark.parametrize("mode", [0o640, 0o644, 0o604])
def test_a_key_that_others_can_read_is_refused(private, tmp_path, mode) -> None:
    with pytest.raises(ConfigError, match="open to others"):
        load_or_create(private, "ftp", *given(tmp_path, mode=mode))


def test_what_does_not_fit_together_is_refused(private, tmp_path) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(ConfigError, match=r"k\.pem is not the key of c\.pem"):
        load_or_create(private, "ftp", *given(tmp_path, certificate_key=other))
    with pytest.raises(ConfigError, match="needs tls_certificate"):
        load_or_create(private, "ftp", None, tmp_path / "k.pem")


def test_keys_that_cannot_be_used_are_refused_with_a_reason(private, tmp_path) -> None:
    with pytest.raises(ConfigError, match="passphrase"):
        load_or_create(
            private, "ftp", *given(tmp_path, protection=BestAvailableEncryption(b"word"))
        )
    with pytest.raises(ConfigError, match="RSA of 2048"):
        load_or_create(private, "ftp", *given(tmp_path, rsa.generate_private_key(65537, 1024)))
    key = ec.generate_private_key(ec.SECP256R1())
    strange = write(
        tmp_path,
        sign(key).public_bytes(Encoding.PEM),
        pem_of(ed25519.Ed25519PrivateKey.generate()),
    )
    with pytest.raises(ConfigError, match="elliptic, or RSA"):
        load_or_create(private, "ftp", *strange)
    with pytest.raises(ConfigError, match="no private key"):
        load_or_create(private, "ftp", *write(tmp_path, sign(key).public_bytes(Encoding.PEM), b"?"))
    with pytest.raises(ConfigError, match="no certificate"):
        load_or_create(private, "ftp", *write(tmp_path, b"?", pem_of(key)))
    shutil.rmtree(private)
    with pytest.raises(ConfigError, match="No such file"):
        load_or_create(private, "ftp", tmp_path / "absent.pem")


@pytest.mark.parametrize(
    ("dates", "said"),
    [({"before": -9, "after": -1}, "has expired"), ({"before": 1}, "not valid yet"), ({}, "")],
)
def test_dates_that_are_wrong_are_a_warning(private, tmp_path, log, dates, said) -> None:
    load_or_create(private, "ftp", *given(tmp_path, **dates))
    warnings = [str(e["log_format"]) for e in log if e["log_level"].name == "warn"]
    assert [said in w for w in warnings] == ([True] if said else [])


def test_our_own_lasts_ten_years(private) -> None:
    now = datetime.now(UTC)
    made = load_or_create(private, "ftp", now=now).identity.chain[0]
    assert made.not_valid_after_utc > now + timedelta(days=3600)
