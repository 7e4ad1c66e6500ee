"""Our SFTP server over a core that does nothing, as a process: what the frontend alone can do.

python -m benchmarks.noop_server FOLDER: prints its port. Any name logs in with any key. Uploads are
spooled, as always, and then dropped; a file read back is zeros. Directories are real, in memory.
"""

import hashlib
import itertools
import sys
from pathlib import Path

from twisted.conch.error import ValidPublicKey
from twisted.conch.interfaces import IConchUser
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ISSHPrivateKey
from twisted.cred.portal import Portal
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import react
from zope.interface import implementer

from truckee.auth.realm import Dispatcher, FTPAvatarID
from truckee.core.client import Client
from truckee.core.cpu import PoolCpu
from truckee.core.formats.caps import ChkReadCap
from truckee.core.interfaces import Encoding
from truckee.core.mutable.context import MutableContext
from truckee.core.mutable.keys import KeyPool
from truckee.core.storage.memory import MemoryStore
from truckee.core.storage.server import LocalServer
from truckee.frontends.gate.registry import Registry
from truckee.frontends.node import process
from truckee.frontends.sftp import host_keys
from truckee.frontends.sftp.service import SFTPServer
from truckee.frontends.sftp.shell import user_factory
from truckee.frontends.vfs.process import Vfs

PIECE = bytes(1 << 20)


@implementer(ICredentialsChecker)
class Anybody:
    """Lets every key in."""

    credentialInterfaces = (ISSHPrivateKey,)

    def __init__(self, rootcap) -> None:
        self._rootcap = rootcap

    def requestAvatarId(self, login) -> FTPAvatarID:
        if login.signature is None:
            raise ValidPublicKey
        return FTPAvatarID(login.username, self._rootcap)


@implementer(IPushProducer)
class Zeros:
    """Produces zeros, as fast as they are taken."""

    def __init__(self, consumer, size: int) -> None:
        self._consumer, self._left = consumer, size
        self._paused = False
        self.done: Deferred[None] = Deferred()

    def resumeProducing(self) -> None:
        self._paused = False
        reactor.callLater(0, self._produce)

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        self._left = 0
        self.resumeProducing()

    def _produce(self) -> None:
        if self._paused or self.done.called:
            return
        if self._left == 0:
            self.done.callback(None)
            return
        piece = PIECE[: self._left]
        self._left -= len(piece)
        self._consumer.write(piece)
        reactor.callLater(0, self._produce)


class Reader:
    """Stands where `FileReader` does."""

    def __init__(self, size: int) -> None:
        self.size = size

    async def read(self, consumer, offset: int = 0, size: int | None = None):
        count = max(0, self.size - offset if size is None else min(size, self.size - offset))
        if count:
            producer = Zeros(consumer, count)
            consumer.registerProducer(producer, True)
            producer.resumeProducing()
            await producer.done
            consumer.unregisterProducer()
        return consumer

    async def read_range(self, offset: int, length: int) -> bytes:
        return bytes(max(0, min(length, self.size - offset)))


class Readers:
    """Stands where `ReaderCache` does."""

    def get(self, cap) -> Reader:
        return Reader(cap.size)


class NoClient(Client):
    """Takes uploads and drops them."""

    serial = itertools.count()

    async def upload(self, uploadable, convergence="default", encoding=None) -> ChkReadCap:
        size = await uploadable.get_size()
        await uploadable.close()
        mark = hashlib.sha256(str(next(self.serial)).encode()).digest()
        return ChkReadCap(mark[:16], mark, 1, 1, size)

    def for_account(self, name: str) -> "NoClient":
        return self


async def serve(folder: Path) -> None:
    cpu, disk = PoolCpu(reactor, 2, "cpu"), PoolCpu(reactor, 4, "disk")
    cpu.start()
    disk.start()
    servers = [LocalServer(MemoryStore(bytes(20)), reactor)]
    encoding = Encoding(1, 1, 1)
    mutable = MutableContext(lambda: servers, cpu, reactor, bytes(32), KeyPool(cpu), encoding)
    client = NoClient(None, Readers(), mutable, encoding, bytes(32), reactor)
    root = await client.create_new_mutable_directory()
    vfs = Vfs(disk, cpu, reactor, folder / "spool")
    realm = Dispatcher(client.for_account, {IConchUser: user_factory(vfs, client.for_account)})
    portal = Portal(realm, [Anybody(root.get_cap())])
    keys = host_keys.load_or_create(folder / "private")
    server = SFTPServer(reactor, portal, None, Registry("sftp"), keys)
    (address,) = await server.listen([TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")])
    print(address.port, flush=True)
    await Deferred()


def main() -> None:
    folder = Path(sys.argv[1])
    (folder / "private").mkdir(mode=0o700)
    process.tune()
    react(lambda _: Deferred.fromCoroutine(serve(folder)))


if __name__ == "__main__":
    main()
