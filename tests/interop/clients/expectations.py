"""What each program is expected to see: the acceptance table, as data.

One row per operation, one column per program. A cell holds one word:

=============  ==================================================================================
``-``          the program cannot do it, or nobody would: no test
``ok``         it works, and the outcome is as the row's test says
``same``       it works, and the bytes are equal after a round trip
``replaced``   the file that was in the way is gone, the new one has its name
``old``        what was there before is there afterwards
``silent``     the server says that it failed, and the program keeps that to itself
a number       it is refused: the exit code (two digits), or the reply that it shows (three)
a word         it is refused in the words that `REFUSALS` has for it; ``fail``: in any
=============  ==================================================================================
"""

from collections.abc import Iterator

REFUSALS = {
    "fail": r"",
    "login": r"Login failed|Permission denied",
    "denied": r"permission denied",
    "auth": r"AuthenticationException",
    "perm": r"PermissionDenied",
    "failure": r"Failure|SFTPFailure|OSError",
    "full": r"not empty|not permitted",
    "unsup": r"unsupported|SFTPOpUnsupported|not implemented|not supported|not permitted",
}

FTP = """
                     lftp      lftp-tls  curl   curl-tls  rclone  rclone-tls  tnftp     ftplib
login-password       ok        ok        ok     ok        ok      ok          ok        ok
login-key            -         -         -      -         -       -           -         -
login-rsa-key        -         -         -      -         -       -           -         -
wrong-password       login     login     67     67        530     530         530       530
list-3               ok        ok        ok     ok        ok      ok          ok        ok
list-10000           ok        ok        ok     ok        ok      ok          ok        ok
upload               same      same      same   same      same    same        same      same
download             same      same      same   same      same    same        same      same
ascii                -         -         -      -         -       -           same      -
resume-download      same      same      same   same      -       -           same      same
resume-upload        same      same      -      -         -       -           -         -
append               -         -         same   same      -       -           same      same
overwrite            same      same      same   same      same    same        same      same
rename               ok        ok        -      -         ok      ok          ok        ok
rename-over          replaced  replaced  -      -         -       -           replaced  replaced
rename-over-other    -         -         -      -         -       -           -         -
delete               ok        ok        ok     ok        ok      ok          ok        ok
mkdir-p              ok        ok        ok     ok        ok      ok          -         -
rmdir                ok        ok        ok     ok        ok      ok          ok        ok
rmdir-non-empty      550       550       -      -         -       -           550       550
tree                 same      same      -      -         same    same        -         -
stat                 ok        ok        ok     ok        ok      ok          ok        ok
mtime                ok        ok        -      -         ok      ok          -         -
chmod                550       550       -      -         -       -           550       -
symlink              -         -         -      -         -       -           -         -
parallel             same      same      same   same      same    same        -         -
huge                 same      same      same   same      same    same        -         -
killed               old       old       old    old       old     old         old       old
idle                 ok        ok        -      -         -       -           -         421
hostile              ok        ok        -      -         ok      ok          -         -
unplaceable          fail      fail      -      -         451     451         451       451
"""

SFTP = """
                     sftp     scp      sshfs   rclone  lftp      psftp     curl   paramiko  asyncssh
login-password       -        -        -       ok      -         ok        ok     ok        ok
login-key            ok       ok       ok      ok      ok        ok        ok     ok        ok
login-rsa-key        ok       ok       ok      ok      ok        -         -      ok        ok
wrong-password       denied   denied   fail    fail    login     fail      67     auth      perm
list-3               ok       -        ok      ok      ok        ok        ok     ok        ok
list-10000           ok       -        ok      ok      ok        ok        ok     ok        ok
upload               same     same     same    same    same      same      same   same      same
download             same     same     same    same    same      same      same   same      same
ascii                -        -        -       -       -         -         -      -         -
resume-download      same     -        -       -       same      same      same   same      -
resume-upload        same     -        -       -       same      same      -      -         -
append               -        -        same    -       -         -         same   same      -
overwrite            same     same     same    same    same      same      same   same      same
rename               ok       -        ok      ok      ok        ok        -      ok        ok
rename-over          replaced -        replaced -      fail      fail      -      failure   failure
rename-over-other    failure  -        -       -       -         -         -      replaced  replaced
delete               ok       -        ok      ok      ok        ok        ok     ok        ok
mkdir-p              ok       -        ok      ok      ok        ok        ok     ok        ok
rmdir                ok       -        ok      ok      ok        ok        ok     ok        ok
rmdir-non-empty      failure  -        full    -       fail      fail      -      failure   failure
tree                 same     same     same    same    same      same      -      -         same
stat                 ok       -        ok      ok      ok        ok        -      ok        ok
mtime                ok       ok       ok      ok      ok        -         -      ok        ok
chmod                denied   -        denied  -       denied    denied    -      denied    -
symlink              unsup    -        unsup   -       fail      -         -      unsup     unsup
parallel             same     same     same    same    same      -         same   same      same
huge                 same     same     same    same    -         -         -      -         -
killed               old      old      old     old     old       old       old    old       old
idle                 ok       -        ok      -       ok        ok        -      ok        ok
hostile              ok       ok       ok      ok      ok        ok        -      -         ok
unplaceable          fail     fail     fail    fail    fail      fail      silent fail      fail
"""


def _columns(table: str, suffix: str) -> tuple[list[str], dict[str, dict[str, str]]]:
    head, *lines = table.strip("\n").splitlines()
    columns = [f"{name}-{suffix}" for name in head.split()]
    rows = {}
    for line in lines:
        name, *cells = line.split()
        if len(cells) != len(columns):
            raise ValueError(f"row {name}: {len(cells)} cells")
        rows[name] = dict(zip(columns, cells, strict=True))
    return columns, rows


_FTP_COLUMNS, _FTP_ROWS = _columns(FTP, "ftp")
_SFTP_COLUMNS, _SFTP_ROWS = _columns(SFTP, "sftp")
COLUMNS = _FTP_COLUMNS + _SFTP_COLUMNS
TABLE = {name: row | _SFTP_ROWS[name] for name, row in _FTP_ROWS.items()}


TLS_ROWS = {"upload"}
"""The rows in which the programs that are here twice, without and with TLS, are tried twice in an
ordinary run; a long run tries all."""

IDLE = {"lftp-ftp", "ftplib-ftp", "sftp-sftp"}
"""Who is left to idle in an ordinary run; each takes ten seconds."""


def takes_long(row: str, column: str) -> bool:
    """Return whether a cell is for the long run alone."""
    if row == "idle":
        return column not in IDLE
    return row == "huge" or ("-tls-" in column and row not in TLS_ROWS)


def cells(row: str) -> Iterator[tuple[str, str]]:
    """Yield (program, expected) for each cell of a row that asks for a test."""
    for column, expected in TABLE[row].items():
        if expected != "-":
            yield column, expected
