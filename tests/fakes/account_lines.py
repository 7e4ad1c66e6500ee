"""Pieces of account files: caps of every kind, hashes and keys that nobody uses."""

import base64
import struct

from truckee.core.formats.base32 import b2a

KEY16, HASH32 = b2a(bytes(range(16))), b2a(bytes(range(32)))
OTHER16 = b2a(bytes(range(1, 17)))
WRITE = f"URI:DIR2:{KEY16}:{HASH32}"
OTHER = f"URI:DIR2:{OTHER16}:{HASH32}"
READ = f"URI:DIR2-RO:zlnpn42lu7xedonux53kr42hsm:{HASH32}"  # what WRITE becomes
GOOD_ROOTS = {
    "DIR2": WRITE,
    "DIR2-RO": READ,
    "DIR2-MDMF": f"URI:DIR2-MDMF:{KEY16}:{HASH32}",
    "DIR2-MDMF-RO": f"URI:DIR2-MDMF-RO:{KEY16}:{HASH32}",
    "DIR2-CHK": f"URI:DIR2-CHK:{KEY16}:{HASH32}:3:10:1000",
    "DIR2-LIT": "URI:DIR2-LIT:mfrgg",
}
BAD_ROOTS = {
    "verify": f"URI:DIR2-Verifier:{KEY16}:{HASH32}",
    "mdmf verify": f"URI:DIR2-MDMF-Verifier:{KEY16}:{HASH32}",
    "chk verify": f"URI:DIR2-CHK-Verifier:{KEY16}:{HASH32}:3:10:1000",
    "file": f"URI:CHK:{KEY16}:{HASH32}:3:10:1000",
    "mutable file": f"URI:SSK:{KEY16}:{HASH32}",
    "unknown": "URI:NEW:abc",
    "cut": WRITE[:-4],
}
BCRYPT = "$2b$04$2u2ulaFjOotIGofrFLIsBeWl4PGIi/gF0tpIyGYcgBp7KxZPNISS6"  # of "x"


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def blob(*parts: bytes) -> str:
    return base64.b64encode(b"".join(map(string, parts))).decode()


def rsa(bits: int, exponent: bytes = b"\x01\x00\x01") -> str:
    return blob(b"ssh-rsa", exponent, b"\x00" + (1 << (bits - 1) | 1).to_bytes((bits + 7) // 8))


POINT256 = b"\x04" + bytes(64)
ED25519 = blob(b"ssh-ed25519", bytes(32))
GOOD_KEYS = {
    "ssh-rsa": rsa(2048),
    "ssh-ed25519": ED25519,
    "ecdsa-sha2-nistp256": blob(b"ecdsa-sha2-nistp256", b"nistp256", POINT256),
    "ecdsa-sha2-nistp384": blob(b"ecdsa-sha2-nistp384", b"nistp384", b"\x04" + bytes(96)),
    "ecdsa-sha2-nistp521": blob(b"ecdsa-sha2-nistp521", b"nistp521", b"\x04" + bytes(132)),
    "sk-ssh-ed25519@openssh.com": blob(b"sk-ssh-ed25519@openssh.com", bytes(32), b"ssh:"),
    "sk-ecdsa-sha2-nistp256@openssh.com": blob(
        b"sk-ecdsa-sha2-nistp256@openssh.com", b"nistp256", POINT256, b"ssh:"
    ),
}
