import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from truckee.core.errors import BadWriteEnablerError, NoSpaceError
from truckee.core.storage.api import (
    LeaseSecrets,
    ReadVector,
    TestVector,
    TestWriteVectors,
    WriteVector,
)
from truckee.core.storage.memory import MemoryStore
from truckee.core.storage.slots import MAX_GAP, BytesShare, apply_edits, test_and_write

VECTORS = Path(__file__).parents[2] / "vectors"
TEST_AND_SET = json.loads((VECTORS / "mutable.json").read_text())["test_and_set"]


def changes_of(step):
    return {
        int(n): TestWriteVectors(
            [TestVector(o, s, bytes.fromhex(d)) for o, s, d in each["test"]],
            [WriteVector(o, bytes.fromhex(d)) for o, d in each["write"]],
            each["new_length"],
        )
        for n, each in step["tw"].items()
    }


def perform(store, step):
    """Return the coroutine that makes the call of one recorded step."""
    secrets = LeaseSecrets(bytes.fromhex(step["renew"]), bytes.fromhex(step["cancel"]))
    return store.change_mutable(
        bytes.fromhex(TEST_AND_SET["storage_index"]),
        bytes.fromhex(step["write_enabler"]),
        secrets,
        TEST_AND_SET["clock"] + TEST_AND_SET["lease_seconds"],
        changes_of(step),
        [ReadVector(*each) for each in step["read"]],
    )


class RecordedStepsTests(SynchronousTestCase):
    def test_memory_answers_as_recorded(self):
        store = MemoryStore(bytes.fromhex(TEST_AND_SET["nodeid"]))
        for step in TEST_AND_SET["steps"]:
            d = Deferred.fromCoroutine(perform(store, step))
            if "error" in step:
                self.failureResultOf(d, BadWriteEnablerError)
                continue
            got = self.successResultOf(d)
            assert got.success == step["success"], step["desc"]
            data = {str(n): [each.hex() for each in pieces] for n, pieces in got.data.items()}
            assert data == step["data"], step["desc"]
            held = store.shares.get(bytes.fromhex(TEST_AND_SET["storage_index"]), {})
            assert {str(n) for n in held} == step["files_after"].keys()
            if "share0_data_length" in step:
                assert held[0].length == step["share0_data_length"]


writes = st.lists(st.builds(WriteVector, st.integers(0, 60), st.binary(max_size=10)), max_size=5)


@given(st.binary(max_size=40), st.binary(max_size=20), writes, st.none() | st.integers(0, 80))
def test_edits_come_to_what_the_writes_say(old, stale, vectors, new_length):
    expected = bytearray(old)
    for vector in vectors:
        if vector.offset > len(expected):
            expected.extend(bytes(vector.offset - len(expected)))
        expected[vector.offset : vector.offset + len(vector.data)] = vector.data
    if new_length is not None:
        del expected[new_length:]
    change = TestWriteVectors((), vectors, new_length)
    decision = test_and_write({0: BytesShare(old)}, {0: change}, [ReadVector(0, 100)])
    assert decision.data == {0: [old]}
    edits = decision.edits[0]
    if new_length == 0:
        assert edits is None
        return
    region = bytearray(old + stale)
    apply_edits(region, edits)
    assert bytes(region[: edits.length]) == expected
    assert len(region) >= edits.reach >= edits.length


def test_a_gap_that_later_writes_of_the_call_fill_is_none():
    far = MAX_GAP * 3
    filled = [WriteVector(far, b"x"), WriteVector(0, bytes(far))]
    assert test_and_write({}, {0: TestWriteVectors((), filled)}, ()).success
    with pytest.raises(NoSpaceError):
        test_and_write({}, {0: TestWriteVectors((), filled[:1])}, ())
