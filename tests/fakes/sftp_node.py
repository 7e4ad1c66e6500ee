"""A node without configuration: real filestore, realm and SFTP server over a grid in memory."""

from pathlib import Path

from twisted.conch.error import ValidPublicKey
from twisted.conch.interfaces import IConchUser
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ISSHPrivateKey, IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from zope.interface import implementer

from truckee.auth import signatures
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
from truckee.frontends.gate.registry import Registry
from truckee.frontends.sftp import host_keys
from truckee.frontends.sftp.service import SFTPServer
from truckee.frontends.sftp.settings import SFTPSettings
from truckee.frontends.sftp.shell import user_factory
from truckee.frontends.vfs.process import Vfs

ENCODING = Encoding(2, 2, 3, 1 << 17)
PASSWORDS = {"alice": b"secret", "reader": b"secret", "bob": b"secret"}


@implementer(ICredentialsChecker)
class OneRoot:
    """Lets the accounts above in by password or by any of `keys`; `reader` may not write."""

    credentialInterfaces = (IUsernamePassword, ISSHPrivateKey)

    def __init__(self, rootcap, keys=()) -> None:
        self.rootcap = rootcap
        self.keys = set(keys)

    def requestAvatarId(self, login) -> FTPAvatarID:
        if not self.is_good(login):
            raise UnauthorizedLogin
        return FTPAvatarID(login.username, self.rootcap, readonly=login.username == "reader")

    def is_good(self, login) -> bool:
        if login.username not in PASSWORDS:
            return False
        if not ISSHPrivateKey.providedBy(login):
            return PASSWORDS[login.username] == login.password
        if login.blob not in self.keys:
            return False
        if login.signature is None:
            raise ValidPublicKey
        return signatures.verify(
            login.algorithm, login.blob, login.signed, login.signature, verified=False
        )


class SftpNode:
    """Everything from stores to listener."""

    def __init__(
        self, reactor, folder: Path, keys=(), encoding=ENCODING, own_keys=None, **settings
    ):
        self.reactor = reactor
        self.folder = folder
        self.accepted = keys
        self.host_keys = own_keys
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
        self.vfs = Vfs(self.disk, self.cpu, reactor, folder / "spool")
        self.settings = SFTPSettings(transfer_grace=0.1, **settings)
        self.port = 0

    async def start(self) -> "SftpNode":
        self.cpu.start()
        self.disk.start()
        self.root = await self.client.create_new_mutable_directory()
        factory = user_factory(self.vfs, self.client.for_account)
        realm = Dispatcher(self.client.for_account, {IConchUser: factory})
        portal = Portal(realm, [OneRoot(self.root.get_cap(), self.accepted)])
        if self.host_keys is None:
            self.host_keys = host_keys.load_or_create(self.folder / "private")
        registry = Registry("sftp")
        self.sftp = SFTPServer(self.reactor, portal, self.settings, registry, self.host_keys)
        endpoint = TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1")
        (address,) = await self.sftp.listen([endpoint])
        self.port = address.port
        return self

    def end(self) -> Deferred[None]:
        """Stop, for ``addCleanup``."""
        return Deferred.fromCoroutine(self.stop())

    async def stop(self) -> None:
        await self.sftp.stopService()
        await self.vfs.drain(1.0)
        self.keys.stop()
        self.readers.stop()
        self.uploader.stop()
        self.mutable.background.cancel()
        for server in self.servers:
            await server.stop()
        self.cpu.stop()
        self.disk.stop()
