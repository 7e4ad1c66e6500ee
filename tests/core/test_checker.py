import json
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from tests.fakes.chk_shares import encode_chk, place, stream
from tests.fakes.reader_case import ReaderCase
from truckee.core.checker import Verdict, check, inspect_bytes
from truckee.core.formats import caps
from truckee.core.storage.faults import Kind, Rule

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "immutable.json").read_text(encoding="utf-8")
)
VERIFY = VECTORS["verify"]
FILE = next(each for each in VECTORS["shares"] if each["name"] == VERIFY["file"])


def changed(case):
    data = bytearray.fromhex(FILE["full_share"]["hex"])
    if case.get("xor_01_at") is not None:
        data[case["xor_01_at"]] ^= 1
    if "set_03_at" in case:
        data[case["set_03_at"]] = 3
    if "truncate_to" in case:
        del data[case["truncate_to"] :]
    if "append_hex" in case:
        data += bytes.fromhex(case["append_hex"])
    if "share_of" in case:
        data = bytearray.fromhex(VERIFY["share6_hex"])
    if "replace_hex" in case:
        data = bytearray.fromhex(case["replace_hex"])
    return bytes(data)


@pytest.mark.threat("S2")
@pytest.mark.parametrize(
    "case", VERIFY["cases"], ids=lambda c: f"{c['what']} {c.get('truncate_to', '')}"
)
@pytest.mark.threat("S2")
def test_the_verdict_is_the_one_of_the_vectors(case):
    cap = caps.parse_strict(FILE["verify_cap"])
    verdict = inspect_bytes(cap, VERIFY["shnum"], changed(case))
    assert verdict.value == case["truckee_must"]


def test_every_share_of_the_vectors_is_good():
    for entry in VECTORS["shares"]:
        if "full_share" in entry:
            cap = caps.parse_strict(entry["verify_cap"])
            full = entry["full_share"]
            assert inspect_bytes(cap, full["shnum"], bytes.fromhex(full["hex"])) is Verdict.GOOD


def test_a_share_that_only_the_decoder_could_find_out_is_good():
    entry = VECTORS["hostile_uploader"]
    cap = caps.parse_strict(entry["read_cap"]).verify_cap()
    for shnum, data in enumerate(entry["shares_hex"]):
        assert inspect_bytes(cap, shnum, bytes.fromhex(data)) is Verdict.GOOD


def test_each_node_of_a_tree_of_several_slabs_counts():
    file = encode_chk(stream("a", 40_000), 2, 3, 32)
    cap, layout = file.cap.verify_cap(), file.layout
    assert file.segments.count == 1250
    assert inspect_bytes(cap, 1, file.shares[1]) is Verdict.GOOD
    for tree in (layout.ciphertext_tree, layout.block_tree):
        for node in (0, 1, 2, 3, 4, 5, 6, 7, 100, 1000, 2046, 2047, 2900, 3296, 4094):
            data = bytearray(file.shares[1])
            data[tree + 32 * node + 5] ^= 64
            assert inspect_bytes(cap, 1, bytes(data)) is Verdict.CORRUPT, node


class CheckTests(ReaderCase):
    def check(self, file, *, verify):
        d = Deferred.fromCoroutine(
            check(file.cap, self.servers, verify=verify, cpu=self.cpu, clock=self.clock)
        )
        for _ in range(7):
            self.clock.advance(10)
        assert self.clock.getDelayedCalls() == []
        return self.successResultOf(d)

    def test_a_complete_file_is_healthy(self):
        file = self.store(9000)
        for verify in (False, True):
            found = self.check(file, verify=verify)
            assert found.good == 10
            assert found.healthy
            assert found.recoverable
            assert found.counts == {Verdict.GOOD: 10}
        assert all(store.advisories == [] for store in self.stores)

    def test_only_verifying_sees_corruption_and_reports_it(self):
        file = self.store(9000)
        data = bytearray(file.shares[4])
        data[100] ^= 1
        place(self.stores[4], file.cap.storage_index, 4, bytes(data))
        place(self.stores[5], file.cap.storage_index, 5, b"\0\0\0\x05" + file.shares[5][4:])
        assert self.check(file, verify=False).healthy
        found = self.check(file, verify=True)
        assert not found.healthy
        assert found.recoverable
        assert found.counts == {Verdict.GOOD: 8, Verdict.CORRUPT: 1, Verdict.INCOMPATIBLE: 1}
        assert len(self.stores[4].advisories) == 1
        assert self.stores[5].advisories == []

    def test_silent_servers_are_named_and_counted_as_having_nothing(self):
        file = self.store(9000)
        for server, kind, calls in [
            (self.servers[0], Kind.HANG, "get_buckets"),
            (self.servers[1], Kind.ERROR, "get_buckets"),
            (self.servers[2], Kind.HANG, "read"),
            (self.servers[3], Kind.ERROR, "read"),
        ]:
            self.faults.add(Rule(kind, calls=frozenset({calls}), server=server, forever=True))
        found = self.check(file, verify=True)
        assert list(found.silent) == ["s0", "s1"]
        assert found.counts == {Verdict.GOOD: 6, Verdict.UNREACHABLE: 2}

    def test_copies_count_once_and_foreign_numbers_not_at_all(self):
        file = self.store(9000, 3, 5)
        place(self.stores[9], file.cap.storage_index, 0, file.shares[0])
        place(self.stores[9], file.cap.storage_index, 7, file.shares[0])
        found = self.check(file, verify=True)
        assert found.good == 5
        assert len(found.sharemap[0]) == 2
        assert found.counts == {Verdict.GOOD: 6}

    def test_a_report_that_fails_does_not_end_the_check(self):
        file = self.store(9000)
        place(self.stores[4], file.cap.storage_index, 4, b"")
        calls = frozenset({"advise_corrupt_share"})
        self.faults.add(Rule(Kind.ERROR, calls=calls, forever=True))
        assert self.check(file, verify=True).counts[Verdict.CORRUPT] == 1

    def test_without_shares_nothing_is_recoverable(self):
        found = self.check(encode_chk(b"x" * 100), verify=False)
        assert not found.recoverable
        assert found.good == 0
