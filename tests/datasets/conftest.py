"""A data folder, torchvision, and a server on this machine."""

from __future__ import annotations

import contextlib
import functools
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The data folder."""
    (tmp_path / "kept").mkdir()
    return tmp_path / "kept"


@pytest.fixture
def torchvision() -> Any:
    """torchvision.datasets."""
    pytest.importorskip("torchvision", reason="it downloads and unpacks named data sets")
    from torchvision import datasets  # type: ignore[import-untyped]  # it ships no types

    return datasets


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address on this machine under which its files can be fetched."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Tests say nothing."""

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """torchvision hangs up on its first request, which only asks where an address leads."""

    server = Server(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def nowhere() -> str:
    """An address on this machine where nobody answers."""
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/"
