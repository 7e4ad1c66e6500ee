"""What ``truckee.cfg`` says: checked values for the node's assembly.

Knows what every key means and its default (docs/configuration.rst); touches nothing but the text it
is given. In ``truckee.cfg`` a key not known is an error with its name and line; in a Tahoe node's
``tahoe.cfg`` it is a warning, and so are Tahoe's keys that have no effect here. What FTP and SFTP
have in common is one value, whichever of their sections it stands in.
"""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from truckee.core import ini
from truckee.core.config_keys import FTP, SFTP, check_known, home_of
from truckee.core.config_values import Network, Reader
from truckee.core.errors import ConfigError
from truckee.core.formats.caps import DirectoryCap

NAME = "truckee.cfg"
TAHOE_NAME = "tahoe.cfg"
DEFAULT_FTP_ENDPOINT = "tcp:8021:interface=127.0.0.1"
DEFAULT_SFTP_ENDPOINT = "tcp:8022:interface=127.0.0.1"
DEFAULT_METRICS_ENDPOINT = "tcp:8023:interface=127.0.0.1"


@dataclass(frozen=True, slots=True)
class AccessConfig:
    """What [ftpd] and [sftpd] share: who may come in, how many, and what they find."""

    accounts_file: Path
    accounts_plaintext: Literal["allow", "warn", "refuse"] = "warn"
    accounts_permissions: Literal["refuse", "warn"] = "refuse"
    accounts_url: str | None = None
    accounts_url_ca_file: Path | None = None
    anonymous_rootcap: DirectoryCap | None = field(default=None, repr=False)
    uri_paths: bool = False
    rmdir_nonempty: bool = False
    commit_mode: Literal["wait", "background"] = "wait"
    spool_dir: Path | None = None
    spool_max: int | None = None
    max_sessions: int = 200
    max_sessions_per_user: int = 60
    max_sessions_per_ip: int = 60
    max_unauthenticated: int = 100
    login_grace: float = 60.0
    throttle_exempt: tuple[Network, ...] = ()
    dir_cache_ttl: float = 3.0
    log_paths: bool = False
    post_upload: str | None = None
    post_login: str | None = None


@dataclass(frozen=True, slots=True)
class FtpConfig:
    """What [ftpd] says of FTP alone; times in seconds."""

    enabled: bool = True
    ports: tuple[str, ...] = (DEFAULT_FTP_ENDPOINT,)
    ports_given: bool = False
    proxies: tuple[Network, ...] = ()
    """Who may say, by the PROXY protocol, for whom it connects."""
    passive_ports: range | None = range(50000, 50101)
    masquerade_address: ipaddress.IPv4Address | str | None = None
    """An address, or the name of one."""
    active_mode: bool = True
    idle_timeout: float = 300.0
    data_timeout: float = 60.0
    tls: Literal["auto", "required", "off"] = "auto"
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_max: Literal["1.2", "1.3"] = "1.2"
    strict_tls_eof: bool = False
    data_tls_resumption: Literal["accept", "require"] = "accept"
    insecure_plaintext: bool = False


@dataclass(frozen=True, slots=True)
class SftpConfig:
    """What [sftpd] says of SFTP alone; times in seconds."""

    enabled: bool = True
    ports: tuple[str, ...] = (DEFAULT_SFTP_ENDPOINT,)
    ports_given: bool = False
    proxies: tuple[Network, ...] = ()
    host_privkey_file: Path | None = None
    host_pubkey_file: Path | None = None
    password_auth: bool = True
    idle_timeout: float = 0.0


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """The whole configuration of one node directory."""

    directory: Path
    private: Path
    stores: tuple[Path, ...]
    needed: int
    happy: int
    total: int
    access: AccessConfig
    ftp: FtpConfig
    sftp: SftpConfig
    metrics_port: str | None = DEFAULT_METRICS_ENDPOINT
    """The endpoint of the figures; None for none."""
    metrics_port_given: bool = False
    metrics_public: bool = False
    """Whether an endpoint that others reach is meant."""
    nickname: str = ""
    reserved_space: int = 0
    fsync: bool = True
    warnings: tuple[str, ...] = ()


def parse(text: str, directory: Path, name: str = NAME) -> NodeConfig:
    """Return the configuration of a node directory; ConfigError for the first thing wrong."""
    values = ini.parse(text, name)
    warnings = check_known(values, name, lenient=name == TAHOE_NAME)
    reader = Reader(values, name, directory)
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
    access = _access(_Shared(values, name, directory), private)
    if access.commit_mode == "background":
        warnings.append("commit_mode = background: an upload may fail after it was acknowledged")
    return NodeConfig(
        directory=directory,
        private=private,
        stores=stores,
        needed=needed,
        happy=reader.number("client", "shares.happy", min(7, total), 1, total),
        total=total,
        access=access,
        ftp=_ftp(reader),
        sftp=_sftp(reader),
        metrics_port=reader.text("node", "metrics.port", DEFAULT_METRICS_ENDPOINT) or None,
        metrics_port_given=reader.has("node", "metrics.port"),
        metrics_public=reader.flag("node", "metrics.public", False),
        nickname=reader.text("node", "nickname", ""),
        reserved_space=reader.size("storage", "reserved_space", 0),
        fsync=fsync,
        warnings=tuple(warnings),
    )


class _Shared(Reader):
    """Reads a key from whichever of the two sections has it."""

    def home(self, section: str, key: str) -> str:
        """Return the section that has the key; ConfigError when both have it and differ."""
        return home_of(self.values, key, self.name)


def _access(reader: _Shared, private: Path) -> AccessConfig:
    s, file, ca = FTP, "accounts.file", "accounts.url.ca_file"
    permissions = "accounts.insecure_permissions"

    def most(key: str, default: int) -> int:
        return reader.number(s, key, default, 1, 100_000)

    access = AccessConfig(
        accounts_file=reader.optional_path(s, file) or private / "accounts",
        accounts_plaintext=reader.choice(
            s, "accounts.plaintext", ("allow", "warn", "refuse"), "warn"
        ),
        accounts_permissions=reader.choice(s, permissions, ("refuse", "warn"), "refuse"),
        accounts_url=reader.url(s, "accounts.url"),
        accounts_url_ca_file=reader.optional_path(s, ca),
        anonymous_rootcap=reader.rootcap(s, "anonymous.rootcap"),
        uri_paths=reader.flag(s, "uri_paths", False),
        rmdir_nonempty=reader.choice(s, "rmdir_nonempty", ("refuse", "unlink"), "refuse")
        == "unlink",
        commit_mode=reader.choice(s, "commit_mode", ("wait", "background"), "wait"),
        spool_dir=reader.path(s, "spool_dir", "tmp/spool"),
        spool_max=reader.size(s, "spool_max", 0) or None,
        max_sessions=most("max_sessions", 200),
        max_sessions_per_user=most("max_sessions_per_user", 60),
        max_sessions_per_ip=most("max_sessions_per_ip", 60),
        max_unauthenticated=most("max_unauthenticated", 100),
        login_grace=reader.seconds(s, "login_grace", 60.0),
        throttle_exempt=reader.networks(s, "throttle_exempt", "127.0.0.0/8, ::1/128"),
        dir_cache_ttl=reader.seconds(s, "dir_cache_ttl", 3.0),
        log_paths=reader.flag(s, "log_paths", False),
        post_upload=reader.url(s, "post_upload"),
        post_login=reader.url(s, "post_login"),
    )
    if access.accounts_url_ca_file is not None and access.accounts_url is None:
        raise reader.error(s, ca, "needs accounts.url")
    return access


def _proxies(reader: Reader, section: str) -> tuple[Network, ...]:
    """Return who may speak for others: somebody in particular, not everybody."""
    found = reader.networks(section, "proxy_protocol", "")
    if any(network.prefixlen == 0 for network in found):
        raise reader.error(section, "proxy_protocol", "takes the addresses of proxies")
    return found


def _ftp(reader: Reader) -> FtpConfig:
    config = FtpConfig(
        enabled=reader.flag(FTP, "enabled", False),
        ports=reader.words(FTP, "port", (DEFAULT_FTP_ENDPOINT,)),
        ports_given=reader.has(FTP, "port"),
        proxies=_proxies(reader, FTP),
        passive_ports=reader.port_range(FTP, "passive_ports", "50000-50100"),
        masquerade_address=reader.host(FTP, "masquerade_address"),
        active_mode=reader.flag(FTP, "active_mode", True),
        idle_timeout=reader.seconds(FTP, "idle_timeout", 300.0),
        data_timeout=reader.seconds(FTP, "data_timeout", 60.0),
        tls=reader.choice(FTP, "tls", ("auto", "required", "off"), "auto"),
        tls_certificate=reader.optional_path(FTP, "tls_certificate"),
        tls_key=reader.optional_path(FTP, "tls_key"),
        tls_max=reader.choice(FTP, "tls_max", ("1.2", "1.3"), "1.2"),
        strict_tls_eof=reader.flag(FTP, "strict_tls_eof", False),
        data_tls_resumption=reader.choice(
            FTP, "data_tls_resumption", ("accept", "require"), "accept"
        ),
        insecure_plaintext=reader.flag(FTP, "insecure_plaintext", False),
    )
    if config.tls_key is not None and config.tls_certificate is None:
        raise reader.error(FTP, "tls_key", "needs tls_certificate")
    if config.data_tls_resumption == "require" and config.tls_max != "1.2":
        raise reader.error(FTP, "data_tls_resumption", "can be required with tls_max = 1.2 alone")
    return config


def _sftp(reader: Reader) -> SftpConfig:
    return SftpConfig(
        enabled=reader.flag(SFTP, "enabled", False),
        ports=reader.words(SFTP, "port", (DEFAULT_SFTP_ENDPOINT,)),
        ports_given=reader.has(SFTP, "port"),
        proxies=_proxies(reader, SFTP),
        host_privkey_file=reader.optional_path(SFTP, "host_privkey_file"),
        host_pubkey_file=reader.optional_path(SFTP, "host_pubkey_file"),
        password_auth=reader.flag(SFTP, "password_auth", True),
        idle_timeout=reader.seconds(SFTP, "idle_timeout", 0.0),
    )
