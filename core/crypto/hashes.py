"""Tagged hashes and every one-way derivation made of them. Touches only ``hashlib``.

All are SHA-256d, that is SHA-256 of SHA-256 (docs/formats/primitives.rst). Inputs named `…key`,
`…secret` or `seed` are raw bytes.
"""

import hashlib
from typing import Self

Buffer = bytes | bytearray | memoryview


def netstring(data: bytes) -> bytes:
    """Return `data` as a netstring: decimal length, colon, bytes, comma."""
    return b"%d:%b," % (len(data), data)


def sha256d(data: Buffer) -> bytes:
    """Return SHA-256(SHA-256(data)), 32 bytes."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


class TaggedHasher:
    """A running tagged hash over input that comes in pieces."""

    __slots__ = ("_inner",)

    def __init__(self, tag: bytes) -> None:
        """Start with the netstring of `tag`."""
        self._inner = hashlib.sha256(netstring(tag))

    def update(self, data: Buffer) -> None:
        """Take the next piece of input."""
        self._inner.update(data)

    def copy(self) -> Self:
        """Return an independent hasher that has taken the same input."""
        other = type(self).__new__(type(self))
        other._inner = self._inner.copy()
        return other

    def digest(self, length: int = 32) -> bytes:
        """Return the first `length` bytes (at most 32) of the hash of all input so far."""
        return hashlib.sha256(self._inner.digest()).digest()[:length]


def tagged_hash(tag: bytes, value: Buffer, length: int = 32) -> bytes:
    """Return the first `length` bytes of SHA-256d(netstring(tag) + value)."""
    inner = hashlib.sha256(netstring(tag))
    inner.update(value)
    return hashlib.sha256(inner.digest()).digest()[:length]


def tagged_pair_hash(tag: bytes, a: bytes, b: bytes, length: int = 32) -> bytes:
    """Return the first `length` bytes of SHA-256d(netstring(tag) + netstring(a) + netstring(b))."""
    return sha256d(netstring(tag) + netstring(a) + netstring(b))[:length]


# immutable files

_BLOCK = hashlib.sha256(netstring(b"allmydata_encoded_subshare_v1"))
_SEGMENT = hashlib.sha256(netstring(b"allmydata_crypttext_segment_v1"))
_NODE = hashlib.sha256(netstring(b"Merkle tree internal node"))


def block_hash(*pieces: Buffer) -> bytes:
    """Return the 32-byte hash of one block (for MDMF: of its salt and block, given in order)."""
    inner = _BLOCK.copy()
    for piece in pieces:
        inner.update(piece)
    return hashlib.sha256(inner.digest()).digest()


def ciphertext_segment_hash(*pieces: Buffer) -> bytes:
    """Return the 32-byte hash of one ciphertext segment, given in order, without padding."""
    inner = _SEGMENT.copy()
    for piece in pieces:
        inner.update(piece)
    return hashlib.sha256(inner.digest()).digest()


def ciphertext_hasher() -> TaggedHasher:
    """Return a running hash over the whole ciphertext."""
    return TaggedHasher(b"allmydata_crypttext_v1")


def ueb_hash(ueb: bytes) -> bytes:
    """Return the 32-byte hash of a serialized URI extension block."""
    return tagged_hash(b"allmydata_uri_extension_v1", ueb)


def tree_node_hash(left: bytes, right: bytes) -> bytes:
    """Return the inner node of a hash tree over two 32-byte children."""
    inner = _NODE.copy()
    inner.update(b"32:%b,32:%b," % (left, right))
    return hashlib.sha256(inner.digest()).digest()


def empty_leaf_hash(index: int) -> bytes:
    """Return the padding leaf at leaf position `index`."""
    return tagged_hash(b"Merkle tree empty leaf", b"%d" % index)


def immutable_storage_index(readkey: bytes) -> bytes:
    """Return the 16-byte storage index of a CHK file from its 16-byte AES key."""
    return tagged_hash(b"allmydata_immutable_key_to_storage_index_v1", readkey, 16)


def convergence_tag(secret: bytes, needed: int, total: int, segment_size: int) -> bytes:
    """Return the tag under which plaintext is hashed to its key (not yet a netstring).

    `segment_size` is the effective one: min(maximum, file size), rounded up to a multiple of k.
    """
    parameters = b"%d,%d,%d" % (needed, total, segment_size)
    prefix = b"allmydata_immutable_content_to_key_with_added_secret_v1+"
    return prefix + netstring(secret) + netstring(parameters)


# leases


def client_renewal_secret(lease_secret: bytes) -> bytes:
    """Return the client-wide renewal secret of a 32-byte lease secret (it is the tag)."""
    return tagged_hash(lease_secret, b"allmydata_client_renewal_secret_v1")


def client_cancel_secret(lease_secret: bytes) -> bytes:
    """Return the client-wide cancel secret of a 32-byte lease secret (it is the tag)."""
    return tagged_hash(lease_secret, b"allmydata_client_cancel_secret_v1")


def file_renewal_secret(client_secret: bytes, storage_index: bytes) -> bytes:
    """Return the renewal secret for one storage index."""
    return tagged_pair_hash(b"allmydata_file_renewal_secret_v1", client_secret, storage_index)


def file_cancel_secret(client_secret: bytes, storage_index: bytes) -> bytes:
    """Return the cancel secret for one storage index."""
    return tagged_pair_hash(b"allmydata_file_cancel_secret_v1", client_secret, storage_index)


def bucket_renewal_secret(file_secret: bytes, lease_seed: bytes) -> bytes:
    """Return the renewal secret that goes to the server with this 20-byte lease seed."""
    return tagged_pair_hash(b"allmydata_bucket_renewal_secret_v1", file_secret, lease_seed)


def bucket_cancel_secret(file_secret: bytes, lease_seed: bytes) -> bytes:
    """Return the cancel secret that goes to the server with this 20-byte lease seed."""
    return tagged_pair_hash(b"allmydata_bucket_cancel_secret_v1", file_secret, lease_seed)


# mutable files


def mutable_writekey(privkey_der: bytes) -> bytes:
    """Return the 16-byte write key of a private key in DER."""
    return tagged_hash(b"allmydata_mutable_privkey_to_writekey_v1", privkey_der, 16)


def mutable_readkey(writekey: bytes) -> bytes:
    """Return the 16-byte read key of a write key."""
    return tagged_hash(b"allmydata_mutable_writekey_to_readkey_v1", writekey, 16)


def mutable_storage_index(readkey: bytes) -> bytes:
    """Return the 16-byte storage index of a read key."""
    return tagged_hash(b"allmydata_mutable_readkey_to_storage_index_v1", readkey, 16)


def mutable_fingerprint(pubkey_der: bytes) -> bytes:
    """Return the 32-byte fingerprint of a public key in DER."""
    return tagged_hash(b"allmydata_mutable_pubkey_to_fingerprint_v1", pubkey_der)


def mutable_datakey(salt: bytes, readkey: bytes) -> bytes:
    """Return the 16-byte key that encrypts contents published under a 16-byte salt."""
    return tagged_pair_hash(b"allmydata_mutable_readkey_to_datakey_v1", salt, readkey, 16)


def write_enabler_master(writekey: bytes) -> bytes:
    """Return the secret from which the write enablers of all servers are derived."""
    return tagged_hash(b"allmydata_mutable_writekey_to_write_enabler_master_v1", writekey)


def write_enabler(writekey: bytes, lease_seed: bytes) -> bytes:
    """Return the write enabler for the server with this 20-byte lease seed."""
    return tagged_pair_hash(
        b"allmydata_mutable_write_enabler_master_and_nodeid_to_write_enabler_v1",
        write_enabler_master(writekey),
        lease_seed,
    )


# directories


def child_rwcap_salt(rwcap: bytes) -> bytes:
    """Return the 16-byte salt under which a child's write cap is stored."""
    return tagged_hash(b"allmydata_dirnode_child_rwcap_to_salt_v1", rwcap, 16)


def child_rwcap_key(salt: bytes, writekey: bytes) -> bytes:
    """Return the 16-byte key that encrypts a child's write cap in a directory."""
    tag = b"allmydata_mutable_writekey_and_salt_to_dirnode_child_capkey_v1"
    return tagged_pair_hash(tag, salt, writekey, 16)
