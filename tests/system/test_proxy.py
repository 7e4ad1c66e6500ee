"""A load balancer in front of a whole node: limits, `from=` and the log see who really comes."""

import socket
import sys

import pytest

from tests.fakes.account_lines import WRITE
from tests.fakes.node_folder import make_node
from tests.fakes.openssh import HAS_OPENSSH, OpenSSH
from tests.fakes.running import ANYWHERE, Running

RELAY = """
import os, select, socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.sendall(b"PROXY TCP4 " + sys.argv[2].encode() + b" 10.0.0.1 4000 22\\r\\n")
while True:
    ready, _, _ = select.select([0, s], [], [])
    for source in ready:
        data = os.read(0, 65536) if source == 0 else s.recv(65536)
        if not data:
            sys.exit()
        s.sendall(data) if source == 0 else os.write(1, data)
"""


def behind_a_proxy(folder, accounts=None):
    more = {} if accounts is None else {"accounts": accounts}
    node = make_node(folder, **more)
    cfg = node / "truckee.cfg"
    line = "enabled = yes\nproxy_protocol = 127.0.0.0/8\n"
    cfg.write_text(cfg.read_text().replace("enabled = yes\n", line))
    return node


@pytest.mark.threat("N13")
@pytest.mark.interop
@pytest.mark.skipif(not HAS_OPENSSH, reason="OpenSSH's client is not installed")
def test_an_account_for_one_network_is_entered_from_there_alone(tmp_path) -> None:
    ssh = OpenSSH(tmp_path / "client")
    key = " ".join(ssh.public.read_text().split()[:2])
    accounts = f"#truckee-accounts: 2\nann {key} c {WRITE} from=192.0.2.0/24\n"
    node = behind_a_proxy(tmp_path / "node", accounts)
    (tmp_path / "relay.py").write_text(RELAY)
    with Running("start", node, *ANYWHERE, "--json") as running:
        port = running.ready()["sftp"]["port"]

        def come(source):
            relay = f"{sys.executable} {tmp_path}/relay.py {port} {source}"
            return ssh.sftp("ann", port, "pwd", ProxyCommand=relay)

        assert come("192.0.2.7").returncode == 0
        assert "Permission denied" in come("198.51.100.7").stderr
        assert running.stop() == 0
    log = (node / "logs" / "truckee.log").read_text()
    assert "sftp connection from 192.0.2.7" in log
    assert "connection from 127.0.0.1" not in log


@pytest.mark.threat("N13")
def test_ftp_takes_no_password_in_clear_from_who_is_elsewhere(tmp_path) -> None:
    node = behind_a_proxy(tmp_path / "node")
    with Running("start", node, *ANYWHERE, "--json") as running:
        address = ("127.0.0.1", running.ready()["ftp"]["port"])
        for source, code in (("192.0.2.7", "530"), ("127.0.0.5", "331")):
            with socket.create_connection(address, 30) as s, s.makefile("rb") as replies:
                s.sendall(f"PROXY TCP4 {source} 10.0.0.1 4000 21\r\nUSER ann\r\n".encode())
                assert replies.readline().startswith(b"220")
                assert replies.readline().decode()[:3] == code
        with socket.create_connection(address, 30) as s:
            s.sendall(b"USER ann\r\n")
            with pytest.raises(ConnectionError):
                assert s.recv(100)
                s.recv(100)
        assert running.stop() == 0
