"""``truckee start``, ``run`` and ``create``: a node from nothing, or the one that is there.

Knows options and what is printed; the node itself is `truckee.frontends.node`. Touches the
process: signals end the node in order, and what does not end in time is cut off.
"""

import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from truckee.core import grid
from truckee.core.config import NodeConfig
from truckee.core.errors import AccountError, ConfigError, TruckeeError
from truckee.frontends.cli import passwords
from truckee.frontends.cli.main import Settings, default_directory
from truckee.frontends.cli.output import CommandError, Exit, code_for, say, say_object, warn
from truckee.frontends.node import creation, endpoints, first_account, logs, process
from truckee.frontends.node.creation import GridOptions
from truckee.frontends.node.doors import Place
from truckee.frontends.node.first_account import FIRST_PASSWORD, FirstAccount
from truckee.frontends.node.service import Node, Places, Wishes

_LONGEST_STOP = 38.0
_log = Logger()

Command = Callable[..., Any]


def _directory_argument(command: Command) -> Command:
    kind = click.Path(path_type=Path, file_okay=False)
    return click.argument("directory", required=False, type=kind)(command)


def _grid_options(command: Command) -> Command:
    path = click.Path(path_type=Path, file_okay=False)
    for option in reversed(
        [
            click.option("--servers", type=int, metavar="N", help="Servers on this machine."),
            click.option("--disk", "disks", multiple=True, type=path, help="One server per disk."),
            click.option("--needed", type=int, metavar="K", help="Shares that bring a file back."),
            click.option("--happy", type=int, metavar="H", help="Servers that must hold shares."),
            click.option("--total", type=int, metavar="N", help="Shares of each file."),
            click.option("--private-dir", type=path, help="Where keys and capabilities are kept."),
        ]
    ):
        command = option(command)
    return command


def _door_options(command: Command) -> Command:
    for name in ("sftp", "ftp"):
        text = f"Where {name.upper()} listens in this run."
        command = click.option(f"--{name}", multiple=True, metavar="ENDPOINT", help=text)(command)
    return command


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line said about the node."""

    directory: Path
    options: GridOptions
    private: Path | None = None
    doors: Wishes = field(default_factory=Wishes)
    as_json: bool = False


@click.command()
@_directory_argument
@_grid_options
@_door_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object when all is up.")
@click.pass_obj
def start(
    settings: Settings,
    directory: Path | None,
    servers: int | None,
    disks: tuple[Path, ...],
    needed: int | None,
    happy: int | None,
    total: int | None,
    private_dir: Path | None,
    ftp: tuple[str, ...],
    sftp: tuple[str, ...],
    as_json: bool,
) -> int:
    """Start a node, and make it first if there is none."""
    wanted = Wanted(
        _absolute(directory or settings.directory),
        GridOptions(servers, disks, needed, happy, total),
        private_dir,
        Wishes(_endpoints("ftp", ftp), _endpoints("sftp", sftp)),
        as_json,
    )
    process.harden()
    _warn_root()
    config = _open(wanted, create=True)
    return _Run(config, settings.reactor(), wanted).serve()


@click.command()
@_directory_argument
@_door_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object when all is up.")
@click.pass_obj
def run(
    settings: Settings,
    directory: Path | None,
    ftp: tuple[str, ...],
    sftp: tuple[str, ...],
    as_json: bool,
) -> int:
    """Run an existing node in the foreground, as a service."""
    place = _absolute(directory or settings.directory)
    doors = Wishes(_endpoints("ftp", ftp), _endpoints("sftp", sftp))
    wanted = Wanted(place, GridOptions(), None, doors, as_json)
    process.harden()
    _warn_root()
    config = _open(wanted, create=False)
    return _Run(config, settings.reactor(), wanted, service=True).serve()


@click.command()
@_directory_argument
@_grid_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def create(
    settings: Settings,
    directory: Path | None,
    servers: int | None,
    disks: tuple[Path, ...],
    needed: int | None,
    happy: int | None,
    total: int | None,
    private_dir: Path | None,
    as_json: bool,
) -> int:
    """Make a node with its first account, without starting it."""
    place = _absolute(directory or settings.directory)
    if creation.config_path(place) is not None:
        raise CommandError(
            "cannot create a node", "there is one already", "truckee start", Exit.CONFLICT
        )
    options = GridOptions(servers, disks, needed, happy, total)
    wanted = Wanted(place, options, private_dir, as_json=as_json)
    process.harden()
    _warn_root()
    config = _open(wanted, create=True)
    return _Run(config, settings.reactor(), wanted, listen=False).serve()


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _endpoints(door: str, given: Sequence[str]) -> tuple[str, ...] | None:
    try:
        return tuple(map(endpoints.parse, given)) or None
    except ConfigError as error:
        advice = f"--{door} 8021" if door == "ftp" else f"--{door} 8022"
        raise CommandError(f"--{door}", str(error), advice, Exit.USAGE) from None


def _warn_root() -> None:
    if os.geteuid() == 0:
        warn("running as root: a user of its own would be safer (docs/running.rst)")


def _open(wanted: Wanted, *, create: bool) -> NodeConfig:
    """Return the configuration of the node, which is made first if that is asked for."""
    exists = creation.config_path(wanted.directory) is not None
    if not exists and not create:
        advice = f"truckee start {wanted.directory}"
        why = "there is no truckee.cfg"
        raise CommandError(f"no node in {wanted.directory}", why, advice, Exit.NOT_FOUND)
    try:
        if not exists:
            plan = creation.plan(wanted.options)
            creation.check_new(wanted.directory, wanted.options, wanted.private)
            return creation.create(wanted.directory, plan, wanted.private, grid.make_stores)
        config = creation.load(wanted.directory)
        creation.check_modes(config)
        creation.check_same(config, wanted.options)
        private = wanted.private
        if private is not None and _absolute(private) != config.private:
            raise creation.GridOptionError("this node keeps its keys elsewhere")
    except (ConfigError, OSError) as error:
        what = "make" if not exists else "start" if create else "run"
        what = f"cannot {what} the node in {wanted.directory}"
        raise CommandError(what, _why(error), _advice(error, exists), code_for(error)) from None
    return config


def _why(error: Exception) -> str:
    if not isinstance(error, OSError):
        return str(error)
    where = f": {error.filename}" if error.filename is not None else ""
    return f"{error.strerror}{where}"


def _advice(error: Exception, exists: bool) -> str:
    if isinstance(error, creation.GridOptionError):
        return "the options it was made with, or none" if exists else ""
    if "open to others" in str(error):
        return "chmod go-rwx on it"
    return ""


class _Run:
    """One run of a node in this process: started in the reactor, ended by a signal or an error."""

    def __init__(
        self,
        config: NodeConfig,
        reactor: Any,  # noqa: ANN401
        wanted: Wanted,
        *,
        service: bool = False,
        listen: bool = True,
    ) -> None:
        self._config = config
        self._reactor = reactor
        self._wanted = wanted
        self._service = service
        self._listen = listen
        self._node: Node | None = None
        self._starting: Deferred[None] | None = None
        self._error: Exception | None = None
        self._mark = process.RunningFile(config.directory)

    def serve(self) -> int:
        """Run until a signal comes; return 0, or raise CommandError when the start failed."""
        try:
            self._mark.take()
        except process.AlreadyRunningError as error:
            what = f"cannot start the node in {self._config.directory}"
            raise CommandError(what, str(error), code=Exit.CONFLICT) from None
        try:
            logs.begin(self._config.directory)
            self._reactor.callWhenRunning(self._begin)
            self._heed_hangup()
            self._reactor.addSystemEventTrigger("before", "shutdown", self._end)
            self._reactor.run()
        finally:
            self._mark.release()
        if self._error is not None:
            raise self._failure(self._error)
        return Exit.OK

    def _heed_hangup(self) -> None:
        """Stop in order when the terminal goes away, unless told to go on (``nohup``)."""
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            stop = self._reactor.stop
            signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(stop))

    def _failure(self, error: Exception) -> CommandError:
        what = f"cannot start the node in {self._config.directory}"
        log = self._config.directory / "logs" / "truckee.log"
        if isinstance(error, CommandError):
            return error
        if isinstance(error, AccountError):
            return CommandError(what, str(error), "truckee account check")
        if isinstance(error, TruckeeError):
            advice = _advice(error, exists=True) or f"see {log}"
            return CommandError(what, str(error), advice, code_for(error))
        why = getattr(error, "strerror", None) or type(error).__name__
        return CommandError(what, why, f"see {log}")

    def _begin(self) -> None:
        self._starting = Deferred.fromCoroutine(self._start())
        _ = self._starting.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        error = failure.value
        self._error = error if isinstance(error, Exception) else RuntimeError("stopped")
        if not isinstance(error, CommandError | TruckeeError):
            _log.failure("the node could not be started", failure=failure)
        self._reactor.stop()

    async def _start(self) -> None:
        self._node = node = Node(self._config, self._reactor)
        await node.start_storage()
        account = first_account.existing(self._config)
        if account is None:
            storage = node.storage
            account = await first_account.create(
                self._config, storage.create_directory, passwords.generate, storage.cpu
            )
        if not self._listen:
            self._tell_created(account)
            self._reactor.stop()
            return
        places = await node.start_frontends(self._wanted.doors)
        process.notify_ready()
        self._tell_ready(account, places)

    def _end(self) -> Deferred[None]:
        """Stop the node; called by the reactor before it ends. Fires when all is closed."""
        process.notify_ready("STOPPING=1")
        cut_off = threading.Timer(_LONGEST_STOP, os._exit, (0,))
        cut_off.daemon = True
        cut_off.start()
        if self._starting is not None:
            self._starting.cancel()
        return Deferred.fromCoroutine(self._stop(cut_off))

    async def _stop(self, cut_off: threading.Timer) -> None:
        try:
            if self._node is not None:
                await self._node.stop()
        except Exception:  # noqa: BLE001 - whatever breaks, the process ends
            _log.failure("the node did not stop cleanly")
        finally:
            cut_off.cancel()

    # what is printed

    def _tell_created(self, account: FirstAccount) -> None:
        directory = str(self._config.directory)
        if self._wanted.as_json:
            say_object({"created": True, "account": account.name, "directory": directory})
            return
        say(f"Node made in {directory}")
        self._tell_account(account)
        say(f"Start    truckee start {directory}")

    def _tell_ready(self, account: FirstAccount, places: Places) -> None:
        doors = {"ftp": places.ftp, "sftp": places.sftp}
        every = {**doors, "metrics": places.metrics}
        for name, place in every.items():
            if place is not None and place.moved:
                port = _places(place)[0][1]
                shown = name if name == "metrics" else name.upper()
                warn(f"the usual {shown} port is taken by another program: using {port} this time")
        directory = str(self._config.directory)
        if self._wanted.as_json:
            found = {name: _as_fields(place) for name, place in doors.items() if place is not None}
            say_object({"ready": True, **found, "account": account.name, "directory": directory})
            return
        say(f"Truckee {version('truckee')} is up (pid {os.getpid()}), data in {directory}")
        self._tell_grid()
        say()
        self._tell_account(account)
        for name, place in doors.items():
            if place is not None:
                _tell_door(name, place, account.name)
        if places.metrics is not None:
            host, port = _places(places.metrics)[0]
            say(f"Metrics  http://{f'[{host}]' if ':' in host else host}:{port}/metrics")
        if account.name:
            _tell_what_to_try(places, account.name)
        say()
        say("Stop     SIGTERM" if self._service else "Stop     Ctrl-C")

    def _tell_grid(self) -> None:
        c = self._config
        count = len(c.stores)
        servers = "1 server" if count == 1 else f"{count} servers"
        line = f"Grid     embedded, {servers}, {c.needed}-of-{c.total} coding"
        if count == 1 or len({_device(store) for store in c.stores}) == 1:
            line += "  ! one disk: no protection against its loss"
        say(line)
        absent = self._node.storage.grid.absent if self._node is not None else 0
        if absent:
            say(f"         ! degraded: {absent} of {count} servers are not there")

    def _tell_account(self, account: FirstAccount) -> None:
        path = self._config.private / FIRST_PASSWORD
        if account.password is not None and sys.stdout.isatty() and not self._service:
            say(
                f"User     {account.name}   password  {account.password}   "
                f"(shown once; change: {self._command()} account passwd)"
            )
            path.unlink(missing_ok=True)
        elif path.exists():
            say(f"User     {account.name}   password in {path}")
        elif account.name:
            say(f"User     {account.name}")

    def _command(self) -> str:
        """Return how a command for this node begins."""
        directory = self._config.directory
        if directory == _absolute(default_directory()):
            return "truckee"
        return f"truckee -d {shlex.quote(str(directory))}"


def _device(store: Path) -> int | None:
    try:
        return store.stat().st_dev
    except OSError:
        return None


def _places(place: Place) -> list[tuple[str, int]]:
    """Return host and port of each address; one that means every interface is shown as ours."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
    hosts = [(str(getattr(a, "host", "")), int(getattr(a, "port", 0))) for a in place.addresses]
    return [(everywhere.get(host, host), port) for host, port in hosts]


def _as_fields(place: Place) -> dict[str, object]:
    host, port = _places(place)[0]
    return {"host": host, "port": port}


def _tell_door(name: str, place: Place, account: str) -> None:
    for host, port in _places(place):
        shown = f"[{host}]" if ":" in host else host
        url = f"{name}://{quote(account, safe='')}@{shown}:{port}/"
        what = "key" if name == "sftp" else "FTPS explicit, cert SHA-256"
        note = f"({what} {place.fingerprint})" if place.fingerprint else ""
        say(f"{name.upper():<9}{url:<40} {note}".rstrip())


def _tell_what_to_try(places: Places, account: str) -> None:
    if places.sftp is not None:
        host, port = _places(places.sftp)[0]
        shown = f"[{host}]" if ":" in host else host
        say(f"Try      sftp -P {port} {shlex.quote(f'{account}@{shown}')}")
    elif places.ftp is not None:
        host, port = _places(places.ftp)[0]
        shown = f"[{host}]" if ":" in host else host
        user = json.dumps(account, ensure_ascii=False)
        say(f"Try      curl -u {user} -T FILE ftp://{shown}:{port}/")
