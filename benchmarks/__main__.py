"""``make bench``: the figures that matter, as ratios taken in one run; writes RESULTS.rst.

python -m benchmarks [--quick] [--only files,sftp,clients]

files, stages, small, ftp, memory: the core and FTP. sftp: large and small files beside the servers
people would use instead and stock Tahoe-LAFS; ftp-peers: the same for FTP. clients: fifty at once.
names: long directories. logins: with passwords and keys. slow: a wire with delay.
bare-sftp: the frontend over a core that does nothing.
"""

import argparse
import datetime
import os
import platform
import shutil
import tempfile
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from benchmarks import (
    bare_sftp,
    crowd,
    directories,
    files,
    ftp,
    ftp_peers,
    logins,
    memory,
    names,
    sftp,
    slow,
    stages,
)
from benchmarks.fleet import Fleet
from benchmarks.measure import MB, Report, random_file
from truckee.frontends.node import process

BESIDE = {
    "ftp-peers": ftp_peers.measure,
    "sftp": sftp.measure,
    "clients": crowd.measure,
    "logins": logins.measure,
    "slow": slow.measure,
    "bare-sftp": bare_sftp.measure,
}
ALL = ("files", "stages", "small", "ftp", "memory", *BESIDE, "names")
RESULTS = Path(__file__).parent / "RESULTS.rst"


async def run(options: argparse.Namespace, folder: Path, report: Report) -> None:
    size = (50 if options.quick else 200) * MB
    rounds = 1 if options.quick else 3
    only = set(options.only.split(","))
    source = random_file(folder / "source", size)
    if "files" in only:
        for servers in (10, 1):
            await files.measure(report, folder, source, servers, rounds)
    if "stages" in only:
        stages.measure(report, folder, source)
    if "small" in only:
        await directories.measure(report, folder, rounds)
    if "ftp" in only:
        for servers in (10, 1):
            await ftp.measure(report, folder, servers, size, 2 * rounds)
    if "memory" in only:
        memory.measure(report, folder, quick=options.quick)
    with Fleet(folder, report) as fleet:
        for name, measure in BESIDE.items():
            if name in only:
                measure(report, folder, fleet, quick=options.quick)
        if "names" in only:
            await names.measure(report, folder, fleet, quick=options.quick)


def write_results(report: Report) -> None:
    lines = [
        "Results",
        "=======",
        "",
        f"``make bench`` on {datetime.date.today():%Y-%m-%d}: {os.cpu_count()} cores, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}.",
        "Medians, with the spread in brackets; only ratios within one run mean anything.",
        "",
        ".. list-table::",
        "   :header-rows: 1",
        "",
    ]
    header = ("Item", "Truckee", "Against", "Ratio", "Gate", "")
    rows = [
        (
            r.item,
            r.figure,
            r.against,
            r.ratio,
            r.gate,
            {None: "", True: "reached", False: "missed"}[r.reached],
        )
        for r in report.rows
    ]
    for row in [header, *rows]:
        for i, cell in enumerate(row):
            lines.append(f"   {'* -' if i == 0 else '  -'} {cell.strip()}".rstrip())
    lines += ["", *(line for note in report.notes for line in (f"* {note}",)), ""]
    RESULTS.write_text("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller and once; writes no results")
    parser.add_argument("--only", default=",".join(ALL))
    parser.add_argument("--folder", help="where the stores are made; default a temporary one")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    report = Report()
    process.tune()  # as a node does

    async def everything() -> None:
        try:
            await run(options, folder, report)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if not options.quick and options.only == parser.get_default("only"):
            write_results(report)

    react(lambda _: Deferred.fromCoroutine(everything()))


if __name__ == "__main__":
    main()
