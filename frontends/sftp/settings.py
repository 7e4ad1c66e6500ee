"""What an SFTP server may be told. Knows defaults; touches nothing."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SFTPSettings:
    """Limits, times in seconds and switches of one SFTP server."""

    password_auth: bool = True
    """Whether passwords are taken beside keys."""
    login_grace: float = 60.0
    """From the TCP connection to a successful login."""
    key_exchange_grace: float = 20.0
    """From the TCP connection to the first keys."""
    rekey_grace: float = 300.0
    """From our wish for new keys to the new keys; a slow client first sends what it had begun."""
    idle_timeout: float = 0.0
    """Without anything asked or answered on a channel; 0 is never: mounts are idle for hours."""
    keepalive: float = 60.0
    """After so much silence of the client it is asked for a sign of life."""
    keepalive_count: int = 3
    """So many questions in a row may go unanswered."""
    unread_timeout: float = 600.0
    """How long a client that gives signs of life may leave answers unread."""
    max_auth_attempts: int = 6
    """Failed logins on one connection; a key that is only asked about counts half."""
    max_channels: int = 10
    """Open channels of one connection."""
    rekey_bytes: int = 1 << 30
    """New keys are agreed after so many bytes in one direction,"""
    rekey_seconds: float = 3600.0
    """or after this time."""
    transfer_grace: float = 10.0
    """How long sessions at work go on when the server stops; what is left is ended."""
    drain_timeout: float = 30.0
    """How long the server, when it stops, waits for its sessions in all."""
