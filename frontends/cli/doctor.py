"""``truckee doctor``: everything about a node that can be looked at, and what is wrong with it.

Knows how findings are shown; the looking is `truckee.frontends.node.checkup`. Works whether the
node runs or not.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from truckee.core.config import NodeConfig
from truckee.core.errors import ConfigError, ServerGoneError
from truckee.frontends.cli.main import Settings
from truckee.frontends.cli.nodes import directory_argument, place_of
from truckee.frontends.cli.output import Exit, say, say_object
from truckee.frontends.node import checkup, control, creation, process, surroundings
from truckee.frontends.node.checkup import Finding
from truckee.frontends.node.logs import escape, redact

_PATIENCE = 10.0


@click.command()
@directory_argument
@click.option("--json", "as_json", is_flag=True, help="One JSON object with all findings.")
@click.pass_obj
def doctor(settings: Settings, directory: Path | None, as_json: bool) -> int:
    """Look whether a node is in order."""
    place = place_of(settings, directory)
    try:
        config = creation.load(place)
    except ConfigError as error:
        found = [Finding("FAIL", "configuration", str(error), "docs/configuration.rst")]
    else:
        found = _examine(config)
    levels = {finding.level for finding in found}
    worst = "FAIL" if "FAIL" in levels else "warn" if "warn" in levels else "ok"
    if as_json:
        say_object({"worst": worst, "findings": [_fields(finding) for finding in found]})
    else:
        for finding in found:
            _tell(finding)
    return {"ok": Exit.OK, "warn": Exit.PARTLY, "FAIL": Exit.FAILED}[worst]


def _examine(config: NodeConfig) -> list[Finding]:
    pid = process.running_pid(config.directory)
    status: Any = None
    if pid is not None:
        with suppress(ServerGoneError):
            status = control.ask(config.private, {"do": "status"}, _PATIENCE)
    return checkup.of_directory(config) + surroundings.of_machine(config, status, pid)


def _fields(finding: Finding) -> dict[str, object]:
    texts = {"text": redact(finding.text), "advice": finding.advice}
    return {"level": finding.level, "check": finding.check, **texts}


def _tell(finding: Finding) -> None:
    advice = f"  ({finding.advice})" if finding.advice else ""
    line = f"{finding.level:<5}{finding.check:<14}{finding.text}{advice}"
    say(escape(redact(line)))
