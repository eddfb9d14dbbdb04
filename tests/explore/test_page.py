"""The one HTML file, read as a browser reads it, but not run."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.tiny_model import name_data, write_pair
from vaecli import VaeError, load
from vaecli.explore import page


class Parsed(HTMLParser):
    """The scripts, the style, the title and the policy of a page."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.texts: dict[str, str] = {}
        self.policy = ""
        self.addresses: list[str] = []
        self._open = ""
        self.feed(content.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self._open = tag
        if tag == "script":
            self.scripts.append((found, ""))
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"] or ""
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action") and value]

    def handle_data(self, data: str) -> None:
        if self._open == "script" and self.scripts:
            attributes, text = self.scripts[-1]
            self.scripts[-1] = attributes, text + data
        elif self._open in ("title", "style"):
            self.texts[self._open] = self.texts.get(self._open, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def block(self, name: str) -> str:
        return next(text for attributes, text in self.scripts if attributes.get("id") == f"embedded-{name}")


def test_the_model_is_in_the_page(digits: Path) -> None:
    parsed = Parsed(load(digits, "cpu").page())
    for name in ("encoder", "decoder"):
        content = gzip.decompress(base64.b64decode(parsed.block(name)))
        assert content == (digits / f"{name}.onnx").read_bytes()


def test_the_policy_allows_what_is_in_the_page_and_nothing_else(grey: Path) -> None:
    parsed = Parsed(load(grey, "cpu").page())
    rules = dict(rule.strip().split(" ", 1) for rule in parsed.policy.split(";"))
    code = [text for attributes, text in parsed.scripts if attributes["type"] == "module"]
    hashes = {f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in code}
    assert len(hashes) == 2
    assert set(rules["script-src"].split()) == {*hashes, "'wasm-unsafe-eval'"}
    assert rules["default-src"] == "'none'"
    assert "unsafe-inline" not in parsed.policy
    assert parsed.addresses == ["data:,"]


def test_text_of_others_cannot_leave_its_place(grey: Path, tmp_path: Path) -> None:
    hostile = "</title></script><script>alert(1)</script><!--{{program}}\u202e&"
    run = write_pair(tmp_path / "run")
    name_data(run, hostile)
    content = load(run, "cpu").page()
    parsed, plain = Parsed(content), Parsed(load(grey, "cpu").page())
    assert len(parsed.scripts) == len(plain.scripts)
    shown = hostile.replace("\u202e", "?")
    assert json.loads(parsed.block("contents"))["name"] == shown
    assert parsed.texts["title"] == f"{shown} · vae explore"
    assert b"<script>alert" not in content


def test_a_model_too_large_for_a_page(grey: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "LARGEST_MODEL", 2000)
    with pytest.raises(VaeError, match="its files have 0 MB, a page takes up to 0 MB"):
        load(grey, "cpu").page()


def test_a_model_without_a_decoder(tmp_path: Path) -> None:
    run = write_pair(tmp_path / "run")
    (run / "decoder.onnx").unlink()
    with pytest.raises(VaeError, match=r"decoder\.onnx: no such file"):
        load(run, "cpu").page()


def test_the_runtime_is_the_one_of_the_sums() -> None:
    """Vendored files are those that the committed SHA-256 sums name, in the version that is named with them."""
    folder = Path(page.__file__).parent / "vendor"
    version, *sums = (folder / "SHA256SUMS").read_text().splitlines()
    known = {name: digest for digest, name in map(str.split, sums)}
    found = {name: (folder / name).read_bytes() for name in (page.RUNTIME, *page.LICENCES)}
    found[page.RUNTIME_BINARY.removesuffix(".gz")] = gzip.decompress((folder / page.RUNTIME_BINARY).read_bytes())
    assert {name: hashlib.sha256(content).hexdigest() for name, content in found.items()} == known
    assert f"ONNX Runtime Web v{version.split()[-1]}".encode() in found[page.RUNTIME]


def test_no_name_stands_in_two_modules() -> None:
    """The modules are joined to one script, and each must come after those that it imports."""
    folder = Path(page.__file__).parent / "web"
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.js")} == set(page.MODULES)
    names: list[str] = []
    for position, module in enumerate(page.MODULES):
        source = (folder / module).read_text()
        names += re.findall(r"^(?:export )?(?:async )?(?:function|class|const|let) (\w+)", source, re.MULTILINE)
        for needed in re.findall(r'^import [^;]* from "([^"]+)";$', source, re.MULTILINE):
            imported = (folder / module).parent.joinpath(needed).resolve().relative_to(folder).as_posix()
            assert page.MODULES.index(imported) < position, f"{module} imports {needed}"
    assert len(names) == len(set(names)), {name for name in names if names.count(name) > 1}
