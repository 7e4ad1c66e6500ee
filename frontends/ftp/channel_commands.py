"""PASV, EPSV, PORT, EPRT: setting up the next data connection. Knows addresses and channels."""

from ipaddress import IPv4Address

from truckee.frontends.ftp.addresses import (
    ForeignAddressError,
    Target,
    UnsupportedFamilyError,
    check_target,
    format_epsv,
    format_pasv,
    is_loopback,
    normalise,
    parse_eprt,
    parse_epsv,
    parse_port,
)
from truckee.frontends.ftp.channels import ActiveChannel, NoPortError, PassiveChannel
from truckee.frontends.ftp.codec import Reply, reply
from truckee.frontends.ftp.session import Refused, Session, argument

_BOTH = "network protocol not supported, use (1,2)"


def _listen(s: Session) -> int:
    channel = PassiveChannel(s.reactor, s.settings, s.peer)
    s.drop_channel()
    try:
        port = channel.listen(s.local, s.random)
    except NoPortError:
        raise Refused(425, "no port is free for a data connection") from None
    s.use_channel(channel)
    return port


async def pasv(s: Session, arg: bytes) -> Reply:
    """PASV: for IPv4 alone."""
    if s.epsv_all:
        return reply(503, "EPSV ALL was given")
    local = normalise(s.local)
    if not isinstance(local, IPv4Address):
        return reply(522, "this is an IPv6 connection, use EPSV (2)")
    told = None if is_loopback(s.peer) else _told(s)
    return reply(227, format_pasv(told or local, _listen(s)))


def _told(s: Session) -> IPv4Address | None:
    masquerade = s.listener.masquerade
    if masquerade.wanted and masquerade.address is None:
        raise Refused(425, "our own address is not known now, use EPSV")
    return masquerade.address


async def epsv(s: Session, arg: bytes) -> Reply:
    """EPSV, EPSV 1, EPSV 2, EPSV ALL."""
    try:
        family = argument(parse_epsv, arg)
    except UnsupportedFamilyError:
        return reply(522, _BOTH)
    if family == 0:
        s.epsv_all = True
        return reply(200, "EPSV ALL noted")
    own = 1 if isinstance(normalise(s.local), IPv4Address) else 2
    if family not in (None, own):
        return reply(522, f"network protocol not supported here, use ({own})")
    return reply(229, format_epsv(_listen(s)))


def _connect_to(s: Session, target: Target) -> Reply:
    try:
        check_target(target, s.peer)
    except ForeignAddressError as error:
        s.drop_channel()
        return reply(504, str(error))
    s.use_channel(ActiveChannel(s.reactor, s.settings, target, s.local))
    return reply(200, "data connection noted")


def _check_active(s: Session) -> None:
    if not s.settings.active_mode:
        raise Refused(502, "active mode is off, use EPSV or PASV")
    if s.epsv_all:
        raise Refused(503, "EPSV ALL was given")


async def port(s: Session, arg: bytes) -> Reply:
    """PORT."""
    _check_active(s)
    return _connect_to(s, argument(parse_port, arg))


async def eprt(s: Session, arg: bytes) -> Reply:
    """EPRT."""
    _check_active(s)
    try:
        target = argument(parse_eprt, arg)
    except UnsupportedFamilyError:
        return reply(522, _BOTH)
    return _connect_to(s, target)
