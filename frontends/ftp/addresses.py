"""Addresses of data connections: PORT, EPRT, PASV, EPSV. Knows their grammar; touches nothing."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from truckee.core.errors import FormatError
from truckee.core.formats.numbers import parse_decimal

IPAddress = IPv4Address | IPv6Address

LOWEST_PORT = 1024


class UnsupportedFamilyError(ValueError):
    """EPRT or EPSV names a network protocol other than IPv4 and IPv6."""


class ForeignAddressError(ValueError):
    """A data connection was asked for to somebody else than the client itself."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the client asks us to connect."""

    host: IPAddress
    port: int


def normalise(host: str) -> IPAddress | None:
    """Return the address that `host` spells, an IPv4-mapped one as IPv4; None for anything else.

    Scoped addresses (``fe80::1%eth0``) are refused: equal text need not mean one machine.
    """
    if "%" in host:
        return None
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def plain(host: str) -> str:
    """Return an IPv4-mapped address as the IPv4 one it is, and anything else unchanged."""
    address = normalise(host)
    return str(address) if isinstance(address, IPv4Address) else host


def is_loopback(host: str) -> bool:
    """Return whether `host` is an address of this machine's loopback."""
    address = normalise(host)
    return address is not None and address.is_loopback


_SIX = re.compile(rb"\(?([0-9]{1,3}(?:,[0-9]{1,3}){5})\)?")


def parse_port(arg: bytes) -> Target:
    """Return the target of PORT ``h1,h2,h3,h4,p1,p2``, or raise FormatError."""
    match = _SIX.fullmatch(arg.strip(b" "))
    if match is None:
        raise FormatError("six numbers are expected")
    *host, high, low = [parse_decimal(part, 255) for part in match[1].split(b",")]
    return Target(IPv4Address(bytes(host)), high * 256 + low)


def parse_eprt(arg: bytes) -> Target:
    """Return the target of EPRT ``|1|132.235.1.2|6275|``.

    Raises FormatError, or UnsupportedFamilyError for a protocol that is not 1 or 2.
    """
    arg = arg.strip(b" ")
    if not arg or not 33 <= arg[0] <= 126:
        raise FormatError("a delimiter is expected")
    parts = arg.split(arg[:1])
    if len(parts) != 5 or parts[0] or parts[4]:
        raise FormatError("three fields are expected")
    if parse_decimal(parts[1], 65535) not in (1, 2):
        raise UnsupportedFamilyError("network protocol not supported")
    try:
        host = parts[2].decode("ascii")
    except UnicodeDecodeError:
        raise FormatError("not an address") from None
    address = normalise(host)
    if address is None or (parts[1] == b"1") != (":" not in host):
        raise FormatError("not an address of that protocol")
    return Target(address, parse_decimal(parts[3], 65535))


def check_target(target: Target, peer: str) -> None:
    """Raise ForeignAddressError unless `target` is the client itself, on an unprivileged port."""
    if normalise(peer) != target.host or target.port < LOWEST_PORT:
        raise ForeignAddressError("only to the client's own address, port 1024 or higher")


def parse_epsv(arg: bytes) -> int | None:
    """Return 1 (IPv4), 2 (IPv6), 0 (ALL) or None (no choice) of an EPSV argument.

    Raises FormatError, or UnsupportedFamilyError for another protocol number.
    """
    arg = arg.strip(b" ")
    if not arg:
        return None
    if arg.upper() == b"ALL":
        return 0
    family = parse_decimal(arg, 65535)
    if family not in (1, 2):
        raise UnsupportedFamilyError("network protocol not supported")
    return family


def format_pasv(host: IPv4Address, port: int) -> str:
    """Return the text of a 227 reply."""
    numbers = [*host.packed, port // 256, port % 256]
    return f"Entering Passive Mode ({','.join(map(str, numbers))})."


def format_epsv(port: int) -> str:
    """Return the text of a 229 reply."""
    return f"Entering Extended Passive Mode (|||{port}|)"
