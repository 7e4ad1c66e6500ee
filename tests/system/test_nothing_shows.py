"""No contents, names or passwords under the server folders, in the spool, in logs or output."""

import io
import os
import re
import signal
import threading
from pathlib import Path

import pytest

from tests.system.node import Node

MARK = b"Zq7Marmot"
NAME = "Qx9Heron"


def spellings(secret: bytes) -> list[bytes]:
    import base64
    import json
    import urllib.parse

    text = secret.decode()
    return [
        secret,
        urllib.parse.quote(text, safe="").encode(),
        json.dumps(text)[1:-1].encode(),
        base64.b64encode(secret).rstrip(b"=")[:-2],
        secret.hex().encode(),
    ]


def files_outside_private(folder: Path):
    for path in folder.rglob("*"):
        if path.is_file() and "private" not in path.relative_to(folder).parts:
            yield path


@pytest.mark.threat("L1", "L6", "O5", "O6")
def test_no_mark_is_found_outside_private(tmp_path):
    with Node(tmp_path / "node") as node:
        password = node.password.encode()
        rootcap = node.rootcap.encode()
        with node.ftp() as ftp:
            ftp.mkd(f"{NAME} folder é")
            for i, size in enumerate((40, 600, 100_000, 3_000_000)):
                data = (MARK * (size // len(MARK) + 1))[:size]
                ftp.storbinary(f"STOR {NAME} folder é/{NAME}{i}.txt", io.BytesIO(data))
            ftp.rename(f"{NAME} folder é/{NAME}0.txt", f"{NAME} renamed.txt")
            # things that go wrong are logged, too
            for command in (f"RETR {NAME} absent", f"CWD {NAME} absent", f"XXXX {NAME}"):
                try:
                    ftp.sendcmd(command)
                except Exception as error:
                    assert b"URI:" not in str(error).encode()
        secrets = {
            "contents": MARK,
            "name": NAME.encode(),
            "password": password,
            "root cap": rootcap.split(b":")[2],
            "lease secret": (node.folder / "private" / "secret").read_bytes().strip(),
            "convergence": (node.folder / "private" / "convergence").read_bytes().strip(),
        }
        upload_in_progress(node)
        assert node.stop() == 0
        searched = list(files_outside_private(node.folder)) + [tmp_path / "stderr.log"]
        assert len(searched) > 50
        for path in searched:
            raw = path.read_bytes()
            for what, secret in secrets.items():
                for spelling in spellings(secret):
                    assert spelling not in raw, f"{what} shows in {path.relative_to(tmp_path)}"


def upload_in_progress(node: Node) -> None:
    """Stop the process in the middle of an upload and look at every open file, deleted ones too."""
    from contextlib import closing

    with closing(node.ftp()) as ftp:
        data = ftp.transfercmd("STOR half.bin")
        sender = threading.Thread(target=lambda: data.sendall(MARK * 400_000), daemon=True)
        sender.start()
        sender.join(20)
        node.wait_for(lambda: open_bytes(node) > 1_000_000)
        os.kill(node.process.pid, signal.SIGSTOP)
        try:
            for fd in Path(f"/proc/{node.process.pid}/fd").iterdir():
                target = os.readlink(fd)
                if re.match(r"(/|.*deleted)", target) and fd.is_file():
                    with fd.open("rb") as f:
                        assert MARK not in f.read(), target
        finally:
            os.kill(node.process.pid, signal.SIGCONT)
        data.close()


def open_bytes(node: Node) -> int:
    total = 0
    for fd in Path(f"/proc/{node.process.pid}/fd").iterdir():
        try:
            if "deleted" in os.readlink(fd):
                total += fd.stat().st_size
        except OSError:
            continue
    return total


@pytest.mark.threat("L2")
def test_no_secret_is_seen_in_any_process_argument(tmp_path):
    with Node(tmp_path / "node") as node:
        for kind in ("cmdline", "environ"):
            raw = Path(f"/proc/{node.process.pid}/{kind}").read_bytes()
            assert b"URI:" not in raw
            assert node.password.encode() not in raw
