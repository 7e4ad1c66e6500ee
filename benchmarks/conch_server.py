"""A stock Twisted conch SFTP server over plain files, as a process: the peer of our own.

python conch_server.py PORT HOST_KEY AUTHORIZED_KEYS: everything of Twisted's own, but the
avatar, which stays the user that runs it. Without a log, as the fastest that conch can be.
"""

import sys
from pathlib import Path

from twisted.conch import unix
from twisted.conch.avatar import ConchUser
from twisted.conch.checkers import InMemorySSHKeyDB, SSHPublicKeyChecker
from twisted.conch.interfaces import IConchUser
from twisted.conch.ssh import filetransfer, session
from twisted.conch.ssh.factory import SSHFactory
from twisted.conch.ssh.keys import Key
from twisted.cred.portal import IRealm, Portal
from twisted.internet import reactor
from twisted.python import components
from twisted.python.filepath import FilePath
from zope.interface import implementer


class Avatar(ConchUser):
    """Whoever runs this."""

    def __init__(self) -> None:
        super().__init__()
        self.channelLookup[b"session"] = session.SSHSession
        self.subsystemLookup[b"sftp"] = filetransfer.FileTransferServer

    def getUserGroupId(self):
        return None, None

    def getHomeDir(self):
        return FilePath("/")

    def _runAsUser(self, work, *arguments, **keywords):
        calls = work if isinstance(work, list) else [(work, arguments, keywords)]
        result = None
        for function, positional, *named in calls:
            result = function(*positional, **(named[0] if named else {}))
        return result


components.registerAdapter(unix.SFTPServerForUnixConchUser, Avatar, filetransfer.ISFTPServer)


@implementer(IRealm)
class Realm:
    def requestAvatar(self, name, mind, *interfaces):
        return IConchUser, Avatar(), lambda: None


def main() -> None:
    port, host_key, authorized = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    private = Key.fromFile(host_key)
    lines = authorized.read_bytes().splitlines()
    keys = [Key.fromString(line) for line in lines if line.strip()]

    class Everybody(dict):
        def get(self, name, default=()):
            return keys

        def __getitem__(self, name):
            return keys

    factory = SSHFactory()
    factory.privateKeys = {private.sshType(): private}
    factory.publicKeys = {private.sshType(): private.public()}
    factory.portal = Portal(Realm(), [SSHPublicKeyChecker(InMemorySSHKeyDB(Everybody()))])
    reactor.listenTCP(port, factory, backlog=128, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main()
