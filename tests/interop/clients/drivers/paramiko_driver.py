"""paramiko as a program."""

import contextlib
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import paramiko
from driving import drive


@contextlib.contextmanager
def session(login):
    client = paramiko.SSHClient()
    client.load_host_keys(login.known_hosts)
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    client.connect(
        login.host,
        login.port,
        login.user,
        password=login.password,
        key_filename=login.key,
        allow_agent=False,
        look_for_keys=False,
        timeout=20,
    )
    with client, client.open_sftp() as sftp:
        yield sftp


def names(login, remote):
    with session(login) as sftp:
        return sftp.listdir(remote)


def upload(login, source, remote):
    with session(login) as sftp:
        sftp.put(source, remote)


def download(login, remote, target):
    with session(login) as sftp:
        sftp.get(remote, target)


def resume_download(login, remote, target):
    with session(login) as sftp, sftp.open(remote, "rb") as there, open(target, "ab") as here:
        there.seek(os.path.getsize(target))
        there.prefetch()
        while data := there.read(1 << 20):
            here.write(data)


def append(login, tail, remote):
    with session(login) as sftp, sftp.open(remote, "ab") as there, open(tail, "rb") as here:
        there.write(here.read())


def rename(login, old, new):
    with session(login) as sftp:
        sftp.rename(old, new)


def rename_other(login, old, new):
    with session(login) as sftp:
        sftp.posix_rename(old, new)


def delete(login, remote):
    with session(login) as sftp:
        sftp.remove(remote)


def mkdir_p(login, remote):
    with session(login) as sftp:
        path = ""
        for part in remote.strip("/").split("/"):
            path += "/" + part
            try:
                sftp.stat(path)
            except FileNotFoundError:
                sftp.mkdir(path)


def rmdir(login, remote):
    with session(login) as sftp:
        sftp.rmdir(remote)


def stat(login, remote):
    with session(login) as sftp:
        found = sftp.stat(remote)
        return found.st_size, found.st_mtime


def upload_with_time(login, source, remote):
    with session(login) as sftp:
        sftp.put(source, remote)
        found = os.stat(source)
        sftp.utime(remote, (found.st_atime, found.st_mtime))


def chmod(login, mode, remote):
    with session(login) as sftp:
        sftp.chmod(remote, int(mode, 8))


def symlink(login, target, remote):
    with session(login) as sftp:
        sftp.symlink(target, remote)


def parallel(login, remote, target, *sources):
    """Use one connection from four threads, each with a channel of its own."""
    with session(login) as sftp:
        transport = sftp.get_channel().get_transport()

        def both(source):
            name = os.path.basename(source)
            with paramiko.SFTPClient.from_transport(transport) as own:
                own.put(source, f"{remote}/{name}")
                own.get(f"{remote}/{name}", os.path.join(target, name))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(both, sources))


def slow_upload(login, source, remote):
    with session(login) as sftp, open(source, "rb") as here, sftp.open(remote, "wb") as there:
        while data := here.read(16384):
            there.write(data)
            time.sleep(0.05)


def idle(login, remote, seconds):
    with session(login) as sftp:
        sftp.listdir(remote)
        time.sleep(float(seconds))
        return sftp.listdir(remote)


if __name__ == "__main__":
    drive(sys.modules[__name__])
