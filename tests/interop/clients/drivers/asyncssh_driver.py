"""asyncssh as a program."""

import asyncio
import contextlib
import os
import sys

import asyncssh
from driving import drive


@contextlib.asynccontextmanager
async def session(login):
    keys = None if login.key is None else [login.key]
    async with (
        asyncssh.connect(
            login.host,
            login.port,
            username=login.user,
            password=login.password,
            client_keys=keys,
            known_hosts=login.known_hosts,
            agent_path=None,
            config=None,
            connect_timeout=20,
        ) as connection,
        connection.start_sftp_client() as sftp,
    ):
        yield sftp


async def names(login, remote):
    async with session(login) as sftp:
        return [name for name in await sftp.listdir(remote) if name not in (".", "..")]


async def upload(login, source, remote):
    async with session(login) as sftp:
        await sftp.put(source, remote)


async def download(login, remote, target):
    async with session(login) as sftp:
        await sftp.get(remote, target)


async def rename(login, old, new):
    async with session(login) as sftp:
        await sftp.rename(old, new)


async def rename_other(login, old, new):
    async with session(login) as sftp:
        await sftp.posix_rename(old, new)


async def delete(login, remote):
    async with session(login) as sftp:
        await sftp.remove(remote)


async def mkdir_p(login, remote):
    async with session(login) as sftp:
        await sftp.makedirs(remote)


async def rmdir(login, remote):
    async with session(login) as sftp:
        await sftp.rmdir(remote)


async def stat(login, remote):
    async with session(login) as sftp:
        found = await sftp.stat(remote)
        return found.size, found.mtime


async def upload_with_time(login, source, remote):
    async with session(login) as sftp:
        await sftp.put(source, remote, preserve=True)


async def symlink(login, target, remote):
    async with session(login) as sftp:
        await sftp.symlink(target, remote)


async def upload_tree(login, source, remote):
    async with session(login) as sftp:
        await sftp.put(source, remote, recurse=True)


async def download_tree(login, remote, target):
    async with session(login) as sftp:
        await sftp.get(remote, target, recurse=True)


async def parallel(login, remote, target, *sources):
    async with session(login) as sftp:

        async def both(source):
            name = os.path.basename(source)
            await sftp.put(source, f"{remote}/{name}")
            await sftp.get(f"{remote}/{name}", os.path.join(target, name))

        await asyncio.gather(*map(both, sources))


async def slow_upload(login, source, remote):
    async with session(login) as sftp, sftp.open(remote, "wb") as there:
        with open(source, "rb") as here:
            while data := here.read(16384):
                await there.write(data)
                await asyncio.sleep(0.05)


async def idle(login, remote, seconds):
    async with session(login) as sftp:
        await sftp.listdir(remote)
        await asyncio.sleep(float(seconds))
        return [name for name in await sftp.listdir(remote) if name not in (".", "..")]


if __name__ == "__main__":
    drive(sys.modules[__name__])
