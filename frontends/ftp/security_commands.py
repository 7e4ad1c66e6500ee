"""AUTH, PBSZ, PROT, CCC: what protects the connections. Knows the session.

AUTH forgets everything that was said in clear, a login included: somebody on the line could have
said it. Its 234 is the last reply in clear; the control connection starts TLS behind it.
"""

from truckee.frontends.ftp.codec import Reply, reply
from truckee.frontends.ftp.session import Session

MECHANISMS = (b"TLS", b"SSL", b"TLS-C")  # one thing: explicit TLS; curl begins with SSL


def _not_offered(s: Session) -> Reply | None:
    if s.settings.tls == "off":
        return reply(502, "not offered here")
    if s.context is None:
        return reply(431, "no certificate here")
    return None


async def auth(s: Session, arg: bytes) -> Reply:
    """AUTH TLS, AUTH SSL, AUTH TLS-C."""
    if refusal := _not_offered(s):
        return refusal
    if s.engine is not None:
        return reply(503, "TLS is on already")
    if arg.upper() not in MECHANISMS:
        return reply(504, "only AUTH TLS")
    s.forget_everything()
    return reply(234, "go on with TLS")


async def pbsz(s: Session, arg: bytes) -> Reply:
    """PBSZ: with TLS every size is 0."""
    if refusal := _not_offered(s):
        return refusal
    if not s.encrypted:
        return reply(503, "AUTH TLS comes first")
    if not arg.isdigit():
        return reply(501, "a number is expected")
    s.sized = True
    return reply(200, "PBSZ=0")


async def prot(s: Session, arg: bytes) -> Reply:
    """PROT P, PROT C: for the transfers to come."""
    if refusal := _not_offered(s):
        return refusal
    if not s.sized:
        return reply(503, "PBSZ 0 comes first")
    match arg.upper():
        case b"P":
            s.protected = True
            return reply(200, "data connections are protected")
        case b"C" if s.settings.tls == "required":
            return reply(534, "unprotected data connections are not allowed here")
        case b"C":
            s.protected = False
            return reply(200, "data connections are in clear")
        case b"S" | b"E":
            return reply(536, "only PROT P and PROT C")
    return reply(504, "only PROT P and PROT C")


async def ccc(s: Session, arg: bytes) -> Reply:
    """CCC: the control connection stays as it is."""
    return _not_offered(s) or reply(534, "the control connection stays protected")
