"""Configuration values by type: numbers, times, sizes, folders, networks, URLs.

Knows how each type is written; touches nothing. Every error names file, line, section and key, and
quotes nothing that may be secret.
"""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from truckee.core import ini
from truckee.core.errors import ConfigError, TruckeeError
from truckee.core.formats.caps import DirectoryCap, parse_strict

C = TypeVar("C", bound=str)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_TRUE = frozenset({"yes", "true", "on", "1"})
_FALSE = frozenset({"no", "false", "off", "0"})
_NUMBER = re.compile(r"[0-9]{1,18}")
_SECONDS = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*s?")
_SIZE = re.compile(r"([0-9]{1,18})\s*([KMGTPE]?)(i?)B?", re.IGNORECASE)
_RANGE = re.compile(r"([0-9]{1,5})-([0-9]{1,5})")
_SUFFIXES = " KMGTPE"
_URL = re.compile(r"[!-~]{1,2000}")
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")


class Reader:
    """The values of one file."""

    def __init__(self, values: Mapping[ini.Key, ini.Value], name: str, directory: Path) -> None:
        """Take what stands in the file, its name, and the folder that paths begin at."""
        self.values = values
        self.name = name
        self._directory = directory

    def home(self, section: str, key: str) -> str:
        """Return the section to look in."""
        return section

    def has(self, section: str, key: str) -> bool:
        """Return whether the key stands there."""
        return (self.home(section, key), key) in self.values

    def text(self, section: str, key: str, default: str) -> str:
        """Return the text of a key."""
        value = self.values.get((self.home(section, key), key))
        return default if value is None else value.text

    def error(self, section: str, key: str, what: str) -> ConfigError:
        """Return an error about this key."""
        section = self.home(section, key)
        value = self.values.get((section, key))
        line = "" if value is None else f" line {value.line}"
        return ConfigError(f"{self.name}{line}: [{section}] {key} {what}")

    def flag(self, section: str, key: str, default: bool) -> bool:
        """Return yes or no."""
        text = self.text(section, key, "yes" if default else "no").lower()
        if text not in _TRUE | _FALSE:
            raise self.error(section, key, "takes yes or no")
        return text in _TRUE

    def choice(self, section: str, key: str, allowed: tuple[C, ...], default: C) -> C:
        """Return one of the allowed words."""
        text = self.text(section, key, str(default))
        found = next((word for word in allowed if word.lower() == text.lower()), None)
        if found is None:
            raise self.error(section, key, f"takes {' or '.join(allowed)}")
        return found

    def number(self, section: str, key: str, default: int, lowest: int, highest: int) -> int:
        """Return a whole number within limits."""
        text = self.text(section, key, str(default))
        if not _NUMBER.fullmatch(text) or not lowest <= int(text) <= highest:
            raise self.error(section, key, f"takes a number from {lowest} to {highest}")
        return int(text)

    def seconds(self, section: str, key: str, default: float) -> float:
        """Return a time."""
        found = _SECONDS.fullmatch(self.text(section, key, str(default)))
        if found is None:
            raise self.error(section, key, "takes seconds")
        return float(found.group(1))

    def size(self, section: str, key: str, default: int) -> int:
        """Return a number of bytes."""
        found = _SIZE.fullmatch(self.text(section, key, str(default)))
        if found is None:
            raise self.error(section, key, "takes a size such as 10G or 512MiB")
        number, suffix, binary = found.groups()
        size = int(number)
        for _ in range(_SUFFIXES.index(suffix.upper() or " ")):
            size *= 1024 if binary else 1000
        return size

    def words(self, section: str, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """Return a comma-separated list, which must not be empty when it is given."""
        if not self.has(section, key):
            return default
        words = [word.strip() for word in re.split(r"[,\n]", self.text(section, key, ""))]
        found = tuple(word for word in words if word)
        if not found:
            raise self.error(section, key, "is empty")
        return found

    def path(self, section: str, key: str, default: str) -> Path:
        """Return a path; a relative one begins at the node directory."""
        return self._directory / Path(self.text(section, key, default)).expanduser()

    def optional_path(self, section: str, key: str) -> Path | None:
        """Return a path, or None when nothing is said."""
        return self.path(section, key, "") if self.text(section, key, "") else None

    def paths(self, section: str, key: str) -> tuple[Path, ...]:
        """Return a list of paths."""
        return tuple(self._directory / Path(p).expanduser() for p in self.words(section, key, ()))

    def networks(self, section: str, key: str, default: str) -> tuple[Network, ...]:
        """Return a list of networks; ``loopback`` names those of this machine."""
        words = re.split(r"[,\s]+", self.text(section, key, default))
        named = {"loopback": ("127.0.0.0/8", "::1/128")}
        try:
            return tuple(
                ipaddress.ip_network(network)
                for word in words
                if word
                for network in named.get(word, (word,))
            )
        except ValueError:
            raise self.error(section, key, "takes networks such as 10.0.0.0/8") from None

    def host(self, section: str, key: str) -> ipaddress.IPv4Address | str | None:
        """Return an IPv4 address, or the name of a host to look up, or None."""
        text = self.text(section, key, "")
        if not text:
            return None
        try:
            return ipaddress.IPv4Address(text)
        except ValueError:
            pass
        if not _HOST.fullmatch(text) or text.rpartition(".")[2].isdigit():
            raise self.error(section, key, "takes an IPv4 address or a name")
        return text

    def url(self, section: str, key: str) -> str | None:
        """Return a URL that secrets may be sent to: https, or http on this machine; or None."""
        text = self.text(section, key, "")
        if not text:
            return None
        try:
            parts = urlsplit(text)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            raise self.error(section, key, "takes a URL") from None
        if not _URL.fullmatch(text) or not host or parts.fragment:
            raise self.error(section, key, "takes a URL")
        if parts.username is not None or parts.password is not None:
            raise self.error(section, key, "takes a URL without a user in it")
        if parts.scheme != "https" and not (parts.scheme == "http" and _is_here(host)):
            raise self.error(section, key, "takes https:, or http: on this machine")
        return text

    def port_range(self, section: str, key: str, default: str) -> range | None:
        """Return a range of ports; None when it is empty."""
        text = self.text(section, key, default)
        if not text:
            return None
        found = _RANGE.fullmatch(text.replace(" ", ""))
        if found is None or not 1 <= int(found[1]) <= int(found[2]) <= 65535:
            raise self.error(section, key, "takes a range such as 50000-50100, or nothing")
        return range(int(found[1]), int(found[2]) + 1)

    def rootcap(self, section: str, key: str) -> DirectoryCap | None:
        """Return the capability of a directory, or None."""
        text = self.text(section, key, "")
        if not text:
            return None
        try:
            cap = parse_strict(text)
        except TruckeeError:
            cap = None
        if not isinstance(cap, DirectoryCap):
            raise self.error(section, key, "takes the capability of a directory")
        return cap


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
