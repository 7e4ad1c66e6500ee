"""Packets under each cipher and MAC: sealed, measured, opened, and refused when altered."""

import hashlib
import hmac
import itertools

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from truckee.frontends.sftp import ciphers, negotiation
from truckee.frontends.sftp.messages import ProtocolError, Reason

KEY, IV, MAC_KEY = bytes(range(64)), bytes(range(100, 164)), bytes(range(64, 128))
PAIRS = [(c, m) for c in ciphers.CIPHERS for m in ciphers.MACS]


def pair(cipher: bytes, mac: bytes):
    arguments = (cipher, mac, KEY, IV, MAC_KEY)
    return ciphers.sealer(*arguments), ciphers.opener(*arguments)


def sealed(sealer, sequence: int, message: bytes) -> bytearray:
    return bytearray(b"".join(sealer.seal(sequence, [message], len(message))))


def opened(opener, sequence: int, packet: bytearray) -> bytes:
    size = opener.measure(packet, 0, 1 << 20)
    assert size == len(packet)
    return bytes(ciphers.unpadded(opener.open(sequence, memoryview(bytes(packet)))))


@given(messages=st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5))
@pytest.mark.parametrize(("cipher", "mac"), PAIRS)
def test_what_is_sealed_is_opened_again_packet_after_packet(cipher, mac, messages):
    sealer, opener = pair(cipher, mac)
    for i, message in enumerate(messages):
        assert opened(opener, i, sealed(sealer, i, message)) == message


@pytest.mark.parametrize(("cipher", "mac"), PAIRS)
def test_the_size_is_known_as_soon_as_the_first_bytes_are_there(cipher, mac):
    sealer, opener = pair(cipher, mac)
    packet = sealed(sealer, 0, b"x" * 100)
    known = [opener.measure(packet[:i], 0, 1000) for i in range(17)]
    assert known[-1] == len(packet)
    assert known.index(len(packet)) in {4, 16}
    assert opened(opener, 0, packet) == b"x" * 100


@pytest.mark.parametrize(("cipher", "mac"), PAIRS)
def test_another_number_or_a_changed_bit_is_noticed(cipher, mac):
    sealer, opener = pair(cipher, mac)
    packet = sealed(sealer, 0, b"x" * 100)
    packet[-1] ^= 1
    with pytest.raises(ProtocolError) as caught:
        opened(opener, 0, packet)
    assert caught.value.reason == Reason.MAC_ERROR
    if not ciphers.CIPHERS[cipher].is_aead:  # which count by themselves
        sealer, opener = pair(cipher, mac)
        with pytest.raises(ProtocolError):
            opened(opener, 1, sealed(sealer, 0, b"x" * 100))


def test_gcm_is_as_openssh_has_it():
    sealer, _ = pair(b"aes256-gcm@openssh.com", b"")
    first, second = sealed(sealer, 0, b"abc"), sealed(sealer, 1, b"defg")
    nonce = IV[:4] + (int.from_bytes(IV[4:12]) + 1).to_bytes(8)
    plain = AESGCM(KEY[:32]).decrypt(IV[:12], bytes(first[4:]), bytes(first[:4]))
    assert plain[0] == 12
    assert plain[1:4] == b"abc"
    assert len(plain) == 16 == int.from_bytes(first[:4])
    plain = AESGCM(KEY[:32]).decrypt(nonce, bytes(second[4:]), bytes(second[:4]))
    assert plain[1:5] == b"defg"


def test_encrypt_then_mac_covers_the_number_the_length_and_the_ciphertext():
    sealer, _ = pair(b"aes128-ctr", b"hmac-sha2-512-etm@openssh.com")
    packet = bytes(sealed(sealer, 5, b"abc"))
    body, mac = packet[:-64], packet[-64:]
    assert hmac.digest(MAC_KEY, (5).to_bytes(4) + body, hashlib.sha512) == mac
    stream = Cipher(algorithms.AES(KEY[:16]), modes.CTR(IV[:16])).decryptor()
    assert stream.update(body[4:])[1:4] == b"abc"


def test_a_nonce_goes_around_without_touching_its_fixed_part():
    iv = IV[:4] + b"\xff" * 8
    sealer = ciphers.sealer(b"aes128-gcm@openssh.com", b"", KEY, iv, b"")
    sealed(sealer, 0, b"x")
    packet = sealed(sealer, 1, b"abc")
    plain = AESGCM(KEY[:16]).decrypt(IV[:4] + bytes(8), bytes(packet[4:]), bytes(packet[:4]))
    assert plain[1:4] == b"abc"


@given(
    message=st.binary(min_size=1, max_size=70_000),
    cuts=st.lists(st.integers(0, 70_000), max_size=4),
)
def test_a_message_in_pieces_is_one_message(message, cuts):
    ends = sorted({min(c, len(message)) for c in cuts} | {0, len(message)})
    pieces = [memoryview(message)[a:b] for a, b in itertools.pairwise(ends)]
    sealer, opener = pair(b"aes128-gcm@openssh.com", b"")
    packet = bytearray(b"".join(sealer.seal(0, pieces, len(message))))
    assert opened(opener, 0, packet) == message


def test_the_lists_are_those_that_were_agreed_on_best_first():
    assert [n.decode() for n in negotiation.KEY_EXCHANGES][-2:] == [
        "curve25519-sha256",
        "curve25519-sha256@libssh.org",
    ]
    assert set(negotiation.KEY_EXCHANGES[:-2]) <= {b"mlkem768x25519-sha256"}
    host = list(negotiation.HOST_KEY_ALGORITHMS)
    assert host == [b"ssh-ed25519", b"rsa-sha2-512", b"rsa-sha2-256"]
    for name in [*negotiation.KEY_EXCHANGES, *ciphers.CIPHERS, *ciphers.MACS]:
        for weak in (b"cbc", b"sha1", b"md5", b"3des", b"none", b"group14", b"arcfour", b"nistp"):
            assert weak not in name
