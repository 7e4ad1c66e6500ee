"""AES in counter mode. Knows keys and byte offsets; touches only ``cryptography``.

The counter block is 128 bits, big-endian, and counts 16-byte blocks from zero
(docs/formats/primitives.rst).
"""

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

Buffer = bytes | bytearray | memoryview


class CtrStream:
    """One key stream, entered at any byte offset; encrypting and decrypting are the same."""

    def __init__(self, key: bytes, offset: int = 0) -> None:
        """Take a key of 16 or 32 bytes and the offset (bytes, >= 0) at which the stream begins."""
        counter = (offset // 16).to_bytes(16, "big")
        self._context = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()
        skip = offset % 16
        if skip:
            self._context.update(bytes(skip))

    def update(self, data: Buffer) -> bytes:
        """Return `data` combined with the next bytes of the key stream."""
        return self._context.update(data)

    def update_into(self, data: Buffer, target: bytearray | memoryview) -> int:
        """Write the result into `target`, at least as long as `data`; return the bytes written."""
        return self._context.update_into(data, target)


def ctr(key: bytes, data: Buffer, offset: int = 0) -> bytes:
    """Return `data` encrypted or decrypted as the bytes at `offset` of the key's stream."""
    return CtrStream(key, offset).update(data)
