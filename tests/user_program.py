"""Train a small model, export it and use it: a program as a user of the package writes it.

    python user_program.py SOURCE RUN

tests/test_public_api.py type-checks it and runs it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import vaecli
from vaecli.events import EpochMetrics, Event, Note, TrainingStarted


def report(event: Event) -> None:
    match event:
        case TrainingStarted(train=images, held_out=held_out, device=device):
            show(f"{images} training and {held_out} held-out images, on {device}")
        case EpochMetrics(epoch=number, held_out=losses):
            show(f"epoch {number}: {losses.loss:.1f} = {losses.reconstruction:.1f} + {losses.kl:.1f} nats")
        case Note(text=text, warning=True):
            show(f"warning: {text}")
        case _:  # Step and Progress would move a bar
            pass


def show(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def work(source: str, run: Path) -> None:
    config = vaecli.Config(
        data=vaecli.DataConfig(source=source),
        model=vaecli.ModelConfig(hidden=16, latent_dim=3),
        training=vaecli.TrainingConfig(epochs=2, batch_size=16, device="cpu", precision="float32", seed=1),
    )
    done = vaecli.train(config, run, on_event=report)
    show(f"best: {done.best_loss:.1f} nats after epoch {done.best_epoch}")
    exported = vaecli.export(run)
    show(f"{exported.encoder.name} and {exported.decoder.name} of epoch {exported.epoch}")

    model = vaecli.load(run)
    images = model.sample(4, seed=1)  # (4, h, w) float32 in [0, 1]
    mean, std = model.encode(images)  # (4, d) each
    show(f"samples {images.shape}, latents {mean.shape}, mean std {std.mean():.2f}")

    evaluation = model.evaluate(n=10, importance_samples=5, seed=1)
    show(f"bound {evaluation.bound.nats:.1f} of {evaluation.n} pictures, a likelihood: {evaluation.normalised}")
    scores = model.score(images)
    strangest = int(scores.order[0])
    show(f"strangest sample: {strangest}, {scores.of(strangest)['negative_elbo']:.1f} nats")


def main(source: str, run: Path) -> int:
    try:
        work(source, run)
    except vaecli.VaeError as error:
        show(f"cannot go on: {error.message}; {error.hint}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
