"""Each thing that people do, with one accident in the middle, and what must hold afterwards.

Where the middle is, a run without an accident tells: it counts the bytes each way. All checks are
of states that the history allows; each returns what was found, for the check at the very end.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.bad_network import Direction, Event, Fault
from tests.system.networks.place import DIRECTORY, Place, State

SIZE = 3_000_000
STALL = 2.0


@dataclass(frozen=True)
class Accident:
    """A fault when this share of the bytes of one direction has passed."""

    fault: Fault
    where: float
    direction: Direction = "up"
    back: bool = False

    def event(self, passed: tuple[int, int]) -> Event:
        total = passed[0] if self.direction == "up" else passed[1]
        after = max(1, min(total - 1, int(total * self.where)))
        return Event(self.direction, after, self.fault, STALL, self.back)

    def __str__(self) -> str:
        back = " and back" if self.back else ""
        return f"{self.fault}{back} at {self.where:.0%} {self.direction}"


def local(place: Place, data: bytes) -> Path:
    path = place.folder / f"local{place.serial}"
    path.write_bytes(data)
    return path


def judge(good: bool, accident: Accident, found: State, old: State, new: State) -> State:
    """Check one name after one accident."""
    if accident.fault == "stall":
        assert good, f"{accident}: the client gave up"
    if good:
        assert found == new, f"{accident}: acknowledged, but not there: {told(found)}"
    assert found in {old, new}, f"{accident}: in between: {told(found)} of {told(old)}, {told(new)}"
    return found


def told(state: State) -> str:
    return "nothing" if state is None else f"{len(state)} bytes"


def upload(place: Place, accidents: list[Accident]) -> None:
    """New names: whole or not there; a second try brings it whole."""
    source = local(place, os.urandom(SIZE))
    passed = place.clean(place.client.upload(source, place.name()))
    for accident in accidents:
        data, name = os.urandom(SIZE), place.name()
        source.write_bytes(data)
        good = place.run(place.client.upload(source, name), accident.event(passed))
        judge(good, accident, place.state(name), None, data)
        place.clean(place.client.upload(source, name))
        assert place.state(name) == data


def overwrite(place: Place, accidents: list[Accident]) -> None:
    """A name that is there keeps its old content, or has the new."""
    old, name = os.urandom(SIZE), place.name()
    source = local(place, old)
    place.clean(place.client.upload(source, name))
    source.write_bytes(old := os.urandom(SIZE))
    passed = place.clean(place.client.upload(source, name))
    state: State = old
    for accident in accidents:
        source.write_bytes(new := os.urandom(SIZE))
        good = place.run(place.client.upload(source, name), accident.event(passed))
        state = judge(good, accident, place.state(name), state, new)


def append(place: Place, accidents: list[Accident]) -> None:
    """The beginning stays, or the whole is there; never a part of the rest."""
    data = os.urandom(SIZE)
    begin, whole = local(place, data[: SIZE // 2]), place.folder / "whole"
    whole.write_bytes(data)

    def begun() -> str:
        name = place.name()
        place.clean(place.client.upload(begin, name))
        return name

    name = begun()
    passed = place.clean(place.client.append(whole, name))
    assert place.state(name) == data
    for accident in accidents:
        name = begun()
        good = place.run(place.client.append(whole, name), accident.event(passed))
        found = judge(good, accident, place.state(name), data[: SIZE // 2], data)
        if found != data:
            place.clean(place.client.append(whole, name))
            assert place.state(name) == data


def rename(place: Place, accidents: list[Accident]) -> None:
    """The content is under one of the two names, whole."""
    data = os.urandom(1000)
    source = local(place, data)

    def named() -> tuple[str, str]:
        name = place.name()
        place.clean(place.client.upload(source, name))
        return name, place.name()

    passed = place.clean(place.client.rename(*named()))
    for accident in accidents:
        name, new = named()
        good = place.run(place.client.rename(name, new), accident.event(passed))
        states = place.state(name), place.state(new)
        assert states in {(data, None), (None, data)}, f"{accident}: {states}"
        if good:
            assert states == (None, data), f"{accident}: acknowledged, but not done"


def mkdir(place: Place, accidents: list[Accident]) -> None:
    """The directory is there or not."""
    passed = place.clean(place.client.mkdir(place.name()))
    for accident in accidents:
        name = place.name()
        good = place.run(place.client.mkdir(name), accident.event(passed))
        judge(good, accident, place.state(name), None, DIRECTORY)


def download(place: Place, accidents: list[Accident]) -> None:
    """What a client calls whole is whole; what it has of the rest can be gone on with."""
    data, name = os.urandom(SIZE), place.name()
    place.node.put(name, data)
    target = place.folder / "came"
    passed = place.clean(place.client.download(name, target))
    assert target.read_bytes() == data
    for accident in accidents:
        target.unlink(missing_ok=True)
        good = place.run(place.client.download(name, target), accident.event(passed))
        if accident.fault == "stall":
            assert good, f"{accident}: the client gave up"
        if good:
            assert target.read_bytes() == data, f"{accident}: called whole"
            continue
        got = target.read_bytes() if target.exists() else b""
        again = place.client.resume(name, target) if data.startswith(got) and got else None
        if again is None:
            target.unlink(missing_ok=True)
            again = place.client.download(name, target)
        place.clean(again)
        assert target.read_bytes() == data


ALL = {
    "upload": upload,
    "overwrite": overwrite,
    "append": append,
    "rename": rename,
    "mkdir": mkdir,
    "download": download,
}
NOT = {
    **{("scp", verb): "scp only copies" for verb in ("append", "rename", "mkdir")},
    ("rclone", "append"): "rclone appends to nothing",
}
FORGETFUL = frozenset({"lftp ftp", "lftp ftps", "lftp sftp"})
"""These come back after a cut by themselves, begin again, forget what of the file they have sent
before, and then end the upload in order after a part of it: seen with lftp 4.9.2, in its own log
("put rolled back to 0", then an early end). No server can tell that from a shorter file."""
