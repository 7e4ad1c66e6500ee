import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.asymmetric import rsa as raw_rsa

from truckee.core.crypto import aes, hashes, rsa
from truckee.core.errors import FormatError

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/mutable.json").read_text())
KEYS = VECTORS["keys"]


def hexed(key, name):
    return bytes.fromhex(key[name])


@pytest.fixture(scope="module")
def pair():
    return rsa.generate()


@pytest.mark.parametrize("key", KEYS)
def test_pem_gives_the_recorded_der_of_both_halves(key):
    pair = rsa.load_pem(key["pem"].encode())
    assert pair.private_der == hexed(key, "privkey_der")
    assert pair.public_der == hexed(key, "pubkey_der")


@pytest.mark.parametrize("key", KEYS)
def test_every_derivation_is_as_recorded(key):
    private, public = hexed(key, "privkey_der"), hexed(key, "pubkey_der")
    writekey = hashes.mutable_writekey(private)
    readkey = hashes.mutable_readkey(writekey)
    storage_index = hashes.mutable_storage_index(readkey)
    assert writekey == hexed(key, "writekey")
    assert readkey == hexed(key, "readkey")
    assert storage_index == hexed(key, "storage_index")
    assert hashes.mutable_fingerprint(public) == hexed(key, "fingerprint")
    assert aes.ctr(writekey, private) == hexed(key, "encprivkey")
    peer, client = hexed(key, "peerid"), hexed(key, "client_secret")
    assert hashes.write_enabler_master(writekey) == hexed(key, "write_enabler_master")
    assert hashes.write_enabler(writekey, peer) == hexed(key, "write_enabler")
    renew = hashes.file_renewal_secret(hashes.client_renewal_secret(client), storage_index)
    cancel = hashes.file_cancel_secret(hashes.client_cancel_secret(client), storage_index)
    assert hashes.bucket_renewal_secret(renew, peer) == hexed(key, "bucket_renewal_secret")
    assert hashes.bucket_cancel_secret(cancel, peer) == hexed(key, "bucket_cancel_secret")
    assert hashes.mutable_datakey(hexed(key, "iv"), readkey) == hexed(key, "datakey")


def test_a_generated_key_has_2048_bits_and_the_usual_exponent(pair):
    public = rsa.PublicKey.load(pair.public_der)
    modulus, exponent = public.numbers()
    assert modulus.bit_length() == 2048
    assert exponent == 65537
    assert len(pair.public_der) == 294
    assert rsa.load_private(pair.private_der) == pair


def test_signatures_differ_and_verify(pair):
    public = rsa.PublicKey.load(pair.public_der)
    first, second = pair.sign(b"message"), pair.sign(b"message")
    assert first != second
    assert len(first) == rsa.SIGNATURE_SIZE
    assert public.verify(first, b"message")
    assert public.verify(second, b"message")


def test_altered_signatures_messages_and_lengths_do_not_verify(pair):
    public = rsa.PublicKey.load(pair.public_der)
    good = pair.sign(b"message")
    bad = bytes([good[0] ^ 1]) + good[1:]
    assert not public.verify(good, b"massage")
    for signature in (bad, b"", good[:-1], good + b"\0", bytes(100_000)):
        assert not public.verify(signature, b"message")


@pytest.mark.threat("S10")
def test_a_trusted_private_key_must_belong_to_the_public_one(pair):
    public = rsa.PublicKey.load(hexed(KEYS[0], "pubkey_der"))
    loaded = rsa.load_private(hexed(KEYS[0], "privkey_der"), public)
    assert public.verify(loaded.sign(b"x"), b"x")
    with pytest.raises(FormatError):
        rsa.load_private(pair.private_der, public)


def _spki(key):
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.mark.threat("U9")
def test_public_keys_of_other_sizes_exponents_and_kinds_are_refused():
    n = 2**2047 + 1
    refused = [
        _spki(raw_rsa.generate_private_key(65537, 1024).public_key()),
        _spki(ed25519.Ed25519PrivateKey.generate().public_key()),
        _spki(raw_rsa.RSAPublicNumbers(2**32 + 1, n).public_key()),
        _spki(raw_rsa.RSAPublicNumbers(65537, 2**4096 + 1).public_key()),
        b"",
        bytes(65536),
        hexed(KEYS[0], "pubkey_der")[:-1],
    ]
    for der in refused:
        with pytest.raises(FormatError):
            rsa.PublicKey.load(der)


@pytest.mark.parametrize("exponent", [3, 17, 2**32 - 1])
def test_public_keys_with_any_odd_exponent_of_32_bits_are_taken(exponent):
    der = _spki(raw_rsa.RSAPublicNumbers(exponent, 2**2047 + 1).public_key())
    assert rsa.PublicKey.load(der).numbers()[1] == exponent
    assert not rsa.PublicKey.load(der).verify(bytes(256), b"")


def test_private_keys_of_other_sizes_and_encrypted_ones_are_refused():
    small = raw_rsa.generate_private_key(65537, 1024)
    plain = serialization.NoEncryption()
    secret = serialization.BestAvailableEncryption(b"x")
    pkcs8, der, pem = (
        serialization.PrivateFormat.PKCS8,
        serialization.Encoding.DER,
        serialization.Encoding.PEM,
    )
    locked = serialization.load_pem_private_key(KEYS[0]["pem"].encode(), None)
    for raw in (small.private_bytes(der, pkcs8, plain), b"", bytes(65536)):
        with pytest.raises(FormatError):
            rsa.load_private(raw)
    with pytest.raises(FormatError):
        rsa.load_private(locked.private_bytes(der, pkcs8, secret))
    for raw in (small.private_bytes(pem, pkcs8, plain), locked.private_bytes(pem, pkcs8, secret)):
        with pytest.raises(FormatError):
            rsa.load_pem(raw)
    with pytest.raises(FormatError):
        rsa.load_pem(b"nonsense")


@pytest.mark.threat("L1")
def test_a_key_does_not_show_itself(pair):
    assert pair.private_der.hex() not in repr(pair)
    assert repr(pair).startswith("<truckee.core.crypto.rsa.KeyPair object")
