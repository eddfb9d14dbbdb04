"""One HTML file with a model, the program that explores it, and ONNX Runtime Web: it needs no server and no network.

The page's content security policy allows the two scripts and the style in it by their hashes, and nothing else: no
other code runs, and nothing is requested from anywhere.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import re
from functools import cache
from importlib.resources import files

from vaecli import model_format
from vaecli.errors import VaeError
from vaecli.explore.contents import Contents
from vaecli.inference.pair import Pair
from vaecli.untrusted_text import json_line

LARGEST_MODEL = 2**26  # bytes of its files: a browser holds the page as text, twice

RUNTIME = "ort.wasm.bundle.min.mjs"
RUNTIME_BINARY = "ort-wasm-simd-threaded.wasm.gz"
LICENCES = ("LICENSE", "ThirdPartyNotices.txt")  # of the runtime and what is in it: they go where it goes
# In this order, so that what a module imports stands before it. They become one script: names at the top of a module
# must not be in another one.
MODULES = (
    "embedded.js",
    "noise.js",
    "prior.js",
    "elements.js",
    "notices.js",
    "newest.js",
    "pictures.js",
    "flow.js",
    "network.js",
    "points.js",
    "state.js",
    "address.js",
    "scatter.js",
    "backdrop.js",
    "drawing.js",
    "licences.js",
    "cards/here.js",
    "cards/plane.js",
    "cards/sliders.js",
    "cards/samples.js",
    "cards/own.js",
    "cards/mix.js",
    "app.js",
)

_IMPORT = re.compile(r"^import [^;]*;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export ", re.MULTILINE)
_NAMES = re.compile(r"export\{([^{}]*)\};\s*(//[^\n]*)?\s*$")  # the last statement of the runtime


def build(model: Pair, contents: Contents) -> bytes:
    """The page of a model, in UTF-8.

    Raises:
        VaeError: the model has no decoder, or its files are too large for a page.
    """
    graphs = {name: file.content for name, file in model.files.items()}
    size = sum(map(len, graphs.values()))
    if model_format.DECODER_FILE not in graphs:
        raise VaeError(f"{model.folder / model_format.DECODER_FILE}: no such file", "copy it beside the other files")
    if size > LARGEST_MODEL:
        problem = f"{model.folder}: its files have {size / 1e6:.0f} MB, a page takes up to {LARGEST_MODEL / 1e6:.0f} MB"
        raise VaeError(problem, "vae sample, traverse and manifold draw it without a browser")
    blocks = [
        _block("contents", json_line(contents.facts).replace("<", r"\u003c"), "application/json"),
        _packed("latents", contents.latents.astype("<f4").tobytes()),
        _packed("sheet", contents.sheet),
        *(_packed(name.removesuffix(".onnx"), content) for name, content in graphs.items()),
        _block("runtime", _base64(_vendored(RUNTIME_BINARY))),
        _packed("licences", b"\n\n".join(map(_vendored, LICENCES))),
    ]
    style, runtime, program = _source("style.css"), _runtime(), _program()
    parts = {
        "policy": policy(style, runtime, program),
        "title": html.escape(f"{contents.facts.name} · vae explore"),
        "style": style,
        "blocks": "\n".join(blocks),
        "runtime": runtime,
        "program": program,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _source("index.html")).encode()


def policy(style: str, *scripts: str) -> str:
    """The content security policy: this style and these scripts, WebAssembly, pictures made on the page."""
    allowed = " ".join(_hash(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed} 'wasm-unsafe-eval'; style-src {_hash(style)}; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _block(name: str, text: str, kind: str = "application/octet-stream;base64") -> str:
    """Data in the page: a browser runs no script of such a type."""
    return f'<script type="{kind}" id="embedded-{name}">{text}</script>'


def _packed(name: str, content: bytes) -> str:
    return _block(name, _base64(gzip.compress(content, mtime=0)) if content else "")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


@cache
def _program() -> str:
    """The modules as one script, without the imports and exports between them."""
    return "".join(_EXPORT.sub("", _IMPORT.sub("", _source(name))) for name in MODULES)


@cache
def _runtime() -> str:
    """ONNX Runtime Web as a script that gives its names to the other one: a module in a page exports nothing."""
    source = _vendored(RUNTIME).decode()
    exported = _NAMES.search(source)
    assert exported is not None, "ONNX Runtime Web ends with its exports"
    pairs = [name.partition(" as ")[::2] for name in exported[1].split(",")]
    names = ",".join(f"{public or local}:{local}" for local, public in pairs)
    return f"{source[: exported.start()]}globalThis.ort={{{names}}};"


def _source(name: str) -> str:
    return files("vaecli.explore").joinpath("web", name).read_text("utf-8")


def _vendored(name: str) -> bytes:
    return files("vaecli.explore").joinpath("vendor", name).read_bytes()
