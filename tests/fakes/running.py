"""``truckee`` as a process: started, read, stopped."""

import ftplib
import json
import os
import select
import subprocess
import sys
from contextlib import closing
from pathlib import Path

TRUCKEE = Path(sys.executable).parent / "truckee"
LOCAL = "tcp:0:interface=127.0.0.1"
ANYWHERE = ("--ftp", LOCAL, "--sftp", LOCAL)
ENVIRONMENT = {**os.environ, "USER": "ann", "LOGNAME": "ann"}


class Running:
    """One process of ours."""

    def __init__(self, *words, stdin=subprocess.DEVNULL):
        self.errors = Path(str(words[1])).parent / "errors"
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [TRUCKEE, *map(str, words)],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=ENVIRONMENT,
            )

    def line(self, seconds=60):
        waited, _, _ = select.select([self.process.stdout], [], [], seconds)
        return self.process.stdout.readline().decode() if waited else ""

    def ready(self):
        text = self.line()
        assert text, self.errors.read_text()
        return json.loads(text)

    def wait(self, seconds=45):
        code = self.process.wait(seconds)
        self.rest = self.process.stdout.read().decode()
        self.process.stdout.close()
        return code

    def stop(self):
        self.process.terminate()
        return self.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        if not self.process.stdout.closed:
            self.wait()


def command(*words):
    """Run to the end; return code, output, errors."""
    done = subprocess.run(
        [TRUCKEE, *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def login(ready, password):
    ftp = ftplib.FTP(timeout=30)
    try:
        ftp.connect(ready["ftp"]["host"], ready["ftp"]["port"])
        ftp.login(ready["account"], password)
    except BaseException:
        ftp.close()
        raise
    return closing(ftp)
