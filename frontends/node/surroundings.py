"""What the machine around a node has to offer: ports, clock, open files, packages.

Knows what a node needs, and what to make of the answers of one that runs; touches the system to
read, and binds ports for a moment when no node runs.
"""

import errno
import ipaddress
import platform
import re
import resource
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any

from truckee.core.config import NodeConfig
from truckee.core.formats.numbers import parse_decimal
from truckee.frontends.node.access import bearable_sessions
from truckee.frontends.node.checkup import Finding, carry_out
from truckee.frontends.node.endpoints import parse as parse_endpoint

_FLOOR = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*>=\s*([0-9.]+)\s*")
_DIGITS = re.compile(r"([0-9]{1,9}).*")
_ENDPOINT = re.compile(r"tcp6?:(?:port=)?([0-9]{1,5}).*")
_INTERFACE = re.compile(r".*:interface=((?:\\:|[^:\\])+).*")
_SKEW = 120.0
_OLDEST_SSL = (3, 0, 0)

Status = Mapping[str, Any]


def of_machine(config: NodeConfig, status: Status | None, pid: int | None) -> list[Finding]:
    """Return the findings; `status` is the answer of a running node, `pid` its process."""
    found = carry_out("node", lambda: node(config, status, pid))
    found += carry_out("ports", lambda: ports(config, status))
    found += carry_out("clock", lambda: clock(config))
    found += carry_out("open files", lambda: descriptors(config, pid))
    found += carry_out("packages", packages)
    return found


def node(config: NodeConfig, status: Status | None, pid: int | None) -> Iterator[Finding]:
    """Tell what a running node says."""
    if status is None:
        if pid is not None:
            text = "it runs, and does not answer"
            yield Finding("FAIL", "node", text, f"see {config.directory / 'logs'}")
        else:
            start = f"truckee start {config.directory}"
            yield Finding("ok", "node", "it does not run", start)
        return
    yield Finding("ok", "node", f"it runs (pid {status['pid']})")
    if status["account_file"] != "ok":
        text = f"the account file is not usable: {status['account_file']}"
        yield Finding("FAIL", "node", text, "truckee account check")
    for source, count in status["shared_exempt_sources"].items():
        text = f"{count} accounts log in from {source}, which is never shut out"
        advice = "is it a proxy? throttle_exempt, or the PROXY protocol"
        yield Finding("warn", "node", text, advice)
    figures = status["figures"]
    if figures["commits_failed"]:
        text = f"{figures['commits_failed']} files could not be stored since the start"
        yield Finding("warn", "node", text, f"see {config.directory / 'logs'}")
    if figures["reactor_delay_seconds"] > 1:
        text = f"a turn took {figures['reactor_delay_seconds']:.1f} s lately"
        yield Finding("warn", "node", text, f"see {config.directory / 'logs'}")


def ports(config: NodeConfig, status: Status | None) -> Iterator[Finding]:
    """Look whether the ports are ours, or free."""
    wanted: list[tuple[str, str, bool]] = []
    for name, door in (("ftp", config.ftp), ("sftp", config.sftp)):
        if door.enabled:
            wanted += [(name, text, door.ports_given) for text in door.ports]
    if config.metrics_port is not None:
        wanted.append(("metrics", config.metrics_port, config.metrics_port_given))
    seen: dict[tuple[str, int], str] = {}
    for name, text, given in wanted:
        host, port = _address(parse_endpoint(text))
        shown = f"{name} on port {port}"
        trouble = 0 if status is not None or port == 0 else _trouble(host, port)
        first = seen.setdefault((host, port), name)
        if status is not None:
            yield _ours(name, port, status, given=given)
        elif port != 0 and given and first != name:
            yield Finding("FAIL", "ports", f"{shown}: {first} has it", "another port")
        elif trouble == errno.EADDRNOTAVAIL:
            what = f"{shown}: {host} is no address of this machine"
            yield Finding("FAIL", "ports", what, "docs/configuration.rst, port")
        elif trouble == errno.EACCES:
            what = f"{shown}: this user may not listen there"
            yield Finding("FAIL", "ports", what, "a port from 1024 on")
        elif not trouble:
            yield Finding("ok", "ports", f"{shown}: free")
        elif given:
            yield Finding("FAIL", "ports", f"{shown}: another program has it", "another port")
        else:
            yield Finding("warn", "ports", f"{shown}: taken, the next free one will be used")


def _ours(name: str, port: int, status: Status, *, given: bool) -> Finding:
    metrics = status["metrics"]
    places = status["doors"].get(name, [])
    if name == "metrics" and metrics is not None:
        places = [(metrics["host"], metrics["port"])]
    found = [number for _, number in places]
    if not found:
        return Finding("warn", "ports", f"{name}: the running node has it closed", "restart it")
    if port in found or port == 0 or not given:
        return Finding("ok", "ports", f"{name} on port {found[0]}: ours")
    text = f"{name} is on port {found[0]}, not on {port}"
    return Finding("warn", "ports", text, "restart it")


def _address(endpoint: str) -> tuple[str, int]:
    number, interface = _ENDPOINT.fullmatch(endpoint), _INTERFACE.fullmatch(endpoint)
    everywhere = "::" if endpoint.startswith("tcp6") else "0.0.0.0"  # noqa: S104
    host = everywhere if interface is None else interface[1].replace("\\:", ":")
    return host, 0 if number is None else parse_decimal(number[1].encode("ascii"), 65535)


def _trouble(host: str, port: int) -> int:
    """Return 0 when a port is free, else the number of the error that is in the way."""
    try:
        six = ipaddress.ip_address(host).version == 6
    except ValueError:
        six = False
    family = socket.AF_INET6 if six else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((host, port))
        except OSError as error:
            return error.errno or errno.EADDRINUSE
    return 0


def clock(config: NodeConfig) -> Iterator[Finding]:
    """Compare the clock with dates that must lie in the past."""
    now = time.time()
    witnesses = [Path(__file__), config.directory, config.private]
    latest = max(path.stat().st_mtime for path in witnesses if path.exists())
    if latest - now > _SKEW:
        text = f"it is {(latest - now) / 3600:.1f} hours behind what was written here"
        yield Finding("FAIL", "clock", text, "set the clock: timedatectl")
    else:
        shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
        yield Finding("ok", "clock", f"it is {shown}")


def descriptors(config: NodeConfig, pid: int | None) -> Iterator[Finding]:
    """Look whether as many files may be open as the sessions need."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if pid is not None:
        limit = resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
    wanted = config.access.max_sessions
    bearable = bearable_sessions(wanted, limit)
    if bearable < wanted:
        text = f"{limit} may be open: enough for {bearable} sessions, not for {wanted}"
        yield Finding("warn", "open files", text, "ulimit -n, or LimitNOFILE= of the unit")
    else:
        yield Finding("ok", "open files", f"{limit} may be open")


def packages() -> Iterator[Finding]:
    """Compare what is installed with the floors that this release needs."""
    low = []
    for requirement in metadata.requires("truckee") or []:
        found = _FLOOR.fullmatch(requirement)  # those with conditions are extras
        if found is None:
            continue
        name, floor = found.groups()
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed = "0"
        if _numbers(installed) < _numbers(floor):
            low.append(f"{name} {installed}, needs {floor}")
    if ssl.OPENSSL_VERSION_INFO[:3] < _OLDEST_SSL:
        low.append(f"{ssl.OPENSSL_VERSION}, needs 3.0")
    for text in low:
        yield Finding("FAIL", "packages", text, "pip install --upgrade truckee")
    if not low:
        text = f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION}, none too old"
        yield Finding("ok", "packages", text)


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers at the beginning of a version."""
    found = []
    for part in version.split("."):
        digits = _DIGITS.fullmatch(part)
        if digits is None:
            break
        found.append(parse_decimal(digits[1].encode("ascii"), 10**9))
    return tuple(found)
