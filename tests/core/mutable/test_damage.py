"""Every section of a share is damaged in turn: right bytes as long as k shares are good, else an
error with a name; never other bytes."""

import pytest

from tests.fakes.mutable_grid import Grid, key, reopened
from truckee.core.errors import (
    NotEnoughSharesError,
    UncoordinatedWriteError,
    UnrecoverableFileError,
)
from truckee.core.formats.mutable_share import Geometry
from truckee.core.mutable import publish
from truckee.core.mutable.file import MutableFile
from truckee.core.mutable.heads import decode_header

CONTENTS = bytes(range(256)) * 3
REFUSED = (UnrecoverableFileError, NotEnoughSharesError)


@pytest.fixture(autouse=True)
def small_segments(monkeypatch):
    """Let writers cut MDMF into segments of 201 bytes, so that a small file has four."""

    def geometry(size, k, n):
        return Geometry(k, n, -(-201 // k) * k, size)

    monkeypatch.setattr(publish.mdmf, "geometry", geometry)


def made(is_mdmf, contents=CONTENTS):
    grid = Grid()
    pair = key(1 if is_mdmf else 0)
    file = grid.run(MutableFile.create(grid.process(), contents, mdmf=is_mdmf, keypair=pair))
    return grid, file


def flip(grid, file, places, position):
    for place in places:
        raw = grid.shares(file)[place]
        raw[position % len(raw)] ^= 1 << position % 8


def positions(grid, file, step):
    return range(0, len(next(iter(grid.shares(file).values()))), step)


STEPS = [7, pytest.param(1, marks=pytest.mark.long)]


@pytest.mark.threat("S1")
@pytest.mark.parametrize("is_mdmf", [False, True], ids=["sdmf", "mdmf"])
@pytest.mark.parametrize("damaged", [1, 7])
@pytest.mark.parametrize("step", STEPS)
def test_any_flipped_byte_in_up_to_seven_shares_is_survived(is_mdmf, damaged, step):
    grid, file = made(is_mdmf)
    before = grid.snapshot(file)
    places = sorted(before)
    for i, position in enumerate(positions(grid, file, step)):
        victims = [places[(i + j) % 10] for j in range(damaged)]
        flip(grid, file, victims, position)
        reader = reopened(grid.process(), file, readonly=True)
        assert grid.run(reader.download(), 60) == CONTENTS
        grid.restore(file, before)


@pytest.mark.threat("S1")
@pytest.mark.parametrize("is_mdmf", [False, True], ids=["sdmf", "mdmf"])
@pytest.mark.parametrize("damaged", [8, 10])
@pytest.mark.parametrize("step", STEPS)
def test_more_damage_gives_the_right_bytes_or_a_clear_error(is_mdmf, damaged, step):
    grid, file = made(is_mdmf)
    before = grid.snapshot(file)
    places, refused = sorted(before), 0
    for position in positions(grid, file, step):
        flip(grid, file, places[:damaged], position)
        try:
            reader = reopened(grid.process(), file, readonly=True)
            assert grid.run(reader.download(), 60) == CONTENTS
        except REFUSED:
            refused += 1
        grid.restore(file, before)
    assert refused > 60  # the private key, the gap and needless nodes may be damaged unseen


@pytest.mark.threat("S1")
@pytest.mark.parametrize("is_mdmf", [False, True], ids=["sdmf", "mdmf"])
def test_writing_over_flipped_bytes_in_seven_shares_leaves_only_good_ones(is_mdmf):
    grid, file = made(is_mdmf)
    before = grid.snapshot(file)
    places = sorted(before)
    for i, position in enumerate(positions(grid, file, 41)):
        flip(grid, file, [places[(i + j) % 10] for j in range(7)], position)
        writer = reopened(grid.process(), file)
        try:
            grid.run(writer.modify(lambda old, first: old + b"!"), 100)
        except UncoordinatedWriteError:
            pytest.fail(f"no writing over a flip at {position}")
        shares = grid.shares(file)
        assert {decode_header(bytes(raw))[0].seqnum for raw in shares.values()} == {2}
        assert grid.run(reopened(grid.process(), file).download()) == CONTENTS + b"!"
        grid.rewind(file, before)


@pytest.mark.parametrize("is_mdmf", [False, True], ids=["sdmf", "mdmf"])
def test_shares_cut_short_or_extended_are_survived(is_mdmf):
    grid, file = made(is_mdmf)
    before = grid.snapshot(file)
    places = sorted(before)
    for length in positions(grid, file, 31):
        for place in places[:7]:
            del grid.shares(file)[place][length:]
        assert grid.run(reopened(grid.process(), file).download(), 60) == CONTENTS
        grid.restore(file, before)
    for place in places:
        grid.shares(file)[place].extend(b"leftovers")
    assert grid.run(reopened(grid.process(), file).download(), 60) == CONTENTS


@pytest.mark.threat("S2")
@pytest.mark.parametrize("is_mdmf", [False, True], ids=["sdmf", "mdmf"])
def test_a_share_served_under_another_number_is_not_believed(is_mdmf):
    grid, file = made(is_mdmf)
    si = file.cap.storage_index
    slots = [store.shares[si] for store in grid.stores]
    originals = {n: share for slot in slots for n, share in slot.items()}
    for slot in slots[:7]:
        (number,) = slot
        slot[number].data = bytearray(originals[(number + 1) % 10].data)
    assert grid.run(reopened(grid.process(), file).download(), 60) == CONTENTS


@pytest.mark.threat("S3")
def test_every_server_with_share_0_is_too_little_for_k_of_3():
    grid, file = made(False)
    si = file.cap.storage_index
    share = next(s[0] for s in (store.shares[si] for store in grid.stores) if 0 in s)
    for store in grid.stores:
        store.shares[si] = {0: share}
    with pytest.raises(REFUSED):
        grid.run(reopened(grid.process(), file).download(), 60)


@pytest.mark.threat("S2", "S11")
def test_shares_of_another_file_are_not_believed():
    grid, file = made(False)
    other = grid.run(
        MutableFile.create(grid.process(), b"other contents", mdmf=False, keypair=key(2))
    )
    theirs = grid.snapshot(other)
    for (server, shnum), raw in theirs.items():
        for mine in grid.stores[server].shares[file.cap.storage_index].values():
            mine.data[:] = raw
        assert (server, shnum) is not None
    with pytest.raises(REFUSED):
        grid.run(reopened(grid.process(), file).download(), 60)


@pytest.mark.threat("S10")
@pytest.mark.parametrize("is_mdmf", [False, True], ids=["sdmf", "mdmf"])
def test_a_wrong_private_key_in_nine_shares_is_passed_over(is_mdmf):
    grid, file = made(is_mdmf)
    for place in sorted(grid.shares(file))[:9]:
        raw = grid.shares(file)[place]
        section = decode_header(bytes(raw))[1].encprivkey
        raw[section.start : section.end] = bytes(section.size)
    grid.run(reopened(grid.process(), file).modify(lambda old, first: b"new"), 60)
    assert grid.run(reopened(grid.process(), file).download()) == b"new"


@pytest.mark.threat("S10")
def test_without_any_right_private_key_there_is_no_writing():
    grid, file = made(False)
    for raw in grid.shares(file).values():
        section = decode_header(bytes(raw))[1].encprivkey
        raw[section.start] ^= 1
    with pytest.raises(UnrecoverableFileError):
        grid.run(reopened(grid.process(), file).overwrite(b"new"), 60)
    assert grid.run(reopened(grid.process(), file).download()) == CONTENTS


@pytest.mark.parametrize("is_mdmf", [False, True], ids=["sdmf", "mdmf"])
def test_damaged_shares_are_reported_to_their_servers(is_mdmf):
    grid, file = made(is_mdmf)
    place = sorted(grid.shares(file))[0]
    for section in ("signature", "data", "block_hashes", "chain"):
        before = grid.snapshot(file)
        raw = grid.shares(file)[place]
        raw[getattr(decode_header(bytes(raw))[1], section).start + 3] ^= 1
        for other in sorted(before)[3:]:  # so that the damaged one is needed
            grid.shares(file)[other][0] = 0xFF
        with pytest.raises(REFUSED):
            grid.run(reopened(grid.process(), file).download(), 60)
        reports = grid.stores[place[0]].advisories
        assert reports, section
        assert all(file.cap.storage_index == report[1] for report in reports)
        reports.clear()
        grid.restore(file, before)
