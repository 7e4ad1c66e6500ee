"""The bare pipelines: what the same primitives reach with nothing around them.

Plaintext in memory (upload) or shares in memory (download); no hash trees, no share layout, no
container, no server. The product's figures are given as a share of these, in the same run.
Import `upload` and `download`; each returns a `Run`.
"""

import gc
import os
import resource
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from truckee.core import erasure
from truckee.core.crypto import hashes
from truckee.core.crypto.aes import CtrStream

SEGMENT = 1024 * 1024
IN_FLIGHT = 4
THREADS = 2


@dataclass(frozen=True)
class Run:
    """What one run took."""

    size: int  # bytes of plaintext
    wall: float  # seconds
    cpu: float  # seconds of all threads

    @property
    def rate(self) -> float:
        """MB/s of plaintext."""
        return self.size / 1e6 / self.wall

    @property
    def cpu_per_gb(self) -> float:
        """CPU seconds per GB of plaintext."""
        return self.cpu / (self.size / 1e9)

    def __str__(self) -> str:
        return f"{self.rate:6.1f} MB/s, {self.cpu_per_gb:5.2f} CPU s/GB, {self.wall:.3f} s"


class Stopwatch:
    """Measures wall and CPU time of this process from its making on."""

    def __init__(self) -> None:
        gc.collect()
        self._cpu = self._used()
        self._begin = time.perf_counter()

    @staticmethod
    def _used() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    def stop(self, size: int) -> Run:
        """Return what has passed."""
        return Run(size, time.perf_counter() - self._begin, self._used() - self._cpu)


def _pieces(segment: bytes, k: int) -> list[memoryview]:
    size = -(-len(segment) // k)
    padded = segment if size * k == len(segment) else segment + bytes(size * k - len(segment))
    view = memoryview(padded)
    return [view[i * size : (i + 1) * size] for i in range(k)]


def _store_segment(ciphertext: bytes, k: int, n: int, files: list[int]) -> list[bytes]:
    found = [hashes.ciphertext_segment_hash(ciphertext)]
    for number, block in zip(files, erasure.encode(_pieces(ciphertext, k), n), strict=True):
        found.append(hashes.block_hash(block))
        os.write(number, block)
    return found


def upload(data: bytes, k: int, n: int, folder: Path, *, sync: bool = True) -> Run:
    """Hash, encrypt, encode and append `data` to `n` new files in `folder`; sync them at the end.

    The order of the blocks within a file is that in which the threads finish.
    """
    watch = Stopwatch()
    files = [os.open(folder / str(i), os.O_CREAT | os.O_WRONLY | os.O_TRUNC) for i in range(n)]
    view = memoryview(data)
    key = hashes.tagged_hash(hashes.convergence_tag(b"bare", k, n, SEGMENT), view, 16)
    stream, flat = CtrStream(key), hashes.ciphertext_hasher()
    pending: deque[Future[list[bytes]]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        for begin in range(0, len(view), SEGMENT):
            ciphertext = stream.update(view[begin : begin + SEGMENT])
            flat.update(ciphertext)
            if len(pending) >= IN_FLIGHT:
                pending.popleft().result()
            pending.append(pool.submit(_store_segment, ciphertext, k, n, files))
        for job in pending:
            job.result()
        flat.digest()
        if sync:
            list(pool.map(os.fsync, files))
    for number in files:
        os.close(number)
    return watch.stop(len(data))


def make_blocks(data: bytes, k: int, n: int, shnums: list[int]) -> list[dict[int, bytes]]:
    """Return, for each segment of `data` taken as ciphertext, the blocks of the given shares."""
    found = []
    for begin in range(0, len(data), SEGMENT):
        blocks = erasure.encode(_pieces(data[begin : begin + SEGMENT], k), n)
        found.append({shnum: bytes(blocks[shnum]) for shnum in shnums})
    return found


def _restore_segment(blocks: dict[int, bytes], k: int, n: int, size: int) -> bytes:
    for block in blocks.values():
        hashes.block_hash(block)
    segment = b"".join(erasure.decode(blocks, k, n))[:size]
    hashes.ciphertext_segment_hash(segment)
    return segment


def download(segments: list[dict[int, bytes]], size: int, k: int, n: int) -> Run:
    """Check, decode and decrypt the segments, in order, and drop the plaintext."""
    watch = Stopwatch()
    stream = CtrStream(b"k" * 16)
    pending: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        for i, blocks in enumerate(segments):
            if len(pending) >= IN_FLIGHT:
                stream.update(pending.popleft().result())
            length = min(SEGMENT, size - i * SEGMENT)
            pending.append(pool.submit(_restore_segment, blocks, k, n, length))
        for job in pending:
            stream.update(job.result())
    return watch.stop(size)


def small_files(count: int, size: int, folder: Path) -> Run:
    """Create `count` files of `size` bytes in `folder` and sync each, in `THREADS` threads."""
    watch = Stopwatch()
    data = bytes(size)

    def write(i: int) -> None:
        number = os.open(folder / str(i), os.O_CREAT | os.O_WRONLY | os.O_EXCL)
        os.write(number, data)
        os.fsync(number)
        os.close(number)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(write, range(count)))
    return watch.stop(count * size)
