"""Every format that is read: whole files of it, the damage they are given, and the commands that then read them."""

from __future__ import annotations

import gzip
import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.datasets.set_files import MNIST_FILES, idx_bytes
from tests.faults import mutations
from tests.faults.mutations import Change, Inside, damage, damage_text
from tests.pictures import packing
from tests.tiny_model import DIGITS, GREY, two_gaussians, write_pair, write_prior

SAMPLE = ("png", "cls")  # the files of a sample in a .tar
DAMAGED = "{file}"  # in a command: the damaged file

Command = tuple[str, ...]


@dataclass(frozen=True)
class Format:
    """One kind of file."""

    name: str
    file: str  # where it lies in the folder of a case
    whole: tuple[bytes, ...]
    commands: tuple[Command, ...]
    change: Change = damage
    inside: tuple[Inside, ...] = ()
    beside: Path | None = None  # a folder whose files lie there, too

    def damaged(self, rng: random.Random) -> bytes:
        """A whole file with something changed, or some of two files."""
        content = rng.choice(self.whole)
        if self.inside and rng.random() < 0.6:
            return rng.choice(self.inside)(rng, content, self.change)
        if len(self.whole) > 1 and rng.random() < 0.05:
            other = rng.choice(self.whole)
            return content[: rng.randrange(len(content))] + other[rng.randrange(len(other)) :]
        return self.change(rng, content)


def all_formats(base: Path, trained: Path) -> list[Format]:
    """Every format. `base` is an empty folder for what lies beside the files; `trained` a run with 8x8 pictures."""
    rng = np.random.default_rng(0)
    grey = write_pair(base / "grey", GREY)
    write_prior(grey, two_gaussians())
    digits = write_pair(base / "digits", DIGITS)
    use, measure = ("--run", str(grey), "-q"), ("--importance-samples", "1", "-q", "--data-dir", "{folder}/cache")
    encode: Command = ("encode", DAMAGED, *use, "-o", "{folder}/out.npy")
    decode: Command = ("decode", DAMAGED, *use, "-o", "{folder}/out.npy")
    survey: Command = ("train", "--data", DAMAGED, "--print-config", "--run", "{folder}/new")
    evaluate: Command = ("evaluate", "--data", DAMAGED, "--run", str(grey), *measure)
    pixels = rng.integers(0, 256, (9, 10, 4), np.uint8)
    pictures = [Image.fromarray(part) for part in (pixels[..., 0], pixels[..., :2], pixels[..., :3], pixels)]
    deep = Image.fromarray(rng.integers(0, 2**16, (9, 10), np.uint16))
    palette = pictures[2].quantize(16)
    folder_of_pictures(base / "folder")
    mnist = base / "mnist" / "MNIST" / "raw"
    mnist.mkdir(parents=True)
    parts = (pixels_of(40), np.arange(40, dtype=np.uint8) % 10, pixels_of(20), np.arange(20, dtype=np.uint8) % 10)
    for name, part in zip(MNIST_FILES, parts, strict=True):
        (mnist / name).write_bytes(idx_bytes(part))
    exif = Image.Exif()
    exif[0x0112] = 6

    def image_format(name: str, made: Sequence[bytes], *inside: Inside) -> Format:
        folder: Command = ("encode", "{folder}/", *use, "-o", "{folder}.out.npy")
        surveyed: Command = ("train", "--data", "{folder}", "--print-config", "--run", "{folder}/new")
        return Format(name, f"a.{name}", tuple(made), (encode, encode, folder, surveyed, survey), damage, inside)

    def run_file(name: str, *commands: Command, change: Change = damage, inside: tuple[Inside, ...] = ()) -> Format:
        return Format(name, name, ((trained / name).read_bytes(),), commands, change, inside, trained)

    def model_file(name: str, *commands: Command) -> Format:
        inside = (mutations.in_onnx_metadata, mutations.in_onnx_graph)
        return Format(name, name, ((grey / name).read_bytes(),), commands, _in_either, inside, grey)

    def npy(array: Any) -> bytes:
        stream = io.BytesIO()
        np.save(stream, array)
        return stream.getvalue()

    def npz(**arrays: Any) -> bytes:
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)
        return stream.getvalue()

    images, latents = pixels_of(20, 8), rng.normal(size=(5, 2))
    names = np.array(["a", "b", "c", "d", "e"])
    here, mine = ("--run", "{folder}", "-q"), ("--run", "{folder}")
    sample: Command = ("sample", "--n", "2", "--seed", "1", "-o", "{folder}/out.png", *here)
    resume: Command = ("train", "--resume", *mine)
    png = [_saved(one, "PNG", exif=exif) for one in (*pictures, palette, deep)]
    png += [_saved(pictures[0], "PNG", transparency=7), _saved(palette, "PNG", transparency=b"\0\x80")]
    packed = {f"{row}.{end}": png[row % len(png)] if end == "png" else b"1" for row in range(20) for end in SAMPLE}
    return [
        image_format("png", png, mutations.in_png),
        image_format("jpg", [_saved(one, "JPEG", exif=exif) for one in (pictures[0], pictures[2])]),
        image_format("gif", [_saved(palette, "GIF"), _saved(palette, "GIF", save_all=True, append_images=[palette])]),
        image_format("webp", [_saved(one, "WEBP", lossless=True) for one in (pictures[2], pictures[3])]),
        image_format("bmp", [_saved(one, "BMP") for one in (pictures[0], pictures[2], palette)]),
        image_format(
            "tif",
            [_saved(one, "TIFF", compression=how) for one in (*pictures, deep) for how in ("raw", "tiff_lzw")],
        ),
        *(
            Format(shard.name, shard.name, (shard.read_bytes(),), (encode, survey, evaluate))
            for shard in (
                packing.tar(base / "a.tar", packed),
                packing.tar(base / "a.tar.gz", packed, "w:gz"),
                packing.parquet(base / "a.parquet", None, image=[*packed.values()][::2], label=[1] * 20),
            )
        ),
        Format(
            "npy",
            "a.npy",
            (npy(images), npy((images / 255).astype(np.float32)), npy(np.asfortranarray(images)), npy(latents)),
            (encode, decode, survey, evaluate),
            _in_either,
            (mutations.in_npy_header,),
        ),
        Format(
            "npz",
            "a.npz",
            (npz(x=images, y=np.arange(20) % 3), npz(latent=latents, name=names), npz(arr_0=images > 99)),
            (encode, decode, survey, evaluate),
            _in_either,
            (mutations.in_zip, mutations.in_npz_header),
        ),
        Format(
            "idx",
            f"MNIST/raw/{MNIST_FILES[2]}",
            (idx_bytes(parts[2]),),
            (("evaluate", "--data", "mnist", "--run", str(digits), *measure[:3], "--data-dir", "{folder}"),),
            beside=base / "mnist",
        ),
        Format(
            "idx labels",
            f"MNIST/raw/{MNIST_FILES[3]}",
            (idx_bytes(parts[3]),),
            (("evaluate", "--data", "mnist", "--run", str(digits), *measure[:3], "--data-dir", "{folder}"),),
            beside=base / "mnist",
        ),
        Format(
            "idx.gz",
            f"MNIST/raw/{MNIST_FILES[2]}.gz",
            (gzip.compress(idx_bytes(parts[2]), mtime=0),),
            (("evaluate", "--data", "mnist", "--run", str(digits), *measure[:3], "--data-dir", "{folder}"),),
            inside=(mutations.in_gzip,),
            beside=_without(base / "mnist", base / "packed", f"MNIST/raw/{MNIST_FILES[2]}"),
        ),
        Format(
            "mat",
            "omniglot/chardata.mat",
            (b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + bytes(200),),
            (("evaluate", "--data", "omniglot", "--run", str(digits), *measure[:3], "--data-dir", "{folder}"),),
        ),
        Format(
            "latents.csv",
            "a.csv",
            (b"name,latent_0,latent_1\na,1,2\nb,3,4.5\n", b"1,2\n3,4\n", b'name,mean_0,mean_1,std_0\n"a,b",1,2,3\n'),
            (decode,),
            damage_text,
        ),
        Format(
            "latents.jsonl",
            "a.jsonl",
            (b'{"latent":[1,2],"name":"a"}\n{"latent":[3,4.5],"name":"b"}\n', b"[1,2]\n[3,4]\n", b"[[1,2],[3,4]]"),
            (decode,),
            damage_text,
        ),
        Format(
            "latents.parquet",
            "a.parquet",
            (
                packing.parquet(base / "l.parquet", None, mean=[[1.0, 2.0]] * 9, name=map(str, range(9))).read_bytes(),
                packing.parquet(base / "m.parquet", None, latent=[[1.0, 2.0], None] * 9).read_bytes(),
            ),
            (decode, (*decode[:-1], "{folder}/out.parquet", "--workers", "1")),
        ),
        Format(
            "labels.csv",
            "folder/labels.csv",
            (("file,label\n" + "".join(f"{n:02}.png,{'ab'[n % 2]}\n" for n in range(12))).encode(),),
            (("evaluate", "--data", "{folder}/folder", "--run", str(grey), *measure),),
            damage_text,
            beside=_moved(base / "folder", base / "labelled" / "folder"),
        ),
        Format(
            "list of names",
            "list.txt",
            (f"{base}/labelled/folder/00.png\n".encode(), f"{base}/labelled/folder/00.png\0".encode() * 2),
            (("score", "--files-from", DAMAGED, *use),),
            damage_text,
        ),
        Format(
            "toml",
            "a.toml",
            tuple(file.read_bytes() for file in sorted((Path(__file__).parents[2] / "examples").glob("*.toml"))),
            (("train", "--config", DAMAGED, "--print-config"),),
            damage_text,
        ),
        run_file("config.json", ("info", "{folder}"), ("plot", "loss", "-o", "{folder}/out.svg", *mine), sample, resume,
                 change=damage_text),
        run_file("metrics.jsonl", ("info", "{folder}"), sample, resume, change=damage_text),
        run_file("checkpoint.pt", resume, change=_in_either, inside=(mutations.in_zip,) * 4),
        run_file("best.pt", ("export", "--prior", "normal", *here), change=_in_either, inside=(mutations.in_zip,) * 4),
        model_file("decoder.onnx", sample, ("info", "{folder}/decoder.onnx")),
        model_file("encoder.onnx", ("encode", f"{base}/labelled/folder/00.png", *here, "-o", "{folder}/out.npy")),
        model_file("prior.onnx", sample, ("info", "{folder}")),
        *_cache_formats(base, grey),
    ]  # fmt: skip


def _in_either(rng: random.Random, content: bytes) -> bytes:
    """Damage as of bytes or of text."""
    return rng.choice((damage, damage_text))(rng, content)


def _cache_formats(base: Path, grey: Path) -> list[Format]:
    """The two files of an entry in the cache of prepared pictures, which is found again by its source's name."""
    from tests.command_line import vae

    place, pictures = base / "prepared", base / "labelled" / "folder"
    command = ("evaluate", "--data", str(pictures), "--run", str(grey), "--importance-samples", "1", "-q", "--data-dir")
    made = vae(*command, place)
    assert made.code == 0, made.err
    (entry,) = (place / "prepared").iterdir()
    return [
        Format(
            f"cache {file}",
            f"prepared/{entry.name}/{file}",
            ((entry / file).read_bytes(),),
            ((*command, "{folder}"), ("data", "--data-dir", "{folder}")),
            damage_text if file.endswith("json") else damage,
            beside=place,
        )
        for file in ("record.json", "images.npy")
    ]


def pixels_of(count: int, side: int = 28) -> Any:
    """Random pictures (n, side, side)."""
    return np.random.default_rng(count).integers(0, 256, (count, side, side), np.uint8)


def folder_of_pictures(folder: Path) -> None:
    """Twelve pictures of the size of a tiny model."""
    folder.mkdir(parents=True)
    for number, pixels in enumerate(pixels_of(12, 8)):
        Image.fromarray(pixels).save(folder / f"{number:02}.png")


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.convert("RGB" if form == "JPEG" and image.mode == "RGBA" else image.mode).save(stream, form, **options)
    return stream.getvalue()


def _moved(source: Path, target: Path) -> Path:
    """Move a folder; gives back the one that it is in."""
    target.parent.mkdir(parents=True)
    source.rename(target)
    return target.parent


def _without(source: Path, target: Path, name: str) -> Path:
    """A copy of a folder without one of its files."""
    import shutil

    shutil.copytree(source, target)
    (target / name).unlink()
    return target
