"""The address that clients elsewhere are told in 227 replies, behind a router.

Knows how names are looked up; touches the network through the reactor it is given. A name is looked
up again every five minutes, for routers whose address changes; one that cannot be found keeps the
address it had, and is asked for more often while it never had one.
"""

from ipaddress import IPv4Address
from typing import Protocol as Shape

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from truckee.frontends.ftp.channels import ChannelReactor

_log = Logger()

EVERY = 300.0
SOON = 30.0


class Masquerade(Shape):
    """Says which address to tell."""

    @property
    def wanted(self) -> bool:
        """Whether clients elsewhere are told another address than the one they reached."""
        ...

    @property
    def address(self) -> IPv4Address | None:
        """That address; None while it is not known."""
        ...


class Address:
    """An address that is given, or none."""

    def __init__(self, address: IPv4Address | None = None) -> None:
        """Take it."""
        self.address = address
        self.wanted = address is not None


class Name:
    """An address that is looked up."""

    wanted = True

    def __init__(self, reactor: ChannelReactor, name: str) -> None:
        """Take the name; nothing is asked before `start`."""
        self._reactor = reactor
        self._name = name
        self._asking: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self.address: IPv4Address | None = None

    def start(self) -> None:
        """Look it up, now and again and again."""
        self.stop()
        self._asking = Deferred.fromCoroutine(self._ask())

    def stop(self) -> None:
        """Ask no more."""
        asking, self._asking = self._asking, None
        timer, self._timer = self._timer, None
        if asking is not None:
            asking.cancel()
        if timer is not None and timer.active():
            timer.cancel()

    async def _ask(self) -> None:
        try:
            found = IPv4Address(await self._reactor.resolve(self._name))
        except CancelledError:
            return
        except Exception as error:  # noqa: BLE001 - whatever a resolver says, passive mode lives on
            why = type(error).__name__
            _log.warn("[ftpd] masquerade_address cannot be looked up: {why}", why=why)
        else:
            if found != self.address:
                _log.info("ftp: clients elsewhere are told {address}", address=str(found))
            self.address = found
        wait = EVERY if self.address is not None else SOON
        self._timer = self._reactor.callLater(wait, self.start)
