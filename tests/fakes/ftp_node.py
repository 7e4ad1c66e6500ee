"""A node without configuration: real filestore, realm and FTP server over a grid in memory."""

from pathlib import Path

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IAnonymous, IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.protocols.ftp import IFTPShell
from zope.interface import implementer

from truckee.auth.realm import Dispatcher, FTPAvatarID
from truckee.core.client import Client
from truckee.core.cpu import PoolCpu
from truckee.core.download.cache import ReaderCache
from truckee.core.interfaces import Encoding
from truckee.core.mutable.context import MutableContext
from truckee.core.mutable.keys import KeyPool
from truckee.core.storage.memory import MemoryStore
from truckee.core.storage.server import LocalServer
from truckee.core.upload.upload import Uploader
from truckee.frontends.ftp.service import FTPServer
from truckee.frontends.ftp.settings import FTPSettings
from truckee.frontends.ftp.shell import handler_factory
from truckee.frontends.vfs.process import Vfs

ENCODING = Encoding(2, 2, 3, 1 << 17)
PASSWORDS = {"alice": b"secret", "reader": b"secret", "bob": b"secret"}


@implementer(ICredentialsChecker)
class OneRoot:
    """Lets the accounts above in, all to one root directory; `reader` may not write."""

    credentialInterfaces = (IUsernamePassword, IAnonymous)

    def __init__(self, rootcap) -> None:
        self.rootcap = rootcap

    def requestAvatarId(self, credentials) -> FTPAvatarID:
        name = getattr(credentials, "username", "")
        if PASSWORDS.get(name) != getattr(credentials, "password", b""):
            raise UnauthorizedLogin
        return FTPAvatarID(name, self.rootcap, readonly=name == "reader")


class FtpNode:
    """Everything from stores to listener."""

    def __init__(self, reactor, spool: Path, encoding=ENCODING, **settings):
        self.reactor = reactor
        self.cpu, self.disk = PoolCpu(reactor, 2, "cpu"), PoolCpu(reactor, 2, "disk")
        self.stores = [MemoryStore(bytes([i]) * 20) for i in range(encoding.total_shares)]
        self.servers = [LocalServer(store, reactor) for store in self.stores]
        self.keys = KeyPool(self.cpu)
        self.uploader = Uploader(lambda: self.servers, self.cpu, reactor, b"l" * 32)
        self.readers = ReaderCache(lambda: self.servers, self.cpu, reactor)
        self.mutable = MutableContext(
            lambda: self.servers, self.cpu, reactor, b"l" * 32, self.keys, encoding
        )
        self.client = Client(
            self.uploader, self.readers, self.mutable, encoding, b"c" * 32, reactor
        )
        self.vfs = Vfs(self.disk, self.cpu, reactor, spool)
        self.settings = FTPSettings(passive_ports=None, transfer_grace=0.1, **settings)
        self.port = 0

    async def start(self) -> "FtpNode":
        self.cpu.start()
        self.disk.start()
        self.root = await self.client.create_new_mutable_directory()
        factory = handler_factory(self.vfs, self.client.for_account)
        realm = Dispatcher(self.client.for_account, {IFTPShell: factory})
        portal = Portal(realm, [OneRoot(self.root.get_cap())])
        self.ftp = FTPServer(self.reactor, portal, self.settings)
        endpoint = TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1")
        (address,) = await self.ftp.listen([endpoint])
        self.port = address.port
        return self

    async def stop(self) -> None:
        await self.ftp.stopService()
        await self.vfs.drain(1.0)
        self.keys.stop()
        self.readers.stop()
        self.uploader.stop()
        self.mutable.background.cancel()
        for server in self.servers:
            await server.stop()
        self.cpu.stop()
        self.disk.stop()
