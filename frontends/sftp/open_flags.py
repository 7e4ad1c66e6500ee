"""What the flags of OPEN mean. Pure: a number in, an `Opening` or a refusal out."""

from dataclasses import dataclass

from truckee.frontends.sftp.errors import BAD_MESSAGE, PERMISSION_DENIED, Refused

READ, WRITE, APPEND, CREATE, TRUNCATE, EXCLUSIVE = 1, 2, 4, 8, 16, 32


@dataclass(frozen=True, slots=True)
class Opening:
    """How a file is to be opened."""

    reads: bool
    """READ is allowed."""
    writes: bool
    """WRITE is allowed."""
    buffered: bool
    """It needs a write buffer, since something may change."""
    create: bool = False
    truncate: bool = False
    exclusive: bool = False
    append: bool = False


def decide(flags: int) -> Opening:
    """Return what is asked for; Refused for flags that make no sense. Unknown bits are ignored.

    A file that is to be created is one to be written, also where nobody says so (paramiko's
    mode ``x``), unless it is to be read.
    """
    reads, creates = bool(flags & READ), bool(flags & CREATE)
    writes = bool(flags & (WRITE | APPEND)) or (creates and not reads)
    if not (reads or writes):
        raise Refused(BAD_MESSAGE, "to be opened neither for reading nor for writing")
    if flags & EXCLUSIVE and not creates:
        raise Refused(BAD_MESSAGE, "only what is created can be exclusive")
    if flags & TRUNCATE and not flags & WRITE:
        if not creates and not flags & APPEND:
            raise Refused(PERMISSION_DENIED, "only what is written can be cut")
        raise Refused(BAD_MESSAGE, "only what is written can be cut")
    return Opening(
        reads=reads,
        writes=writes,
        buffered=writes or creates,
        create=creates,
        truncate=bool(flags & TRUNCATE),
        exclusive=bool(flags & EXCLUSIVE),
        append=bool(flags & APPEND),
    )
