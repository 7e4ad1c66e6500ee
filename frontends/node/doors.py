"""The doors of a node: FTP and SFTP, each at the endpoints it was told, or near its usual port.

Knows what each server is made of; touches the reactor, and the private folder for keys. A port that
somebody asked for and that is taken is an error; the usual one is exchanged for the next free one.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IStreamServerEndpoint
from twisted.logger import Logger

from truckee.core.config import NodeConfig
from truckee.core.errors import ConfigError
from truckee.core.grid import Room
from truckee.frontends.ftp.service import FTPServer
from truckee.frontends.ftp.settings import FTPSettings
from truckee.frontends.gate.addresses import Network
from truckee.frontends.gate.proxy import ProxyEndpoint
from truckee.frontends.node import certificate, endpoints
from truckee.frontends.node.access import Access
from truckee.frontends.sftp import host_keys
from truckee.frontends.sftp.extensions import Space
from truckee.frontends.sftp.service import SFTPServer
from truckee.frontends.sftp.settings import SFTPSettings

DRAIN = 30.0
_LATER_PORTS = (*range(8024, 8100), 0)  # 8023 is for the figures
FTP_PORTS = (8021, *_LATER_PORTS)
SFTP_PORTS = (8022, *_LATER_PORTS)

Listen = Callable[[Sequence[IStreamServerEndpoint]], Awaitable[list[IAddress]]]

_log = Logger()


class PortTakenError(ConfigError):
    """An endpoint that was asked for cannot be listened at."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a door is."""

    addresses: tuple[IAddress, ...]
    moved: bool = False
    """Whether it is not at its usual port, because another program is."""
    fingerprint: str = ""
    """By which people know the server."""


async def listen_at(
    listen: Listen,
    wanted: Sequence[str],
    reactor: Any,  # noqa: ANN401
    proxies: Sequence[Network] = (),
) -> Place:
    """Listen at these endpoints, to clients and to `proxies`. PortTakenError when one is taken."""
    found = [_endpoint(text, reactor, proxies) for text in wanted]
    try:
        return Place(tuple(await listen(found)))
    except CannotListenError as error:
        reason = getattr(error.socketError, "strerror", None) or "it cannot be opened"
        raise PortTakenError(f"endpoint {error.interface}:{error.port}: {reason}") from None


async def listen_near(
    listen: Listen,
    ports: Sequence[int],
    reactor: Any,  # noqa: ANN401
    proxies: Sequence[Network] = (),
) -> Place:
    """Listen on this machine at the first of `ports`, or the next that is free."""
    for port in ports:
        endpoint = _endpoint(f"tcp:{port}:interface=127.0.0.1", reactor, proxies)
        try:
            return Place(tuple(await listen([endpoint])), port != ports[0])
        except CannotListenError:
            continue
    raise PortTakenError("no port is free")


def _endpoint(text: str, reactor: Any, proxies: Sequence[Network]) -> IStreamServerEndpoint:  # noqa: ANN401
    endpoint: IStreamServerEndpoint = serverFromString(reactor, endpoints.parse(text))
    return ProxyEndpoint(endpoint, proxies, reactor) if proxies else endpoint


class FtpFrontend:
    """The FTP door."""

    def __init__(self, node: NodeConfig, access: Access, reactor: Any) -> None:  # noqa: ANN401
        """Put the server together. Blocking: loads its certificate, or makes it. ConfigError."""
        self._config = config = node.ftp
        self._reactor = reactor
        self._certificate = None
        if config.tls != "off":
            self._certificate = certificate.load_or_create(
                node.private, "ftp", config.tls_certificate, config.tls_key
            )
        self.server = FTPServer(
            reactor,
            access.portal,
            _ftp_settings(node),
            access.registry("ftp"),
            journal=access.journal,
            identity=None if self._certificate is None else self._certificate.identity,
        )

    async def start(self, given: Sequence[str] | None) -> Place:
        """Listen at the `given` endpoints, or the configured ones, or near the usual port.

        ConfigError when passwords could be read on the way, PortTakenError.
        """
        config, listen = self._config, self.server.listen
        self.server.startService()  # type: ignore[no-untyped-call]
        if given is None and not config.ports_given:
            place = await listen_near(listen, FTP_PORTS, self._reactor, config.proxies)
        else:
            wanted = config.ports if given is None else given
            if config.tls == "off" and endpoints.public(wanted):
                if not config.insecure_plaintext:
                    raise ConfigError(
                        "a public endpoint without TLS needs insecure_plaintext = yes"
                    )
                _log.warn("a public FTP endpoint without TLS: whoever listens reads passwords")
            place = await listen_at(listen, wanted, self._reactor, config.proxies)
        if self._certificate is None:
            return place
        return replace(place, fingerprint=self._certificate.fingerprint)

    async def stop(self) -> None:
        """Stop listening, let commits in flight end (30 s at most), close every session."""
        await self.server.stopService()


def _space(room: Room | None, node: NodeConfig) -> Space | None:
    """Return how much of what clients send fits on the disks: every file takes N/k of its size."""
    if room is None:
        return None
    return Space(room.total * node.needed // node.total, room.free * node.needed // node.total)


class SftpFrontend:
    """The SFTP door."""

    def __init__(
        self,
        node: NodeConfig,
        access: Access,
        reactor: Any,  # noqa: ANN401
        room: Callable[[], Room | None],
    ) -> None:
        """Put the server together. Blocking: loads its keys, or makes them. ConfigError.

        `room` tells what the disks of the grid have.
        """
        self._config = node.sftp
        self._reactor = reactor
        keys = host_keys.load_or_create(node.private, node.sftp.host_privkey_file)
        self._fingerprint = keys.fingerprints[0][1]
        self.server = SFTPServer(
            reactor,
            access.portal,
            _sftp_settings(node),
            access.registry("sftp"),
            keys,
            access.journal,
            space=lambda: _space(room(), node),
        )

    async def start(self, given: Sequence[str] | None) -> Place:
        """Listen at the `given` endpoints, or the configured ones, or near the usual port.

        PortTakenError.
        """
        config, listen = self._config, self.server.listen
        self.server.startService()  # type: ignore[no-untyped-call]
        if given is None and not config.ports_given:
            place = await listen_near(listen, SFTP_PORTS, self._reactor, config.proxies)
        else:
            wanted = config.ports if given is None else given
            place = await listen_at(listen, wanted, self._reactor, config.proxies)
        return replace(place, fingerprint=self._fingerprint)

    async def stop(self) -> None:
        """Stop listening, let commits in flight end (30 s at most), close every session."""
        await self.server.stopService()


Frontend = FtpFrontend | SftpFrontend


def _sftp_settings(node: NodeConfig) -> SFTPSettings:
    return SFTPSettings(
        password_auth=node.sftp.password_auth,
        login_grace=node.access.login_grace,
        idle_timeout=node.sftp.idle_timeout,
        drain_timeout=DRAIN,
    )


def _ftp_settings(node: NodeConfig) -> FTPSettings:
    config = node.ftp
    return FTPSettings(
        passive_ports=config.passive_ports,
        masquerade_address=config.masquerade_address,
        active_mode=config.active_mode,
        login_grace=node.access.login_grace,
        idle_timeout=config.idle_timeout,
        data_timeout=config.data_timeout,
        drain_timeout=DRAIN,
        anonymous=node.access.anonymous_rootcap is not None,
        tls=config.tls,
        insecure_plaintext=config.insecure_plaintext,
        tls_max=config.tls_max,
        strict_tls_eof=config.strict_tls_eof,
        data_tls_resumption=config.data_tls_resumption,
    )
