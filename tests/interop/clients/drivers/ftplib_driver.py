"""Python's ftplib as a program."""

import contextlib
import ftplib
import os
import sys
import time
from calendar import timegm

from driving import drive


@contextlib.contextmanager
def session(login):
    with contextlib.closing(ftplib.FTP(encoding="utf-8", timeout=60)) as ftp:
        ftp.connect(login.host, login.port)
        ftp.login(login.user, login.password)
        ftp.voidcmd("TYPE I")
        yield ftp
        ftp.quit()


def names(login, remote):
    """List it by NLST, MLSD and LIST, which must agree."""
    with session(login) as ftp:
        ftp.cwd(remote)
        listed = sorted(ftp.nlst())
        facts = sorted(name for name, _ in ftp.mlsd())
        lines: list[str] = []
        ftp.retrlines("LIST", lines.append)
        assert facts == listed
        assert sorted(line.split(None, 8)[8] for line in lines) == listed
        return listed


def upload(login, source, remote):
    with session(login) as ftp, open(source, "rb") as file:
        ftp.storbinary(f"STOR {remote}", file)


def download(login, remote, target):
    with session(login) as ftp, open(target, "wb") as file:
        ftp.retrbinary(f"RETR {remote}", file.write)


def resume_download(login, remote, target):
    with session(login) as ftp, open(target, "ab") as file:
        ftp.retrbinary(f"RETR {remote}", file.write, rest=os.path.getsize(target))


def append(login, tail, remote):
    with session(login) as ftp, open(tail, "rb") as file:
        ftp.storbinary(f"APPE {remote}", file)


def rename(login, old, new):
    with session(login) as ftp:
        ftp.rename(old, new)


def delete(login, remote):
    with session(login) as ftp:
        ftp.delete(remote)


def rmdir(login, remote):
    with session(login) as ftp:
        ftp.rmd(remote)


def stat(login, remote):
    with session(login) as ftp:
        size = ftp.size(remote)
        when = ftp.voidcmd(f"MDTM {remote}").split()[1]
        return size, timegm(time.strptime(when, "%Y%m%d%H%M%S"))


def slow_upload(login, source, remote):
    class Slow:
        def __init__(self, file):
            self.file = file

        def read(self, size):
            time.sleep(0.05)
            return self.file.read(size)

    with session(login) as ftp, open(source, "rb") as file:
        ftp.storbinary(f"STOR {remote}", Slow(file), blocksize=16384)


def idle(login, remote, seconds):
    with session(login) as ftp:
        ftp.nlst(remote)
        time.sleep(float(seconds))
        return ftp.nlst(remote)


if __name__ == "__main__":
    drive(sys.modules[__name__])
