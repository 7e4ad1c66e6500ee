"""Endpoint strings as people give them.

Knows which kinds are allowed: TCP over IPv4 and IPv6, and nothing that loads code. Touches nothing.
"""

import ipaddress
import re
from collections.abc import Sequence

from truckee.core.errors import ConfigError

_PORT = re.compile(r"[0-9]{1,5}")
_HOST_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]+)):([0-9]{1,5})")
_BACKLOG = r"(?::backlog=[0-9]{1,5})?"
_ENDPOINT = re.compile(
    rf"(tcp6?):(?:port=)?([0-9]{{1,5}}){_BACKLOG}((?::interface=(?:\\:|[^:\\])*)?){_BACKLOG}"
)
_INTERFACE = re.compile(r":interface=((?:\\:|[^:\\])*)")


def parse(text: str) -> str:
    """Return the endpoint string for ``PORT``, ``HOST:PORT``, ``tcp:…`` or ``tcp6:…``.

    A bare port means this machine only. Raises ConfigError.
    """
    if _PORT.fullmatch(text):
        return _checked(f"tcp:{text}:interface=127.0.0.1")
    if text.startswith(("tcp:", "tcp6:")):
        return _checked(text)
    if found := _HOST_PORT.fullmatch(text):
        host = found[1] or {"localhost": "127.0.0.1"}.get(found[2], found[2])
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            raise ConfigError(f"{text!r}: an endpoint takes an address, not a name") from None
        kind = "tcp6" if address.version == 6 else "tcp"
        escaped = str(address).replace(":", "\\:")
        return _checked(f"{kind}:{found[3]}:interface={escaped}")
    raise ConfigError(
        f"{text!r}: an endpoint is PORT, ADDRESS:PORT, or like tcp:8021:interface=127.0.0.1"
    )


def _checked(text: str) -> str:
    found = _ENDPOINT.fullmatch(text)
    if found is None:
        raise ConfigError(f"{text!r}: an endpoint looks like tcp:8021:interface=127.0.0.1")
    if int(found[2]) > 65535:
        raise ConfigError(f"{text!r}: ports end at 65535")
    return text


def is_loopback(text: str) -> bool:
    """Return whether an endpoint can be reached from this machine only."""
    found = _INTERFACE.search(text)
    if found is None:
        return False
    try:
        return ipaddress.ip_address(found[1].replace("\\:", ":")).is_loopback
    except ValueError:
        return False


def public(texts: Sequence[str]) -> list[str]:
    """Return those endpoints that other machines can reach; ConfigError for a malformed one."""
    return [text for text in map(parse, texts) if not is_loopback(text)]
