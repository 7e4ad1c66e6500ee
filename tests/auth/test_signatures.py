import random
import subprocess
from pathlib import Path
from shutil import which

import pytest

from tests.fakes.account_lines import string
from tests.fakes.ssh_keys import KINDS, Key, key, mpint, rsa_key
from truckee.auth import public_keys, signatures

DATA = b"a session, a user, a service"
SECURITY_KEYS = [kind for kind in KINDS if kind.startswith("sk-")]


def good(signer: Key, signature: bytes, data: bytes = DATA, **kwargs) -> bool:
    return signatures.verify(signer.algorithm, signer.blob, data, signature, **kwargs)


@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_of_every_type_is_good(kind):
    assert good(key(kind), key(kind).sign(DATA))


@pytest.mark.parametrize("kind", KINDS)
def test_the_keys_of_these_tests_may_stand_in_an_account_file(kind):
    key_type, text = key(kind).line.split()
    assert public_keys.parse(key_type, text).blob == key(kind).blob


@pytest.mark.threat("A6")
@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_over_another_session_is_not_good(kind):
    assert not good(key(kind), key(kind).sign(b"another session"))


@pytest.mark.threat("A6")
@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_by_another_key_is_not_good(kind):
    assert not good(key(kind), key(kind, 1).sign(DATA))


@pytest.mark.threat("A6")
def test_a_sha1_signature_is_not_good_under_any_name():
    signer = key("rsa-sha2-256")
    sha1 = signer.sign(DATA, b"ssh-rsa")
    assert not signatures.verify(b"ssh-rsa", signer.blob, DATA, sha1)
    assert not good(signer, sha1)
    renamed = string(b"rsa-sha2-256") + string(signer.proper(DATA, b"ssh-rsa"))
    assert not good(signer, renamed)


@pytest.mark.threat("A6")
def test_the_algorithm_of_the_signature_is_the_one_that_was_asked_for():
    signer = key("rsa-sha2-256")
    assert not good(signer, signer.sign(DATA, b"rsa-sha2-512"))
    swapped = string(b"rsa-sha2-512") + string(signer.proper(DATA, b"rsa-sha2-256"))
    assert not good(key("rsa-sha2-512"), swapped)


@pytest.mark.threat("A6")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", [*KINDS, "ssh-rsa", "ssh-dss", "none", ""])
def test_an_algorithm_that_is_not_of_the_keys_type_is_refused(kind, other):
    signer = key(kind)
    signature = signer.sign(DATA)
    renamed = string(other.encode()) + signature[4 + len(signer.algorithm) :]
    if other != kind:
        assert not signatures.verify(other.encode(), signer.blob, DATA, renamed)
    fits = other == kind or (kind.startswith("rsa") and other.startswith("rsa"))
    assert signatures.fits(other.encode(), signer.blob) is fits


@pytest.mark.threat("A6")
@pytest.mark.parametrize("kind", SECURITY_KEYS)
def test_a_security_key_must_have_been_touched(kind):
    assert not good(key(kind), key(kind).sign(DATA, flags=0))
    assert not good(key(kind), key(kind).sign(DATA, flags=4))
    assert good(key(kind), key(kind).sign(DATA, flags=1))


@pytest.mark.threat("A6")
@pytest.mark.parametrize("kind", SECURITY_KEYS)
def test_a_security_key_that_must_verify_its_user_says_that_it_did(kind):
    assert not good(key(kind), key(kind).sign(DATA, flags=1), verified=True)
    assert not good(key(kind), key(kind).sign(DATA, flags=4), verified=True)
    assert good(key(kind), key(kind).sign(DATA, flags=5), verified=True)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in SECURITY_KEYS])
def test_keys_that_cannot_tell_who_used_them_are_not_asked(kind):
    assert good(key(kind), key(kind).sign(DATA), verified=True)


@pytest.mark.threat("A6")
@pytest.mark.parametrize("kind", SECURITY_KEYS)
def test_what_a_security_key_reports_is_under_its_signature(kind):
    silent = key(kind).sign(DATA, flags=0)
    touched = silent[:-5] + b"\x01" + silent[-4:]
    assert not good(key(kind), touched)
    counted = key(kind).sign(DATA)
    assert not good(key(kind), counted[:-1] + b"\x00")
    assert not good(key(kind), key(kind).sign(DATA, application=b"https://example"))


@pytest.mark.threat("A6")
@pytest.mark.parametrize("kind", KINDS)
def test_any_byte_more_less_or_other_makes_a_signature_bad(kind):
    signature = key(kind).sign(DATA)
    chance = random.Random(6)
    for _ in range(60):
        at = chance.randrange(len(signature))
        flipped = bytearray(signature)
        flipped[at] ^= 1 << chance.randrange(8)
        assert not good(key(kind), bytes(flipped))
    for end in range(0, len(signature), 7):
        assert not good(key(kind), signature[:end])
    for tail in (b"\x00", b"\x00" * 4, string(b"more"), b"\xff" * 20_000):
        assert not good(key(kind), signature + tail)


@pytest.mark.threat("A6")
@pytest.mark.parametrize(
    "numbers",
    [
        mpint(0) + mpint(0),
        string(b"") + string(b""),
        string(b"\xff" * 32) + string(b"\xff" * 32),
        mpint(1 << 4000) + mpint(1 << 4000),
        mpint(1),
        b"",
    ],
)
def test_numbers_that_no_curve_gives_are_not_good(numbers):
    signer = key("ecdsa-sha2-nistp256")
    assert not good(signer, string(signer.algorithm) + string(numbers))


@pytest.mark.parametrize(
    "blob",
    [
        string(b"ssh-ed25519"),
        string(b"ssh-ed25519") + string(bytes(31)),
        string(b"ssh-ed25519") + string(bytes(32)) + b"\x00\x00",
        string(b"ssh-ed25519") + b"\xff\xff\xff\xff",
    ],
)
def test_a_key_that_is_none_gives_no_good_signature(blob):
    signature = key("ssh-ed25519").sign(DATA)
    assert not signatures.verify(b"ssh-ed25519", blob, DATA, signature)


def test_a_point_beside_the_curve_gives_no_good_signature():
    signer = key("ecdsa-sha2-nistp256")
    blob = signer.blob[:-1] + bytes([signer.blob[-1] ^ 1])
    assert not signatures.verify(signer.algorithm, blob, DATA, signer.sign(DATA))


def test_zeros_in_front_of_an_rsa_signature_may_be_left_out():
    signer = key("rsa-sha2-256")
    proper, data = b"", b""
    for attempt in range(5000):
        data = b"%d" % attempt
        proper = signer.proper(data, signer.algorithm)
        if proper[0] == 0:
            break
    assert proper[0] == 0
    signature = string(signer.algorithm) + string(proper.lstrip(b"\x00"))
    assert good(signer, signature, data)
    longer = string(signer.algorithm) + string(b"\x00" + proper)
    assert not good(signer, longer, data)
    assert rsa_key(0) is signer.private


@pytest.mark.interop
@pytest.mark.skipif(which("ssh-keygen") is None, reason="ssh-keygen is not installed")
@pytest.mark.parametrize(
    "arguments",
    [
        ["-t", "ed25519"],
        ["-t", "rsa", "-b", "2048"],
        *[["-t", "ecdsa", "-b", b] for b in ("256", "384", "521")],
    ],
)
def test_signatures_by_openssh_are_good(tmp_path: Path, arguments):
    """Signatures of files (SSHSIG) have the same form inside an envelope."""
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", path, *arguments], check=True)
    key_type, text = path.with_suffix(".pub").read_text().split()[:2]
    found = public_keys.parse(key_type, text)
    signed = subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-f", path, "-n", "file"],
        check=True, capture_output=True, input=DATA,
    ).stdout  # fmt: skip
    import base64
    import hashlib

    envelope = base64.b64decode(b"".join(signed.splitlines()[1:-1]))
    parts = public_keys.strings(envelope[10:])
    told = b"SSHSIG" + b"".join(
        map(string, [b"file", b"", b"sha512", hashlib.sha512(DATA).digest()])
    )
    algorithm = public_keys.strings(parts[4])[0]
    assert signatures.verify(algorithm, found.blob, told, parts[4])
    assert not signatures.verify(algorithm, found.blob, told + b"x", parts[4])
