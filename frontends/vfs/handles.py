"""Open files as frontends hold them: one to read, one to write."""

from twisted.internet.interfaces import IConsumer

from truckee.frontends.vfs.attributes import Attributes


class ReadHandle:
    """A file open for reading. `close` it; a session's logout does so, too."""

    attributes: Attributes

    @property
    def size(self) -> int:
        """Return the number of bytes that can be read now."""
        raise NotImplementedError

    async def read(self, offset: int, length: int) -> bytes:
        """Return the range, cut at the end of the file; b"" from the end on."""
        raise NotImplementedError

    async def send_to(self, consumer: IConsumer, offset: int = 0, size: int | None = None) -> None:
        """Write the range to `consumer` in order; returns when all is written.

        Registers one push producer (none for an empty range) and unregisters it. Pause and resume
        are honoured; after stopProducing: DownloadStopped.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Stop what runs and let go; may be called again."""
        raise NotImplementedError


class WriteHandle:
    """A file open for writing. Nothing is linked before `commit`; `abandon` forgets it all."""

    @property
    def size(self) -> int:
        """Return the size that the file would have if it were committed now."""
        raise NotImplementedError

    @property
    def attributes(self) -> Attributes:
        """Return what stat would tell of this file now."""
        raise NotImplementedError

    async def write(self, offset: int | None, data: bytes) -> None:
        """Put `data` at `offset` (None, or a handle opened with append: at the current end).

        Returns once the data is taken and no more than a few MiB wait for the disk: await each call
        and the sender is slowed down to the disk. SpoolFullError, FileTooLargeError.
        """
        raise NotImplementedError

    async def read(self, offset: int, length: int) -> bytes:
        """Return the range of the file as written so far, cut at its end."""
        raise NotImplementedError

    async def truncate(self, size: int) -> None:
        """Cut the file, or lengthen it with zeros."""
        raise NotImplementedError

    def set_mtime(self, mtime: int) -> None:
        """Keep a modification time; it is written with the commit."""
        raise NotImplementedError

    async def sync(self) -> None:
        """Commit what is there now and keep the handle open."""
        raise NotImplementedError

    async def commit(self) -> None:
        """Make it the file of that name: store, link, and close the handle whatever happens.

        Once begun it runs to the end, also when the caller is cancelled or the session ends.
        """
        raise NotImplementedError

    def abandon(self) -> None:
        """Close the handle without a trace; may be called again, does nothing after commit."""
        raise NotImplementedError
