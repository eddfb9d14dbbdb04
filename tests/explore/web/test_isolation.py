"""What neither a model nor a name in it may do: run code, send anything, or become a part of the page."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.explore.browser import Browser
from tests.explore.visitor import click, latent, on_the_plane, text
from tests.tiny_model import name_data, write_pair
from vaecli import load

HOSTILE = "</title></script><script>globalThis.ran = 1</script><img src=x onerror='globalThis.ran = 1'><!--"


def test_names_are_shown_as_text(browser: Browser, tmp_path: Path) -> None:
    run = write_pair(tmp_path / "run")
    name_data(run, HOSTILE)
    (tmp_path / "page.html").write_bytes(load(run, "cpu").page(run=HOSTILE))
    browser.open((tmp_path / "page.html").as_uri())
    assert text(browser, "#name") == HOSTILE
    assert HOSTILE in text(browser, "#facts")
    assert browser.run("document.title") == f"{HOSTILE} · vae explore"
    assert browser.run("document.querySelectorAll('img, body script:not([type])').length") == 0
    assert browser.run("globalThis.ran") is None
    assert browser.problems == []


def test_names_of_classes_are_shown_as_text(colour_page: Browser) -> None:
    assert "<i>" in colour_page.run("[...document.querySelectorAll('#legend button')].map((e) => e.textContent)")
    inside = "[...document.querySelectorAll('#legend button')].map((e) => e.children.length)"
    assert set(colour_page.run(inside)) == {1}, "a dot in each, and nothing else"
    captions = colour_page.run("[...document.querySelectorAll('#neighbours figcaption')].map((e) => e.textContent)")
    click(colour_page, f"#neighbours figure:nth-child({captions.index('<i>') + 1}) button")
    across, down = on_the_plane(colour_page, latent(colour_page))
    _, _, side, _ = colour_page.box("#plane")
    colour_page.hover("#plane", across * side, down * side)
    assert text(colour_page, "#tip-text") == "<i>"
    assert colour_page.run("document.querySelectorAll('#neighbours i, #label i, #sample-label i, #tip i').length") == 0


@pytest.mark.parametrize(
    "attempt",
    [
        "(() => { const s = document.createElement('script'); s.textContent = 'globalThis.ran = 1';"
        " document.body.append(s); })()",
        "(() => { const e = document.createElement('div'); e.innerHTML = '<b onclick=\"globalThis.ran = 1\">b</b>';"
        " document.body.append(e); e.firstChild.click(); e.remove(); })()",
        "(() => { try { eval('globalThis.ran = 1'); } catch {} })()",
        "(() => { const s = document.createElement('script'); s.src = 'data:text/javascript,globalThis.ran=1';"
        " document.body.append(s); })()",
    ],
    ids=["script", "attribute", "eval", "address"],
)
def test_no_other_code_runs(page: Browser, attempt: str) -> None:
    page.run("globalThis.ran = 0")
    page.run(attempt)
    page.run("new Promise((done) => setTimeout(done, 100))")
    assert page.run("globalThis.ran") == 0
    page.problems.clear()  # what the policy refused
    page.requests.clear()


@pytest.mark.parametrize(
    "attempt",
    [
        "fetch('http://ELSEWHERE/').catch(() => 0)",
        "(() => { new Image().src = 'http://ELSEWHERE/picture.png'; })()",
        "(() => { navigator.sendBeacon('http://ELSEWHERE/', 'a'); })()",
        "(() => { try { new WebSocket('ws://ELSEWHERE/'); } catch {} })()",
        "(() => { const f = document.createElement('form'); f.action = 'http://ELSEWHERE/'; document.body.append(f);"
        " f.submit(); f.remove(); })()",
        "(() => { const f = document.createElement('iframe'); f.src = 'http://ELSEWHERE/'; document.body.append(f);"
        " setTimeout(() => f.remove(), 50); })()",
        "(() => { const l = document.createElement('link'); l.rel = 'stylesheet'; l.href = 'http://ELSEWHERE/a.css';"
        " document.head.append(l); })()",
    ],
    ids=["fetch", "image", "beacon", "socket", "form", "frame", "style"],
)
def test_nothing_leaves_the_page(page: Browser, attempt: str) -> None:
    """Nobody is sent anything by a page that tries to."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.2)
        page.run(attempt.replace("ELSEWHERE", f"127.0.0.1:{listener.getsockname()[1]}"))
        assert received(listener) == b""
    assert_refused(page)


def received(listener: socket.socket) -> bytes:
    """What comes in within a moment. A browser may connect before it asks its policy, but then sends nothing."""
    try:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(0.2)
            return connection.recv(100)
    except TimeoutError:
        return b""


def assert_refused(page: Browser) -> None:
    """The page's policy has refused something."""
    page.settle()
    refused = [problem for problem in page.problems if "Content Security Policy" in problem]
    page.problems.clear()
    page.requests.clear()
    assert refused
