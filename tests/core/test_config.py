from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest

from tests.fakes.account_lines import BAD_ROOTS, WRITE
from truckee.core.config import DEFAULT_FTP_ENDPOINT, NodeConfig, parse
from truckee.core.errors import ConfigError

BASE = "[embedded]\nstores = servers/00, /disk/truckee-store\n"
HERE = Path("/node")


def config(more: str = "", name: str = "truckee.cfg") -> NodeConfig:
    return parse(BASE + more, HERE, name)


def test_defaults_are_those_of_the_book():
    found = config()
    assert found.stores == (Path("/node/servers/00"), Path("/disk/truckee-store"))
    assert (found.needed, found.happy, found.total) == (3, 7, 10)
    assert found.private == Path("/node/private")
    assert found.ftp.accounts_file == Path("/node/private/accounts")
    assert found.ftp.spool_dir == Path("/node/tmp/spool")
    assert found.ftp.ports == (DEFAULT_FTP_ENDPOINT,)
    assert not found.ftp.enabled
    assert not found.ftp.ports_given
    assert found.fsync


def test_every_key_has_its_type():
    found = config(
        "[node]\nprivate_dir = /keys\n"
        "[client]\nshares.needed=2\nshares.happy=2\nshares.total=4\nmutable.format = MDMF\n"
        "[storage]\nreserved_space = 1GiB\nfsync = no\n"
        "[ftpd]\nenabled = yes\nport = tcp:21, tcp6:21\nspool_max = 10G\nlogin_grace = 30 s\n"
        "passive_ports =\nmasquerade_address = 192.0.2.7\nrmdir_nonempty = unlink\n"
        f"throttle_exempt = loopback, 10.0.0.0/8\nanonymous.rootcap = {WRITE}\n"
    )
    assert found.private == Path("/keys")
    assert found.ftp.accounts_file == Path("/keys/accounts")
    assert (found.needed, found.happy, found.total) == (2, 2, 4)
    assert (found.reserved_space, found.fsync) == (1 << 30, False)
    assert any("fsync" in w for w in found.warnings)
    assert found.ftp.ports == ("tcp:21", "tcp6:21")
    assert found.ftp.ports_given
    assert found.ftp.spool_max == 10**10
    assert found.ftp.login_grace == 30
    assert found.ftp.passive_ports is None
    assert found.ftp.masquerade_address == IPv4Address("192.0.2.7")
    assert found.ftp.rmdir_nonempty
    assert ip_network("10.0.0.0/8") in found.ftp.throttle_exempt
    assert found.ftp.anonymous_rootcap is not None
    assert "URI" not in repr(found)


@pytest.mark.threat("L1")
@pytest.mark.parametrize(
    "line",
    [
        "[client]\nshares.needed = 256",
        "[client]\nshares.needed = 0",
        "[client]\nshares.needed = 1_0",
        "[client]\nshares.total = 256",
        "[client]\nshares.happy = 11",
        "[storage]\nfsync = maybe",
        "[storage]\nreserved_space = lots",
        "[ftpd]\nlogin_grace = soon",
        "[ftpd]\npassive_ports = 9-1",
        "[ftpd]\npassive_ports = 1-65536",
        "[ftpd]\nmasquerade_address = here",
        "[ftpd]\nthrottle_exempt = all",
        "[ftpd]\naccounts.plaintext = perhaps",
        "[ftpd]\ncommit_mode = background",
        "[ftpd]\nport =",
        *(f"[ftpd]\nanonymous.rootcap = {cap}" for cap in list(BAD_ROOTS.values())[3:]),
    ],
)
def test_a_wrong_value_is_an_error_with_line_and_key_and_without_the_value(line):
    with pytest.raises(ConfigError, match=r"truckee.cfg line 4: \[") as found:
        config(line)
    assert "URI:" not in str(found.value)


def test_a_key_not_known_is_an_error_here_and_a_warning_in_a_tahoe_node():
    more = "[client]\nshares.need = 3\n"
    with pytest.raises(ConfigError, match=r"line 4: \[client\] shares.need is not known"):
        config(more)
    assert any("shares.need" in w for w in config(more, "tahoe.cfg").warnings)


@pytest.mark.parametrize("section", ["typo", "sftp"])
def test_a_section_not_known_is_an_error(section):
    with pytest.raises(ConfigError, match="not known"):
        config(f"[{section}]\nenabled = yes\n")


def test_keys_of_tahoe_without_effect_are_told():
    found = config("[node]\ntub.port = disabled\n[grid_managers]\nanything = key\n")
    assert len(found.warnings) == 2
    assert all("no effect" in w for w in found.warnings)


@pytest.mark.parametrize("text", ["", "[grid]\nmode = grid\n", "[embedded]\nstores = a, a\n"])
def test_without_stores_of_its_own_a_node_cannot_run_yet(text):
    with pytest.raises(ConfigError):
        parse(text, HERE)
