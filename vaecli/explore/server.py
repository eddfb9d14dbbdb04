"""A server of one page, for the browser of this machine alone."""

from __future__ import annotations

import contextlib
import errno
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from vaecli.errors import VaeError

HOST = "127.0.0.1"
TRIED = 100  # ports after the one that is asked for
TIMEOUT = 10  # seconds that a connection may stay silent
# The page brings a content security policy of its own. These hold for every answer.
HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class PageServer(ThreadingHTTPServer):
    """Serves `/` and nothing else. A context manager."""

    daemon_threads = True
    allow_reuse_address = False  # a port that somebody listens at is in use

    def __init__(self, page: bytes, port: int) -> None:
        """Bind to `port` of the loopback address, or to the next one that is free.

        Raises:
            VaeError: none of them is free, or this system gives no port.
        """
        self.page = page
        for candidate in range(port, min(port + TRIED, 2**16)):
            try:
                super().__init__((HOST, candidate), _Handler)
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise VaeError(f"`port` {candidate}: {error.strerror}", "name another one") from error
            else:
                return
        raise VaeError(f"`port` {port}: in use, and those after it", "name another one")

    @property
    def port(self) -> int:
        """The port that it is bound to."""
        return int(self.server_address[1])

    @property
    def address(self) -> str:
        """What a browser opens."""
        return f"http://{HOST}:{self.port}/"

    @property
    def hosts(self) -> set[str]:
        """The names that a request may have for this server. Others that DNS leads here are refused (DNS rebinding).

        A browser leaves out the port of http.
        """
        names = {HOST, "localhost"}
        return {f"{name}:{self.port}" for name in names} | (names if self.port == 80 else set())


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    server_version, sys_version = "vae", ""
    timeout = TIMEOUT

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        if self.headers.get("Host") not in self.server.hosts:
            status, kind, content = HTTPStatus.MISDIRECTED_REQUEST, "text/plain", b"Open 127.0.0.1 instead.\n"
        elif self.path.partition("?")[0] != "/":
            status, kind, content = HTTPStatus.NOT_FOUND, "text/plain", b"There is one page here, at /.\n"
        else:
            status, kind, content = HTTPStatus.OK, "text/html", self.server.page
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        with contextlib.suppress(ConnectionError):  # a browser may stop loading
            self.end_headers()
            if body:
                self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class has the name
        """Say nothing about requests."""
