"""The one room that knows zfec: k-of-N blocks from k pieces, and back.

Knows block numbers and equal lengths; touches ``zfec``. Every claim about numbers and lengths is
checked here first: given a repeated number, zfec's decoder freezes the process or returns wrong
bytes. All functions are CPU work for a worker thread. Format: docs/formats/immutable.rst.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import zfec

from truckee.core.errors import ErasureError

Buffer = bytes | bytearray | memoryview


@lru_cache(maxsize=64)
def _encoder(k: int, n: int) -> zfec.Encoder:
    return zfec.Encoder(k, n)


@lru_cache(maxsize=64)
def _decoder(k: int, n: int) -> zfec.Decoder:
    return zfec.Decoder(k, n)


def _check_parameters(k: int, n: int) -> None:
    if not 1 <= k <= n <= 256:
        raise ErasureError("k and N out of range")


def encode(pieces: Sequence[Buffer], n: int) -> list[Buffer]:
    """Return all `n` blocks for the k = len(pieces) equally long input pieces.

    Blocks 0..k-1 are the pieces themselves. Raises ErasureError when lengths or numbers are off.
    """
    k = len(pieces)
    _check_parameters(k, n)
    if len({len(piece) for piece in pieces}) != 1:
        raise ErasureError("input pieces differ in length")
    if k == n:
        return list(pieces)
    if k == 1:
        return [pieces[0]] * n
    if len(pieces[0]) == 0:
        return [b""] * n
    return [*pieces, *_encoder(k, n).encode(list(pieces), list(range(k, n)))]


def decode(blocks: Mapping[int, Buffer], k: int, n: int) -> list[Buffer]:
    """Return the k input pieces, given exactly k blocks by their numbers.

    Raises ErasureError unless there are exactly k equally long blocks numbered within 0..n-1.
    """
    _check_parameters(k, n)
    if len(blocks) != k:
        raise ErasureError("exactly k blocks are needed")
    if any(not 0 <= number < n for number in blocks):
        raise ErasureError("block number out of range")
    if len({len(block) for block in blocks.values()}) != 1:
        raise ErasureError("blocks differ in length")
    if k == 1:
        return list(blocks.values())
    if all(number in blocks for number in range(k)):
        return [blocks[number] for number in range(k)]
    if any(len(block) == 0 for block in blocks.values()):
        return [b""] * k
    # zfec wants each primary block at its own index
    ordered: list[int | None] = [number if number in blocks else None for number in range(k)]
    spare = iter(number for number in sorted(blocks) if number >= k)
    numbers = [next(spare) if number is None else number for number in ordered]
    return list(_decoder(k, n).decode([blocks[number] for number in numbers], numbers))
