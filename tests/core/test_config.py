from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest

from tests.fakes.account_lines import BAD_ROOTS, WRITE
from truckee.core.config import DEFAULT_FTP_ENDPOINT, DEFAULT_SFTP_ENDPOINT, NodeConfig, parse
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
    assert found.access.accounts_file == Path("/node/private/accounts")
    assert found.access.spool_dir == Path("/node/tmp/spool")
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
    assert found.access.accounts_file == Path("/keys/accounts")
    assert (found.needed, found.happy, found.total) == (2, 2, 4)
    assert (found.reserved_space, found.fsync) == (1 << 30, False)
    assert any("fsync" in w for w in found.warnings)
    assert found.ftp.ports == ("tcp:21", "tcp6:21")
    assert found.ftp.ports_given
    assert found.access.spool_max == 10**10
    assert found.access.login_grace == 30
    assert found.ftp.passive_ports is None
    assert found.ftp.masquerade_address == IPv4Address("192.0.2.7")
    assert found.access.rmdir_nonempty
    assert ip_network("10.0.0.0/8") in found.access.throttle_exempt
    assert found.access.anonymous_rootcap is not None
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
        "[ftpd]\nmasquerade_address = 1.2.3",
        "[ftpd]\nthrottle_exempt = all",
        "[ftpd]\naccounts.plaintext = perhaps",
        "[ftpd]\ncommit_mode = later",
        "[ftpd]\nport =",
        "[ftpd]\nproxy_protocol = yes",
        "[sftpd]\nproxy_protocol = 10.0.0.1, 0.0.0.0/0",
        "[sftpd]\npassword_auth = perhaps",
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


def test_what_both_doors_share_may_stand_in_either_section():
    found = config(
        "[ftpd]\nlogin_grace = 30\nmax_sessions = 7\nidle_timeout = 9\n"
        "[sftpd]\naccounts.file = keys\nmax_sessions = 7\nport = 22\npassword_auth = no\n"
        "host_privkey_file = private/old\nproxy_protocol = 10.0.0.1, 10.1.0.0/16\n"
    )
    assert found.access.accounts_file == Path("/node/keys")
    assert (found.access.login_grace, found.access.max_sessions) == (30, 7)
    assert (found.ftp.idle_timeout, found.sftp.idle_timeout) == (9, 0)
    assert (found.sftp.ports, found.sftp.ports_given) == (("22",), True)
    assert not found.sftp.password_auth
    assert found.sftp.host_privkey_file == Path("/node/private/old")
    assert found.sftp.host_pubkey_file is None
    assert found.sftp.proxies == (ip_network("10.0.0.1"), ip_network("10.1.0.0/16"))
    assert found.ftp.proxies == ()


def test_two_values_for_one_thing_are_an_error_that_names_both_lines():
    with pytest.raises(ConfigError) as found:
        config("[ftpd]\nlogin_grace = 30\n[sftpd]\nlogin_grace = 60\n")
    said = str(found.value)
    assert "line 4 [ftpd] and line 6 [sftpd]: login_grace" in said


def test_an_error_names_the_section_where_the_key_stands():
    with pytest.raises(ConfigError, match=r"line 4: \[sftpd\] login_grace"):
        config("[sftpd]\nlogin_grace = soon\n")


def test_one_section_alone_makes_a_node_of_one_door():
    only_ftp, only_sftp = config("[ftpd]\nenabled = yes\n"), config("[sftpd]\nenabled = yes\n")
    assert (only_ftp.ftp.enabled, only_ftp.sftp.enabled) == (True, False)
    assert (only_sftp.ftp.enabled, only_sftp.sftp.enabled) == (False, True)
    assert only_sftp.sftp.ports == (DEFAULT_SFTP_ENDPOINT,)


def test_tls_has_three_ways_and_a_certificate():
    found = config("[ftpd]\ntls = required\ntls_certificate = c.pem\ntls_key = /k.pem\n")
    assert found.ftp.tls == "required"
    assert (found.ftp.tls_certificate, found.ftp.tls_key) == (Path("/node/c.pem"), Path("/k.pem"))
    with pytest.raises(ConfigError, match="needs tls_certificate"):
        config("[ftpd]\ntls_key = /k.pem\n")


def test_tls_may_be_newer_or_stricter_but_not_both_with_resumption():
    found = config("[ftpd]\ntls_max = 1.3\nstrict_tls_eof = yes\n").ftp
    assert (found.tls_max, found.strict_tls_eof) == ("1.3", True)
    assert config("[ftpd]\ndata_tls_resumption = require\n").ftp.data_tls_resumption == "require"
    with pytest.raises(ConfigError, match=r"tls_max takes 1\.2 or 1\.3"):
        config("[ftpd]\ntls_max = 1.1\n")
    with pytest.raises(ConfigError, match=r"with tls_max = 1\.2 alone"):
        config("[ftpd]\ndata_tls_resumption = require\ntls_max = 1.3\n")


def test_a_masquerade_address_may_be_a_name():
    assert config("[ftpd]\nmasquerade_address = ftp.example.org\n").ftp.masquerade_address == (
        "ftp.example.org"
    )


def test_figures_are_served_on_loopback_unless_nothing_is_said():
    assert config().metrics_port == "tcp:8023:interface=127.0.0.1"
    assert not config().metrics_port_given
    assert config("[node]\nmetrics.port =\n").metrics_port is None
    found = config("[node]\nmetrics.port = 9000\n")
    assert (found.metrics_port, found.metrics_port_given) == ("9000", True)


def test_acknowledging_before_storing_is_possible_and_warned_of():
    found = config("[sftpd]\ncommit_mode = background\n")
    assert found.access.commit_mode == "background"
    assert any("commit_mode" in warning for warning in found.warnings)


@pytest.mark.parametrize("key", ["accounts.url", "post_upload", "post_login"])
@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://accounts.example/check?a=b", True),
        ("https://accounts.example:8443/", True),
        ("http://localhost:80/", True),
        ("http://127.0.0.9/", True),
        ("http://[::1]:1/x", True),
        ("http://accounts.example/", False),
        ("http://10.0.0.1/", False),
        ("http://127.0.0.1.example/", False),
        ("https://user:word@accounts.example/", False),
        ("https:///path", False),
        ("https://h/#part", False),
        ("https://h:99999/", False),
        ("https://[::1/", False),
        ("https://h/a b", False),
        ("ftp://accounts.example/", False),
        ("accounts.example", False),
    ],
)
def test_secrets_go_to_https_or_to_this_machine(key, url, good):
    text = f"[ftpd]\n{key} = {url}\n"
    if good:
        found = config(text).access
        assert url in (found.accounts_url, found.post_upload, found.post_login)
    else:
        with pytest.raises(ConfigError, match=rf"line 4: \[ftpd\] {key}") as error:
            config(text)
        assert "word" not in str(error.value)


def test_a_ca_file_goes_with_a_url():
    found = config("[ftpd]\naccounts.url = https://a.example/\naccounts.url.ca_file = ca.pem\n")
    assert found.access.accounts_url_ca_file == Path("/node/ca.pem")
    with pytest.raises(ConfigError, match=r"needs accounts\.url"):
        config("[ftpd]\naccounts.url.ca_file = ca.pem\n")
