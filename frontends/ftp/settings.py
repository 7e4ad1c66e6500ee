"""What an FTP server may be told. Knows defaults; touches nothing."""

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Literal


@dataclass(frozen=True, slots=True)
class FTPSettings:
    """Limits, times in seconds and switches of one FTP server."""

    passive_ports: range | None = range(50000, 50101)
    """Ports for passive data connections; None lets the system choose."""
    masquerade_address: IPv4Address | str | None = None
    """An address or the name of one, told in 227 replies to clients elsewhere: for routers that
    translate ours."""
    active_mode: bool = True
    """Whether PORT and EPRT work."""
    login_grace: float = 60.0
    """From the TCP connection to a successful login."""
    idle_timeout: float = 300.0
    """Without a command while nothing runs."""
    data_timeout: float = 60.0
    """Without a byte on the data connection while the client is the slow side."""
    connect_timeout: float = 10.0
    """For a data connection to come about."""
    commit_delay: float = 0.05
    """Between the end of an upload and its commit: time to learn that the client died."""
    transfer_grace: float = 10.0
    """How long transfers go on when the server stops; what is left is aborted."""
    drain_timeout: float = 30.0
    """How long the server, when it stops, waits for commits."""
    anonymous: bool = False
    """Whether USER anonymous and USER ftp need no password (the realm decides what they see)."""
    tls: Literal["auto", "required", "off"] = "auto"
    """When passwords may be asked for in clear: with `auto` only inside this machine."""
    insecure_plaintext: bool = False
    """With `tls` off: whether passwords are taken in clear from anywhere."""
    tls_max: Literal["1.2", "1.3"] = "1.2"
    """The highest version of TLS."""
    strict_tls_eof: bool = False
    """Whether an upload must end with close_notify to be stored."""
    data_tls_resumption: Literal["accept", "require"] = "accept"
    """Whether a data connection must resume the control connection's TLS session."""
