"""Conditional models: trained on pictures with classes, exported with the class as input, used with `--label`."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.command_line import assert_refused, vae
from tests.jobs.reading import rows_of
from tests.pictures.packing import tar
from vaecli import export, jobs, load, noise, train
from vaecli.commands.score_files import write
from vaecli.config import DataConfig
from vaecli.datasets import load as load_data
from vaecli.errors import UsageError, VaeError
from vaecli.evaluation.bounds import PRUNE_FROM_SAMPLES, measure
from vaecli.events import Event, Progress
from vaecli.exporting.posteriors import Posteriors
from vaecli.exporting.prior_fit import fit
from vaecli.inference.classes import Labels, number
from vaecli.inference.mixture import draw_each
from vaecli.inference.pair import Pair
from vaecli.pictures.inputs import PictureInputs
from vaecli.pictures.writing import encode, picture_output
from vaecli.training.batches import open_source
from vaecli.training.checkpoint import load_checkpoint, load_weights

CLASSES = ("bottom", "left", "top")
CPU = torch.device("cpu")


def stripes(n: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
    """Pictures (n, 8, 8) that are bright on one side, which the class says, and as bright as the latent must say."""
    generator = np.random.default_rng(seed)
    labels = np.array(CLASSES)[generator.integers(0, 3, n)]
    sides = {name: np.zeros((8, 8)) for name in CLASSES}
    sides["bottom"][4:], sides["left"][:, :4], sides["top"][:4] = 1, 1, 1
    brightness = generator.uniform(0.2, 1, (n, 1, 1))
    images = np.stack([sides[name] for name in labels.tolist()]) * brightness
    return np.rint(255 * images).astype(np.uint8), labels


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "stripes.npz"
    images, labels = stripes(300)
    np.savez(path, x=images, y=labels)
    return path


EXACT = {"device": "cpu", "precision": "float32"}


@pytest.fixture(scope="module")
def conditional(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("conditional")
    settings: dict[str, dict[str, Any]] = {
        "data": {"source": str(pictures)},
        "model": {"conditional": True, "prior": "normal", "latent_dim": 2, "hidden": 32, "dropout": 0.0},
        "training": {"epochs": 60, "batch_size": 30, "learning_rate": 5e-3, "seed": 1, **EXACT},
    }
    train(settings, run)
    export(run)
    return run


def side(image: NDArray[np.floating]) -> str:
    """Which class an image looks like."""
    halves = {"bottom": image[4:].mean(), "left": image[:, :4].mean(), "top": image[:4].mean()}
    return max(halves, key=lambda name: float(halves[name]))


def test_the_graphs_take_the_class_and_the_metadata_name_it(conditional: Path) -> None:
    for name, first in (("encoder.onnx", "image"), ("decoder.onnx", "latent")):
        inputs = onnx.load(conditional / name).graph.input
        assert [(value.name, value.type.tensor_type.elem_type) for value in inputs] == [
            (first, onnx.TensorProto.FLOAT),
            ("label", onnx.TensorProto.INT64),
        ]
    model = load(conditional, "cpu")
    assert model.classes == model.metadata.classes == CLASSES
    assert model.conditional
    assert "classes" in vae("info", conditional).out
    assert "bottom, left, top" in vae("info", conditional / "decoder.onnx").out


def test_the_class_decides_what_is_drawn(conditional: Path) -> None:
    model = load(conditional, "cpu")
    for name in CLASSES:
        drawn = model.sample(20, seed=1, label=name)
        assert [side(image) for image in drawn] == [name] * 20
        np.testing.assert_allclose(drawn, model.given(name).sample(20, seed=1), atol=1e-6)
        latents = np.zeros((4, 2), np.float32)
        assert [side(image) for image in model.given(name).decode(latents)] == [name] * 4
    found = [side(image) for image in model.sample(300, seed=1)]
    assert all(found.count(name) == pytest.approx(100, abs=30) for name in CLASSES)
    np.testing.assert_array_equal(model.sample(300, seed=1)[:7], model.sample(7, seed=1))


def test_the_latent_holds_what_the_class_leaves_open(conditional: Path) -> None:
    """One number, the brightness: pictures of all sides and of one brightness have about one latent."""
    images, labels = stripes(60, seed=5)
    model = load(conditional, "cpu")
    for name in CLASSES:
        mine = images[labels == name]
        again = model.given(name).reconstruct(mine)
        assert np.abs(again - mine / 255).mean() < 0.05
    bound = model.evaluate(importance_samples=5).bound.nats
    wrong = [model.given(name).evaluate(images[labels != name], importance_samples=5).bound.nats for name in CLASSES]
    assert bound < min(wrong) - 5


def test_a_class_has_a_number_of_any_type(conditional: Path) -> None:
    model = load(conditional, "cpu")
    numbers = [model.pair.class_number(number) for number in (1, np.int64(1), np.uint8(1))]
    assert numbers == [1, 1, 1]
    first, second = (model.given(number).sample(2, seed=1) for number in (1, np.int64(1)))
    np.testing.assert_array_equal(first, second)


def test_classes_of_several_pictures_are_not_one_class(conditional: Path) -> None:
    with pytest.raises(UsageError, match=r"`label`: a ndarray, not the name or number of one class\nhint: .*labels="):
        load(conditional).given(np.array([0, 1]))


def test_classes_with_few_pictures_are_told(tmp_path: Path) -> None:
    images, _ = stripes(60)
    labels = np.array(["many"] * 50 + ["some"] * 10)
    np.savez(tmp_path / "a.npz", x=images, y=labels)
    common = ("train", "--config", "tutorial", "--data", tmp_path / "a.npz", "--hidden", "8", "--epochs", "1")
    result = vae(*common, "--conditional", "--run", tmp_path / "r")
    assert re.search(r"warning: classes with few pictures to train on: some (8|9|10): their samples", result.err)
    assert re.search(
        r"^data: a.npz, 54 images to train on, 6 held out, 2 classes \(many, some\), ", result.err, re.MULTILINE
    )
    assert "few pictures to train on: some" not in vae(*common, "--run", tmp_path / "s").err


def test_a_stray_picture_that_takes_all_classes_is_named(tmp_path: Path) -> None:
    images, labels = stripes(30)
    for row, name in enumerate(labels):
        folder = tmp_path / "p" / (name if row else "")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[row]).save(folder / f"{row}.png")
    result = vae("train", "--data", tmp_path / "p", "--conditional", "--run", tmp_path / "r")
    assert_refused(result, 1, "no classes: 1 picture in no subfolder, such as 0.png")


@pytest.mark.parametrize("number", [-1, 3])
def test_a_number_that_is_no_class_is_refused(conditional: Path, number: int) -> None:
    with pytest.raises(UsageError, match=f"`label` {number}: no class of this model"):
        load(conditional).given(number)


def test_commands_take_the_class(conditional: Path, tmp_path: Path) -> None:
    images, _ = stripes(5, seed=7)
    np.save(tmp_path / "x.npy", images)
    run = ("--run", conditional, "--device", "cpu")
    given = ("--label", "top")
    picture, table = tmp_path / "a.png", tmp_path / "z.npy"
    for command in (
        ("reconstruct", tmp_path / "x.npy", "-o", picture),
        ("interpolate", "-o", picture),
        ("interpolate", tmp_path / "x.npy", "-o", picture),
        ("traverse", "-o", picture),
        ("manifold", "-o", picture),
        ("arithmetic", tmp_path / "x.npy", "+", tmp_path / "x.npy", "-o", picture),
        ("encode", tmp_path / "x.npy", "-o", table),
        ("decode", table, "-o", picture),
        ("score", tmp_path / "x.npy"),
    ):
        assert vae(*command, *run, *given).code == 0, command
        picture.unlink(missing_ok=True)
        if command[0] not in ("decode", "manifold", "traverse"):  # these order the dimensions of pictures with classes
            refused = vae(*command, *run)
            assert_refused(refused, 2, "the model is conditional")
            assert not picture.exists()
    told = [vae(*command, tmp_path / "x.npy", *run, *given).err for command in (("encode", "-o", table), ("score",))]
    for line in (line for err in told for line in err.splitlines() if line.startswith("next: ")):
        assert " --label top " in line
    assert ["next: " in err for err in told] == [True, True]
    assert vae("sample", *run, "--label", "all", "--n", "3", "-o", picture).code == 0
    assert vae("sample", *run, "--label", "top", "--prior", "normal", "-o", picture).code == 0
    assert vae("sample", *run, "--label", "top", "--label", "top", "--n", "2", "-o", tmp_path / "top.npy").code == 0
    assert len(np.load(tmp_path / "top.npy")) == 2
    assert vae("sample", *run, *given, "--like", tmp_path / "x.npy", "-o", picture).code == 0
    assert_refused(vae("sample", *run, "--like", tmp_path / "x.npy", "-o", picture), 2, "the model is conditional")
    assert_refused(vae("decode", table, *run, "-o", picture), 2, "name one with --label: bottom, left, top")
    assert_refused(vae("manifold", *run, "--label", "right", "-o", picture), 2, "bottom, left, top")
    assert_refused(vae("arithmetic", "top", "-", "left", *run, *given, "-o", picture), 2, "do not hold the class")


@pytest.fixture
def sorted_pictures(tmp_path: Path) -> tuple[Path, NDArray[np.uint8], list[str]]:
    """A folder with a subfolder for each class, its pictures and their classes in the order in which they are read."""
    images, labels = stripes(9, seed=4)
    order = np.lexsort((np.arange(9), labels))
    for row in order:
        folder = tmp_path / "sorted" / "good" / labels[row]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[row]).save(folder / f"{row}.png")
    return tmp_path / "sorted", images[order], labels[order].tolist()


def test_each_picture_has_the_class_of_its_folder(
    conditional: Path, sorted_pictures: tuple[Path, NDArray[np.uint8], list[str]], tmp_path: Path
) -> None:
    folder, images, labels = sorted_pictures
    model, run = load(conditional, "cpu"), ("--run", conditional)
    means, _ = model.encode(images, labels=labels)
    assert vae("encode", folder, *run, "-o", tmp_path / "m.npy").code == 0
    np.testing.assert_allclose(np.load(tmp_path / "m.npy"), means, atol=1e-6)
    assert vae("reconstruct", folder, *run, "-o", tmp_path / "r.npy", "--dtype", "float32").code == 0
    drawn = np.load(tmp_path / "r.npy")
    assert [side(image) for image in drawn] == labels
    np.testing.assert_allclose(drawn, model.reconstruct(images, labels=labels), atol=1e-6)
    assert vae("score", folder, *run, "-o", tmp_path / "s.npz", "--heatmap", tmp_path / "h.npy").code == 0
    with np.load(tmp_path / "s.npz") as stored:
        found = dict(zip(stored["name"].tolist(), stored["negative_elbo"].tolist(), strict=True))
    scores = model.score(images, labels=labels).columns["negative_elbo"]
    names = model.read(folder).names
    assert [found[name] for name in names] == pytest.approx(scores.tolist(), abs=1e-4)
    assert model.read(folder).labels == tuple(labels)


def test_the_nearest_folder_with_the_name_of_a_class_counts(
    conditional: Path, sorted_pictures: tuple[Path, NDArray[np.uint8], list[str]]
) -> None:
    """Also that of a single picture, and of the folder that is named itself."""
    folder, _, _ = sorted_pictures
    model = load(conditional, "cpu")
    picture = next((folder / "good" / "left").iterdir())
    assert model.read(picture).labels == ("left",)
    assert set(model.read(folder / "good" / "left").labels) == {"left"}
    below = picture.parent / "top" / "mine.png"
    below.parent.mkdir()
    shutil.copy(picture, below)
    assert model.read(below).labels == ("top",)


def test_the_class_of_a_picture_is_in_labels_csv_an_npz_or_a_shard(
    conditional: Path, pictures: Path, tmp_path: Path
) -> None:
    model = load(conditional, "cpu")
    with np.load(pictures) as stored:
        assert model.read(pictures).labels == tuple(stored["y"].tolist())
        first = stored["x"][0]
    Image.fromarray(first).save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("file,label\na.png,left\n")
    assert model.read(tmp_path).labels == ("left",)
    shard = tar(tmp_path / "0.tar", {"x.png": (tmp_path / "a.png").read_bytes(), "x.cls": b"bottom"})
    assert model.read(shard).labels == ("bottom",)


def test_pictures_whose_class_is_not_known_are_named(
    conditional: Path, sorted_pictures: tuple[Path, NDArray[np.uint8], list[str]], tmp_path: Path
) -> None:
    folder, images, labels = sorted_pictures
    Image.fromarray(images[0]).save(folder / "good" / "stray.png")
    for command, output in (("encode", "a.npz"), ("score", "a.csv"), ("reconstruct", "a.png")):
        result = vae(command, folder, "--run", conditional, "-o", tmp_path / output)
        assert_refused(result, 2, "the class of 1 of 10 pictures, such as ", "stray.png", "--label")
    (folder / "good" / "stray.png").unlink()
    result = vae("encode", folder, "--run", conditional, "--label", "top", "-o", tmp_path / "top.npy")
    others = len(labels) - labels.count("top")
    assert (
        f"warning: {others} of 9 pictures are of other classes (bottom, left); --label takes all for top" in result.err
    )
    with pytest.raises(UsageError, match="the class of 1 of 2 pictures is not known"):
        load(conditional).encode(images[:2], labels=["top", None])


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["top"], "an array of shape"),
        (["top", "right"], "no class right, which some"),
        ([0, 9], "no class of this model"),
    ],
)
def test_labels_that_do_not_suit_the_pictures_are_refused(conditional: Path, labels: Labels, said: str) -> None:
    images, _ = stripes(2)
    model = load(conditional, "cpu")
    with pytest.raises(UsageError, match=said):
        model.encode(images, labels=labels)
    with pytest.raises(UsageError, match="takes all pictures for top"):
        model.given("top").encode(images, labels=["top", "top"])


def test_a_model_that_is_not_conditional_takes_no_labels(trained: Path) -> None:
    with pytest.raises(UsageError, match="is not conditional"):
        load(trained).score(np.zeros((2, 8, 8), np.uint8), labels=["a", "b"])


def test_an_evaluation_uses_the_classes_of_the_data(conditional: Path, tmp_path: Path) -> None:
    result = vae("evaluate", "--run", conditional, "--json", "-k", "5", "--device", "cpu")
    assert result.code == 0, result.err
    images, labels = stripes(40, seed=3)
    np.save(tmp_path / "unknown.npy", images)
    plain = ("evaluate", "--run", conditional, "--device", "cpu", "--split", "all", "--data")
    assert_refused(vae(*plain, tmp_path / "unknown.npy"), 2, "the class of these pictures is not known")
    np.savez(tmp_path / "others.npz", x=images, y=np.where(labels == "top", "right", labels))
    assert_refused(vae(*plain, tmp_path / "others.npz"), 2, "no class right, which some of these pictures have")
    of_top, of_left = (
        vae(*plain, tmp_path / "unknown.npy", "--label", name, "--json").json for name in ("top", "left")
    )
    assert of_top["reconstruction"] != of_left["reconstruction"]
    assert vae(*plain, tmp_path / "others.npz", "--label", "top", "--json").json["kl"] == of_top["kl"]
    report = vae("evaluate", "--run", conditional, "--device", "cpu").out
    assert "the model is conditional: all of these are of p(x|y), given the class y of each picture" in report
    assert_refused(vae("evaluate", "--run", conditional, "--samples", "10"), 2, "conditional")


def test_a_resumed_training_is_the_whole_one(conditional: Path, pictures: Path, tmp_path: Path) -> None:
    settings = ("--config", "tutorial", "--data", pictures, "--conditional", "--hidden", "8", "--seed", "1", "--quiet")
    assert vae("train", *settings, "--epochs", "4", "--run", tmp_path / "whole").code == 0
    assert vae("train", *settings, "--epochs", "2", "--run", tmp_path / "parts").code == 0
    assert vae("train", "--resume", "--epochs", "4", "--run", tmp_path / "parts").code == 0
    whole, parts = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts"))
    assert all(torch.equal(value, parts.weights.model[name]) for name, value in whole.weights.model.items())
    weights = load_weights(tmp_path / "whole" / "best.pt")
    assert weights.classes == CLASSES
    assert weights.labels is not None


@pytest.mark.parametrize("change", ["another name", "other pictures"])
def test_other_classes_are_neither_resumed_nor_exported(change: str, pictures: Path, tmp_path: Path) -> None:
    shutil.copy(pictures, tmp_path / "a.npz")
    settings = ("--data", tmp_path / "a.npz", "--conditional", "--hidden", "8", "--seed", "1", "--epochs", "1")
    assert vae("train", *settings, "--run", tmp_path / "run").code == 0
    images, labels = stripes(300)
    others = np.where(labels == "top", "right", labels) if change == "another name" else np.roll(labels, 1)
    np.savez(tmp_path / "a.npz", x=images, y=others)
    refused = vae("train", "--resume", "--epochs", "2", "--run", tmp_path / "run")
    assert_refused(refused, 1, "its classes are not those that this run was begun with")
    refused = vae("export", "--prior", "mixture", "--run", tmp_path / "run")
    assert_refused(refused, 1, "a.npz has other classes than at the training")


def test_pictures_without_classes_are_refused(blobs: Path, tmp_path: Path) -> None:
    result = vae("train", "--data", blobs, "--conditional", "--run", tmp_path / "run")
    assert_refused(result, 1, "has no classes")
    assert not (tmp_path / "run" / "config.json").exists()


def test_fewer_pseudo_inputs_than_classes_are_refused(pictures: Path, tmp_path: Path) -> None:
    flags = ("--conditional", "--prior", "vamp", "--pseudo-inputs", "2")
    result = vae("train", "--data", pictures, *flags, "--run", tmp_path / "run")
    assert_refused(result, 1, f"--pseudo-inputs 2: fewer than the {len(CLASSES)} classes")


@pytest.mark.parametrize("architecture", ["mlp", "conv"])
@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_both_architectures_and_objectives(architecture: str, objective: str, tmp_path: Path) -> None:
    images, labels = stripes(40)
    np.savez(tmp_path / "a.npz", x=images.repeat(2, 1).repeat(2, 2), y=labels)
    small = {"width": 8, "latent_dim": 2, "hidden": 8}
    model = {"conditional": True, "prior": "normal", "architecture": architecture, **small}
    training = {"epochs": 3, "objective": objective, "importance_samples": 2, "seed": 1, **EXACT}
    train({"data": {"source": str(tmp_path / "a.npz")}, "model": model, "training": training}, tmp_path / "run")
    for weights in load_weights(tmp_path / "run" / "best.pt").model.items():
        if "of_class" in weights[0]:
            assert weights[1].shape[0] == 3
            assert weights[1].any(), "the first steps move it from zero"
    if objective != "elbo":
        return  # the network is the same, and so are its graphs
    assert export(tmp_path / "run", prior="normal").prior is None
    assert load(tmp_path / "run", "cpu").sample(5, seed=1, label="top").shape == (5, 16, 16)


@pytest.mark.parametrize("order", [None, torch.tensor([5, 3, 0, 1, 2, 4])])
@pytest.mark.parametrize("held", [True, False])
def test_batches_come_with_their_classes(
    order: torch.Tensor | None, held: bool, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not held:
        monkeypatch.setattr("vaecli.datasets.dataset.RESIDENT_BYTES", 1)
    data = load_data(DataConfig(source=str(pictures), dir=str(tmp_path)))
    source = open_source(data.train.rows(np.arange(6)), CPU)
    rows = np.arange(6) if order is None else order.numpy()
    assert data.train.classes is not None
    found = [batch.labels for batch in source.batches(4, 6, order)]
    assert [len(label) for label in found if label is not None] == [4, 2]
    labels = torch.cat([label for label in found if label is not None])
    assert labels.tolist() == data.train.classes.labels[rows].tolist()


def test_the_prior_of_a_conditional_model_is_judged_within_classes() -> None:
    """Latents of one place in each class: with the class known they have the density of that place alone."""
    from vaecli.datasets.classes import of_numbers

    generator = np.random.default_rng(0)
    labels = np.arange(900) % 3
    means = np.stack([labels - 1.0, np.zeros(900)], axis=1) + 0.1 * generator.standard_normal((900, 2))
    mixture = fit(Posteriors(means, np.full((900, 2), 0.1), of_numbers(labels), conditional=True), seed=1)
    assert mixture is not None
    assert len(mixture.class_sizes) == 3
    assert mixture.of_class(2).mean == pytest.approx([1, 0], abs=0.05)


def test_a_class_that_is_not_the_models_is_refused(conditional: Path, trained: Path) -> None:
    with pytest.raises(UsageError, match="its classes: bottom, left, top") as refusal:
        load(conditional).given("right")
    assert "no class of this model" in refusal.value.message
    with pytest.raises(UsageError, match="is not conditional"):
        load(trained).given("top")
    with pytest.raises(VaeError, match="conditional, and no class is given"):
        load(conditional).reconstruct(stripes(2)[0])


def test_its_samples_are_not_compared(conditional: Path) -> None:
    """Refused before anything is measured."""
    events: list[Event] = []
    with pytest.raises(UsageError, match="`samples`: the features of a conditional model depend on the class"):
        load(conditional).evaluate(samples=4, on_event=events.append)
    assert not any(isinstance(event, Progress) for event in events)


def numbers_of(labels: NDArray[np.str_]) -> NDArray[np.int64]:
    return np.array([CLASSES.index(label) for label in labels.tolist()])


@pytest.mark.parametrize("samples", [3, PRUNE_FROM_SAMPLES])
def test_the_bound_of_a_picture_is_under_the_prior_of_its_class(samples: int, conditional: Path) -> None:
    pair, (images, labels) = load(conditional).pair, stripes(12, seed=5)
    pictures = images[..., np.newaxis]

    def bound(pair: Pair, pictures: NDArray[np.uint8], labels: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        parts = measure(pair, pictures, samples=samples, seed=1, prior="model", labels=labels)
        return np.concatenate([part.bound for part in parts])

    whole = bound(pair, pictures, numbers_of(labels))
    for name in CLASSES:
        np.testing.assert_allclose(whole[labels == name], bound(pair.given(name), pictures[labels == name]), rtol=1e-5)


def test_scores_and_drawings_are_for_the_class_of_each_picture(conditional: Path, tmp_path: Path) -> None:
    model, (images, labels) = load(conditional), stripes(12, seed=5)
    scores = model.score(images, labels=labels.tolist())
    for name in CLASSES:
        part = model.given(name).score(images[labels == name])
        for column in ("local", "excess"):
            np.testing.assert_allclose(scores.columns[column][labels == name], part.columns[column], rtol=1e-5)
    read = PictureInputs(images[..., np.newaxis], [f"{row}.png" for row in range(12)])
    drawings = {"heatmap": picture_output(str(tmp_path / "h.npy"), flag="heatmap")}
    write(model.pair, read, scores, None, table=None, drawings=drawings, top=None, labels=numbers_of(labels))
    expected = model.heatmaps(images[scores.order], labels=labels[scores.order].tolist())
    np.testing.assert_array_equal(np.load(tmp_path / "h.npy"), expected)


def test_samples_of_a_class_that_are_like_pictures_are_of_that_class(conditional: Path) -> None:
    model = load(conditional)
    like = model.sample(3, seed=2, label="left")
    drawn = model.sample(4, seed=1, label="top", like=model.given("top").encode(like)[0])
    np.testing.assert_array_equal(drawn, model.given("top").sample(4, seed=1, like=like))
    with pytest.raises(UsageError, match="`label` left: the model"):
        model.given("top").sample(4, label="left")


def test_classes_that_are_like_pictures_are_the_same_in_any_order(conditional: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "like.npy", load(conditional).sample(3, seed=2, label="left"))
    drawn = []
    for labels in (("left", "top"), ("top", "left")):
        output, names = tmp_path / f"{labels[0]}.npy", [word for label in labels for word in ("--label", label)]
        like = ("--like", tmp_path / "like.npy", "--n", "2", "--seed", "1")
        assert vae("sample", "--run", conditional, *names, *like, "-o", output).code == 0
        drawn.append(dict(zip(labels, np.load(output).reshape(2, 2, -1), strict=True)))
    for label in ("left", "top"):
        np.testing.assert_array_equal(drawn[0][label], drawn[1][label])


def test_latents_are_decoded_for_the_class_of_each(conditional: Path) -> None:
    model, latents, names = load(conditional), np.zeros((3, 2)), ["top", "left", "top"]
    decoded = model.decode(latents, labels=names)
    for image, name in zip(decoded, names, strict=True):
        np.testing.assert_allclose(image, model.given(name).decode(latents[:1])[0], atol=1e-6)
    assert repr(model.given("top")).endswith("given class top)")


def test_a_number_is_the_name_of_a_class_where_names_are_numbers() -> None:
    names, folder = ("1", "2", "10"), Path("run")
    assert [number(label, names, folder) for label in (1, "1", np.int64(10))] == [0, 0, 2]
    with pytest.raises(UsageError, match="`label` 0: no class of this model"):
        number(0, names, folder)
    assert number(0, ("cat", "dog"), folder) == 0


def test_an_array_is_evaluated_with_the_classes_that_are_given(conditional: Path) -> None:
    model, (images, labels) = load(conditional), stripes(30, seed=4)
    result = model.evaluate(images, labels=labels.tolist(), seed=1)
    parts = [model.given(name).evaluate(images[labels == name], seed=1).bound.nats for name in CLASSES]
    counts = [(labels == name).sum() for name in CLASSES]
    assert result.bound.nats == pytest.approx(np.average(parts, weights=counts), rel=1e-5)


def test_folders_that_look_like_parts_of_a_data_set_are_told(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / "data" / part).mkdir(parents=True)
        for row in range(30):
            Image.new("L", (8, 8), 8 * row).save(tmp_path / "data" / part / f"{row}.png")
    flags = ("--hidden", "4", "--epochs", "1", "--run", tmp_path / "run")
    result = vae("train", "--data", tmp_path / "data", *flags)
    assert f"--data {tmp_path}/data/train --held-out {tmp_path}/data/test" in result.err
    assert "2 classes (test, train)" in result.err


@pytest.mark.parametrize("ending", ["npz", "csv", "jsonl"])
def test_latents_are_decoded_for_the_classes_that_they_were_encoded_with(
    ending: str, conditional: Path, tmp_path: Path
) -> None:
    images, labels = stripes(12, seed=6)
    np.savez(tmp_path / "a.npz", x=images, y=labels)
    latents = tmp_path / f"l.{ending}"
    encoded = vae("encode", tmp_path / "a.npz", "--run", conditional, "-o", latents, "--json")
    assert encoded.json["columns"] == ["name", "label", "mean"]
    (line,) = (line for line in encoded.err.splitlines() if line.startswith("next: "))
    command = shlex.split(line.removeprefix("next: vae "))
    assert vae(*command[:-1], tmp_path / "decoded.npy").code == 0
    model = load(conditional)
    expected = model.reconstruct(images, labels=labels.tolist())
    np.testing.assert_allclose(np.load(tmp_path / "decoded.npy"), 255 * expected, atol=1)
    scored = vae("score", tmp_path / "a.npz", "--run", conditional, "-o", tmp_path / f"s.{ending}")
    assert scored.code == 0, scored.err
    if ending == "csv":
        rows = [row.split(",")[:2] for row in (tmp_path / "s.csv").read_text().splitlines()]
        assert rows[0] == ["name", "label"]
        assert dict(rows[1:]) == {f"{tmp_path}/a.npz[{row}]": label for row, label in enumerate(labels)}


def test_a_model_without_classes_writes_those_of_the_pictures(trained: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", x=images, y=["cat", "dog", "cat", "dog"])
    assert vae("encode", tmp_path / "a.npz", "--run", trained, "-o", tmp_path / "l.csv").code == 0
    lines = (tmp_path / "l.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in lines] == ["label", "cat", "dog", "cat", "dog"]
    np.save(tmp_path / "b.npy", images)
    assert vae("encode", tmp_path / "b.npy", "--run", trained, "-o", tmp_path / "l.csv").code == 0
    assert (tmp_path / "l.csv").read_text().startswith("name,mean_0,")


@pytest.mark.parametrize("form", ["folders", "labels.csv", "npz", "tar"])
def test_a_job_has_the_class_of_each_picture(form: str, conditional: Path, tmp_path: Path) -> None:
    """The rows of several processes are those of one, and those without a known class have an error."""
    images, labels = stripes(12, seed=6)
    names = [f"{row:02}.png" for row in range(12)]
    source = tmp_path / "pictures"
    if form == "npz":
        source = tmp_path / "a.npz"
        np.savez(source, x=images, y=labels)
    elif form == "tar":
        packed = {name: encode(image[..., np.newaxis], "png") for name, image in zip(names, images, strict=True)}
        classes = {name.replace("png", "cls"): str(label).encode() for name, label in zip(names, labels, strict=True)}
        source = tar(tmp_path / "a.tar", dict(sorted({**packed, **classes}.items())))
    else:
        for name, image, label in zip(names, images, labels, strict=True):
            path = source / (str(label) if form == "folders" else "all") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
        if form == "labels.csv":
            rows = "".join(f"all/{name},{label}\n" for name, label in zip(names, labels, strict=True))
            (source / "labels.csv").write_text(f"file,label\n{rows}")
    model = load(conditional)
    jobs.run(model, jobs.Encode(), source, tmp_path / "o.parquet", workers=2)
    found, read = rows_of(tmp_path / "o.parquet"), model.read(source)
    assert [(row["name"], row["label"]) for row in found] == list(zip(read.names, read.labels, strict=True))
    mean, _ = model.encode(read.images, labels=list(read.labels))
    np.testing.assert_allclose([row["mean"] for row in found], mean, rtol=1e-5, atol=1e-6)
    decoded = vae("decode", f"{tmp_path}/o.parquet/", "--run", conditional, "-o", tmp_path / "d.npy")
    assert decoded.code == 0, decoded.err
    np.testing.assert_allclose(np.load(tmp_path / "d.npy"), 255 * model.decode(mean, labels=list(read.labels)), atol=1)
    jobs.run(model, jobs.Decode(), tmp_path / "o.parquet", tmp_path / "again.parquet", workers=1)
    np.testing.assert_array_equal(model.read(tmp_path / "again.parquet").images[..., 0], np.load(tmp_path / "d.npy"))


def test_a_row_of_a_job_without_a_class_has_an_error(conditional: Path, tmp_path: Path) -> None:
    for folder in ("top", "elsewhere"):
        (tmp_path / folder).mkdir()
        Image.fromarray(stripes(1)[0][0]).save(tmp_path / folder / "a.png")
    result = jobs.run(
        load(conditional), jobs.Score(), [tmp_path / "top", tmp_path / "elsewhere"], tmp_path / "o.parquet"
    )
    assert (result.rows, result.errors) == (2, 1)
    good, bad = rows_of(tmp_path / "o.parquet")
    assert (good["label"], good["error"], bad["label"]) == ("top", None, None)
    assert bad["error"] == f"{tmp_path}/elsewhere/a.png: its class is not known"


def test_without_a_class_samples_are_of_the_classes_of_the_training(pictures: Path, tmp_path: Path) -> None:
    """As often as these: nine bottoms for each top."""
    images, labels = stripes(900)
    chosen = np.concatenate([np.flatnonzero(labels == "bottom")[:180], np.flatnonzero(labels == "top")[:20]])
    np.savez(tmp_path / "some.npz", x=images[chosen], y=labels[chosen])
    run = tmp_path / "run"
    tiny = ("--hidden", "16", "--latent-dim", "2", "--batch-size", "20", "--device", "cpu", "--precision", "float32")
    settings = ("--conditional", "--prior", "normal", "--epochs", "2", "--seed", "1", *tiny)
    assert vae("train", "--data", tmp_path / "some.npz", "--run", run, *settings).code == 0
    assert vae("export", "--run", run).code == 0
    pair = load(run, "cpu").pair
    assert pair.prior_summary is not None
    np.testing.assert_allclose(pair.class_shares, [0.9, 0.1], atol=0.02)
    drawn = noise.labels(1, 0, 20_000, pair.class_shares)
    np.testing.assert_allclose(np.bincount(drawn) / 20_000, pair.class_shares, atol=0.01)
    of_each = [pair.choose_prior(label=name) for name in pair.classes]
    latents = draw_each(of_each, drawn[:9], 1, 0, pair.latent_dim, 1)
    expected = load(run, "cpu").decode(latents, labels=drawn[:9].tolist())
    np.testing.assert_array_equal(load(run, "cpu").sample(9, seed=1), expected)
    told = vae("sample", "--run", run, "--n", "9", "--seed", "1", "-o", f"{tmp_path}/drawn/", "--json").json["classes"]
    assert told == [pair.classes[place] for place in drawn[:9]]
    written = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert written == sorted(f"{name}-{number:04}.png" for number, name in enumerate(told, 1))
    (run / "prior.onnx").unlink()
    np.testing.assert_array_equal(load(run, "cpu").pair.class_shares, [0.5, 0.5])
