"""Puts directories into a node's grid that no program would make, while the node does not run.

``python -m tests.interop.clients.planting DIRECTORY ROOTCAP`` links below the root ``many``, with
10,000 names, and ``hostile``, with names that lead out of a folder when they are taken literally.
"""

import sys
import time
from pathlib import Path

from truckee.core.client import Client
from truckee.frontends.node import creation
from truckee.frontends.node.storage import Storage

MANY = [f"naïve é 日本 {i:05}.bin" for i in range(10_000)]
SMALL = b"URI:LIT:me"  # one letter
OUTSIDE = ["../escaped", "a/b", "..", ".", "x\ny", "/escaped", "nul\0nul"]
INSIDE = ["fine", "also fine"]


async def plant(client: Client, rootcap: str) -> None:
    root = client.create_node_from_uri(rootcap.encode())
    for name, children in (("many", MANY), ("hostile", OUTSIDE + INSIDE)):
        metadata = {"tahoe": {"linkmotime": int(time.time())}}
        found = {child: (client.create_node_from_uri(SMALL), metadata) for child in children}
        folder = await client.create_new_mutable_directory(found)
        await root.set_node(name, folder)


def main() -> None:
    from twisted.internet import reactor  # noqa: TID251
    from twisted.internet.defer import Deferred

    failures: list[object] = []
    storage = Storage(creation.load(Path(sys.argv[1])), reactor)

    async def work() -> None:
        await storage.start()
        try:
            await plant(storage.client, sys.argv[2])
        finally:
            await storage.stop()

    def begin() -> None:
        d = Deferred.fromCoroutine(work())
        d.addErrback(lambda failure: failures.append(failure.getTraceback()))
        d.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    sys.exit("".join(map(str, failures)) or 0)


if __name__ == "__main__":
    main()
