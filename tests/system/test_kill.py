"""kill -9 at random moments: what was acknowledged is there, what was not is whole or absent."""

import ftplib
import hashlib
import io
import os
import random
import threading
import time

import pytest

from tests.system.node import Node

MOST_FILES = 10  # of one worker; all are read back after each kill


def contents(name: str, version: int) -> bytes:
    """Return bytes that only this version of this name can have."""
    seed = f"{name}:{version}".encode()
    size = int.from_bytes(hashlib.sha256(seed).digest()[:2], "big") * (9 if version % 5 == 4 else 1)
    return (hashlib.sha256(seed).digest() * (size // 32 + 1))[: size + 1]


class Worker(threading.Thread):
    """One FTP client that writes, renames and deletes in a folder of its own, and keeps a book.

    `certain` maps a path to the version acknowledged last (None: certainly absent); `open_question`
    holds what was asked and not answered: a path that may have the old or the new state.
    """

    def __init__(self, node: Node, number: int, chance: random.Random) -> None:
        super().__init__(daemon=True)
        self.node = node
        self.number = number
        self.chance = chance
        self.certain: dict[str, int | None] = {}
        self.open_question: dict[str, set[int | None]] = {}
        self.counter = 0
        self.acknowledged = 0
        self.logged_in = threading.Event()

    def run(self) -> None:
        try:
            with self.node.ftp() as ftp:
                self.logged_in.set()
                while True:
                    self.step(ftp)
        except (OSError, EOFError, ftplib.Error):
            return  # killed, as intended

    def step(self, ftp: ftplib.FTP) -> None:
        alive = [path for path, version in self.certain.items() if version is not None]
        kinds = ["new", "new", "over", "rename", "delete"]
        if len(alive) > MOST_FILES:
            kinds = ["delete", "over", "rename"]
        kind = self.chance.choice(kinds)
        if kind == "new" or not alive:
            path = f"shared/w{self.number} é {self.counter}"
            self.write(ftp, path)
        elif kind == "over":
            self.write(ftp, self.chance.choice(alive))
        elif kind == "delete":
            path = self.chance.choice(alive)
            self.open_question = {path: {self.certain[path], None}}
            ftp.delete(path)
            self.settle({path: None})
        else:
            source = self.chance.choice(alive)
            self.counter += 1
            target = f"shared/w{self.number} moved {self.counter}"
            version = self.certain[source]
            self.open_question = {source: {version, None}, target: {version, None}}
            self.renamed = getattr(self, "renamed", {})
            self.renamed[target] = self.renamed.get(source, source)
            ftp.rename(source, target)
            self.settle({source: None, target: version})

    def write(self, ftp: ftplib.FTP, path: str) -> None:
        self.counter += 1
        version = self.counter
        old = self.certain.get(path)
        self.open_question = {path: {old, version}}
        ftp.storbinary(f"STOR {path}", io.BytesIO(contents(self.origin(path), version)))
        self.settle({path: version})

    def origin(self, path: str) -> str:
        return getattr(self, "renamed", {}).get(path, path)

    def settle(self, facts: dict[str, int | None]) -> None:
        self.certain.update(facts)
        self.open_question = {}
        self.acknowledged += 1

    def check(self, present: dict[str, bytes]) -> None:
        """Compare the book with what the node shows; then take what it shows as certain."""
        mine = {path for path in present if path.startswith(f"shared/w{self.number} ")}
        assert mine <= set(self.certain) | set(self.open_question)
        for path in set(self.certain) | set(self.open_question):
            allowed = self.open_question.get(path, {self.certain.get(path)})
            if path not in present:
                assert None in allowed, f"{path} is gone, though it was acknowledged"
                self.certain[path] = None
                continue
            versions = [v for v in allowed if v is not None]
            fitting = [v for v in versions if present[path] == contents(self.origin(path), v)]
            assert fitting, f"{path} has {len(present[path])} bytes that nobody wrote"
            self.certain[path] = fitting[0]
        if len(self.open_question) == 2:  # a rename: one of the names, or both, never neither
            source, target = self.open_question
            assert source in present or target in present
        self.open_question = {}


def run_kills(folder, kills: int, seed: int) -> int:
    chance = random.Random(seed)
    node = Node(folder)
    node.start()
    acknowledged = 0
    try:
        with node.ftp() as ftp:
            ftp.mkd("shared")
        workers = [Worker(node, i, random.Random(seed * 100 + i)) for i in range(3)]
        for _ in range(kills):
            for worker in workers:
                worker.start()
            for worker in workers:
                assert worker.logged_in.wait(30)
            time.sleep(chance.uniform(0.0, 1.0))
            node.kill()
            for worker in workers:
                worker.join(30)
                assert not worker.is_alive()
            node.start()
            present = {}
            with node.ftp() as ftp:
                for name in ftp.nlst("shared"):
                    path = "shared/" + name.split("/")[-1]
                    taken = bytearray()
                    ftp.retrbinary(f"RETR {path}", taken.extend)
                    present[path] = bytes(taken)
            successors = []
            for worker in workers:
                worker.check(present)
                acknowledged += worker.acknowledged
                successor = Worker(node, worker.number, worker.chance)
                successor.certain = worker.certain
                successor.counter = worker.counter
                successor.renamed = getattr(worker, "renamed", {})
                successors.append(successor)
            workers = successors
    finally:
        node.kill()
    return acknowledged


@pytest.mark.threat("F8")
def test_twenty_kills_lose_nothing_that_was_acknowledged(tmp_path):
    seed = int(os.environ.get("TRUCKEE_SEED", "20261120"))
    assert run_kills(tmp_path / "node", 20, seed) > 40


@pytest.mark.long
def test_five_hundred_kills_lose_nothing_that_was_acknowledged(tmp_path):
    seed = int(os.environ.get("TRUCKEE_SEED", str(random.SystemRandom().randrange(10**6))))
    print("TRUCKEE_SEED", seed)
    assert run_kills(tmp_path / "node", 500, seed) > 1000
