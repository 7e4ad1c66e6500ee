"""A node, a bad network before it, and what may be seen after an accident.

The node is asked past the network. A file is in one of the states that its history allows, never
in between; what a client was told is done, is done.
"""

import contextlib
import ftplib
import os
import random
import re
import socket
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.peers import Login, make_key, public_half
from tests.fakes.bad_network import HOST, BadNetwork, Event
from tests.system.networks.clients import PATIENCE, Client, Command, end
from tests.system.node import TRUCKEE, Node

PORTS = 40
LOCAL = "tcp:0:interface=127.0.0.1"
IMPATIENT = {"vanish": 1.0, "stall": PATIENCE}  # seconds given to a client after the accident
USUAL = 10.0
State = bytes | None  # a file's content, or its absence
DIRECTORY = b"a directory"


def free_ports() -> range:
    """Return consecutive ports that nobody listens at, on either address, for data connections."""
    while True:
        begin = random.randrange(20_000, 32_000)
        with contextlib.ExitStack() as stack:
            try:
                for port in range(begin, begin + PORTS):
                    for host in ("127.0.0.1", HOST):
                        stack.enter_context(socket.socket()).bind((host, port))
            except OSError:
                continue
        return range(begin, begin + PORTS)


PASSIVE = free_ports()


def make_node(folder: Path, servers: int = 3) -> Node:
    """Make a node whose account has a key, too, and with few ports for data."""
    environment = {**os.environ, "USER": "ann", "LOGNAME": "ann"}
    subprocess.run(
        [TRUCKEE, "create", folder, "--servers", str(servers), "--json"],
        check=True,
        capture_output=True,
        env=environment,
    )
    private = folder / "private"
    with (private / "accounts").open("a") as accounts:
        accounts.write(f"ann {public_half(make_key(private / 'key'))} =\n")
    text = (folder / "truckee.cfg").read_text()
    ports = f"passive_ports = {PASSIVE.start}-{PASSIVE.stop - 1}"
    text = re.sub(r"\[ftpd\]\nenabled = yes", rf"\g<0>\n{ports}", text)
    (folder / "truckee.cfg").write_text(text)
    return Node(folder, ("--sftp", LOCAL))


@dataclass
class Place:
    """Everything one client needs for its bad week."""

    node: Node
    network: BadNetwork
    client: Client
    folder: Path
    serial: int = 0
    _asking: ftplib.FTP | None = None

    def name(self) -> str:
        """Return a name not used before."""
        self.serial += 1
        return f"{self.folder.name}-{self.serial}"

    # the node as it is

    @property
    def asking(self) -> ftplib.FTP:
        """A session of our own, not over the bad network."""
        if self._asking is None:
            self._asking = self.node.ftp()
        return self._asking

    def leave(self) -> None:
        if self._asking is not None:
            self._asking.close()

    def state(self, name: str) -> State:
        """Return what is linked under a name."""
        taken = bytearray()
        try:
            self.asking.retrbinary(f"RETR {name}", taken.extend)
        except ftplib.error_perm:
            return DIRECTORY if self._is_directory(self.asking, name) else None
        return bytes(taken)

    @staticmethod
    def _is_directory(ftp: ftplib.FTP, name: str) -> bool:
        try:
            ftp.cwd(name)
        except ftplib.error_perm:
            return False
        ftp.cwd("/")
        return True

    # a client's run

    def clean(self, command: Command) -> tuple[int, int]:
        """Run it over a good network; return the bytes that went up and down."""
        self.network.arm(None)
        process = command.start(self.folder)
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            end(process)
            code = -1
        assert code == 0, (command.words, code, self.log())
        passed = self.network.passed
        return passed["up"], passed["down"]

    def log(self) -> str:
        return (self.folder / "client.log").read_text(errors="replace")[-2000:]

    def run(self, command: Command, event: Event) -> bool:
        """Run it and let `event` happen; return whether the client says that all went well."""
        self.network.arm(event)
        process = command.start(self.folder)
        try:
            deadline = time.monotonic() + PATIENCE
            while process.poll() is None and not self.network.happened.wait(0.02):
                assert time.monotonic() < deadline, (command.words, self.log())
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(IMPATIENT.get(event.fault, USUAL))
        finally:
            good = process.poll() == 0
            end(process)
            self.network.heal()
        assert self.node.process.poll() is None, "the node is dead"
        if event.fault != "stall" and self.network.happened.is_set():
            self.client.renew()
        return good


def over(login: Login) -> Login:
    """Return the same login over the bad network."""
    return replace(login, host=HOST)


def logins(node: Node) -> tuple[Login, Login]:
    """Return the logins for SFTP and FTP, over the bad network."""
    key = node.folder / "private" / "key"
    sftp = Login(node.ready["sftp"]["port"], node.account, key, node.password, "/")
    return over(sftp), over(Login(node.port, node.account, None, node.password))
