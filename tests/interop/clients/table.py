"""Which class stands for which column."""

from tests.interop.clients.base import Client
from tests.interop.clients.expectations import COLUMNS
from tests.interop.clients.ftp import Curl, CurlTls, Ftplib, Lftp, LftpTls, Rclone, RcloneTls, Tnftp
from tests.interop.clients.sftp import (
    AsyncSSH,
    CurlSftp,
    LftpSftp,
    Paramiko,
    Psftp,
    RcloneSftp,
    Scp,
    Sftp,
    Sshfs,
)

_ORDER: list[type[Client]] = [
    *(Lftp, LftpTls, Curl, CurlTls, Rclone, RcloneTls, Tnftp, Ftplib),
    *(Sftp, Scp, Sshfs, RcloneSftp, LftpSftp, Psftp, CurlSftp, Paramiko, AsyncSSH),
]
CLIENTS: dict[str, type[Client]] = dict(zip(COLUMNS, _ORDER, strict=True))
