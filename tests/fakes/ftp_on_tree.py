"""FTP on transports in memory over a real filestore session on a grid in memory."""

from tests.fakes.fake_vfs import FakePortal, fake_checker
from tests.fakes.ftp_wire import Client, Server, final_replies
from tests.fakes.tree import Tree


class TreeServer:
    """One FTP server for one session of a tree; `ask` turns the clocks until the final reply."""

    def __init__(self, tree: Tree, session) -> None:
        self.tree = tree
        self.server = Server(vfs=session, portal=FakePortal(fake_checker(session)))
        self.client: Client = self.server.login()

    def ask(self, line: str | bytes, finals: int = 1) -> str:
        text = self.client.ask(line)
        for _ in range(400):
            if self._ended(text, finals):
                return text
            self.tree.clock.advance(0.25)
            self.server.reactor.advance(0.01)
            text += self.client.text()
        raise AssertionError(f"no final reply to {line!r}: {text!r}")

    @staticmethod
    def _ended(text: str, finals: int) -> bool:
        try:
            return len(final_replies(text)) >= finals
        except AssertionError:
            return False

    def transfer(self, line: str | bytes, data: bytes | None = None) -> tuple[str, bytes]:
        """Return the replies, and what came over the data connection."""
        self.ask("EPSV")
        wire = self.client.join()
        text = self.client.ask(line)
        if data is not None:
            wire.feed(data)
            wire.lose()
        for _ in range(400):
            if self._ended(text, 1):
                break
            self.tree.clock.advance(0.25)
            self.server.reactor.advance(0.05)
            text += self.client.text()
        out = wire.out
        if wire.closed is None:
            wire.lose()
        return text, out
