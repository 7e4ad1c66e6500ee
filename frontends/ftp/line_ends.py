"""TYPE A: line ends on their way in and out. Pure: pieces of bytes in, pieces out.

Both keep one bit between the pieces, so that the result does not depend on where a piece ends.
"""


class ToNetwork:
    """Makes every line end CR LF; one that already is stays as it is."""

    def __init__(self) -> None:
        self._after_cr = False

    def feed(self, data: bytes) -> bytes:
        """Return what `data` becomes."""
        if not data:
            return b""
        keep_first = self._after_cr and data[:1] == b"\n"
        self._after_cr = data[-1:] == b"\r"
        out = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        return out[1:] if keep_first else out


class FromNetwork:
    """Makes every CR LF one LF; a CR alone stays."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return what `data` becomes; a CR at its end waits for what follows."""
        if not data:
            return b""
        data = self._held + data
        self._held = b"\r" if data.endswith(b"\r") else b""
        return (data[:-1] if self._held else data).replace(b"\r\n", b"\n")

    def finish(self) -> bytes:
        """Return what was still held back."""
        held, self._held = self._held, b""
        return held
