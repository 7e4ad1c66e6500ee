"""The table of commands. Knows every handler; touches nothing."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred

from truckee.frontends.ftp import (
    access,
    channel_commands,
    files,
    security_commands,
    transfer_commands,
)
from truckee.frontends.ftp.codec import Reply
from truckee.frontends.ftp.session import Session
from truckee.frontends.ftp.transfer_commands import transferring

Run = Callable[[Session, bytes], Coroutine[Deferred[Any], Any, Reply]]


@dataclass(frozen=True, slots=True)
class Command:
    """How one word is served."""

    run: Run
    before_login: bool = False


async def _status(s: Session, arg: bytes) -> Reply:
    return access.status(s) if not arg else await files.stat_path(s, arg)


async def _nothing_to_abort(s: Session, arg: bytes) -> Reply:
    s.drop_channel()
    return Reply(225, ("nothing to abort",))


COMMANDS: dict[str, Command] = {
    "USER": Command(access.user, before_login=True),
    "PASS": Command(access.password, before_login=True),
    "AUTH": Command(security_commands.auth, before_login=True),
    "PBSZ": Command(security_commands.pbsz, before_login=True),
    "PROT": Command(security_commands.prot, before_login=True),
    "CCC": Command(security_commands.ccc, before_login=True),
    "ACCT": Command(access.account),
    "REIN": Command(access.reinitialise, before_login=True),
    "QUIT": Command(access.quit_, before_login=True),
    "NOOP": Command(access.noop, before_login=True),
    "SYST": Command(access.system, before_login=True),
    "HELP": Command(access.help_, before_login=True),
    "CLNT": Command(access.client, before_login=True),
    "FEAT": Command(access.features, before_login=True),
    "OPTS": Command(access.options, before_login=True),
    "TYPE": Command(access.type_),
    "MODE": Command(access.mode),
    "STRU": Command(access.structure),
    "PWD": Command(access.working_directory),
    "XPWD": Command(access.working_directory),
    "CWD": Command(files.cwd),
    "XCWD": Command(files.cwd),
    "CDUP": Command(files.cdup),
    "XCUP": Command(files.cdup),
    "PASV": Command(channel_commands.pasv),
    "EPSV": Command(channel_commands.epsv),
    "PORT": Command(channel_commands.port),
    "EPRT": Command(channel_commands.eprt),
    "LIST": Command(transferring("LIST", transfer_commands.list_)),
    "NLST": Command(transferring("NLST", transfer_commands.nlst)),
    "MLSD": Command(transferring("MLSD", transfer_commands.mlsd)),
    "MLST": Command(files.mlst),
    "SIZE": Command(files.size),
    "MDTM": Command(files.mdtm),
    "MFMT": Command(files.mfmt),
    "RETR": Command(transferring("RETR", transfer_commands.retr)),
    "STOR": Command(transferring("STOR", transfer_commands.stor)),
    "APPE": Command(transferring("APPE", transfer_commands.appe)),
    "STOU": Command(transferring("STOU", transfer_commands.stou)),
    "REST": Command(files.rest),
    "ALLO": Command(files.allo),
    "ABOR": Command(_nothing_to_abort),
    "DELE": Command(files.dele),
    "RMD": Command(files.rmd),
    "XRMD": Command(files.rmd),
    "MKD": Command(files.mkd),
    "XMKD": Command(files.mkd),
    "RNFR": Command(files.rnfr),
    "RNTO": Command(files.rnto),
    "STAT": Command(_status),
    "SITE": Command(files.site),
}

KNOWN_BUT_ABSENT = frozenset({"HOST", "LANG", "SMNT"})
"""Words that get 502: part of FTP, not offered here."""
