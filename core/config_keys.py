"""Which sections and keys a configuration may have.

Knows their names; touches nothing. `USED` have an effect; `UNUSED` are Tahoe's, known and without
one; `SHARED` may stand in [ftpd] or [sftpd] and hold for both.
"""

from collections.abc import Mapping

from truckee.core import ini
from truckee.core.errors import ConfigError

FTP, SFTP = "ftpd", "sftpd"
DOORS = (FTP, SFTP)

SHARED = frozenset(
    {
        "accounts.file", "accounts.url", "accounts.url.ca_file", "accounts.plaintext",
        "accounts.insecure_permissions", "anonymous.rootcap", "uri_paths", "rmdir_nonempty",
        "commit_mode", "spool_dir", "spool_max", "max_sessions", "max_sessions_per_user",
        "max_sessions_per_ip", "max_unauthenticated", "login_grace", "throttle_exempt",
        "dir_cache_ttl", "log_paths", "post_upload", "post_login",
    }
)  # fmt: skip
_OF_A_DOOR = frozenset({"enabled", "port", "idle_timeout", "proxy_protocol"})
USED = {
    "node": frozenset({"nickname", "private_dir", "metrics.port", "metrics.public"}),
    "grid": frozenset({"mode"}),
    "embedded": frozenset({"stores"}),
    "client": frozenset({"shares.needed", "shares.happy", "shares.total"}),
    "storage": frozenset({"reserved_space", "fsync"}),
    FTP: SHARED
    | _OF_A_DOOR
    | {
        "tls", "tls_certificate", "tls_key", "insecure_plaintext", "passive_ports",
        "masquerade_address", "active_mode", "data_timeout", "tls_max", "strict_tls_eof",
        "data_tls_resumption",
    },
    SFTP: SHARED | _OF_A_DOOR | {"host_pubkey_file", "host_privkey_file", "password_auth"},
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

Values = Mapping[ini.Key, ini.Value]


def check_known(values: Values, name: str, *, lenient: bool) -> list[str]:
    """Return warnings about keys without effect; ConfigError for one not known.

    With `lenient`, for a file that another program reads as well, that is a warning, too.
    """
    warnings = []
    for (section, key), value in values.items():
        if key in USED.get(section, ()):
            continue
        where = f"{name} line {value.line}: [{section}] {key}"
        if key in UNUSED.get(section, ()) or section in _ANY_KEY:
            warnings.append(f"{where} has no effect in this release")
        elif lenient:
            warnings.append(f"{where} is not known")
        else:
            raise ConfigError(f"{where} is not known")
    return warnings


def home_of(values: Values, key: str, name: str) -> str:
    """Return the section that a shared key stands in; ConfigError when two say different things."""
    found = [(section, values[section, key]) for section in DOORS if (section, key) in values]
    if not found:
        return FTP
    if len({value.text for _, value in found}) > 1:
        (one, first), (other, second) = found
        raise ConfigError(
            f"{name} line {first.line} [{one}] and line {second.line} [{other}]: "
            f"{key} is one for both, and differs"
        )
    return found[0][0]
