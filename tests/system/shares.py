"""Where shares lie on disk and where their sections are, read with the product's own codecs.

The codecs are pinned by the vectors; here they only tell a test which byte to damage.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

MUTABLE_DATA = 468
IMMUTABLE_DATA = 12


def share_files(server: Path) -> Iterator[Path]:
    for path in sorted((server / "shares").glob("??/*/*")):
        if path.is_file() and path.name.isdigit() and path.parts[-4] != "incoming":
            yield path


def is_mutable(path: Path) -> bool:
    with path.open("rb") as f:
        return f.read(27).startswith(b"Tahoe mutable container")


def all_shares(servers: list[Path]) -> dict[str, dict[int, list[Path]]]:
    """Return {storage index: {share number: files}} over all servers."""
    found: dict[str, dict[int, list[Path]]] = {}
    for server in servers:
        for path in share_files(server):
            found.setdefault(path.parent.name, {}).setdefault(int(path.name), []).append(path)
    return found


def immutable_sections(path: Path) -> dict[str, tuple[int, int]]:
    """Return {section: (offset in the file, length)} of a v1 immutable share."""
    raw = path.read_bytes()
    leases = struct.unpack(">L", raw[8:12])[0]
    share = raw[IMMUTABLE_DATA : len(raw) - 72 * leases]
    version, _block, _size, data, plain, crypt, block, chain, ueb = struct.unpack(
        ">9L", share[:0x24]
    )
    assert version == 1
    edges = {
        "version": (0, 4),
        "offsets": (0x0C, 0x18),
        "data": (data, plain - data),
        "crypttext tree": (crypt, block - crypt),
        "block tree": (block, chain - block),
        "share chain": (chain, ueb - chain),
        "ueb length": (ueb, 4),
        "ueb": (ueb + 4, len(share) - ueb - 4),
    }
    return {name: (IMMUTABLE_DATA + at, size) for name, (at, size) in edges.items()}


def sdmf_sections(path: Path) -> dict[str, tuple[int, int]]:
    """Return {section: (offset in the file, length)} of an SDMF share."""
    raw = path.read_bytes()
    share = raw[MUTABLE_DATA:]
    assert share[0] == 0
    signature, chain, tree, data, privkey, end = struct.unpack(">4L2Q", share[75:107])
    edges = {
        "version": (0, 1),
        "seqnum": (1, 8),
        "root hash": (9, 32),
        "salt": (41, 16),
        "k and N": (57, 2),
        "sizes": (59, 16),
        "offsets": (75, 32),
        "public key": (107, signature - 107),
        "signature": (signature, chain - signature),
        "share chain": (chain, tree - chain),
        "block tree": (tree, data - tree),
        "data": (data, privkey - data),
        "private key": (privkey, end - privkey),
    }
    return {name: (MUTABLE_DATA + at, size) for name, (at, size) in edges.items()}


def flip(path: Path, offset: int) -> None:
    """Flip one bit."""
    with path.open("r+b") as f:
        f.seek(offset)
        old = f.read(1)
        f.seek(offset)
        f.write(bytes([old[0] ^ 0x01]))
