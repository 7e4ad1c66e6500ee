"""Addresses of clients, and the networks they belong to. Knows how they are written, no more."""

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse(host: str) -> Address | None:
    """Return an address, an IPv4 one inside IPv6 as what it is; None for anything else."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def within(host: str, networks: Iterable[Network]) -> bool:
    """Return whether `host` is an address in one of the networks."""
    address = parse(host)
    return address is not None and any(address in network for network in networks)
