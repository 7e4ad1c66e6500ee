"""What each stage of an upload costs on one core, measured alone: the share of time per stage."""

import os
import time
from pathlib import Path

from benchmarks.measure import Report
from truckee.core import erasure
from truckee.core.crypto import hashes
from truckee.core.crypto.aes import CtrStream

SEGMENT = 1 << 20


def measure(report: Report, folder: Path, source: Path, k: int = 3, n: int = 10) -> None:
    """Add a note: seconds per GB of plaintext, stage by stage, one thread, 3-of-10."""
    data = memoryview(source.read_bytes())
    segments = [data[i : i + SEGMENT] for i in range(0, len(data), SEGMENT)]
    size = -(-SEGMENT // k)
    spent: dict[str, float] = {}

    def stage(name: str, work) -> list:
        begin = time.thread_time()
        result = work()
        spent[name] = (time.thread_time() - begin) / (len(data) / 1e9)
        return result

    stage("convergence hash", lambda: hashes.tagged_hash(b"tag", data))
    stream = CtrStream(bytes(16))
    encrypted = stage("AES", lambda: [stream.update(s) for s in segments])
    stage("segment hashes", lambda: [hashes.ciphertext_segment_hash(c) for c in encrypted])
    flat = hashes.ciphertext_hasher()
    stage("flat hash", lambda: [flat.update(c) for c in encrypted])
    pieces = [
        [memoryview(c + bytes(size * k - len(c)))[i * size : (i + 1) * size] for i in range(k)]
        for c in encrypted
    ]
    blocks = stage("zfec", lambda: [erasure.encode(p, n) for p in pieces])
    stage("block hashes", lambda: [hashes.block_hash(b) for bs in blocks for b in bs])
    files = [os.open(folder / f"stage{i}", os.O_CREAT | os.O_WRONLY) for i in range(n)]
    stage(
        "writing", lambda: [os.write(f, b) for bs in blocks for f, b in zip(files, bs, strict=True)]
    )
    for i, number in enumerate(files):
        os.close(number)
        (folder / f"stage{i}").unlink()
    total = sum(spent.values())
    shares = ", ".join(f"{name} {s:.2f} ({s / total:.0%})" for name, s in spent.items())
    report.note(
        f"CPU s/GB of an upload's stages, alone on one core, {k}-of-{n}: {shares}; sum {total:.1f}"
    )
