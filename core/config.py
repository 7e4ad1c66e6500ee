"""What ``truckee.cfg`` says: checked values for the node's assembly.

Knows every section and key (docs/configuration.rst), their types and defaults; touches nothing but
the text it is given. In ``truckee.cfg`` a key not known is an error with its name and line; in a
Tahoe node's ``tahoe.cfg`` it is a warning, and so are Tahoe's keys that have no effect here.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from truckee.core import ini
from truckee.core.errors import ConfigError, TruckeeError
from truckee.core.formats.caps import DirectoryCap, parse_strict

NAME = "truckee.cfg"
TAHOE_NAME = "tahoe.cfg"
DEFAULT_FTP_ENDPOINT = "tcp:8021:interface=127.0.0.1"

C = TypeVar("C", bound=str)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_COMMON = frozenset(
    {
        "enabled", "port", "accounts.file", "accounts.plaintext", "accounts.insecure_permissions",
        "anonymous.rootcap", "uri_paths", "rmdir_nonempty", "commit_mode", "spool_dir",
        "spool_max", "max_sessions", "max_sessions_per_user", "max_sessions_per_ip",
        "max_unauthenticated", "login_grace", "throttle_exempt", "dir_cache_ttl", "idle_timeout",
        "log_paths",
    }
)  # fmt: skip
USED = {
    "node": frozenset({"nickname", "private_dir"}),
    "grid": frozenset({"mode"}),
    "embedded": frozenset({"stores"}),
    "client": frozenset({"shares.needed", "shares.happy", "shares.total"}),
    "storage": frozenset({"reserved_space", "fsync"}),
    "ftpd": _COMMON
    | {
        "tls", "insecure_plaintext", "passive_ports", "masquerade_address", "active_mode",
        "data_timeout",
    },
}  # fmt: skip
UNUSED = {
    "node": frozenset(
        {
            "reveal-ip-address", "tub.port", "tub.location", "web.port", "web.static", "tempdir",
            "timeout.keepalive", "timeout.disconnect", "log_gatherer.furl",
        }
    ),
    "client": frozenset(
        {
            "mutable.format", "helper.furl", "peers.preferred", "storage.plugins", "force_foolscap",
            "introducer.furl", "key_generator.furl",
        }
    ),
    "storage": frozenset(
        {
            "enabled", "anonymous", "readonly", "storage_dir", "expire.enabled", "expire.mode",
            "expire.override_lease_duration", "expire.cutoff_date", "expire.immutable",
            "expire.mutable", "plugins", "grid_management", "debug_discard", "force_foolscap",
        }
    ),
    "helper": frozenset({"enabled"}),
    "ftpd": frozenset({"accounts.url", "accounts.url.ca_file", "tls_certificate", "tls_key"}),
    "sftpd": _COMMON
    | {"host_pubkey_file", "host_privkey_file", "password_auth", "accounts.url"},
    "connections": frozenset({"tcp"}),
    "tor": frozenset(
        {
            "enabled", "control.port", "launch", "tor.executable", "socks.port", "onion",
            "onion.local_port", "onion.external_port", "onion.private_key_file",
        }
    ),
    "i2p": frozenset(
        {
            "enabled", "sam.port", "launch", "i2p.configdir", "i2p.executable", "dest",
            "dest.port", "dest.private_key_file",
        }
    ),
}  # fmt: skip
_ANY_KEY = frozenset({"grid_managers", "grid_manager_certificates"})
_TRUE = frozenset({"yes", "true", "on", "1"})
_FALSE = frozenset({"no", "false", "off", "0"})
_NUMBER = re.compile(r"[0-9]{1,18}")
_SECONDS = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*s?")
_SIZE = re.compile(r"([0-9]{1,18})\s*([KMGTPE]?)(i?)B?", re.IGNORECASE)
_RANGE = re.compile(r"([0-9]{1,5})-([0-9]{1,5})")
_SUFFIXES = " KMGTPE"


@dataclass(frozen=True, slots=True)
class FtpConfig:
    """The section [ftpd]; times in seconds."""

    accounts_file: Path
    enabled: bool = True
    ports: tuple[str, ...] = (DEFAULT_FTP_ENDPOINT,)
    ports_given: bool = False
    accounts_plaintext: Literal["allow", "warn", "refuse"] = "warn"
    accounts_permissions: Literal["refuse", "warn"] = "refuse"
    anonymous_rootcap: DirectoryCap | None = field(default=None, repr=False)
    uri_paths: bool = False
    rmdir_nonempty: bool = False
    spool_dir: Path | None = None
    spool_max: int | None = None
    max_sessions: int = 200
    max_sessions_per_user: int = 60
    max_sessions_per_ip: int = 60
    max_unauthenticated: int = 100
    login_grace: float = 60.0
    throttle_exempt: tuple[Network, ...] = ()
    dir_cache_ttl: float = 3.0
    passive_ports: range | None = range(50000, 50101)
    masquerade_address: ipaddress.IPv4Address | None = None
    active_mode: bool = True
    idle_timeout: float = 300.0
    data_timeout: float = 60.0
    tls: str = "auto"
    insecure_plaintext: bool = False
    log_paths: bool = False


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """The whole configuration of one node directory."""

    directory: Path
    private: Path
    stores: tuple[Path, ...]
    needed: int
    happy: int
    total: int
    ftp: FtpConfig
    nickname: str = ""
    reserved_space: int = 0
    fsync: bool = True
    warnings: tuple[str, ...] = ()


def parse(text: str, directory: Path, name: str = NAME) -> NodeConfig:
    """Return the configuration of a node directory; ConfigError for the first thing wrong."""
    values = ini.parse(text, name)
    warnings = _check_known(values, name)
    reader = _Reader(values, name, directory)
    mode = reader.choice("grid", "mode", ("embedded", "grid"), "embedded")
    stores = reader.paths("embedded", "stores")
    if mode != "embedded" or not stores:
        raise ConfigError(
            f"{name}: this release needs [grid] mode = embedded and [embedded] stores"
        )
    if len(set(stores)) != len(stores):
        raise reader.error("embedded", "stores", "names a folder twice")
    private = reader.path("node", "private_dir", "private")
    needed = reader.number("client", "shares.needed", 3, 1, 255)
    total = reader.number("client", "shares.total", 10, needed, 255)
    fsync = reader.flag("storage", "fsync", True)
    if not fsync:
        warnings.append("storage.fsync = no: a power cut may lose what was acknowledged")
    return NodeConfig(
        directory=directory,
        private=private,
        stores=stores,
        needed=needed,
        happy=reader.number("client", "shares.happy", min(7, total), 1, total),
        total=total,
        ftp=_ftp(reader, private),
        nickname=reader.text("node", "nickname", ""),
        reserved_space=reader.size("storage", "reserved_space", 0),
        fsync=fsync,
        warnings=tuple(warnings),
    )


def _check_known(values: Mapping[ini.Key, ini.Value], name: str) -> list[str]:
    warnings = []
    for (section, key), value in values.items():
        if key in USED.get(section, ()):
            continue
        where = f"{name} line {value.line}: [{section}] {key}"
        if key in UNUSED.get(section, ()) or section in _ANY_KEY:
            warnings.append(f"{where} has no effect in this release")
        elif name == TAHOE_NAME:
            warnings.append(f"{where} is not known")
        else:
            raise ConfigError(f"{where} is not known")
    return warnings


def _ftp(reader: "_Reader", private: Path) -> FtpConfig:
    s = "ftpd"
    accounts = "accounts.file"
    reader.choice(s, "commit_mode", ("wait",), "wait")
    return FtpConfig(
        accounts_file=reader.path(s, accounts, "")
        if reader.has(s, accounts)
        else private / "accounts",
        enabled=reader.flag(s, "enabled", False),
        ports=reader.words(s, "port", (DEFAULT_FTP_ENDPOINT,)),
        ports_given=reader.has(s, "port"),
        accounts_plaintext=reader.choice(
            s, "accounts.plaintext", ("allow", "warn", "refuse"), "warn"
        ),
        accounts_permissions=reader.choice(
            s, "accounts.insecure_permissions", ("refuse", "warn"), "refuse"
        ),
        anonymous_rootcap=reader.rootcap(s, "anonymous.rootcap"),
        uri_paths=reader.flag(s, "uri_paths", False),
        rmdir_nonempty=reader.choice(s, "rmdir_nonempty", ("refuse", "unlink"), "refuse")
        == "unlink",
        spool_dir=reader.path(s, "spool_dir", "tmp/spool"),
        spool_max=reader.size(s, "spool_max", 0) or None,
        max_sessions=reader.number(s, "max_sessions", 200, 1, 100_000),
        max_sessions_per_user=reader.number(s, "max_sessions_per_user", 60, 1, 100_000),
        max_sessions_per_ip=reader.number(s, "max_sessions_per_ip", 60, 1, 100_000),
        max_unauthenticated=reader.number(s, "max_unauthenticated", 100, 1, 100_000),
        login_grace=reader.seconds(s, "login_grace", 60.0),
        throttle_exempt=reader.networks(s, "throttle_exempt", "127.0.0.0/8, ::1/128"),
        dir_cache_ttl=reader.seconds(s, "dir_cache_ttl", 3.0),
        passive_ports=reader.port_range(s, "passive_ports", "50000-50100"),
        masquerade_address=reader.address(s, "masquerade_address"),
        active_mode=reader.flag(s, "active_mode", True),
        idle_timeout=reader.seconds(s, "idle_timeout", 300.0),
        data_timeout=reader.seconds(s, "data_timeout", 60.0),
        tls=reader.choice(s, "tls", ("auto", "off"), "auto"),
        insecure_plaintext=reader.flag(s, "insecure_plaintext", False),
        log_paths=reader.flag(s, "log_paths", False),
    )


class _Reader:
    """Values by type. Every error names key and line, and quotes nothing that may be secret."""

    def __init__(self, values: Mapping[ini.Key, ini.Value], name: str, directory: Path) -> None:
        self._values = values
        self._name = name
        self._directory = directory

    def has(self, section: str, key: str) -> bool:
        return (section, key) in self._values

    def text(self, section: str, key: str, default: str) -> str:
        value = self._values.get((section, key))
        return default if value is None else value.text

    def error(self, section: str, key: str, what: str) -> ConfigError:
        value = self._values.get((section, key))
        line = "" if value is None else f" line {value.line}"
        return ConfigError(f"{self._name}{line}: [{section}] {key} {what}")

    def flag(self, section: str, key: str, default: bool) -> bool:
        text = self.text(section, key, "yes" if default else "no").lower()
        if text not in _TRUE | _FALSE:
            raise self.error(section, key, "takes yes or no")
        return text in _TRUE

    def choice(self, section: str, key: str, allowed: tuple[C, ...], default: C) -> C:
        text = self.text(section, key, str(default))
        found = next((word for word in allowed if word.lower() == text.lower()), None)
        if found is None:
            raise self.error(section, key, f"takes {' or '.join(allowed)}")
        return found

    def number(self, section: str, key: str, default: int, lowest: int, highest: int) -> int:
        text = self.text(section, key, str(default))
        if not _NUMBER.fullmatch(text) or not lowest <= int(text) <= highest:
            raise self.error(section, key, f"takes a number from {lowest} to {highest}")
        return int(text)

    def seconds(self, section: str, key: str, default: float) -> float:
        found = _SECONDS.fullmatch(self.text(section, key, str(default)))
        if found is None:
            raise self.error(section, key, "takes seconds")
        return float(found.group(1))

    def size(self, section: str, key: str, default: int) -> int:
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
        return self._directory / Path(self.text(section, key, default)).expanduser()

    def paths(self, section: str, key: str) -> tuple[Path, ...]:
        return tuple(self._directory / Path(p).expanduser() for p in self.words(section, key, ()))

    def networks(self, section: str, key: str, default: str) -> tuple[Network, ...]:
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

    def address(self, section: str, key: str) -> ipaddress.IPv4Address | None:
        text = self.text(section, key, "")
        try:
            return ipaddress.IPv4Address(text) if text else None
        except ValueError:
            raise self.error(section, key, "takes an IPv4 address in this release") from None

    def port_range(self, section: str, key: str, default: str) -> range | None:
        text = self.text(section, key, default)
        if not text:
            return None
        found = _RANGE.fullmatch(text.replace(" ", ""))
        if found is None or not 1 <= int(found[1]) <= int(found[2]) <= 65535:
            raise self.error(section, key, "takes a range such as 50000-50100, or nothing")
        return range(int(found[1]), int(found[2]) + 1)

    def rootcap(self, section: str, key: str) -> DirectoryCap | None:
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
