import contextlib
import json

import pytest
from twisted.internet import reactor  # noqa: TID251 - real sockets
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from truckee.core.errors import NoServersError, ServerGoneError
from truckee.frontends.node import control
from truckee.frontends.node.control import Control


class ControlTests(TestCase):
    async def listening(self):
        from pathlib import Path

        folder = Path(self.mktemp())
        folder.mkdir(mode=0o700)

        async def echo(question):
            return {"said": question["what"]}

        async def refuse(_):
            raise NoServersError("there is no server")

        async def broken(_):
            raise RuntimeError("URI:DIR2:secret")

        handlers = {"echo": echo, "refuse": refuse, "broken": broken}
        listening = Control(folder.absolute(), reactor, handlers)
        listening.start()
        self.addCleanup(listening.stop)
        return folder.absolute()

    async def test_a_question_is_answered(self):
        folder = await self.listening()
        assert (folder / "control").stat().st_mode & 0o777 == 0o600
        answer = await deferToThread(control.ask, folder, {"do": "echo", "what": "é" * 1000})
        assert answer == {"v": 1, "said": "é" * 1000}

    @pytest.mark.threat("L1")
    async def test_what_goes_wrong_is_told_without_details_of_the_program(self):
        folder = await self.listening()
        for question, text in [
            ({"do": "refuse"}, "there is no server"),
            ({"do": "echo"}, "not understood"),
            ({"do": "absent"}, "not understood"),
            ({"do": "broken"}, "internal error"),
        ]:
            with pytest.raises(ServerGoneError) as found:
                await deferToThread(control.ask, folder, question)
            assert text in str(found.value)
        assert len(self.flushLoggedErrors(RuntimeError)) == 1

    async def test_nonsense_is_answered_too(self):
        folder = await self.listening()

        for data in (b"\n", b"[]\n", b"{\n", b"[" * 5000 + b"\n", b"\xff\n", b'{"do": []}\n'):
            assert json.loads(await deferToThread(control._exchange, folder, data)) == {
                "v": 1,
                "error": "not understood",
            }
        with contextlib.suppress(OSError):  # cut off while it is still sending
            assert await deferToThread(control._exchange, folder, b"x" * 70000) == b""

    async def test_without_a_node_there_is_an_error(self):
        from pathlib import Path

        with pytest.raises(ServerGoneError):
            control.ask(Path(self.mktemp()), {"do": "echo"})
