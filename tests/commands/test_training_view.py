"""What a person sees of a training on a terminal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.command_line import PROJECT, vae_process
from tests.terminal import on_terminal
from vaecli.commands.training_view import TrainingView

TRAINING = """
import sys
import time
from vaecli.commands.training_view import TrainingView
from vaecli.cli.console import Console
from vaecli.events import EpochMetrics, Losses, Note, Step, TrainingDone, TrainingStarted
view = TrainingView(Console())
time.sleep(0.3)
view(Note("recipe tutorial"))
view(TrainingStarted(
    run="my runs/a", data="d", train=100, held_out=10, classes=3,
    validation=0, image_shape=(1, 8, 8), value_range=(0, 255),
    parameters=1, latent_dim=2, device="cpu", precision="float32", path="autograd", prior="N(0, I)",
    chosen_by="loss", seed=1, epochs=int(sys.argv[1]),
    resumed_after=0, images_in_epoch=100,
))
view(Note("few pictures"))
losses = Losses(loss=90.0, reconstruction=80.0, kl=10.0)
for epoch in range(1, 26):
    view(Step(epoch, 50))
    if epoch == 2:
        time.sleep(0.3)
        view(Step(epoch, 60))
        time.sleep(0.3)
    view(EpochMetrics(
        epoch=epoch, seconds=1, images_per_second=100, train=losses, held_out=losses, active_units=2,
    ))
view(TrainingDone(
    run="my runs/a", epochs=25, best_epoch=3, best_loss=90.0, chosen_by="held-out", seconds=1, device="cpu",
    precision="float32", seed=1,
))
"""


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("epochs", [25, 1000])
def test_a_training_on_a_terminal(columns: int, epochs: int) -> None:
    seen = on_terminal("-c", TRAINING, str(epochs), columns=columns, lines=14, env={"NO_COLOR": "1"})
    assert seen.code == 0, seen.screen
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.screen)
    lines = re.split(r"[\r\n]+", screen)
    assert max(map(len, lines)) <= columns
    assert "reading pictures, importing PyTorch" in screen[: screen.index("recipe tutorial")], "a sign of life first"
    assert any(re.match(rf"epoch 2/{epochs}, loss 90\.00 .*\d:\d\d", line) for line in lines), (
        "the bar of the whole training"
    )
    lines = [line for line in lines if not re.match(r"epoch \d", line)]  # without the bar
    heads = [index for index, line in enumerate(lines) if line.split()[:2] == ["epoch", "loss"]]
    assert lines.index("few pictures") < heads[0], "notes do not interrupt the table"
    assert all(line.endswith(" 100") for line in lines if f"/{epochs} " in line), "nothing is cut off"
    assert len(heads) == 3, "the head comes again while a long table scrolls by"
    for head in heads:
        assert "training" in lines[head - 1]
        assert "held out" in lines[head - 1]
        row = next(line for line in lines[head:] if re.match(rf" *\d+/{epochs} ", line))
        assert len(row) == len(lines[head]), "figures stand under their heads"
    assert "next: vae export --run 'my runs/a'" in lines


READING = """
import time
from vaecli.commands.training_view import TrainingView
from vaecli.cli.console import Console
from vaecli.events import Note, Progress
view = TrainingView(Console())
time.sleep(0.3)
for done in range(11):
    view(Progress("fetching mnist", done, 10, "MB"))
    time.sleep(0.1)
view(Note("fetched"))
time.sleep(0.3)
"""


def test_the_bar_of_reading_takes_the_place_of_the_spinner_until_it_is_full() -> None:
    seen = on_terminal("-c", READING, env={"NO_COLOR": "1"})
    assert seen.code == 0, seen.screen
    shown = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", seen.screen)]
    spinner = [index for index, line in enumerate(shown) if TrainingView.PREPARING in line]
    bar = [index for index, line in enumerate(shown) if re.match(r"fetching mnist .* \d+/10 MB", line)]
    assert bar, seen.screen
    assert spinner[0] < bar[0]
    assert bar[-1] < spinner[-1]
    assert not any(bar[0] < index < bar[-1] for index in spinner)


def test_the_first_line_of_a_training_needs_no_torch(tmp_path: Path) -> None:
    for name in ("torch", "numpy", "PIL"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('imported')")
    env = {"PYTHONPATH": f"{tmp_path}:{PROJECT}"}
    assert vae_process("train", env=env, cwd=tmp_path).err.splitlines()[0] == "reading pictures, importing PyTorch"
