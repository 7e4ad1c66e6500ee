import hashlib
import json
from itertools import combinations, islice
from pathlib import Path

import pytest

from truckee.core.crypto import rsa
from truckee.core.crypto.hashes import block_hash
from truckee.core.errors import LayoutError
from truckee.core.formats import hashtree, mdmf, sdmf
from truckee.core.formats.mutable_share import Geometry
from truckee.core.mutable.encoding import (
    decode_segments,
    draft,
    encode_mdmf,
    encode_sdmf,
)

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/mutable.json").read_text())
FILES = VECTORS["files"]


def plaintext(file):
    if file["plaintext"] is None:
        return (hashlib.sha256(b"truckee mdmf default segment").digest() * 9000)[:280000]
    return bytes.fromhex(file["plaintext"])


def key_of(file):
    key = VECTORS["keys"][file["key"]]
    return {name: bytes.fromhex(key[name]) for name in ("readkey", "encprivkey", "pubkey_der")}


def geometry_of(file):
    h = file["header_share0"]
    return Geometry(h["k"], h["N"], h["segsize"], h["datalen"])


def recorded(file):
    return {int(n): bytes.fromhex(s["hex"]) for n, s in file["shares"].items() if "hex" in s}


def rebuilt(file, salts):
    contents, g, key = plaintext(file), geometry_of(file), key_of(file)
    if file["format"] == "SDMF":
        return draft(
            encode_sdmf(contents, salts[0], key["readkey"], g),
            file["header_share0"]["seqnum"],
            salts[0],
            g,
        )
    return draft(
        encode_mdmf(contents, 0, salts, key["readkey"], g), file["header_share0"]["seqnum"], None, g
    )


WHOLE = [f for f in FILES if "update" not in f["name"] and "append" not in f["name"]]


@pytest.mark.parametrize("file", WHOLE, ids=lambda f: f["name"])
def test_recorded_salts_give_the_recorded_shares(file):
    made = rebuilt(file, [bytes.fromhex(s) for s in file["salts"]])
    assert made.header.root_hash.hex() == file["header_share0"]["root_hash"]
    layout = sdmf if file["format"] == "SDMF" else mdmf
    key, shares = key_of(file), recorded(file)
    public = rsa.PublicKey.load(key["pubkey_der"])
    for shnum, raw in shares.items():
        _, sections = layout.decode_header(raw)
        signature = sections.signature.cut(raw)
        assert public.verify(signature, made.header.prefix)
        copy = rebuilt(file, [bytes.fromhex(s) for s in file["salts"]])
        ours = list(copy.shares(signature, key["pubkey_der"], key["encprivkey"]))[shnum]
        assert ours == raw[: sections.end]


@pytest.mark.parametrize("file", [f for f in FILES if f not in WHOLE], ids=lambda f: f["name"])
def test_shares_updated_in_place_are_those_of_a_whole_write_with_their_salts(file):
    shares = recorded(file)
    first = next(iter(shares.values()))
    header, sections = mdmf.decode_header(first)
    salts = [
        header.block_section(sections, s).cut(first)[:16] for s in range(header.geometry.segments)
    ]
    made = rebuilt(file, salts)
    assert made.header == header
    key = key_of(file)
    ours = list(made.shares(sections.signature.cut(first), key["pubkey_der"], key["encprivkey"]))
    for shnum, raw in shares.items():
        _, where = mdmf.decode_header(raw)
        assert ours[shnum][2167:] == raw[2167 : where.end]
        assert ours[shnum][: where.pubkey.end] == raw[: where.pubkey.end]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f["name"])
def test_recorded_shares_decode_to_the_plaintext(file):
    shares, key = recorded(file), key_of(file)
    k = file["k"]
    if len(shares) < k:
        pytest.skip("fewer than k shares are recorded with their bytes")
    layout = sdmf if file["format"] == "SDMF" else mdmf
    for chosen in islice(combinations(sorted(shares), k), 20):
        segments = {}
        for shnum in chosen:
            header, sections = layout.decode_header(shares[shnum])
            for s in range(header.geometry.segments):
                block = header.block_section(sections, s).cut(shares[shnum])
                segments.setdefault(s, {})[shnum] = block
        got = b"".join(decode_segments(header, key["readkey"], segments))
        assert got == plaintext(file)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 100, 131072, 131073, 131074, 300_000])
@pytest.mark.parametrize(("k", "n"), [(1, 1), (1, 3), (3, 10), (2, 2)])
def test_contents_come_back_from_the_last_k_blocks(size, k, n):
    contents, readkey = bytes(range(251)) * (size // 251 + 1), b"r" * 16
    contents = contents[:size]
    g = mdmf.geometry(size, k, n)
    salts = [bytes([i]) * 16 for i in range(g.segments)]
    made = draft(encode_mdmf(contents, 0, salts, readkey, g), 7, None, g)
    shares = [
        mdmf.MdmfShare.decode(raw) for raw in made.shares(b"s" * 256, b"p" * 294, b"e" * 1218)
    ]
    for shnum, share in enumerate(shares):
        assert list(share.block_hashes) == hashtree.build([block_hash(b) for b in share.data])
        assert sorted(share.chain) == hashtree.chain_numbers(n, shnum, include_leaf=False)
    segments = {s: {i: shares[i].data[s] for i in range(n - k, n)} for s in range(g.segments)}
    assert b"".join(decode_segments(made.header, readkey, segments)) == contents


def test_blocks_of_one_segment_with_two_salts_are_refused():
    g = mdmf.geometry(10, 2, 3)
    header = mdmf.MdmfHeader(1, bytes(32), g)
    with pytest.raises(LayoutError):
        decode_segments(header, b"r" * 16, {0: {0: b"a" * 21, 1: b"b" * 21}})
