"""Damage to the bytes of a file: anywhere, in its text, or in what is packed in it, whose checksums are made right."""

from __future__ import annotations

import gzip
import io
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import TypeAlias

Change: TypeAlias = Callable[[random.Random, bytes], bytes]
Inside: TypeAlias = Callable[[random.Random, bytes, Change], bytes]  # applies a change to a part of a file

INTEGERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
NUMBERS = (
    "-1", "0", "-0.0", "1e999", "-1e-999", "NaN", "nan", "Infinity", "inf", "1.5", "99999999999999999999", "9" * 400,
    "9" * 5000, "0x10", "1_000", "true", "null", "١٢",
)  # fmt: skip
TEXTS = (
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x00", "\n", "\r\n", "\r", "\t", "\ufeff", "\u202e", "\u2028", '"', "'",
    "\\", "{", "}", "[", "]", ",", ":", "=", "#", "`", "%s", "../../../etc/passwd", "/dev/null", "a" * 5000, "\\ud800",
    "\\u001b", "error: fake",
)  # fmt: skip
DEEP = ("[" * 3000, "{" * 3000, '{"a":' * 3000, "(" * 3000)


def damage(rng: random.Random, content: bytes) -> bytes:
    """One to four changes to bytes anywhere."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        change: Change = rng.choice(_CHANGES)
        content = change(rng, content)
    return content


def _flip(rng: random.Random, content: bytes) -> bytes:
    changed, at = bytearray(content), _place(rng, content)
    changed[at : at + 1] = bytes([(changed[at] if changed else 0) ^ 1 << rng.randrange(8)])
    return bytes(changed)


def _set(rng: random.Random, content: bytes) -> bytes:
    at = _place(rng, content)
    return content[:at] + bytes([rng.choice((0, 1, 0x20, 0x7F, 0x80, 0xFF, rng.randrange(256)))]) + content[at + 1 :]


def _number(rng: random.Random, content: bytes) -> bytes:
    at, size = _place(rng, content), rng.choice((2, 4, 8))
    value = rng.choice(INTEGERS) & ((1 << 8 * size) - 1)
    return content[:at] + value.to_bytes(size, rng.choice(("big", "little"))) + content[at + size :]


def _cut(rng: random.Random, content: bytes) -> bytes:
    return content[: _place(rng, content)]


def _delete(rng: random.Random, content: bytes) -> bytes:
    at = _place(rng, content)
    return content[:at] + content[at + rng.randint(1, 64) :]


def _insert(rng: random.Random, content: bytes) -> bytes:
    at = _place(rng, content)
    return content[:at] + rng.randbytes(rng.randint(1, 64)) + content[at:]


def _repeat(rng: random.Random, content: bytes) -> bytes:
    at = _place(rng, content)
    part = content[at : at + rng.randint(1, 64)]
    return content[:at] + part * rng.choice((2, 3, 100, 2000)) + content[at:]


def _swap(rng: random.Random, content: bytes) -> bytes:
    first, second, third = sorted(_place(rng, content) for _ in range(3))
    return content[:first] + content[second:third] + content[first:second] + content[third:]


def _place(rng: random.Random, content: bytes) -> int:
    """A place in the content, often near its beginning, where headers are."""
    return rng.randrange(min(len(content), 128) if rng.random() < 0.4 else len(content)) if content else 0


_CHANGES: tuple[Change, ...] = (_flip, _flip, _set, _number, _number, _cut, _delete, _insert, _repeat, _swap)


def damage_text(rng: random.Random, content: bytes) -> bytes:
    """One or two changes that keep most of a text a text: its numbers, names, lines and nesting."""
    for _ in range(rng.choice((1, 1, 2))):
        kind = rng.randrange(6)
        if kind == 0:
            content = _replaced(rng, content, rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", rng.choice(NUMBERS).encode())
        elif kind == 1:
            content = _replaced(rng, content, rb"[A-Za-z_][\w-]*", rng.choice((*TEXTS, *NUMBERS)).encode())
        elif kind == 2:
            at = _place(rng, content)
            content = content[:at] + rng.choice((*TEXTS, *DEEP)).encode() + content[at:]
        elif kind == 3:
            lines = content.splitlines(keepends=True) or [b""]
            at = rng.randrange(len(lines))
            lines[at : at + 1] = lines[at : at + 1] * rng.choice((0, 2, 50))
            content = b"".join(lines)
        elif kind == 4:
            at = _place(rng, content)
            content = content[:at] + rng.choice((b"\xe4", b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80")) + content[at:]
        else:
            content = damage(rng, content)
    return content


def _replaced(rng: random.Random, content: bytes, pattern: bytes, text: bytes) -> bytes:
    found = list(re.finditer(pattern, content))
    if not found:
        return content + text
    one = rng.choice(found)
    return content[: one.start()] + text + content[one.end() :]


def in_png(rng: random.Random, content: bytes, change: Change) -> bytes:
    """Change one chunk of a PNG; its length and checksum are made right."""
    chunks, at = list[tuple[bytes, bytes]](), 8
    while at + 12 <= len(content):
        (size,) = struct.unpack_from(">I", content, at)
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    index = rng.randrange(len(chunks))
    kind, data = chunks[index]
    changed = zlib.compress(change(rng, zlib.decompress(data))) if kind == b"IDAT" else change(rng, data)
    chunks[index] = (kind, changed)
    if rng.random() < 0.2:
        chunks.insert(rng.randrange(len(chunks)), (rng.choice((b"tEXt", b"iCCP", b"eXIf", b"PLTE", b"tRNS")), changed))
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return content[:8] + b"".join(parts)


def in_zip(rng: random.Random, content: bytes, change: Change) -> bytes:
    """Change one member of a ZIP archive, or its name; the checksums are made right."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(result, "w", rng.choice((0, 8))) as changed:
        chosen = rng.choice(archive.namelist())
        for name in archive.namelist():
            data = archive.read(name)
            if name == chosen and rng.random() < 0.1:
                name = change(rng, name.encode()).decode("latin-1").replace("\0", "") or "x"
            elif name == chosen:
                data = change(rng, data)
            changed.writestr(name, data)
    return result.getvalue()


def in_gzip(rng: random.Random, content: bytes, change: Change) -> bytes:
    """Change what a .gz holds."""
    return gzip.compress(change(rng, gzip.decompress(content)), 1, mtime=0)


def in_npy_header(rng: random.Random, content: bytes, change: Change) -> bytes:
    """Change the text that a .npy begins with; its length is made right."""
    (size,) = struct.unpack_from("<H", content, 8)
    header = change(rng, content[10 : 10 + size])[:0xFFFF]
    return content[:8] + struct.pack("<H", len(header)) + header + content[10 + size :]


def in_npz_header(rng: random.Random, content: bytes, change: Change) -> bytes:
    """The same in an .npz."""
    return in_zip(rng, content, lambda rng, member: in_npy_header(rng, member, change) if len(member) > 10 else member)


def in_onnx_metadata(rng: random.Random, content: bytes, change: Change) -> bytes:
    """Change the JSON in an .onnx; the protobuf around it stays whole."""
    import onnx

    model = onnx.load_from_string(content)
    text = change(rng, model.metadata_props[0].value.encode()).decode("utf-8", "replace")
    model.metadata_props[0].value = text
    return bytes(model.SerializeToString())


def in_onnx_graph(rng: random.Random, content: bytes, change: Change) -> bytes:
    """Change a node, a size or a weight of an .onnx; the protobuf stays whole."""
    import onnx

    model = onnx.load_from_string(content)
    graph, kind = model.graph, rng.randrange(5)
    if kind == 0:
        rng.choice(graph.node).op_type = rng.choice(
            ("Identity", "Expand", "Tile", "Loop", "If", "Resize", "Range", "Pad")
        )
    elif kind == 1:
        value = rng.choice([*graph.input, *graph.output])
        rng.choice(value.type.tensor_type.shape.dim).dim_value = rng.choice((0, -1, 1, 2**31, 2**62))
    elif kind == 2:
        weight = rng.choice(graph.initializer)
        weight.raw_data = change(rng, weight.raw_data)
    elif kind == 3:
        weight = rng.choice(graph.initializer)
        weight.dims[:] = [rng.choice((0, 1, 2**20, 2**40, -1)) for _ in weight.dims]
    else:
        node = rng.choice(graph.node)
        names = node.input if rng.random() < 0.5 else node.output
        names[rng.randrange(len(names))] = rng.choice([*node.input, *node.output, "", "\x1b[31m"])
    return bytes(model.SerializeToString())
