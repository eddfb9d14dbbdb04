"""`vae sample` through its command line: every form of output, what it says, how it refuses."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # it ships no types
import pytest
from PIL import Image

from tests.command_line import PROJECT, Result, assert_refused, vae, vae_and_its_memory, vae_process
from tests.tiny_model import COLOUR, edit, two_gaussians, write_decoder, write_pair, write_prior
from vaecli import load
from vaecli.errors import UsageError
from vaecli.inference import mixture, runtime
from vaecli.model_format import DECODER_FILE, ENCODER_FILE


def sample(run: Path, output: Path | str, *more: str | Path) -> Result:
    return vae("sample", "--run", run, "-o", output, "--device", "cpu", *more)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_a_grid_as_a_picture(grey: Path, tmp_path: Path, name: str) -> None:
    result = sample(grey, tmp_path / name, "--n", "9", "--json", "--seed", "1")
    assert result.code == 0, result.err
    with Image.open(tmp_path / name) as picture:
        assert picture.size == (result.json["width"], result.json["height"])
        assert picture.size == (3 * 8 * result.json["scale"] + 4,) * 2
    assert result.json["output"] == str(tmp_path / name)
    assert result.json["columns"] == 3


def test_the_json_says_what_was_done(grey: Path, tmp_path: Path) -> None:
    result = sample(grey, tmp_path / "a.npy", "--n", "5", "--json", "--seed", "7", "--temperature", "0.5")
    assert (
        result.json.items()
        >= {
            "output": str(tmp_path / "a.npy"),
            "n": 5,
            "seed": 7,
            "provider": "CPUExecutionProvider",
            "temperature": 0.5,
            "shape": [5, 8, 8],
            "dtype": "uint8",
        }.items()
    )
    assert result.json["seconds"] >= 0


def test_the_pictures_are_those_of_the_python_side(colour: Path, tmp_path: Path) -> None:
    model = load(colour, device="cpu")
    sample(colour, tmp_path / "a.npy", "--n", "30", "--seed", "3", "--dtype", "float32")
    assert np.allclose(np.load(tmp_path / "a.npy"), model.sample(30, seed=3), atol=1e-6)
    sample(colour, tmp_path / "b.npy", "--n", "30", "--seed", "3")
    assert np.abs(np.load(tmp_path / "b.npy") - 255 * model.sample(30, seed=3)).max() < 0.51
    sample(colour, f"{tmp_path}/c/", "--n", "3", "--seed", "3")
    third = np.asarray(Image.open(tmp_path / "c" / "0003.png"))
    assert third.shape == (COLOUR[1], COLOUR[2], 3)
    assert np.array_equal(third, np.load(tmp_path / "b.npy")[2])


@pytest.mark.parametrize("batch_size", ["1", "7", "100", "5000"])
def test_the_batch_size_changes_no_latent(grey: Path, tmp_path: Path, batch_size: str) -> None:
    for name, more in (("a.npy", ()), ("b.npy", ("--batch-size", batch_size))):
        assert sample(grey, tmp_path / name, "--n", "200", "--seed", "5", "--dtype", "float32", *more).code == 0
    assert np.allclose(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"), atol=1e-6)


def test_a_drawn_seed_is_said_and_draws_the_same_again(grey: Path, tmp_path: Path) -> None:
    first = sample(grey, tmp_path / "a.npy", "--json")
    seed = first.json["seed"]
    assert f"seed {seed}, drawn" in first.err
    again = sample(grey, tmp_path / "b.npy", "--seed", str(seed))
    assert ", drawn" not in again.err
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    assert sample(grey, tmp_path / "c.npy", "--json").json["seed"] != seed


def test_seeds_go_up_to_64_bits(grey: Path, tmp_path: Path) -> None:
    largest = 2**64 - 1
    assert sample(grey, tmp_path / "a.npy", "--seed", str(largest), "--json").json["seed"] == largest


def test_the_provider_is_said_in_one_line(grey: Path, tmp_path: Path) -> None:
    lines = sample(grey, tmp_path / "a.png", "--seed", "1").err.splitlines()
    assert lines[0].startswith("running on the CPU")
    assert lines[1].startswith(f"wrote {tmp_path / 'a.png'}: 3x3 pictures")
    assert len(lines) == 2


def test_quiet_says_nothing(grey: Path, tmp_path: Path) -> None:
    result = sample(grey, tmp_path / "a.png", "--quiet")
    assert (result.code, result.err, result.out) == (0, "", "")


def test_stdout_holds_the_picture_alone(grey: Path) -> None:
    result = vae_process("sample", "--run", grey, "--n", "4", "--scale", "1", "--columns", "2", "-o", "-")
    assert result.code == 0
    with Image.open(io.BytesIO(result.stdout)) as picture:
        assert picture.format == "PNG"
        assert picture.size == (18, 18)
    assert "running on" in result.err


def test_a_reader_that_leaves_early_is_no_fault_of_ours(grey: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "vaecli", "sample", "--run", str(grey), "-n", "3000", "-o", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 0
    assert "error" not in err
    assert "Traceback" not in err
    assert "Exception ignored" not in err


def test_run_comes_from_the_environment_too(grey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAE_RUN", str(grey))
    assert vae("sample", "-o", tmp_path / "a.png").code == 0


def test_a_lone_decoder_is_enough(tmp_path: Path) -> None:
    write_decoder(tmp_path / DECODER_FILE)
    assert sample(tmp_path, tmp_path / "a.png").code == 0


def test_a_million_would_not_fit_a_picture_but_an_array(grey: Path, tmp_path: Path) -> None:
    refused = sample(grey, tmp_path / "a.png", "--n", "2000000")
    assert_refused(refused, 2, "--output", ".npy")
    assert list(tmp_path.iterdir()) == []


def test_memory_stays_flat(grey: Path, tmp_path: Path) -> None:
    peaks = []
    for n in ("20000", "1000000"):
        flags = ("--run", grey, "--n", n, "-o", tmp_path / "a.npy", "-q")
        result, peak = vae_and_its_memory("sample", *flags)
        assert result.code == 0, result.err
        peaks.append(peak)
    assert (tmp_path / "a.npy").stat().st_size > 64 * 1_000_000
    assert peaks[1] - peaks[0] < 20_000_000


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--n", "0"), ("--n",)),
        (("--n", "-1"), ("--n",)),
        (("--n", "many"), ("--n",)),
        (("--seed", str(2**64)), ("--seed",)),
        (("--seed", "-1"), ("--seed",)),
        (("--temperature", "-1"), ("--temperature",)),
        (("--temperature", "nan"), ("--temperature",)),
        (("--temperature", "inf"), ("--temperature",)),
        (("--batch-size", "0"), ("--batch-size",)),
        (("--columns", "0"), ("--columns",)),
        (("--scale", "0"), ("--scale",)),
        (("--scale", "65"), ("--scale",)),
        (("--dtype", "float32"), ("--dtype", ".npy")),
        (("--dtype", "int8"), ("--dtype",)),
        (("--device", "tpu"), ("--device",)),
        (("--nonsense",), ("--nonsense",)),
    ],
)
def test_usage_that_cannot_be_meant(grey: Path, tmp_path: Path, flags: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert_refused(sample(grey, tmp_path / "a.png", *flags), 2, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a", "a.bmp", "a.gif"])
def test_outputs_of_no_form(grey: Path, tmp_path: Path, name: str) -> None:
    assert_refused(sample(grey, tmp_path / name), 2, "--output")


def test_no_output_named(grey: Path) -> None:
    assert_refused(vae("sample", "--run", grey), 2, "--output")


def test_errors_are_json_too(grey: Path, tmp_path: Path) -> None:
    result = sample(grey, tmp_path / "none" / "a.png", "--json")
    assert result.code == result.json["exit_code"] == 1
    assert result.err.splitlines()[-2:] == [f"error: {result.json['error']}", f"hint: {result.json['hint']}"]


def test_a_place_that_cannot_be_written(grey: Path, tmp_path: Path) -> None:
    assert_refused(sample(grey, tmp_path / "none" / "a.png"), 1, str(tmp_path / "none" / "a.png"), "folder")
    assert_refused(sample(grey, tmp_path / "none" / "a.npy"), 1, str(tmp_path / "none" / "a.npy"), "folder")
    (tmp_path / "file").write_bytes(b"mine")
    assert_refused(sample(grey, tmp_path / "file" / "a.png"), 1, str(tmp_path / "file" / "a.png"))
    assert_refused(sample(grey, f"{tmp_path}/file/"), 1, str(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_no_clobber_keeps_what_is_there(grey: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"mine")
    assert_refused(sample(grey, tmp_path / "a.png", "--no-clobber"), 1, str(tmp_path / "a.png"), "exists")
    assert (tmp_path / "a.png").read_bytes() == b"mine"
    assert sample(grey, tmp_path / "a.png").code == 0
    assert (tmp_path / "a.png").read_bytes() != b"mine"


def sample_with_little_room(run: Path, output: str, *more: str, room: int) -> Result:
    """No file of this process may grow beyond `room` bytes, which is how a full disk shows itself."""
    done = subprocess.run(
        [sys.executable, "-m", "vaecli", "sample", "--run", run, "-o", output, *more],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )
    return Result(done.returncode, done.stdout, done.stderr.decode())


@pytest.mark.parametrize("output", ["a.png", "a.npy", "out/"])
def test_a_full_disk_leaves_the_old_file(grey: Path, tmp_path: Path, output: str) -> None:
    place = tmp_path / ("out/0001.png" if output == "out/" else output)
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"mine")
    assert_refused(sample_with_little_room(grey, f"{tmp_path}/{output}", room=60), 1, "no room left", str(tmp_path))
    assert place.read_bytes() == b"mine"
    assert [path.name for path in place.parent.iterdir()] == [place.name]


def test_an_array_that_does_not_fit_leaves_nothing_behind(grey: Path, tmp_path: Path) -> None:
    result = sample_with_little_room(grey, str(tmp_path / "a.npy"), "--n", "100000", room=1_000_000)
    assert_refused(result, 1, "no room left", str(tmp_path / "a.npy"))
    assert list(tmp_path.iterdir()) == []


def test_an_array_larger_than_the_disk_never_fills_it(
    grey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.Graph, "run", lambda *_: pytest.fail("the work began"))
    result = sample(grey, tmp_path / "a.npy", "--n", str(2**50))
    assert_refused(result, 1, "no room left", str(tmp_path / "a.npy"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this onnxruntime has CUDA"
)
def test_a_gpu_that_is_not_there(grey: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"mine")
    result = vae("sample", "--run", grey, "-o", tmp_path / "a.png", "--device", "cuda")
    assert_refused(result, 3, "--device cuda", "vaecli[gpu]")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"mine"]
    assert vae("sample", "--run", grey, "-o", tmp_path / "a.png", "--device", "auto").code == 0


def test_no_model(tmp_path: Path) -> None:
    assert_refused(sample(tmp_path / "none", tmp_path / "a.png"), 1, str(tmp_path / "none"), "vae train")
    assert_refused(sample(tmp_path, tmp_path / "a.png"), 1, str(tmp_path), "vae train")
    (tmp_path / "best.pt").write_bytes(b"")
    assert_refused(sample(tmp_path, tmp_path / "a.png"), 1, f"vae export --run {tmp_path}")


def test_halves_of_different_models(grey: Path, tmp_path: Path) -> None:
    (tmp_path / ENCODER_FILE).write_bytes((grey / ENCODER_FILE).read_bytes())
    write_decoder(tmp_path / DECODER_FILE, seed=5)
    assert_refused(sample(tmp_path, tmp_path / "a.png"), 1, "different models")


def test_a_damaged_model(grey: Path, tmp_path: Path) -> None:
    (tmp_path / DECODER_FILE).write_bytes((grey / DECODER_FILE).read_bytes()[:-100])
    assert_refused(sample(tmp_path, tmp_path / "a.png"), 1, str(tmp_path / DECODER_FILE))


def test_a_model_that_only_looks_whole(grey: Path, tmp_path: Path) -> None:
    (tmp_path / DECODER_FILE).write_bytes((grey / DECODER_FILE).read_bytes())
    edit(tmp_path / DECODER_FILE, lambda model: model.graph.node.pop(2))
    (tmp_path / "a.png").write_bytes(b"mine")
    assert_refused(sample(tmp_path, tmp_path / "a.png"), 1, str(tmp_path / DECODER_FILE), "cannot open")
    assert (tmp_path / "a.png").read_bytes() == b"mine"


@pytest.mark.parametrize("given", ["flag", "variable"])
def test_a_run_may_be_below_the_home_folder(
    grey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("HOME", str(grey.parent))
    if given == "variable":
        monkeypatch.setenv("VAE_RUN", "~/grey")
    flags = () if given == "variable" else ("--run=~/grey",)
    assert vae("sample", *flags, "-o", tmp_path / "a.png").code == 0
    assert_refused(vae("sample", "--run", "~nobody-here/grey", "-o", tmp_path / "a.png"), 1, "~nobody-here/grey")


def test_help_shows_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    result = vae("sample", "--help")
    assert result.code == 0
    assert result.err == ""
    for word in ("--temperature", "--batch-size", "drawn at random and printed", "VAE_RUN"):
        assert word in result.out


def test_the_models_own_prior_is_drawn_from_and_normal_is_the_old_way(tmp_path: Path) -> None:
    two, three = (write_pair(tmp_path / name) for name in ("two", "three"))
    write_prior(three, two_gaussians())
    reports = {}
    for name, run, more in (("a", two, ()), ("b", three, ("--prior", "normal")), ("c", three, ()), ("d", three, ())):
        batch = ("--batch-size", "3") if name == "d" else ()
        result = sample(run, tmp_path / f"{name}.npy", "--n", "20", "--seed", "4", "--json", *more, *batch)
        assert result.code == 0, result.err
        reports[name] = result.json["prior"]
    assert reports == {"a": "normal", "b": "normal", "c": "mixture", "d": "mixture"}
    a, b, c, d = (np.load(tmp_path / f"{name}.npy") for name in "abcd")
    assert np.array_equal(a, b)
    assert np.array_equal(c, d)
    assert not np.array_equal(a, c)
    latents = mixture.draw(two_gaussians(), 4, 0, 20, 2)
    assert np.array_equal(c, np.rint(255 * load(two).decode(latents)).astype(np.uint8))


def test_a_prior_that_there_is_not(grey: Path, tmp_path: Path) -> None:
    assert_refused(sample(grey, tmp_path / "a.png", "--prior", "vamp"), 2, "--prior")
    assert_refused(sample(grey, tmp_path / "a.png", "--prior", "flow"), 2, "vae export with --prior flow makes one")
    with pytest.raises(UsageError, match="`prior` vamp: expected one of model, flow, mixture, normal"):
        load(grey).sample(1, prior="vamp")  # type: ignore[arg-type]  # not one of the literals


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A model that knows cats, about -4, and dogs, about 4."""
    folder = write_pair(tmp_path / "pets")
    write_prior(folder, two_gaussians(2, (1, 1)), classes=("cat", "dog"))
    return folder


def test_a_class_by_its_name(pets: Path, tmp_path: Path) -> None:
    result = sample(pets, tmp_path / "a.npy", "--n", "5", "--label", "dog", "--seed", "1", "--json")
    assert result.json["labels"] == ["dog"]
    model = load(pets)
    assert model.classes == ("cat", "dog")
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.rint(255 * model.sample(5, seed=1, label="dog")))
    latents = mixture.draw(two_gaussians(2, (1, 1)).of_class(1), 1, 0, 5, 2)
    assert (latents > 0).all()
    assert np.allclose(model.sample(5, seed=1, label="dog"), model.decode(latents), atol=1e-6)
    assert np.array_equal(model.sample(5, seed=1, label=1), model.sample(5, seed=1, label="dog"))


def test_all_classes_a_row_each_with_their_names(pets: Path, tmp_path: Path) -> None:
    for name in ("a.png", "a.npy"):
        result = sample(pets, tmp_path / name, "--n", "3", "--label", "all", "--label", "cat", "--seed", "1", "--json")
        assert result.code == 0, result.err
        assert (result.json["labels"], result.json["n"]) == (["cat", "dog"], 6)
    model = load(pets)
    rows = [model.sample(3, seed=1, label=name) for name in model.classes]
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.rint(255 * np.concatenate(rows)))
    more = ("--n", "3", "--label", "cat", "--label", "dog", "--seed", "1", "--columns", "3")
    assert sample(pets, tmp_path / "b.png", *more).code == 0
    plain, named = (np.asarray(Image.open(tmp_path / name)) for name in ("b.png", "a.png"))
    assert np.array_equal(named[:, -plain.shape[1] :], plain)
    strip = named[:, : -plain.shape[1]]
    assert all((half == 255).any() for half in np.array_split(strip, 2)), "a text beside each row"
    sample(pets, f"{tmp_path}/c/", "--n", "2", "--label", "all")
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == [
        "cat-0001.png", "cat-0002.png", "dog-0001.png", "dog-0002.png",
    ]  # fmt: skip


def test_names_with_letters_that_no_font_has_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaecli.pictures.captions.FONTS", ())
    folder = write_pair(tmp_path / "fruit")
    write_prior(folder, two_gaussians(2, (1, 1)), classes=("\u00c4pfel", "\u65e5\u672c"))
    result = sample(folder, tmp_path / "a.png", "--n", "1", "--label", "all")
    assert result.code == 0, result.err
    assert result.err.splitlines()[-1].endswith("the rows; from the top: \u00c4pfel, \u65e5\u672c")
    result = sample(folder, tmp_path / "b.png", "--n", "1", "--label", "\u00c4pfel")
    assert "no font" not in result.err


def test_pictures_to_be_like_are_never_replaced(pets: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in.npy", np.zeros((1, 8, 8), np.uint8))
    Image.new("L", (8, 8)).save(tmp_path / "in/0001.png")
    before = (tmp_path / "in/0001.png").read_bytes()
    for name, output in ((tmp_path / "in", f"{tmp_path}/in/"), (tmp_path / "in.npy", tmp_path / "in.npy")):
        assert_refused(sample(pets, output, "--n", "1", "--like", name), 2, "one of the files to read")
    assert (tmp_path / "in/0001.png").read_bytes() == before


def test_like_pictures_that_are_given(pets: Path, tmp_path: Path) -> None:
    model = load(pets)
    np.save(tmp_path / "dogs.npy", model.decode(np.full((3, 2), 4.0)))
    like = model.read(tmp_path / "dogs.npy").images
    result = sample(pets, tmp_path / "a.npy", "--n", "4", "--seed", "1", "--like", tmp_path / "dogs.npy", "--json")
    assert result.json["like"] == [f"{tmp_path}/dogs.npy[{row}]" for row in range(3)]
    expected = model.decode(mixture.draw(two_gaussians().like(model.encode(like)[0]), 1, 0, 4, 2))
    assert np.abs(np.load(tmp_path / "a.npy") / 255 - expected).max() < 0.003
    assert np.allclose(model.sample(4, seed=1, like=like[..., 0]), expected, atol=1e-6)
    assert np.allclose(model.sample(4, seed=1, like=model.encode(like)[0]), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (("--label", "cow"), "its classes: cat, dog"),
        (("--label", "cat", "--prior", "normal"), "N(0, I) has no classes"),
        (("--label", "cat", "--like", "x.npy"), "both"),
        (("--like", "x.npy", "--prior", "normal"), "N(0, I) has no classes"),
    ],
)
def test_classes_that_cannot_be_drawn(pets: Path, tmp_path: Path, more: tuple[str, ...], named: str) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 8, 8), np.uint8))
    result = sample(pets, tmp_path / "a.png", *(str(tmp_path / word) if word == "x.npy" else word for word in more))
    assert_refused(result, 2, named)


@pytest.mark.parametrize("label", ["cat", "all"])
def test_a_model_that_knows_no_classes(grey: Path, tmp_path: Path, label: str) -> None:
    assert_refused(sample(grey, tmp_path / "a.png", "--label", label), 2, "has no classes")
    np.save(tmp_path / "x.npy", np.zeros((1, 8, 8), np.uint8))
    assert_refused(sample(grey, tmp_path / "a.png", "--like", tmp_path / "x.npy"), 2, "N(0, I)")


def test_a_class_named_all_is_that_class(tmp_path: Path) -> None:
    folder = write_pair(tmp_path / "run")
    write_prior(folder, two_gaussians(2, (1, 1)), classes=("all", "some"))
    result = sample(folder, tmp_path / "a.npy", "--n", "2", "--label", "all", "--json")
    assert result.json["labels"] == ["all"]
    assert "all is one of the model's classes" in result.err
