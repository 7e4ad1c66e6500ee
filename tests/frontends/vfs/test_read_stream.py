"""Reading by requests that overlap, against the plain bytes."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from truckee.core.errors import DownloadStopped, NotEnoughSharesError
from truckee.frontends.vfs import read_stream
from truckee.frontends.vfs.read_stream import Budget, ReadStream

MIB = 2**20


class Producer:
    """Sends a range in chunks of `chunk` when `pump` is called."""

    def __init__(self, file, consumer, offset, size):
        self.file, self.consumer = file, consumer
        self.at, self.end = offset, offset + size
        self.paused = self.stopped = False
        self.done = Deferred()

    def pauseProducing(self):
        self.paused = True

    def resumeProducing(self):
        self.paused = False

    def stopProducing(self):
        self.stopped = True
        self.finish(DownloadStopped("stopped"))

    def finish(self, error=None):
        if not self.done.called:
            self.done.callback(None) if error is None else self.done.errback(error)

    def step(self):
        """Send one chunk; return whether anything happened."""
        if self.paused or self.stopped or self.done.called:
            return False
        data = self.file.data[self.at : min(self.end, self.at + self.file.chunk)]
        self.at += len(data)
        self.consumer.write(data)
        if self.at >= self.end and not self.done.called:
            self.finish()
        return True


class File:
    def __init__(self, data, chunk=MIB):
        self.data, self.chunk = data, chunk
        self.reads = []

    def get_size(self):
        return len(self.data)

    async def read(self, consumer, offset=0, size=None):
        producer = Producer(self, consumer, offset, size)
        self.reads.append(producer)
        consumer.registerProducer(producer, True)
        try:
            await producer.done
        finally:
            consumer.unregisterProducer()
        return consumer

    def pump(self, most=10_000):
        steps = 0
        while steps < most and any(producer.step() for producer in self.reads):
            steps += 1
        return steps


def stream_of(data, chunk=MIB, budget=None):
    file, clock = File(data, chunk), Clock()
    return file, clock, ReadStream(file, clock, budget or Budget(32 * MIB))


def start(stream, offset, length):
    return Deferred.fromCoroutine(stream.read(offset, length))


def result(d):
    found = []
    d.addBoth(found.append)
    assert found, "not answered yet"
    return found[0]


def test_sequential_requests_cost_one_read_of_the_node():
    data = os.urandom(5 * MIB + 3)
    file, _, stream = stream_of(data)
    got, at = b"", 0
    while at < len(data):
        d = start(stream, at, 100_000)
        file.pump(1)
        file.pump(1)
        got += result(d)
        at += 100_000
    assert got == data
    assert len(file.reads) == 1
    assert result(start(stream, at, 10)) == b""
    stream.close()


def test_the_first_bytes_do_not_wait_for_the_rest():
    file, _, stream = stream_of(os.urandom(5 * MIB))
    d = start(stream, 0, 32768)
    file.pump(1)
    assert result(d) == file.data[:32768]
    stream.close()


def test_a_window_of_requests_in_any_order_is_served_from_one_read():
    data = os.urandom(3 * MIB)
    file, _, stream = stream_of(data, 65536)
    offsets = [i * 32768 for i in range(64)]
    mixed = [offsets[i ^ 1] for i in range(64)]
    running = [(at, start(stream, at, 32768)) for at in mixed]
    file.pump()
    for at, d in running:
        if at != mixed[0] - 32768:
            assert result(d) == data[at : at + 32768]
    assert len(file.reads) <= 2
    stream.close()


def test_the_node_is_paused_when_a_window_is_ahead():
    file, _, stream = stream_of(os.urandom(20 * MIB), 65536)
    d = start(stream, 0, 1000)
    file.pump()
    result(d)
    assert 256 * 1024 <= file.reads[0].at <= 256 * 1024 + 2 * 65536
    for at in range(1000, 10 * MIB, 50_000):
        d = start(stream, at, 50_000)
        file.pump()
        result(d)
    assert file.reads[0].at - 10 * MIB <= 8 * MIB + 2 * 65536
    assert file.reads[0].at - 10 * MIB > 2 * MIB
    held = sum(len(chunk) for chunk in stream._window._chunks)
    assert held <= 10 * MIB
    stream.close()


def test_read_ahead_stays_small_without_budget():
    budget = Budget(100)
    file, _, stream = stream_of(os.urandom(4 * MIB), 65536, budget)
    for at in range(0, 2 * MIB, 50_000):
        d = start(stream, at, 50_000)
        file.pump()
        result(d)
    assert file.reads[0].at <= 2 * MIB + 400_000
    stream.close()


def test_budgets_are_given_back():
    process = Budget(MIB)
    budget = Budget(MIB, process)
    file, _, stream = stream_of(os.urandom(4 * MIB), 65536, budget)
    for at in range(0, 2 * MIB, 50_000):
        d = start(stream, at, 50_000)
        file.pump()
        result(d)
    assert not budget.take(MIB)
    stream.close()
    assert budget.take(MIB)
    assert not process.take(1)


def test_one_request_elsewhere_is_fetched_alone_and_two_move_the_stream():
    file, _, stream = stream_of(os.urandom(40 * MIB))
    d = start(stream, 0, 1000)
    file.pump(1)
    result(d)
    far = start(stream, 30 * MIB, 1000)
    file.pump(1)
    assert file.reads[-1].end == 30 * MIB + 1000
    assert result(far) == file.data[30 * MIB : 30 * MIB + 1000]
    d = start(stream, 1000, 1000)  # the stream is still there
    assert result(d) == file.data[1000:2000]
    assert len(file.reads) == 2
    for at in (20 * MIB, 20 * MIB + 1000):
        d = start(stream, at, 1000)
        file.pump(1)
        assert result(d) == file.data[at : at + 1000]
    assert file.reads[0].stopped
    assert file.reads[-1].end == len(file.data)
    stream.close()


def test_short_files_are_fetched_once_whole():
    data = os.urandom(100_000)
    file, _, stream = stream_of(data)
    d = start(stream, 90_000, 100)
    file.pump()
    assert result(d) == data[90_000:90_100]
    assert result(start(stream, 5, 100)) == data[5:105]
    assert len(file.reads) == 1
    stream.close()


def test_an_unused_stream_stops_after_30_seconds():
    file, clock, stream = stream_of(os.urandom(20 * MIB))
    d = start(stream, 0, 1000)
    file.pump(1)
    result(d)
    clock.advance(20)
    result(start(stream, 1000, 1000))
    clock.advance(20)
    assert not file.reads[0].stopped
    clock.advance(11)
    assert file.reads[0].stopped
    assert clock.getDelayedCalls() == []
    d = start(stream, 2000, 1000)
    file.pump(1)
    assert result(d) == file.data[2000:3000]
    stream.close()
    assert clock.getDelayedCalls() == []


def test_a_request_that_waits_long_is_not_taken_for_disuse():
    file, clock, stream = stream_of(os.urandom(MIB))
    d = start(stream, 0, 1000)
    clock.advance(100)
    clock.advance(100)
    file.pump()
    assert result(d) == file.data[:1000]
    stream.close()


def test_an_error_reaches_every_request_and_the_next_tries_again():
    file, _, stream = stream_of(os.urandom(2 * MIB))
    a, b = start(stream, 0, 1000), start(stream, 1000, 1000)
    file.reads[0].finish(NotEnoughSharesError("2 of 3"))
    assert result(a).check(NotEnoughSharesError)
    assert result(b).check(NotEnoughSharesError)
    d = start(stream, 0, 1000)
    file.pump(1)
    assert result(d) == file.data[:1000]
    stream.close()


class BrokenFile(File):
    """Fails before anybody could wait for it, after `sent` bytes."""

    sent = 0

    async def read(self, consumer, offset=0, size=None):
        consumer.write(self.data[: self.sent])
        raise NotEnoughSharesError("0 of 3")


@pytest.mark.parametrize("sent", [0, 500, 5000])
def test_an_error_at_once_is_neither_a_hang_nor_short_data(sent):
    file = BrokenFile(os.urandom(2 * MIB))
    file.sent = sent
    stream = ReadStream(file, Clock(), Budget(MIB))
    for _ in range(2):
        assert result(start(stream, 0, 1000)).check(NotEnoughSharesError)
    stream.close()


def test_closing_fails_what_waits():
    file, _, stream = stream_of(os.urandom(2 * MIB))
    d = start(stream, 0, 1000)
    stream.close()
    assert result(d).check(DownloadStopped)
    assert file.reads[0].stopped
    assert result(start(stream, 0, 1)).check(DownloadStopped)
    stream.close()


def test_a_node_that_ends_early_is_an_error_not_an_end_of_file():
    file, _, stream = stream_of(os.urandom(2 * MIB))
    d = start(stream, 0, 1000)
    file.reads[0].finish()
    assert result(d).type.__name__ == "DownloadError"
    stream.close()


@given(
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 600), st.integers(0, 5)), max_size=25),
    st.integers(1, 700),
)
@pytest.mark.parametrize("small", [0, 5000])
def test_any_requests_in_any_order_give_the_files_bytes(small, requests, chunk):
    saved = read_stream.SMALL, read_stream.FIRST_WINDOW, read_stream.BEHIND
    read_stream.SMALL, read_stream.FIRST_WINDOW, read_stream.BEHIND = small, 256, 200
    try:
        data = os.urandom(2800)
        file, clock, stream = stream_of(data, chunk)
        running = []
        for offset, length, steps in requests:
            running.append((offset, length, start(stream, offset, length)))
            file.pump(steps)
            if steps == 5:
                clock.advance(31)
        file.pump()
        for offset, length, d in running:
            assert result(d) == data[offset : offset + length]
        stream.close()
        assert clock.getDelayedCalls() == []
    finally:
        read_stream.SMALL, read_stream.FIRST_WINDOW, read_stream.BEHIND = saved
