"""Addresses of data connections."""

import contextlib
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truckee.core.errors import FormatError
from truckee.frontends.ftp import addresses as a

ports = st.integers(0, 65535)


@given(st.ip_addresses(v=4), ports)
def test_what_pasv_says_port_understands(host, port) -> None:
    text = a.format_pasv(host, port)
    assert a.parse_port(text[text.index("(") : -1].encode()) == a.Target(host, port)


@given(st.ip_addresses(), ports)
def test_eprt_reads_both_families(host, port) -> None:
    expected = a.normalise(str(host))
    if expected is None:
        return  # a scoped address
    arg = f"|{1 if host.version == 4 else 2}|{host}|{port}|".encode()
    assert a.parse_eprt(arg) == a.Target(expected, port)


@given(st.binary(max_size=50))
def test_any_bytes_are_a_target_or_a_declared_error(data) -> None:
    for parse in (a.parse_port, a.parse_eprt, a.parse_epsv):
        with contextlib.suppress(FormatError, a.UnsupportedFamilyError):
            parse(data)


@pytest.mark.threat("N8")
@pytest.mark.parametrize(
    "bad",
    [
        b"1,2,3,4,5",
        b"1,2,3,4,5,6,7",
        b"256,0,0,1,4,0",
        b"1,2,3,4,5,-6",
        b"+1,2,3,4,5,6",
        b"1, 2,3,4,5,6",
        b"",
    ],
)
def test_bad_port_arguments(bad) -> None:
    with pytest.raises(FormatError):
        a.parse_port(bad)


@pytest.mark.threat("N8")
@pytest.mark.parametrize(
    "bad",
    [
        b"|1|1.2.3.4|5",
        b"1|1.2.3.4|5|",
        b"|1|::1|5000|",
        b"|2|1.2.3.4|5000|",
        b"|2|fe80::1%lo|5000|",
        b"|1|host|5000|",
        b"|1|1.2.3.4|99999|",
        b"|1|1.2.3.4|5_0|",
        b"|1|1.2.3.4|5000|x",
        b"|",
        b"",
    ],
)
def test_bad_eprt_arguments(bad) -> None:
    with pytest.raises(FormatError):
        a.parse_eprt(bad)


@pytest.mark.parametrize("family", [b"|3|1.2.3.4|5000|", b"|0|1.2.3.4|5000|"])
def test_another_family_is_its_own_error(family) -> None:
    with pytest.raises(a.UnsupportedFamilyError):
        a.parse_eprt(family)


@pytest.mark.threat("N8")
@pytest.mark.parametrize(
    ("host", "port", "peer", "allowed"),
    [
        ("127.0.0.1", 5000, "127.0.0.1", True),
        ("127.0.0.1", 1024, "127.0.0.1", True),
        ("127.0.0.1", 1023, "127.0.0.1", False),
        ("127.0.0.1", 0, "127.0.0.1", False),
        ("127.0.0.2", 5000, "127.0.0.1", False),
        ("::ffff:127.0.0.1", 5000, "127.0.0.1", True),
        ("127.0.0.1", 5000, "::ffff:127.0.0.1", True),
        ("0.0.0.0", 5000, "127.0.0.1", False),
        ("224.0.0.1", 5000, "127.0.0.1", False),
        ("255.255.255.255", 5000, "127.0.0.1", False),
        ("::1", 5000, "::1", True),
        ("::1", 5000, "127.0.0.1", False),
        ("::", 5000, "::1", False),
        ("ff02::1", 5000, "::1", False),
        ("10.0.0.1", 5000, "", False),
        ("fe80::1", 5000, "fe80::1%eth0", False),
    ],
)
def test_only_the_client_itself_is_connected_to(host, port, peer, allowed) -> None:
    address = a.normalise(host)
    assert address is not None
    target = a.Target(address, port)
    if allowed:
        a.check_target(target, peer)
    else:
        with pytest.raises(a.ForeignAddressError):
            a.check_target(target, peer)


def test_epsv_arguments() -> None:
    assert [a.parse_epsv(x) for x in (b"", b"1", b"2", b"all", b"ALL")] == [None, 1, 2, 0, 0]
    with pytest.raises(a.UnsupportedFamilyError):
        a.parse_epsv(b"3")


def test_loopback_in_all_its_spellings() -> None:
    assert all(map(a.is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]))
    assert not any(map(a.is_loopback, ["10.0.0.1", "", "::", "localhost", "::1%lo"]))


def test_a_mapped_address_is_the_ipv4_one() -> None:
    assert a.normalise("::ffff:1.2.3.4") == ip_address("1.2.3.4")
