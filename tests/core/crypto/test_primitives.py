import contextlib
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truckee.core import erasure
from truckee.core.crypto import aes, hashes
from truckee.core.errors import ErasureError, FormatError
from truckee.core.formats import base32, netstring

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
IMMUTABLE = json.loads((VECTORS / "immutable.json").read_text())
MUTABLE = json.loads((VECTORS / "mutable.json").read_text())
GRID = json.loads((VECTORS / "grid.json").read_text())


def stream(seed, size):
    blocks = range(-(-size // 32))
    data = b"".join(hashlib.sha256(seed.encode() + i.to_bytes(8, "big")).digest() for i in blocks)
    return data[:size]


@pytest.mark.parametrize("case", IMMUTABLE["stream_check"])
def test_the_plaintext_rule_of_the_vectors_is_understood(case):
    assert stream(case["seed"], case["size"]).hex() == case["hex"]


@pytest.mark.parametrize("case", IMMUTABLE["base32"]["encode"])
def test_base32_spells_as_tahoe_does(case):
    assert base32.b2a(bytes.fromhex(case["hex"])) == case["text"]
    assert base32.a2b(case["text"]).hex() == case["hex"]


@pytest.mark.parametrize("text", [*IMMUTABLE["base32"]["reject"], "ß", "a a", "aé"])
def test_base32_refuses_what_is_not_canonical(text):
    with pytest.raises(FormatError):
        base32.a2b(text)


@given(st.binary(max_size=100))
def test_base32_survives_both_ways(data):
    assert base32.a2b(base32.b2a(data)) == data


@given(st.text(alphabet="abcz2701=A ", max_size=12))
def test_a_base32_text_that_is_read_is_the_one_that_would_be_written(text):
    try:
        data = base32.a2b(text)
    except FormatError:
        return
    assert base32.b2a(data) == text


@pytest.mark.parametrize("case", IMMUTABLE["netstring"])
def test_netstrings_equal_tahoes(case):
    raw = bytes.fromhex(case["encoded_hex"])
    assert netstring.encode(bytes.fromhex(case["hex"])) == raw
    assert netstring.decode_all(raw) == [bytes.fromhex(case["hex"])]


@given(st.lists(st.binary(max_size=40), max_size=6), st.data())
def test_netstrings_survive_and_damage_is_refused_or_visible(values, data):
    raw = b"".join(netstring.encode(v) for v in values)
    assert netstring.decode_all(raw) == netstring.decode_all(memoryview(raw)) == values
    if raw:
        with pytest.raises(FormatError):
            netstring.decode_all(raw[:-1])
        cut = data.draw(st.integers(0, len(raw)))
        with contextlib.suppress(FormatError):
            found = netstring.decode_all(raw[:cut])
            assert found == values[: len(found)]


@pytest.mark.parametrize(
    "raw", [b":", b",", b"0:", b"00:,", b"01:a,", b"-1:,", b"1:a", b"1:a;", b"9" * 21 + b":,", b"1"]
)
def test_broken_netstrings_are_refused(raw):
    with pytest.raises(FormatError):
        netstring.decode_all(raw)


@pytest.mark.parametrize("case", IMMUTABLE["tagged_hash"], ids=lambda c: c["name"])
def test_tagged_hashes_equal_tahoes(case):
    given_stream = case["input_stream"]
    data = stream(**given_stream) if given_stream else bytes.fromhex(case["input_hex"])
    tag, length = case["tag"].encode(), case["truncate"] or 32
    assert hashes.tagged_hash(tag, data, length).hex() == case["digest_hex"]
    running = hashes.TaggedHasher(tag)
    running.update(data[: len(data) // 2])
    other = running.copy()
    other.update(data[len(data) // 2 :])
    assert other.digest(length).hex() == case["digest_hex"]
    named = {
        "storage_index": hashes.immutable_storage_index,
        "block": hashes.block_hash,
        "crypttext_segment": hashes.ciphertext_segment_hash,
        "uri_extension": hashes.ueb_hash,
    }.get(case["name"])
    if named:
        assert named(data).hex() == case["digest_hex"]


@pytest.mark.parametrize(
    "case",
    [
        *IMMUTABLE["tagged_pair_hash"],
        {
            "tag": MUTABLE["hashes"]["tagged_pair_hash"]["tag"],
            "a_hex": MUTABLE["hashes"]["tagged_pair_hash"]["a"],
            "b_hex": MUTABLE["hashes"]["tagged_pair_hash"]["b"],
            "digest_hex": MUTABLE["hashes"]["tagged_pair_hash"]["result"],
        },
    ],
)
def test_tagged_pair_hashes_equal_tahoes(case):
    a, b = bytes.fromhex(case["a_hex"]), bytes.fromhex(case["b_hex"])
    assert hashes.tagged_pair_hash(case["tag"].encode(), a, b).hex() == case["digest_hex"]
    if case["tag"] == "Merkle tree internal node" and len(a) == len(b) == 32:
        assert hashes.tree_node_hash(a, b).hex() == case["digest_hex"]


def test_the_tagged_hash_of_the_mutable_vectors_is_the_same():
    case = MUTABLE["hashes"]["tagged_hash"]
    found = hashes.tagged_hash(case["tag"].encode(), bytes.fromhex(case["value"]))
    assert found.hex() == case["result"]


def test_empty_leaves_equal_tahoes():
    for case in IMMUTABLE["empty_leaf"]:
        assert hashes.empty_leaf_hash(case["index"]).hex() == case["digest_hex"]
    for case in MUTABLE["hashes"]["empty_leaf"]:
        assert hashes.empty_leaf_hash(case["i"]).hex() == case["result"]


@pytest.mark.parametrize("case", IMMUTABLE["convergence"])
def test_convergent_keys_equal_tahoes(case):
    tag = hashes.convergence_tag(
        bytes.fromhex(case["convergence_hex"]), case["k"], case["n"], case["segment_size"]
    )
    assert tag.hex() == case["tag_hex"]
    key = hashes.tagged_hash(tag, stream(**case["plaintext"]), 16)
    assert key.hex() == case["key_hex"]
    index = hashes.immutable_storage_index(key)
    assert index.hex() == case["storage_index_hex"]
    assert base32.b2a(index) == case["storage_index_base32"]


@pytest.mark.parametrize("case", IMMUTABLE["aes_ctr"])
def test_key_streams_equal_tahoes_at_any_offset(case):
    key, expected = bytes.fromhex(case["key_hex"]), bytes.fromhex(case["keystream_hex"])
    assert aes.ctr(key, bytes(len(expected)), case["file_offset"]) == expected


@given(st.binary(max_size=100), st.integers(0, 2**40), st.integers(0, 100))
def test_a_key_stream_can_be_entered_anywhere(data, offset, cut):
    key = b"k" * 16
    whole = aes.ctr(key, data, offset)
    assert aes.ctr(key, data[:cut], offset) + aes.ctr(key, data[cut:], offset + cut) == (
        whole if cut < len(data) else aes.ctr(key, data, offset)
    )
    assert aes.ctr(key, whole, offset) == data


@pytest.mark.parametrize("case", IMMUTABLE["zfec"], ids=lambda c: f"{c['k']}-of-{c['n']}")
def test_blocks_equal_zfecs_and_any_k_of_them_decode(case):
    k, n, size = case["k"], case["n"], case["block_size"]
    data = stream(**case["input_stream"])
    pieces = [data[i * size : (i + 1) * size] for i in range(k)]
    blocks = erasure.encode(pieces, n)
    assert [bytes(block).hex() for block in blocks] == case["blocks_hex"]
    for first in {0, n - k, (n - k) // 2}:
        some = {i: blocks[i] for i in range(first, first + k)}
        assert [bytes(x) for x in erasure.decode(some, k, n)] == pieces


@given(st.data())
def test_any_k_blocks_in_any_order_decode(data):
    n = data.draw(st.integers(1, 20))
    k = data.draw(st.integers(1, n))
    size = data.draw(st.integers(0, 40))
    pieces = [data.draw(st.binary(min_size=size, max_size=size)) for _ in range(k)]
    blocks = erasure.encode(pieces, n)
    some = data.draw(st.permutations(range(n)))[:k]
    assert [bytes(x) for x in erasure.decode({i: blocks[i] for i in some}, k, n)] == pieces


@pytest.mark.threat("S3", "X5")
def test_the_erasure_code_refuses_what_zfec_would_choke_on():
    block = b"abcd"
    for call in (
        lambda: erasure.encode([], 3),
        lambda: erasure.encode([block, b"abc"], 3),
        lambda: erasure.encode([block] * 3, 2),
        lambda: erasure.encode([block], 257),
        lambda: erasure.decode({0: block}, 2, 3),
        lambda: erasure.decode({0: block, 1: block, 2: block}, 2, 3),
        lambda: erasure.decode({0: block, 3: block}, 2, 3),
        lambda: erasure.decode({-1: block, 1: block}, 2, 3),
        lambda: erasure.decode({0: block, 1: b"abc"}, 2, 3),
    ):
        with pytest.raises(ErasureError):
            call()


@pytest.mark.parametrize("source", ["immutable", "grid"])
def test_lease_secrets_equal_tahoes(source):
    case = IMMUTABLE["lease_secrets"] if source == "immutable" else GRID["lease_secrets"]
    names = {"immutable": "{}_hex", "grid": "{}_secret_hex"}[source]
    secret = case["lease_secret_hex"] if source == "immutable" else case["client_lease_secret_hex"]
    index = bytes.fromhex(case["storage_index_hex"])
    renewal = hashes.client_renewal_secret(bytes.fromhex(secret))
    cancel = hashes.client_cancel_secret(bytes.fromhex(secret))
    assert renewal.hex() == case[names.format("client_renewal")]
    assert cancel.hex() == case[names.format("client_cancel")]
    renewal = hashes.file_renewal_secret(renewal, index)
    cancel = hashes.file_cancel_secret(cancel, index)
    assert renewal.hex() == case[names.format("file_renewal")]
    assert cancel.hex() == case[names.format("file_cancel")]
    servers = case["servers"] if source == "grid" else [case]
    for server in servers:
        seed = server.get("lease_seed_tubid_hex") or server["server_lease_seed_hex"]
        seed = bytes.fromhex(seed)
        found = hashes.bucket_renewal_secret(renewal, seed).hex()
        assert found == server[names.format("bucket_renewal")]
        found = hashes.bucket_cancel_secret(cancel, seed).hex()
        assert found == server[names.format("bucket_cancel")]


def test_write_enablers_equal_tahoes():
    case = GRID["write_enabler"]
    writekey = bytes.fromhex(case["writekey_hex"])
    assert hashes.write_enabler_master(writekey).hex() == case["write_enabler_master_hex"]
    for server in case["servers"]:
        found = hashes.write_enabler(writekey, bytes.fromhex(server["tubid_hex"]))
        assert found.hex() == server["write_enabler_hex"]


@pytest.mark.parametrize("case", GRID["share_paths"])
def test_share_paths_spell_the_storage_index_in_base32(case):
    text = base32.b2a(bytes.fromhex(case["storage_index_hex"]))
    assert f"storage/shares/{text[:2]}/{text}/3" == case["path"]
