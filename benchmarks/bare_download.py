"""The bare download pipeline: the yardstick for `benchmarks/download.py`.

Blocks in memory; per segment, in a pool of 2 with at most 4 jobs in flight: k block hashes, decode
(a join when all are primaries), segment hash; AES in order on the main thread. No trees, no
layout, no requests.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from truckee.core import erasure
from truckee.core.crypto.aes import CtrStream
from truckee.core.crypto.hashes import block_hash, ciphertext_segment_hash


def _job(blocks: Mapping[int, bytes], k: int, n: int, length: int) -> bytes:
    for block in blocks.values():
        block_hash(block)
    segment = b"".join(erasure.decode(blocks, k, n))[:length]
    ciphertext_segment_hash(segment)
    return segment


def bare_download(
    shares: Mapping[int, Sequence[bytes]],
    n: int,
    key: bytes,
    sizes: Sequence[int],
    take: Callable[[bytes], object],
    threads: int = 2,
) -> None:
    """Give the plaintext to `take`; `shares` has the blocks of k shares, `sizes` the segments'."""
    k = len(shares)
    stream = CtrStream(key)
    waiting: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for segnum, size in enumerate(sizes):
            blocks = {shnum: blocks[segnum] for shnum, blocks in shares.items()}
            waiting.append(pool.submit(_job, blocks, k, n, size))
            if len(waiting) >= 4:
                take(stream.update(waiting.popleft().result()))
        while waiting:
            take(stream.update(waiting.popleft().result()))
