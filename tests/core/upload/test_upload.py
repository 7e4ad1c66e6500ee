import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.fakes.plain_reader import read_shares
from tests.fakes.upload_grid import UploadGrid
from truckee.core import placement
from truckee.core.crypto import hashes
from truckee.core.errors import (
    NoServersError,
    NoSpaceError,
    ServerGoneError,
    ServersFullError,
    SourceChangedError,
    UploadUnhappinessError,
)
from truckee.core.formats.caps import LitCap
from truckee.core.interfaces import Encoding
from truckee.core.storage.faults import Kind, Rule
from truckee.core.upload import encode, pipeline
from truckee.core.upload.sources import BytesSource
from truckee.core.upload.upload import Uploader

SMALL = b"0123456789" * 20
LARGE = hashlib.sha256(b"large").digest() * 2000  # 64,000 bytes: some 63 segments of 1 KiB
SEGMENTED = Encoding(3, 7, 10, 1024)
TWICE = ("small", "large")


@pytest.fixture(autouse=True)
def _write_little_at_a_time(monkeypatch):
    """Make LARGE pass through the pipeline in many groups."""
    monkeypatch.setattr(encode, "WRITE_SIZE", 1000)
    monkeypatch.setattr(pipeline, "WRITE_SIZE", 1000)
    monkeypatch.setattr(pipeline, "WHOLE_LIMIT", 10_000)


def contents(kind):
    return {"small": SMALL, "large": LARGE}[kind]


def result(d):
    return SynchronousTestCase().successResultOf(d)


def failure(d, kind):
    return str(SynchronousTestCase().failureResultOf(d, kind).value)


def check_stored(grid, cap, data, happy=7, missing=()):
    """Every stored share is right, k of them read, and they are happily spread."""
    found = grid.shares(cap.storage_index)
    whole = {n: places[0][1] for n, places in found.items()}
    assert len(whole) >= cap.needed_shares
    numbers = sorted(whole)
    for first in range(len(numbers) - cap.needed_shares + 1):
        some = numbers[first : first + cap.needed_shares]
        assert read_shares({n: whole[n] for n in some}, cap) == data
    assert placement.happiness({n: {i for i, _ in at} for n, at in found.items()}) >= happy
    return found


def check_quiet(grid):
    """Nothing is left running and nothing is left reserved."""
    assert not grid.clock.getDelayedCalls()
    assert grid.reserved() == 0


@pytest.mark.parametrize("kind", TWICE)
def test_contents_go_to_ten_servers_one_share_each_and_read_back(kind):
    grid = UploadGrid(10)
    cap = result(grid.start(contents(kind), SEGMENTED))
    found = check_stored(grid, cap, contents(kind), happy=10)
    assert sorted(found) == list(range(10))
    order = placement.permuted(grid.servers, cap.storage_index)
    places = {grid.servers.index(server): n for n, server in enumerate(order)}
    assert all(places[at[0][0]] == n for n, at in found.items())
    check_quiet(grid)


@pytest.mark.parametrize("kind", TWICE)
def test_a_small_file_costs_one_write_and_one_close_per_server(kind):
    grid = UploadGrid(10)
    result(grid.start(contents(kind), SEGMENTED))
    calls = [name for _, name in grid.faults.calls]
    assert calls.count("allocate_buckets") == calls.count("close") == 10
    assert calls.count("get_version") == 10
    assert calls.count("get_buckets") == 0
    if kind == "small":
        assert calls.count("write") == 10
    grid.faults.calls.clear()
    result(grid.start(contents(kind) + b"more", SEGMENTED))
    assert "get_version" not in [name for _, name in grid.faults.calls]


def test_the_secret_and_the_key_decide_over_the_cap():
    grid = UploadGrid(10)
    one, same = result(grid.start(SMALL)), result(grid.start(SMALL))
    other = result(grid.start(SMALL, convergence=b"other"))
    drawn = result(grid.start(SMALL, convergence=None))
    assert one == same != other
    assert drawn.readkey == b"r" * 16
    for cap in (one, other, drawn):
        check_stored(grid, cap, SMALL)


@pytest.mark.parametrize("kind", TWICE)
def test_the_same_contents_uploaded_several_times_at_once_are_stored_once(kind):
    grid = UploadGrid(10)
    grid.faults.add(Rule(Kind.LATE, calls=frozenset({"allocate_buckets"})))
    uploads = [grid.start(contents(kind), SEGMENTED) for _ in range(5)]
    assert not any(d.called for d in uploads)
    for d in uploads:
        grid.wait(d)
    caps = {result(d) for d in uploads}
    assert len(caps) == 1
    check_stored(grid, caps.pop(), contents(kind), happy=10)
    check_quiet(grid)


def test_an_upload_that_fails_or_is_cancelled_gives_its_turn_to_the_next_of_the_same_contents():
    grid = UploadGrid(10)
    broken = frozenset({"get_version"})
    rule = grid.faults.add(Rule(Kind.HANG, calls=broken, forever=True))
    failing, dropped, waiting, last = (grid.start(SMALL) for _ in range(4))
    waiting.cancel()
    failure(waiting, CancelledError)
    grid.wait(failing)
    failure(failing, UploadUnhappinessError)
    grid.faults.rules.remove(rule)
    dropped.cancel()  # it has its turn, and hangs
    failure(dropped, CancelledError)
    grid.wait(last)
    cap = result(last)
    check_stored(grid, cap, SMALL)
    assert result(grid.start(SMALL)) == cap


@pytest.mark.parametrize("kind", TWICE)
def test_the_cap_computed_without_storing_is_the_same(kind):
    grid = UploadGrid(10)
    computed = result(
        Deferred.fromCoroutine(
            grid.uploader.compute_cap(BytesSource(contents(kind)), SEGMENTED, b"s")
        )
    )
    assert not grid.faults.calls
    assert computed == result(grid.start(contents(kind), SEGMENTED, convergence=b"s"))


def test_literal_contents_need_no_servers():
    grid = UploadGrid(0)
    assert result(grid.start(b"x" * 55)) == LitCap(b"x" * 55)
    assert result(grid.start(b"")) == LitCap(b"")
    assert "zero servers" in failure(grid.start(b"x" * 56), NoServersError)


@settings(max_examples=40)
@given(st.data())
def test_any_encoding_over_any_number_of_servers_reads_back(data):
    n = data.draw(st.integers(1, 12))
    k = data.draw(st.integers(1, n))
    servers = data.draw(st.integers(1, 14))
    encoding = Encoding(k, min(n, servers), n, data.draw(st.integers(56, 3000)))
    size = data.draw(st.integers(56, 4000))
    grid = UploadGrid(servers)
    stuff = (LARGE * 2)[7 : 7 + size]
    cap = result(grid.start(stuff, encoding))
    found = check_stored(grid, cap, stuff, happy=min(n, servers))
    assert sorted(found) == list(range(n))
    assert all(len(at) == 1 for at in found.values())
    check_quiet(grid)


def test_every_share_carries_a_lease_with_the_secrets_of_its_server():
    grid = UploadGrid(10)
    seen = {}
    for server in grid.local:
        real = server.allocate_buckets

        async def spy(index, secrets, shnums, size, server=server, real=real):
            seen[server.lease_seed] = secrets
            return await real(index, secrets, shnums, size)

        server.allocate_buckets = spy
    cap = result(grid.start(SMALL))
    renewal = hashes.file_renewal_secret(hashes.client_renewal_secret(b"l" * 32), cap.storage_index)
    cancel = hashes.file_cancel_secret(hashes.client_cancel_secret(b"l" * 32), cap.storage_index)
    assert len(seen) == 10
    for seed, secrets in seen.items():
        assert secrets.renew == hashes.bucket_renewal_secret(renewal, seed)
        assert secrets.cancel == hashes.bucket_cancel_secret(cancel, seed)


# the fault table


def break_calls(grid, servers, *calls, kind=Kind.ERROR, nth=1, forever=False):
    for server in servers:
        grid.faults.add(Rule(kind, nth, frozenset(calls), server, forever))


def test_row_1_one_good_server_of_ten_carries_the_file_when_happy_is_1():
    grid = UploadGrid(10)
    break_calls(grid, grid.servers[1:], "allocate_buckets", forever=True)
    cap = result(grid.start(SMALL, Encoding(3, 1, 10)))
    found = check_stored(grid, cap, SMALL, happy=1)
    assert {i for at in found.values() for i, _ in at} == {0}
    assert len(found) == 10


def test_row_1_all_servers_failing_is_an_unhappy_end():
    grid = UploadGrid(10)
    break_calls(grid, grid.servers, "allocate_buckets", forever=True)
    text = failure(grid.start(SMALL, Encoding(3, 1, 10)), UploadUnhappinessError)
    assert text.startswith("server selection failed: ")
    assert "only 0 server(s)" in text
    check_quiet(grid)


def test_row_2_five_of_ten_failing_leave_too_few():
    grid = UploadGrid(10)
    break_calls(grid, grid.servers[:5], "allocate_buckets")
    text = failure(grid.start(SMALL), UploadUnhappinessError)
    assert "placed on only 5 server(s)" in text
    check_quiet(grid)


def test_row_3_failures_in_two_rounds_are_made_good_by_other_servers():
    grid = UploadGrid(20)
    cap = result(UploadGrid(20).start(SMALL))
    order = placement.permuted(grid.servers, cap.storage_index)
    break_calls(grid, order[:4], "allocate_buckets")
    break_calls(grid, order[10:13], "allocate_buckets")
    assert result(grid.start(SMALL, Encoding(3, 10, 10))) == cap
    check_stored(grid, cap, SMALL, happy=10)
    used = {i for at in grid.shares(cap.storage_index).values() for i, _ in at}
    assert not used & {grid.servers.index(s) for s in (*order[:4], *order[10:13])}
    check_quiet(grid)


@pytest.mark.threat("S4")
@pytest.mark.parametrize("call", ["get_version", "allocate_buckets"])
def test_row_4_servers_that_never_answer_end_the_selection_in_time(call):
    grid = UploadGrid(10)
    break_calls(grid, grid.servers, call, kind=Kind.HANG, forever=True)
    d = grid.start(SMALL)
    assert grid.wait(d) == 15
    assert "server selection failed" in failure(d, UploadUnhappinessError)
    grid.clock.advance(60)
    check_quiet(grid)


@pytest.mark.parametrize("call", ["get_version", "allocate_buckets"])
def test_row_4_some_hung_servers_only_cost_time(call):
    grid = UploadGrid(10)
    break_calls(grid, grid.servers[:3], call, kind=Kind.HANG, forever=True)
    d = grid.start(SMALL)
    assert grid.wait(d) == 15
    check_stored(grid, result(d), SMALL)


def test_row_5_a_failed_selection_gives_back_what_it_took():
    grid = UploadGrid(5)
    uploader = grid.uploader_for(grid.servers[:4])
    failure(grid.start(SMALL, Encoding(3, 5, 10), uploader=uploader), UploadUnhappinessError)
    check_quiet(grid)
    cap = result(grid.start(SMALL, Encoding(3, 5, 10)))
    check_stored(grid, cap, SMALL, happy=5)


@pytest.mark.parametrize("kind", TWICE)
@pytest.mark.parametrize("call", ["write", "close"])
def test_row_6_servers_lost_while_writing_are_tolerated_down_to_happy(kind, call):
    encoding = Encoding(3, 4, 10, 1024)
    grid = UploadGrid(5)
    break_calls(grid, grid.servers[:1], call, forever=True)
    cap = result(grid.start(contents(kind), encoding))
    check_stored(grid, cap, contents(kind), happy=4)
    check_quiet(grid)
    grid = UploadGrid(5)
    break_calls(grid, grid.servers[:2], call, forever=True)
    text = failure(grid.start(contents(kind), encoding), UploadUnhappinessError)
    assert "only 3 server(s)" in text
    check_quiet(grid)


def prepared(servers, holders, data=SMALL, encoding=None):
    """Return a grid where shares stand already: server number -> share numbers."""
    grid = UploadGrid(servers)
    cap = result(grid.start(data, encoding))
    shares = {n: places[0][1] for n, places in grid.shares(cap.storage_index).items()}
    template = next(iter(grid.stores[0].shares[cap.storage_index].values()))
    for i, store in enumerate(grid.stores):
        store.shares.clear()
        for n in holders.get(i, ()):
            share = type(template)(template.kind, bytearray(shares[n]))
            store.shares.setdefault(cap.storage_index, {})[n] = share
    return grid, cap


@pytest.mark.parametrize("servers", [10, 14])
def test_row_7_shares_on_readonly_servers_count(servers):
    grid, cap = prepared(servers, {0: [0], 1: [1], 2: [2, 3]})
    for i in range(3):
        grid.servers[i].readonly = True
    for i in range(7, servers):
        grid.servers[i].full = True
    grid.uploader = grid.uploader_for(grid.servers)  # forgets what it knew of their space
    assert result(grid.start(SMALL)) == cap
    found = check_stored(grid, cap, SMALL, happy=7)
    assert {i for at in found.values() for i, _ in at} == set(range(7))
    assert all(share.leases for share in stored(grid, cap, (0, 1)))


def stored(grid, cap, numbers):
    return [share for i in numbers for share in grid.stores[i].shares[cap.storage_index].values()]


def test_row_7_a_file_that_is_there_entirely_is_not_written_again_but_leased():
    grid, cap = prepared(10, {i: [i] for i in range(10)})
    for server in grid.servers:
        server.readonly = True
    grid.uploader = grid.uploader_for(grid.servers)
    grid.faults.calls.clear()
    assert result(grid.start(SMALL)) == cap
    assert "write" not in [name for _, name in grid.faults.calls]
    assert all(share.leases for share in stored(grid, cap, range(10)))


@pytest.mark.parametrize(
    ("servers", "holders", "happy"),
    [
        (10, {0: range(10)}, 7),
        (10, {0: range(10), 1: [0, 1]}, 10),
        (4, {0: range(10), 1: [0], 2: [0], 3: [0]}, 4),
        (5, {0: [0, 1, 2], 1: [0, 1, 2], 2: [0]}, 5),
        (20, {i: [0] for i in range(20)}, 10),
        (2, {0: range(10)}, 2),
    ],
)
def test_row_8_skewed_layouts_are_spread_until_happy(servers, holders, happy):
    encoding = Encoding(3, happy, 10)
    grid, cap = prepared(servers, holders, encoding=Encoding(3, 1, 10))
    assert result(grid.start(SMALL, encoding)) == cap
    found = check_stored(grid, cap, SMALL, happy=happy)
    for i, numbers in holders.items():
        assert set(numbers) <= {n for n, at in found.items() if i in {j for j, _ in at}}
    check_quiet(grid)


def test_row_8_what_cannot_be_spread_fails_cleanly():
    grid, _ = prepared(4, {0: range(10)}, encoding=Encoding(3, 1, 10))
    for server in grid.servers[2:]:
        server.full = True
    grid.uploader = grid.uploader_for(grid.servers)
    text = failure(grid.start(SMALL, Encoding(3, 4, 10)), UploadUnhappinessError)
    assert "2 server(s)" in text
    check_quiet(grid)


def test_full_servers_are_passed_over_also_when_they_said_otherwise():
    grid = UploadGrid(10)
    cap = result(grid.start(SMALL))
    for server in grid.servers[:3]:
        server.full = True  # while the uploader still believes in their space
    other = result(grid.start(SMALL * 2))
    check_stored(grid, other, SMALL * 2, happy=7)
    grid.faults.calls.clear()
    result(grid.start(SMALL * 3))
    asked = [server for server, name in grid.faults.calls if name == "get_version"]
    assert sorted(map(grid.servers.index, asked)) == [0, 1, 2]
    assert cap != other


@pytest.mark.parametrize("kind", TWICE)
@pytest.mark.parametrize("when", ["known", "unknown", "writing"])
def test_servers_without_room_are_told_from_servers_that_fail(kind, when):
    grid = UploadGrid(10)
    result(grid.start(b"something else" * 10))
    for server in grid.servers[:4]:
        if when == "writing":
            how = {"calls": frozenset({"write"}), "server": server, "forever": True}
            grid.faults.add(Rule(Kind.ERROR, error=lambda: NoSpaceError("full"), **how))
        else:
            server.full = True
    if when == "known":
        grid.uploader = grid.uploader_for(grid.servers)
    assert "6 server(s)" in failure(grid.start(contents(kind)), ServersFullError)
    check_quiet(grid)


def test_full_servers_are_not_the_reason_when_too_many_others_fail():
    grid = UploadGrid(10)
    for server in grid.servers[:2]:
        server.full = True
    break_calls(grid, grid.servers[6:], "allocate_buckets")
    with pytest.raises(UploadUnhappinessError) as found:
        SynchronousTestCase().failureResultOf(grid.start(SMALL)).raiseException()
    assert type(found.value) is UploadUnhappinessError
    check_quiet(grid)


def test_two_entries_of_one_server_count_once():
    grid = UploadGrid(1)
    uploader = grid.uploader_for([grid.servers[0], grid.servers[0]])
    text = failure(grid.start(SMALL, Encoding(1, 2, 2), uploader=uploader), UploadUnhappinessError)
    assert "only 1 server(s)" in text


def test_a_happy_layout_with_fewer_than_k_shares_is_no_success():
    grid = UploadGrid(2)
    encoding = Encoding(6, 1, 10, 1024)
    break_calls(grid, grid.servers[:1], "write", forever=True)
    text = failure(grid.start(SMALL, encoding), UploadUnhappinessError)
    assert "only 5 shares could be placed, 6 are needed" in text


def test_a_server_that_did_not_answer_is_left_alone_for_a_minute():
    grid = UploadGrid(10)
    break_calls(grid, grid.servers[:1], "allocate_buckets", kind=Kind.HANG, forever=True)
    d = grid.start(SMALL)
    assert grid.wait(d) == 15
    result(d)
    result(grid.start(SMALL * 2))  # at once
    grid.clock.advance(60)
    assert grid.wait(grid.start(SMALL * 3)) == 15


def test_a_server_that_did_not_answer_is_asked_again_at_once_when_it_is_needed():
    grid = UploadGrid(7)
    break_calls(grid, grid.servers[:1], "allocate_buckets", kind=Kind.HANG)
    d = grid.start(SMALL)
    assert grid.wait(d) == 15
    failure(d, UploadUnhappinessError)
    check_stored(grid, result(grid.start(SMALL)), SMALL)
    grid.clock.advance(60)
    check_quiet(grid)


def test_happy_0_still_means_that_the_file_can_be_read():
    grid = UploadGrid(3)
    break_calls(grid, grid.servers, "allocate_buckets", forever=True)
    text = failure(grid.start(SMALL, Encoding(3, 0, 10)), UploadUnhappinessError)
    assert "only 0 shares could be placed, 3 are needed" in text
    grid = UploadGrid(1)
    check_stored(grid, result(grid.start(SMALL, Encoding(3, 0, 10))), SMALL, happy=1)


@pytest.mark.parametrize(("k", "n"), [(256, 256), (1, 256), (100, 256), (1, 1)])
def test_extreme_encodings_are_stored_and_read_back(k, n):
    grid = UploadGrid(10)
    cap = result(grid.start(LARGE, Encoding(k, min(n, 10), n, 20_000)))
    whole = {i: places[0][1] for i, places in grid.shares(cap.storage_index).items()}
    assert sorted(whole) == list(range(n))
    assert read_shares({i: whole[i] for i in range(n - k, n)}, cap) == LARGE


# any call may break


ONE_FAULT = [Kind.ERROR, Kind.ERROR_AFTER, Kind.HANG, Kind.HANG_AFTER, Kind.LATE]


@pytest.mark.parametrize("kind", TWICE)
@pytest.mark.parametrize("fault", ONE_FAULT, ids=lambda f: f.name)
def test_any_one_broken_call_is_survived(kind, fault):
    n, reached = 0, True
    while reached:
        n += 1 if n < 60 else 37
        grid = UploadGrid(8)
        rule = grid.faults.add(Rule(fault, n))
        d = grid.start(contents(kind), SEGMENTED)
        assert grid.wait(d) <= 75
        check_stored(grid, result(d), contents(kind), happy=7)
        reached = rule.reached
        grid.clock.advance(1900)  # time for a lost allocation to be forgotten by its server
        check_quiet(grid)


@pytest.mark.parametrize("kind", TWICE)
@pytest.mark.parametrize("fault", ONE_FAULT[:4], ids=lambda f: f.name)
def test_a_server_that_breaks_for_good_at_any_call_is_survived(kind, fault):
    n, reached = 0, True
    while reached:
        n += 1
        grid = UploadGrid(8)
        rule = grid.faults.add(Rule(fault, n, server=grid.servers[3], forever=True))
        d = grid.start(contents(kind), SEGMENTED)
        assert grid.wait(d) <= 75
        check_stored(grid, result(d), contents(kind), happy=7)
        reached = rule.reached and n < 12
        grid.clock.advance(1900)
        check_quiet(grid)


@pytest.mark.parametrize("kind", TWICE)
@pytest.mark.parametrize("fault", ONE_FAULT[:4], ids=lambda f: f.name)
def test_all_servers_breaking_at_any_call_ends_in_a_known_error(kind, fault):
    n, done = 0, False
    while not done:
        n += 1 if n < 45 else 97
        grid = UploadGrid(8)
        rule = grid.faults.add(Rule(fault, n, forever=True))
        d = grid.start(contents(kind), SEGMENTED)
        assert grid.wait(d) <= 140
        done = not rule.reached
        if done:
            result(d)
        elif d.called:
            d.addErrback(lambda f: f.trap(UploadUnhappinessError))
        grid.clock.advance(1900)
        check_quiet(grid)


@pytest.mark.parametrize("kind", TWICE)
def test_cancelling_at_any_call_leaves_nothing_open(kind):
    n, reached = 0, True
    while reached:
        n += 1 if n < 60 else 37
        grid = UploadGrid(8)
        rule = grid.faults.add(Rule(Kind.HANG, n))
        d = grid.start(contents(kind), SEGMENTED)
        reached = rule.reached
        if reached:
            assert not d.called
            d.cancel()
            SynchronousTestCase().failureResultOf(d, CancelledError)
            grid.clock.advance(76)
        check_quiet(grid)


def test_an_answer_that_comes_after_its_time_is_undone():
    grid = UploadGrid(10)
    grid.faults.add(
        Rule(Kind.LATE, 1, frozenset({"allocate_buckets"}), grid.servers[0], seconds=30)
    )
    d = grid.start(SMALL)
    assert grid.wait(d) == 15
    result(d)
    assert grid.reserved() > 0
    grid.clock.advance(20)
    check_quiet(grid)


def test_a_server_without_room_while_writing_is_dropped():
    grid = UploadGrid(10)
    for server in grid.servers[:3]:
        grid.faults.add(
            Rule(Kind.ERROR, 1, frozenset({"write"}), server, error=lambda: NoSpaceError("full"))
        )
    check_stored(grid, result(grid.start(SMALL)), SMALL)
    check_quiet(grid)


@pytest.mark.threat("L1")
def test_an_unexpected_error_of_one_server_is_logged_without_its_words_and_survived():
    grid = UploadGrid(10)
    grid.faults.add(
        Rule(Kind.ERROR, 1, frozenset({"write"}), error=lambda: ValueError("URI:CHK:secret"))
    )
    events = []
    globalLogPublisher.addObserver(events.append)
    try:
        check_stored(grid, result(grid.start(SMALL)), SMALL)
    finally:
        globalLogPublisher.removeObserver(events.append)
    texts = [formatEvent(event) for event in events]
    assert any("ValueError" in text for text in texts)
    assert not any("secret" in text for text in texts)


def test_a_server_that_gives_what_was_not_asked_for_gains_nothing():
    grid = UploadGrid(10)
    real = grid.local[0].allocate_buckets

    async def generous(index, secrets, shnums, size):
        return await real(index, secrets, frozenset(range(100, 110)), size)

    grid.local[0].allocate_buckets = generous
    cap = result(grid.start(SMALL, Encoding(3, 7, 10)))
    found = check_stored(grid, cap, SMALL)
    assert max(found) < 10


# sources


class ChangingSource(BytesSource):
    """Gives other contents on the second reading, and does not say that it is private."""

    is_private = False

    def __init__(self, first, second):
        super().__init__(first)
        self._second = second
        self.closed = 0

    async def rewind(self):
        self._data = memoryview(self._second)
        await super().rewind()

    async def close(self):
        self.closed += 1


@pytest.mark.parametrize("kind", TWICE)
@pytest.mark.parametrize("change", ["longer", "shorter", "other", "gone"])
def test_contents_that_change_between_readings_never_become_a_file(kind, change):
    data = contents(kind)
    second = {
        "longer": data + b"x",
        "shorter": data[:-1],
        "other": data[:-1] + b"!",
        "gone": b"",
    }[change]
    grid = UploadGrid(10)
    source = ChangingSource(data, second)
    failure(grid.start(b"", SEGMENTED, source=source), SourceChangedError)
    assert source.closed == 1
    assert not any(store.shares for store in grid.stores)
    check_quiet(grid)


def test_a_private_source_is_not_hashed_twice():
    grid = UploadGrid(10)
    source = ChangingSource(SMALL, SMALL[:-1] + b"!")
    source.is_private = True
    result(grid.start(b"", source=source))


class DigestingSource(BytesSource):
    """Knows its digest; counts how often it is read."""

    def __init__(self, data, known=True):
        super().__init__(data)
        self._known = known
        self.read_bytes = 0

    async def content_digest(self, tag):
        return hashes.tagged_hash(tag, self._data) if self._known else None

    async def read(self, length):
        pieces = await super().read(length)
        self.read_bytes += sum(map(len, pieces))
        return pieces


@pytest.mark.parametrize("kind", TWICE)
@pytest.mark.parametrize("known", [True, False])
def test_a_source_that_knows_its_digest_is_read_once(kind, known):
    grid = UploadGrid(10)
    data = contents(kind)
    source = DigestingSource(data, known)
    cap = result(grid.start(b"", SEGMENTED, source=source))
    assert source.read_bytes == len(data) * (1 if known else 2)
    assert cap == result(grid.start(data, SEGMENTED))
    source = DigestingSource(data, known)
    result(grid.start(b"", SEGMENTED, source=source, convergence=None))
    assert source.read_bytes == len(data)


class LeakySource(BytesSource):
    """Fails at the n-th reading."""

    def __init__(self, data, n):
        super().__init__(data)
        self.n = n
        self.closed = 0

    async def read(self, length):
        self.n -= 1
        if self.n == 0:
            raise OSError("cannot read")
        return await super().read(min(length, 1000))

    async def close(self):
        self.closed += 1


@pytest.mark.parametrize("kind", TWICE)
def test_a_source_that_fails_at_any_reading_ends_the_upload_and_is_closed(kind):
    n = 0
    source = LeakySource(b"", 0)
    while source.n <= 0:
        n += 1
        grid = UploadGrid(10)
        source = LeakySource(contents(kind), n)
        d = grid.start(b"", SEGMENTED, source=source)
        if source.n <= 0:
            failure(d, OSError)
        else:
            check_stored(grid, result(d), contents(kind))
        assert source.closed == 1
        check_quiet(grid)


# memory


class CountingSource(BytesSource):
    def __init__(self, data):
        super().__init__(data)
        self.given = 0

    async def read(self, length):
        pieces = await super().read(length)
        self.given += sum(map(len, pieces))
        return pieces


def test_a_slow_server_holds_up_the_reading():
    grid = UploadGrid(10)
    group = 3 * 1024  # bytes of plaintext in a group of three segments
    gates = []
    allocate = grid.local[0].allocate_buckets

    class Slow:
        def __init__(self, writer):
            self.writer = writer
            self.close, self.abort = writer.close, writer.abort

        async def write(self, offset, data):
            gate = Deferred()
            gates.append(gate)
            await gate
            await self.writer.write(offset, data)

    async def slow(*args):
        got = await allocate(*args)
        return type(got)(got.already, {n: Slow(w) for n, w in got.writers.items()})

    grid.local[0].allocate_buckets = slow
    source = CountingSource(LARGE)
    d = grid.start(b"", SEGMENTED, source=source, convergence=None)
    written, peak = 0, 0
    while not d.called:
        ahead = source.given - written * group
        peak = max(peak, ahead)
        gates.pop(0).callback(None)
        written += 1
    check_stored(grid, result(d), LARGE)
    assert peak <= (pipeline.IN_FLIGHT + 3) * group
    assert peak < len(LARGE) / 3


def test_many_uploads_share_one_amount_of_memory():
    grid = UploadGrid(10)
    uploader = Uploader(
        lambda: grid.servers, grid.cpu, grid.clock, b"l" * 32, memory=4 * 3 * 1024 * 5
    )
    grid.faults.add(
        Rule(Kind.LATE, 1, frozenset({"write"}), grid.servers[0], forever=True, seconds=1)
    )
    sources = [CountingSource(bytes([i]) + LARGE[:20000]) for i in range(8)]
    running = [grid.start(b"", SEGMENTED, None, uploader, source) for source in sources]
    assert sum(source.given for source in sources) <= 8 * 3 * 1024
    for d in running:
        grid.wait(d)
        result(d)
    assert uploader._budget.used == 0
    check_quiet(grid)


@pytest.mark.parametrize("kind", TWICE)
def test_memory_is_given_back_however_an_upload_ends(kind):
    for n in range(1, 40, 5):
        grid = UploadGrid(8)
        rule = grid.faults.add(Rule(Kind.HANG, n, forever=True))
        for cancel in (True, False):
            d = grid.start(contents(kind), SEGMENTED)
            if cancel and not d.called:
                d.cancel()
            grid.wait(d)
            d.addErrback(lambda _: None)
            assert grid.uploader._budget.used == 0
        assert rule.reached
        grid.clock.advance(1900)
        check_quiet(grid)


@pytest.mark.threat("L1")
def test_messages_never_name_the_file():
    grid = UploadGrid(4)
    text = failure(grid.start(SMALL), UploadUnhappinessError)
    assert "URI" not in text
    break_calls(grid, grid.servers, "write", forever=True)
    d = grid.start(SMALL, Encoding(1, 1, 4))
    text = failure(d, UploadUnhappinessError)
    assert text.startswith("shares could be placed or found on only 0 server(s)")
    assert not isinstance(d, ServerGoneError)
