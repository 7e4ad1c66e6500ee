"""The process around a node: what others may see of it, and that there is only one.

Knows Linux' ways to keep memory out of core dumps and other processes; touches the process itself
and the file ``running.process`` in the node directory, which holds process id and start time and is
locked as long as the node runs.
"""

import ctypes
import fcntl
import os
import resource
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from truckee.core.errors import ConfigError

RUNNING = "running.process"
_PR_SET_DUMPABLE = 4
_SWITCH_INTERVAL = 0.001  # the reactor gets its turn while workers hold the interpreter
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc; others do not have mallopt
_LARGEST_KEPT = 4 << 20
_KEPT = 16 << 20


class AlreadyRunningError(ConfigError):
    """Another process runs this node."""


def harden() -> None:
    """Keep our files, memory and core dumps from others; called before anything secret is read."""
    _fill_standard_descriptors()
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    tune()


def tune() -> None:
    """Set up interpreter and allocator for large buffers that come and go.

    By default glibc returns every freed buffer of a segment to the kernel, and touching new pages
    costs as much as hashing them. With thresholds of our own the memory stays with the process, at
    most about _KEPT bytes for each thread that allocates.
    """
    sys.setswitchinterval(_SWITCH_INTERVAL)
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        for parameter, value in ((_M_MMAP_THRESHOLD, _LARGEST_KEPT), (_M_TRIM_THRESHOLD, _KEPT)):
            libc.mallopt(parameter, value)


def _fill_standard_descriptors() -> None:
    """See that no file of ours becomes standard input or output of this process."""
    fd = os.open(os.devnull, os.O_RDWR)
    while fd <= 2:
        fd = os.dup(fd)
    os.close(fd)


def start_time(pid: int) -> str:
    """Return what tells this process from a later one of the same number; empty if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
    return f"{boot[:8]}-{stat.rpartition(')')[2].split()[19]}"


class RunningFile:
    """The mark that a node runs here."""

    def __init__(self, directory: Path) -> None:
        """Take the node directory."""
        self._path = directory / RUNNING
        self._fd: int | None = None

    def take(self) -> None:
        """Lock the mark and write ourselves into it; AlreadyRunningError when another holds it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self._path, flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(fd, 100).split()[:1]
            os.close(fd)
            who = pid[0].decode("ascii", "replace") if pid else "unknown"
            raise AlreadyRunningError(f"this node is running already (pid {who})") from None
        os.ftruncate(fd, 0)
        started = start_time(os.getpid()) or f"{time.time():.3f}"
        os.pwrite(fd, f"{os.getpid()} {started}\n".encode("ascii"), 0)
        self._fd = fd

    def release(self) -> None:
        """Take ourselves out of the mark; the file itself stays, so that locks keep meaning one."""
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None


def running_pid(directory: Path) -> int | None:
    """Return the process id of the node that runs here, checked by its start time, or None."""
    try:
        words = (directory / RUNNING).read_text(encoding="ascii").split()
        pid, started = int(words[0]), words[1]
    except (OSError, ValueError, IndexError):
        return None
    return pid if start_time(pid) == started else None


def notify_ready(message: str = "READY=1") -> None:
    """Tell systemd, when it asked to be told."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(message.encode("ascii"), address)
