"""The scripts in examples/ and every command in the README, run as their readers would run them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tests.benchmarks import photographs
from tests.command_line import PROJECT
from vaecli import config
from vaecli.datasets import builtin

README = (PROJECT / "README.md").read_text()


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
    settings = config.resolve(PROJECT / "examples/adcme-mnist.toml", {})
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


def test_quickstart(tmp_path: Path) -> None:
    """In a copy of the project, with this environment in place of the one it would make, for one epoch."""
    shutil.copytree(PROJECT / "examples", tmp_path / "examples")
    environment = tmp_path / "elsewhere"
    environment.mkdir()
    (environment / "bin").symlink_to(Path(sys.executable).parent)
    run_script(
        "bash", tmp_path / "examples/quickstart.sh", cwd=tmp_path, EPOCHS="1", VENV=str(environment), PATH=os.defpath
    )
    for name in ("samples.png", "reconstructions.png", "interpolation.gif"):
        with Image.open(tmp_path / "quickstart" / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 0, f"{name} shows something"


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


def readme_commands() -> list[str]:
    """Every line of the README's indented and fenced blocks that begins with a command."""
    return [
        line.strip().partition("  #")[0]
        for line in README.splitlines()
        if re.match(r"^(?: {4}|)(?:vae|bash|python|pip|find) ", line)
    ]


def test_the_readme_has_commands() -> None:
    assert len(readme_commands()) > 10


def test_the_readme_names_every_module() -> None:
    tree = README[README.index("## The house") :]
    for module in sorted((PROJECT / "vaecli").rglob("*.py")):
        if module.name != "__init__.py":
            assert re.search(rf"(^|[\s,/]){re.escape(module.name)}\b", tree), f"README.md does not name {module}"
            assert module.parent.name in tree


def test_the_readmes_python(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    shorter = program.replace('"epochs": 40', '"epochs": 1')
    assert shorter != program
    done = run_script(sys.executable, "-c", shorter, cwd=tmp_path)
    assert "EpochMetrics(epoch=1" in done.stdout
    assert "Estimate(nats=" in done.stdout


def little_mnist(folder: Path) -> Path:
    """A data folder whose MNIST is a few of the built-in digits, in MNIST's own format."""
    train, test = (images[:, :, :, 0] for images in builtin.digits())
    raw = folder / "MNIST/raw"
    raw.mkdir(parents=True)
    for name, images in (("train", train[::9]), ("t10k", test[::9])):
        header = np.array([0x803, *images.shape], ">i4").tobytes()
        (raw / f"{name}-images-idx3-ubyte").write_bytes(header + images.tobytes())
    return folder


def test_every_command_in_the_readme(tmp_path: Path) -> None:
    """In one folder, in the README's order; trainings cut to an epoch, MNIST to some digits."""
    shutil.copytree(PROJECT / "examples", tmp_path / "examples")
    data = little_mnist(tmp_path / "data")
    digits = builtin.digits()[0][:, :, :, 0]
    (tmp_path / "pictures").mkdir()
    for index, image in enumerate(digits[:40]):
        Image.fromarray(image).convert("RGB").resize((80, 70 + index)).save(tmp_path / f"pictures/{index}.jpg")
    for name, image in (("cat.png", digits[0]), ("dog.png", digits[-1])):
        Image.fromarray(image).save(tmp_path / name)
    for command in readme_commands():
        words = shlex.split(command, comments=True)
        if words[0] == "pip" or words[1] in ("examples/quickstart.sh", "tests/run.sh"):
            assert words[0] == "pip" or (PROJECT / words[1]).is_file()
            continue  # what they install is what this test runs in; the scripts have tests of their own
        if words[:2] == ["vae", "train"]:
            words += ["--epochs", "2" if "--resume" in words else "1"]
        if {"|", ">"} & set(words):
            words = ["bash", "-o", "pipefail", "-c", command]
        run_script(*words, cwd=tmp_path, VAE_DATA=str(data))
