"""The scripts in examples/ and every command in the README and docs/, run as their readers would run them."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.benchmarks import photographs
from tests.command_line import PROJECT, vae
from tests.datasets.set_files import little_digits, little_mnist
from tests.pictures.packing import png, tar
from vaecli import config
from vaecli.datasets import builtin
from vaecli.exporting import convert  # noqa: F401 - see _one_table_of_operators
from vaecli.pictures.writing import encode
from vaecli.settings import resolve

README = PROJECT / "README.md"
PAGES = [README, *sorted((PROJECT / "docs").glob("*.md"))]


def run_script(*command: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command with this environment's `vae` and `python` first on the PATH."""
    path = env.pop("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "PATH": path, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_tutorials_recipe_is_the_tutorials_run() -> None:
    settings = resolve(PROJECT / "examples/adcme-mnist.toml", {})
    assert settings.data.source == "mnist"
    assert (settings.data.shuffle, settings.data.drop_last) == (False, True)
    assert settings.training.precision == "float64"
    assert (settings.model, settings.training.epochs) == (config.ModelConfig(), 100)


def test_pipes(trained: Path, tmp_path: Path) -> None:
    done = run_script("bash", PROJECT / "examples/pipes.sh", trained, tmp_path / "out", cwd=tmp_path)
    assert "lucky.png was drawn with seed" in done.stdout
    assert "kept nine.png: error:" in done.stdout
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"nine.png", "again.png", "seed-1.png", "seed-2.png", "seed-3.png", "lucky.png"}
    with Image.open(tmp_path / "out/again.png") as picture:
        assert picture.format == "PNG"


def test_use_model_from_python(trained: Path, tmp_path: Path) -> None:
    done = run_script(sys.executable, PROJECT / "examples/use_model.py", trained, tmp_path / "a.png", cwd=tmp_path)
    assert "the way from the first to the second" in done.stdout
    with Image.open(tmp_path / "a.png") as picture:
        assert np.asarray(picture).shape == (3 * 8, 8 * 8)


def test_use_model_without_arguments_says_how_it_is_used() -> None:
    command = [sys.executable, str(PROJECT / "examples/use_model.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "usage: python examples/use_model.py RUN OUT.png\n"


def test_a_benchmark_prints_its_tables(trained: Path) -> None:
    done = run_script("python", "-m", "tests.benchmarks.startup", trained, "1", cwd=PROJECT)
    assert "vae --help" in done.stdout
    assert "x bare script" in done.stdout


def test_the_benchmarks_photographs_are_crops_of_many_sizes(tmp_path: Path) -> None:
    """Out of packages that only look like those it names: gradients where they have photographs."""
    for package, files in photographs.PHOTOGRAPHS.items():
        for index, file in enumerate(files):
            path = tmp_path / package / file
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.linear_gradient("L").rotate(90 * index).resize((400, 200 + index)).convert("RGB").save(path)
        (tmp_path / package / "__init__.py").touch()
    command = (sys.executable, "-m", "tests.benchmarks.photographs", tmp_path / "crops", "20")
    done = run_script(*command, cwd=PROJECT, PYTHONPATH=str(tmp_path))
    assert "20 crops of 8 photographs" in done.stdout
    sizes = set()
    for path in (tmp_path / "crops").glob("*.jpg"):
        with Image.open(path) as crop:
            sizes.add(crop.size)
    assert len(sizes) > 10
    assert all(64 <= side <= 320 for size in sizes for side in size)


def commands_of(page: Path) -> list[str]:
    """Every line of the page's indented and fenced blocks that begins with a command."""
    return [
        line.strip().partition("  #")[0]
        for line in page.read_text().splitlines()
        if re.match(r"^(?: {4}|)(?:vae|bash|python3?|pip|find) ", line)
    ]


def test_the_pages_have_commands() -> None:
    assert sum(len(commands_of(page)) for page in PAGES) > 40


@pytest.mark.parametrize("page", [*PAGES, PROJECT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    missing = [link for link in links if not link.startswith("https://") and not (page.parent / link).exists()]
    assert not missing


def test_the_readme_links_to_every_page() -> None:
    text = README.read_text()
    assert all(f"(docs/{page.name})" in text for page in PAGES if page != README)


def test_the_tree_names_every_module() -> None:
    text = (PROJECT / "CONTRIBUTING.md").read_text()
    tree = text[text.index("### Every file") :]
    for module in sorted((PROJECT / "vaecli").rglob("*.py")):
        if module.name != "__init__.py":
            assert re.search(rf"(^|[\s,/]){re.escape(module.name)}\b", tree), f"CONTRIBUTING.md does not name {module}"
            assert module.parent.name in tree


def test_the_readmes_python(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    little_digits(tmp_path)
    shorter = program.replace('"epochs": 40}', '"epochs": 1}, "data": {"source": "digits.npz"}')
    assert shorter != program
    done = run_script(sys.executable, "-c", shorter, cwd=tmp_path)
    assert "EpochMetrics(epoch=1" in done.stdout
    assert "Estimate(nats=" in done.stdout


def test_the_python_of_a_job(grey: Path, tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (PROJECT / "docs/scaling.md").read_text(), re.DOTALL)
    (tmp_path / "shards").mkdir()
    for number in range(2):
        tar(tmp_path / f"shards/{number}.tar", {"a.png": png(number, 8), "b.png": b""})
    (tmp_path / "job.py").write_text(program.replace("quickstart/run", str(grey)).replace("workers=4", "workers=2"))
    done = run_script("python", "job.py", cwd=tmp_path)
    assert "BlockDone(number=1, rows=2, errors=1" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("4 2 ")


def quick_start(folder: Path) -> None:
    """Run it in a copy of the project, with this environment in place of the one it would make, for one epoch."""
    shutil.copytree(PROJECT / "examples", folder / "examples")
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere/bin").symlink_to(Path(sys.executable).parent)
    environment = {"EPOCHS": "1", "VENV": str(folder / "elsewhere"), "PATH": os.defpath}
    run_script("bash", folder / "examples/quickstart.sh", cwd=folder, **environment)
    for name in ("samples.png", "reconstructions.png", "interpolation.gif"):
        with Image.open(folder / "quickstart" / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 0, f"{name} shows something"
    assert (folder / "quickstart/page.html").read_bytes().startswith(b"<!doctype html>")


@pytest.mark.slow
def test_the_quick_start_and_every_command_of_the_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one folder, in order; trainings cut to an epoch of a small network, MNIST and the digits to some of them.

    The quick start alone takes all digits.
    """
    quick_start(tmp_path)
    few = little_digits(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAE_DATA", str(little_mnist(tmp_path / "data")))
    digits = builtin.digits()[0][:, :, :, 0]
    commands = list(itertools.chain.from_iterable(map(commands_of, PAGES)))
    named = re.findall(r"emoji/\w+\.png", " ".join(commands))
    others = [name for index in range(40) for name in (f"emoji/{index}.png", f"pictures/{index}.jpg")]
    for name, image in zip((*named, *others), digits[::45], strict=False):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(image).convert("RGB").resize((80, 70 + len(name))).save(tmp_path / name)
    shutil.copytree(tmp_path / "pictures", tmp_path / "other-pictures")
    files = sorted(path.name for path in (tmp_path / "emoji").iterdir())
    labels = "\n".join(f"{name},{'Flags' if row % 2 else 'Symbols'}" for row, name in enumerate(files))
    (tmp_path / "emoji/labels.csv").write_text(f"file,label\n{labels}\n")
    (tmp_path / "shards").mkdir()
    for number in range(2):
        packed = {f"{row}.png": encode(digits[9 * row, ..., np.newaxis], "png") for row in range(20)}
        tar(tmp_path / f"shards/{number}.tar", packed)
    for name, image in (("cat.png", digits[0]), ("dog.png", digits[-1])):
        Image.fromarray(image).save(tmp_path / name)
    for command in commands:
        words = shlex.split(command, comments=True)
        if words[0] == "pip" or words[1] in ("examples/quickstart.sh", "tests/run.sh"):
            assert words[0] == "pip" or (PROJECT / words[1]).is_file()
            continue  # what they install is what this test runs in
        if words[:2] == ["vae", "train"] and "--resume" in words:
            words += ["--epochs", "2"]
        elif words[:2] == ["vae", "train"] and "--print-config" not in words:
            words += ["--epochs", "1", "--hidden", "32", "--width", "8", "--depth", "1"]
            # One convolutional network is enough: its export takes long, and so does a prior of many dimensions.
            dense = ["--architecture", "mlp", "--likelihood", "bernoulli"]
            words += ["--latent-map", "1"] if "runs/emoji" in words else dense
            words += ["--image-size", "16"] if {"emoji/", "pictures/"} & set(words) else []
            if "--data" not in words and ("--config" not in words or "mnist-5k" in words):
                words += ["--data", str(few)]
        elif words[:2] == ["vae", "export"] and "flow" in words:
            words += ["--flow-steps", "2"]
        if {"|", ">", "runs/*"} & set(words):
            run_script("bash", "-o", "pipefail", "-c", command, cwd=tmp_path)
        elif words[0] == "vae":  # in this process: each of its own would import PyTorch again
            done = vae(*words[1:])
            assert done.code == 0, f"{command}: {done.err}"
        else:
            run_script(*words, cwd=tmp_path)
