"""Host keys: made at the first start, read at every other, never overwritten."""

import subprocess
from shutil import which

import pytest
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.fakes import ssh_keys
from truckee.core.errors import ConfigError
from truckee.frontends.sftp import host_keys
from truckee.frontends.sftp.host_keys import ED25519_FILE, RSA_FILE, load_or_create

REAL_RSA_BITS = host_keys.RSA_BITS


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(host_keys, "RSA_BITS", 2048)


def pem(key, *, old=False, passphrase=None) -> bytes:
    encryption = s.BestAvailableEncryption(passphrase) if passphrase else s.NoEncryption()
    form = s.PrivateFormat.TraditionalOpenSSL if old else s.PrivateFormat.OpenSSH
    return key.private_bytes(s.Encoding.PEM, form, encryption)


def private(tmp_path, **files: bytes):
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    for name, data in files.items():
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o600)
    return folder


@pytest.mark.threat("N10")
def test_the_first_start_makes_both_keys_and_the_next_one_keeps_them(tmp_path):
    folder = tmp_path / "private"
    made = load_or_create(folder)
    for name in (ED25519_FILE, RSA_FILE):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
        assert (folder / name).read_bytes().startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----")
        assert (folder / f"{name}.pub").read_bytes().startswith(b"ssh-")
    again = load_or_create(folder)
    assert again.fingerprints == made.fingerprints
    assert made.algorithms == [b"ssh-ed25519", b"rsa-sha2-512", b"rsa-sha2-256"]


def test_the_rsa_key_that_is_made_has_3072_bits():
    assert REAL_RSA_BITS == 3072


@pytest.mark.threat("N10")
def test_the_fingerprints_are_those_that_openssh_shows(tmp_path):
    if which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed")
    found = dict(load_or_create(tmp_path / "private").fingerprints)
    for name, kind in ((ED25519_FILE, "ssh-ed25519"), (RSA_FILE, "ssh-rsa")):
        command = ["ssh-keygen", "-lf", tmp_path / "private" / name]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert found[kind] in shown.split()


def test_a_missing_public_file_comes_back(tmp_path):
    folder = tmp_path / "private"
    load_or_create(folder)
    public = folder / f"{ED25519_FILE}.pub"
    was = public.read_bytes()
    public.unlink()
    load_or_create(folder)
    assert public.read_bytes() == was


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_open_to_others_stops_the_start(tmp_path, mode):
    folder = private(tmp_path, **{ED25519_FILE: pem(Ed25519PrivateKey.generate())})
    (folder / ED25519_FILE).chmod(mode)
    with pytest.raises(ConfigError, match="open to others"):
        load_or_create(folder)


@pytest.mark.parametrize("old", [False, True])
def test_a_key_behind_a_passphrase_stops_the_start_and_says_why(tmp_path, old):
    data = pem(ssh_keys.rsa_key(1), old=old, passphrase=b"word")
    folder = private(tmp_path, **{RSA_FILE: data})
    with pytest.raises(ConfigError, match="passphrase"):
        load_or_create(folder)
    assert (folder / RSA_FILE).read_bytes() == data


@pytest.mark.parametrize(
    "data", [b"", b"no key", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", b"x" * 100_000]
)
def test_what_is_no_key_stops_the_start_and_stays(tmp_path, data):
    folder = private(tmp_path, **{ED25519_FILE: data})
    with pytest.raises(ConfigError, match=ED25519_FILE):
        load_or_create(folder)
    assert (folder / ED25519_FILE).read_bytes() == data


def test_keys_of_other_kinds_and_short_ones_are_refused(tmp_path):
    curve = private(tmp_path, **{ED25519_FILE: pem(ec.generate_private_key(ec.SECP256R1()))})
    with pytest.raises(ConfigError, match="neither"):
        load_or_create(curve)
    (curve / ED25519_FILE).unlink()
    short = tmp_path / "short"
    short.write_bytes(pem(rsa.generate_private_key(65537, 1024), old=True))
    short.chmod(0o600)
    with pytest.raises(ConfigError, match="2048"):
        load_or_create(curve, short)


def test_a_link_in_place_of_a_key_is_not_followed(tmp_path):
    folder = private(tmp_path)
    (tmp_path / "elsewhere").write_bytes(pem(Ed25519PrivateKey.generate()))
    (tmp_path / "elsewhere").chmod(0o600)
    (folder / ED25519_FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="symbolic link"):
        load_or_create(folder)
    (folder / ED25519_FILE).unlink()
    (folder / ED25519_FILE).symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="symbolic link"):
        load_or_create(folder)


@pytest.mark.parametrize("old", [False, True])
def test_a_configured_key_takes_the_place_of_its_kind_alone(tmp_path, old):
    configured = tmp_path / "ssh_host_key"
    key = ssh_keys.rsa_key(2)
    configured.write_bytes(pem(key, old=old))
    configured.chmod(0o600)
    found = load_or_create(tmp_path / "private", configured)
    assert [kind for kind, _ in found.fingerprints] == ["ssh-ed25519", "ssh-rsa"]
    assert found.pair(b"ssh-rsa")[0].blob() == ssh_keys.key("rsa-sha2-256", 2).blob
    assert not (tmp_path / "private" / RSA_FILE).exists()
    assert (tmp_path / "private" / ED25519_FILE).exists()


def test_a_configured_key_that_is_missing_stops_the_start(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_or_create(tmp_path / "private", tmp_path / "nowhere")


def test_what_is_printed_of_the_keys_is_their_fingerprints(tmp_path):
    found = load_or_create(tmp_path / "private")
    assert "SHA256:" in repr(found)
    assert "PRIVATE" not in repr(found)
