"""Small web servers on loopback that write down what they are told."""

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as _reactor  # noqa: TID251 - real sockets
from twisted.internet.defer import maybeDeferred
from twisted.internet.protocol import Factory, Protocol
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

reactor: Any = _reactor


class Heard:
    """One request."""

    def __init__(self, request: Request) -> None:
        self.method = request.method
        self.path = request.path
        self.headers = {k.lower(): v[0] for k, v in request.requestHeaders.getAllRawHeaders()}
        self.fields = request.args or {}
        content: Any = request.content
        content.seek(0)
        self.body = content.read()


class Answering(Resource):
    """Answers everything in one way."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.status = 200
        self.body = b"0"
        self.fields: dict[str, str] = {}
        self.heard: list[Heard] = []
        self.silent = False
        self.open: list[Request] = []
        self.most = 0

    def render(self, request: Request) -> Any:
        self.heard.append(Heard(request))
        self.open.append(request)
        self.most = max(self.most, len(self.open))
        request.notifyFinish().addBoth(lambda _: self.open.remove(request))
        if not self.silent:
            self.answer(request)
        return NOT_DONE_YET

    def answer(self, request: Request) -> None:
        request.setResponseCode(self.status)
        for name, value in self.fields.items():
            request.setHeader(name, value)
        request.write(self.body)
        request.finish()


class Server:
    """A listening one."""

    def __init__(
        self, certificate: Any = None, interface: str = "127.0.0.1", factory: Factory | None = None
    ) -> None:
        self.answering = Answering()
        self.site = factory or Site(self.answering, reactor=reactor)
        self.site.noisy = False
        if factory is None:
            self.site.displayTracebacks = False
        if certificate is None:
            self.port = reactor.listenTCP(0, self.site, interface=interface)
        else:
            self.port = reactor.listenSSL(0, self.site, certificate, interface=interface)
        self.number = self.port.getHost().port
        self.url = f"{'http' if certificate is None else 'https'}://localhost:{self.number}/login"

    async def stop(self) -> None:
        await maybeDeferred(self.port.stopListening)


class Raw(Factory):
    """Takes whatever comes and begins to talk by a function of the connection."""

    noisy = False

    def __init__(self, talk: Callable[[Any], object]) -> None:
        self.talk = talk
        self.received: list[bytes] = []
        self.connections: list[Any] = []
        self.lost = 0

    def buildProtocol(self, addr: object) -> Protocol:
        factory = self

        class Talking(Protocol):
            def connectionMade(self) -> None:
                factory.connections.append(self.transport)

            def dataReceived(self, data: bytes) -> None:
                first = not factory.received
                factory.received.append(data)
                if first:
                    factory.talk(self.transport)

            def connectionLost(self, reason: object = None) -> None:
                factory.lost += 1

        return Talking()
