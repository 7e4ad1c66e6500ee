import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truckee.core.errors import FormatError, LayoutError, UnknownVersionError
from truckee.core.formats import container
from truckee.core.formats.container import ImmutableHeader, Lease, MutableHeader

VECTORS = Path(__file__).parents[2] / "vectors"
IMMUTABLE = json.loads((VECTORS / "immutable.json").read_text())["container"]
MUTABLE = json.loads((VECTORS / "mutable.json").read_text())
NODEID = bytes(range(20))

bytes32 = st.binary(min_size=32, max_size=32)
u32 = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("vector", IMMUTABLE)
def test_immutable_containers_are_byte_equal(vector):
    data = bytes.fromhex(vector["share_data_hex"])
    leases = [
        container.new_lease(
            vector["version"],
            lease["owner"],
            bytes.fromhex(lease["renew_secret_hex"]),
            bytes.fromhex(lease["cancel_secret_hex"]),
            lease["expires"],
        )
        for lease in vector["leases"]
    ]
    header = ImmutableHeader(vector["version"], len(data), len(leases))
    made = header.encode() + data + b"".join(map(container.encode_immutable_lease, leases))
    expected = bytes.fromhex(vector["file_hex"])
    assert made == expected
    assert ImmutableHeader.decode(expected, len(expected)) == header
    assert header.file_size == len(expected)
    records = expected[header.leases_offset :]
    assert container.decode_immutable_leases(records) == leases
    assert not container.is_mutable(expected)
    for position, lease in enumerate(vector["leases"]):
        stored = container.stored_secret(header.version, bytes.fromhex(lease["renew_secret_hex"]))
        assert container.find_lease(leases, stored) == position
    assert container.find_lease(leases, bytes(32)) is None


@pytest.mark.parametrize("name", ["container_v1", "container_v2", "container_v2_two_leases"])
def test_mutable_containers_are_byte_equal(name):
    expected = bytes.fromhex(MUTABLE[name]["hex"])
    header = MutableHeader.decode(expected, len(expected))
    assert header.nodeid == NODEID
    assert header.write_enabler == b"W" * 32
    extra = container.decode_extra_leases(expected[header.extra_offset :])
    assert extra == []
    data = expected[container.MUTABLE_HEADER_SIZE : header.extra_offset]
    assert header.encode() + data + container.encode_extra_leases(extra) == expected
    assert container.is_mutable(expected)
    bare = replace(header, slots=(None,) * 4)
    for renew, cancel in [(b"R", b"C"), (b"r", b"c")][: 2 if "two" in name else 1]:
        lease = container.new_lease(
            header.version, 1, renew * 32, cancel * 32, 1_700_000_000 + 2_678_400, NODEID
        )
        bare, extra = container.with_mutable_lease(bare, extra, lease)
    assert bare == header


@pytest.mark.parametrize("version", [1, 2])
def test_magic_is_byte_equal(version):
    header = replace(container.new_mutable_header(NODEID, bytes(32)), version=version)
    assert header.encode()[:32].hex() == MUTABLE["container_magic"][str(version)]


def test_a_secret_is_hashed_in_version_two_only():
    assert container.stored_secret(1, b"s" * 32) == b"s" * 32
    assert container.stored_secret(2, b"s" * 32) != b"s" * 32
    assert len(container.stored_secret(2, b"s" * 32)) == 32


def test_the_fifth_lease_of_a_mutable_share_is_an_extra_one():
    header, extra = container.new_mutable_header(NODEID, bytes(32)), []
    leases = [Lease(1, 100 + n, bytes([n]) * 32, bytes(32), NODEID) for n in range(7)]
    for lease in leases:
        header, extra = container.with_mutable_lease(header, extra, lease)
    assert header.slots == tuple(leases[:4])
    assert extra == leases[4:]
    raw = container.encode_extra_leases(extra)
    assert container.decode_extra_leases(raw + b"junk") == extra
    with pytest.raises(LayoutError):
        container.decode_extra_leases(raw[:-1])
    with pytest.raises(LayoutError):
        container.decode_extra_leases(raw[:3])


def test_renewal_never_goes_back():
    lease = Lease(1, 100, b"r" * 32, b"c" * 32, NODEID)
    header, extra = container.new_mutable_header(NODEID, bytes(32)), []
    for expires, expected in [(100, 100), (90, 100), (110, 110)]:
        header, extra = container.with_mutable_lease(header, extra, replace(lease, expires=expires))
        assert header.slots == (replace(lease, expires=expected), None, None, None)
        assert extra == []


def test_an_empty_slot_is_filled_first():
    leases = [Lease(1, 100, bytes([n]) * 32, b"c" * 32, NODEID) for n in range(6)]
    slots = (leases[0], None, leases[1], leases[2])
    header = replace(container.new_mutable_header(NODEID, bytes(32)), slots=slots)
    header, extra = container.with_mutable_lease(header, [leases[3]], leases[4])
    assert header.slots == (leases[0], leases[4], leases[1], leases[2])
    assert extra == [leases[3]]


@pytest.mark.threat("O7")
def test_sizes_that_do_not_fit_the_file_are_refused():
    header = ImmutableHeader(2, 10, 1)
    for size in (0, 11, 12 + 71):
        with pytest.raises(LayoutError):
            ImmutableHeader.decode(header.encode(), size)
    with pytest.raises(LayoutError):
        ImmutableHeader.decode(header.encode()[:11], 100)
    with pytest.raises(LayoutError):
        container.decode_immutable_leases(bytes(73))
    good = container.new_mutable_header(NODEID, bytes(32))
    assert MutableHeader.decode(good.encode(), 472) == good
    bad = [
        (good.encode(), 471),
        (good.encode()[:467], 472),
        (replace(good, data_length=1).encode(), 472),
        (replace(good, extra_offset=467).encode(), 472),
        (replace(good, extra_offset=2**63).encode(), 472),
        (replace(good, data_length=2**64 - 1, extra_offset=2**64 - 1).encode(), 472),
    ]
    for head, size in bad:
        with pytest.raises(LayoutError):
            MutableHeader.decode(head, size)


@pytest.mark.parametrize("head", [b"", b"\0\0\0", b"\0\0\0\3" + bytes(8), b"Tahoe mutable" * 3])
def test_other_files_are_no_containers(head):
    with pytest.raises(UnknownVersionError):
        container.is_mutable(head)
    with pytest.raises(FormatError):
        ImmutableHeader.decode(head, 100_000)
    with pytest.raises(FormatError):
        MutableHeader.decode(head.ljust(468, b"x"), 100_000)


@given(st.integers(0, 2**40), st.integers(0, 1000), st.sampled_from([1, 2]))
def test_immutable_headers_come_back(length, leases, version):
    header = ImmutableHeader(version, length, leases)
    assert len(header.encode()) == container.IMMUTABLE_HEADER_SIZE
    assert ImmutableHeader.decode(header.encode(), header.file_size) == header


mutable_leases = st.builds(
    Lease,
    st.integers(1, 2**32 - 1),
    u32,
    bytes32,
    bytes32,
    st.binary(min_size=20, max_size=20),
)


@given(
    st.sampled_from([1, 2]),
    bytes32,
    st.integers(0, 2**40),
    st.integers(0, 2**40),
    st.tuples(*[st.none() | mutable_leases] * 4),
    st.lists(mutable_leases, max_size=3),
)
def test_mutable_headers_come_back(version, enabler, length, spare, slots, extra):
    offset = container.MUTABLE_HEADER_SIZE + length + spare
    header = MutableHeader(version, NODEID, enabler, length, offset, slots)
    raw = container.encode_extra_leases(extra)
    assert MutableHeader.decode(header.encode(), offset + len(raw)) == header
    assert container.decode_extra_leases(raw) == extra


@given(st.binary(max_size=600), st.integers(0, 2**65))
def test_decoding_anything_gives_a_value_or_a_format_error(raw, size):
    heads = [raw, container.new_mutable_header(NODEID, bytes(32)).encode()[:32] + raw]
    for head in heads:
        for decode in (
            lambda head=head: ImmutableHeader.decode(head, size),
            lambda head=head: MutableHeader.decode(head, size),
            lambda head=head: container.decode_extra_leases(head),
            lambda head=head: container.decode_immutable_leases(head),
            lambda head=head: container.is_mutable(head),
        ):
            with contextlib.suppress(FormatError):
                decode()


@pytest.mark.threat("L1")
def test_leases_never_show_their_secrets():
    assert "secret" not in repr(Lease(0, 1, b"secret", b"secret"))
