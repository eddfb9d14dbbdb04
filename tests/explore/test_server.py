"""The server of the page: what it answers, and to whom."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from vaecli import VaeError
from vaecli.explore import server
from vaecli.explore.server import HOST, PageServer

PAGE = b"<!doctype html>a page"


@pytest.fixture
def served() -> Iterator[PageServer]:
    with PageServer(PAGE, free_port()) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def ask(
    running: PageServer, method: str = "GET", path: str = "/", host: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(HOST, running.port, timeout=10)
    connection.request(method, path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return found


def test_it_serves_one_page(served: PageServer) -> None:
    status, headers, body = ask(served)
    assert (status, body) == (200, PAGE)
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "frame-ancestors 'none'"
    assert headers["cache-control"] == "no-store"
    assert ask(served, path="/?from=a-mail")[2] == PAGE
    assert ask(served, method="HEAD")[::2] == (200, b"")


@pytest.mark.parametrize("path", ["/favicon.ico", "/../pyproject.toml", "/index.html", "/%2e%2e/etc/passwd"])
def test_it_serves_nothing_else(served: PageServer, path: str) -> None:
    assert ask(served, path=path)[0] == 404


def test_a_browser_that_stops_loading_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    with PageServer(1000 * PAGE, free_port()) as running, socket.socket() as client:
        client.connect((HOST, running.port))
        client.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}:{running.port}\r\n\r\n".encode())
        reset = struct.pack("ii", 1, 0)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        client.close()
        running.daemon_threads = False  # the end of the block waits for the answer
        running.handle_request()
    assert capsys.readouterr().err == ""


def test_a_name_of_somebody_else_is_refused(served: PageServer) -> None:
    """A page of the web whose name leads here by DNS sends that name."""
    for host in ("evil.example", f"evil.example:{served.port}", HOST, f"{HOST}:1"):
        status, _, body = ask(served, host=host)
        assert status == 421
        assert PAGE not in body
    assert ask(served, host=f"localhost:{served.port}")[0] == 200


def test_a_browser_leaves_out_the_port_of_http(served: PageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert HOST not in served.hosts
    monkeypatch.setattr(PageServer, "port", 80)
    assert {HOST, "localhost", f"{HOST}:80"} <= served.hosts


def test_other_methods_are_refused(served: PageServer) -> None:
    assert ask(served, method="POST")[0] == 501


def test_it_is_bound_to_the_loopback_address(served: PageServer) -> None:
    assert served.server_address[0] == "127.0.0.1"


def test_the_next_port_where_one_is_in_use(served: PageServer) -> None:
    with PageServer(PAGE, served.port) as other:
        assert served.port < other.port <= served.port + server.TRIED
        assert other.address == f"http://127.0.0.1:{other.port}/"


def test_no_port_is_free(served: PageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "TRIED", 1)
    with pytest.raises(VaeError, match="in use"):
        PageServer(PAGE, served.port)
