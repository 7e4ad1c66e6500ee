"""``ls -l`` of 10,000 names by OpenSSH's sftp, in a session that is there already.

Cold: the first listing of a server process. Repeated: the median of those that follow, within the
seconds that a directory is remembered. In each round every server process is new.
"""

import re
import statistics
from pathlib import Path

from benchmarks.clients import Sftp
from benchmarks.fleet import Fleet
from benchmarks.measure import Report, Row
from benchmarks.node import Node
from benchmarks.peers import Conch, OpenSsh, Server, Tahoe
from benchmarks.rig import Rig

REPEATS = 3


async def measure(report: Report, folder: Path, fleet: Fleet, *, quick: bool) -> None:
    """Add rows for both kinds of listing, 3-of-10, beside the peers."""
    names = [f"name {i:05d}" for i in range(1000 if quick else 10_000)]
    rounds = 1 if quick else 3
    place = folder / "names"
    with Node(place, 10):
        pass  # makes it, with its account
    await fill(place, names)
    cold: dict[str, list[float]] = {}
    repeated: dict[str, list[float]] = {}
    peers = fleet.some(Tahoe, Conch, OpenSsh)
    for peer in peers:
        fill_peer(peer, names)
    for _ in range(rounds):
        with Node(place, 10) as node:
            listings(node, cold, repeated)
        for peer in peers:
            if isinstance(peer, Tahoe):
                peer.restart_client()
            listings(peer, cold, repeated)
    for what, times, gate in (("cold", cold, 1.5), ("repeated", repeated, 3.0)):
        for peer in peers:
            ours, theirs = (statistics.median(times[n]) for n in ("Truckee", peer.name))
            gated = isinstance(peer, Tahoe)
            report.add(
                Row(
                    f"SFTP ls -l of {len(names)} names, {what}",
                    f"{1000 * ours:.0f} ms",
                    f"{peer.name}: {1000 * theirs:.0f} ms",
                    f"{theirs / ours:.1f}x",
                    f">= {gate:g}x" if gated else "",
                    theirs / ours >= gate if gated else None,
                )
            )


async def fill(place: Path, names: list[str]) -> None:
    """Make the directory in the account's root, while no node runs."""
    root_cap = re.search(r"URI:DIR2:\S+", (place / "private" / "accounts").read_text()).group()
    async with Rig(place, 10) as rig:
        client = rig.storage.client
        directory = await client.create_new_mutable_directory()
        await directory.set_children(dict.fromkeys(names, (None, b"URI:LIT:nbswy3dp")))
        root = client.create_node_from_uri(root_cap.encode())
        await root.set_uri("names", directory.get_uri())


def fill_peer(peer: Server, names: list[str]) -> None:
    if isinstance(peer, Tahoe):
        peer.make_names("names", names)
        return
    place = Path(peer.login.base) / "names"
    place.mkdir()
    for name in names:
        (place / name).write_bytes(b"hello")


def listings(server: Server, cold: dict, repeated: dict) -> None:
    command = f"ls -l {server.login.base}names"
    with Sftp(server.login) as session:
        cold.setdefault(server.name, []).append(session.do(command))
        again = [session.do(command) for _ in range(REPEATS)]
    repeated.setdefault(server.name, []).append(statistics.median(again))
