"""The Python side: `vaecli.load`, and a model on NumPy arrays."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import vaecli
from tests.command_line import python_and_its_memory, vae
from tests.tiny_model import GREY, edit, two_gaussians, write_decoder, write_pair, write_prior
from vaecli import Model, load, noise
from vaecli.datasets.dataset import spread
from vaecli.errors import UsageError, VaeError
from vaecli.inference import graph_file
from vaecli.inference.sampling import samples
from vaecli.model_format import DECODER_FILE, ENCODER_FILE


def pixels(n: int, *shape: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (n, *shape), np.uint8)


@pytest.fixture(params=["grey", "colour"])
def folder(request: pytest.FixtureRequest) -> Path:
    value: Path = request.getfixturevalue(request.param)
    return value


@pytest.fixture
def model(folder: Path) -> Model:
    return load(folder, device="cpu")


def some(model: Model, n: int = 5) -> np.ndarray[Any, np.dtype[np.uint8]]:
    channels, height, width = model.image_shape
    return pixels(n, height, width) if channels == 1 else pixels(n, height, width, channels)


def test_load_is_offered_by_the_package(grey: Path) -> None:
    assert isinstance(vaecli.load(str(grey)), vaecli.Model)


def test_every_call_gives_images_as_it_takes_them(model: Model) -> None:
    images = some(model)
    mean, std = model.encode(images)
    assert mean.shape == std.shape == (5, 2)
    assert (std > 0).all()
    for result in (
        model.decode(mean),
        model.sample(5, seed=0),
        model.reconstruct(images),
        model.interpolate(images[0], images[1], steps=5),
    ):
        assert result.shape == images.shape
        assert result.dtype == np.float32
        assert 0 <= result.min() < result.max() <= 1


def test_another_runtime_computes_the_same(folder: Path, model: Model) -> None:
    images = some(model)
    channels_first = (images if images.ndim == 4 else images[..., None]).transpose(0, 3, 1, 2) / np.float32(255)
    mean, std = ReferenceEvaluator(str(folder / ENCODER_FILE)).run(None, {"image": channels_first})
    assert np.allclose(model.encode(images), [mean, std], atol=1e-5)
    (drawn,) = ReferenceEvaluator(str(folder / DECODER_FILE)).run(["image"], {"latent": mean})
    expected = np.asarray(drawn).transpose(0, 2, 3, 1)
    assert np.allclose(model.decode(mean), expected if expected.shape[-1] == 3 else expected[..., 0], atol=1e-5)


def test_bytes_and_floats_and_a_channel_axis_mean_the_same(model: Model) -> None:
    images = some(model)
    expected = model.encode(images)
    assert np.allclose(model.encode(images / 255), expected, atol=1e-5)
    assert np.allclose(model.encode((images / 255).astype(np.float32)), expected, atol=1e-5)
    if images.ndim == 3:
        assert np.array_equal(model.encode(images[..., None]), expected)


def test_the_seed_fixes_the_samples(model: Model) -> None:
    assert np.array_equal(model.sample(9, seed=1), model.sample(9, seed=1))
    assert np.allclose(model.sample(100, seed=1)[:9], model.sample(9, seed=1), atol=1e-6)
    assert not np.array_equal(model.sample(9, seed=1), model.sample(9, seed=2))
    assert not np.array_equal(model.sample(9), model.sample(9))


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_batch_size_changes_no_picture(model: Model, batch_size: int) -> None:
    batches = list(samples(model.pair, 50, 3, batch_size=batch_size))
    assert {len(batch) for batch in batches[:-1]} <= {batch_size}
    expected = model.sample(50, seed=3).reshape(np.concatenate(batches).shape)
    assert np.allclose(np.concatenate(batches), expected, atol=1e-6)


def test_temperature_0_is_the_middle_of_the_prior(model: Model) -> None:
    cold = model.sample(3, seed=0, temperature=0)
    assert np.allclose(cold, model.decode(np.zeros((1, 2))), atol=1e-6)
    half = next(samples(model.pair, 4, 5, temperature=0.5))
    latents = noise.prior(5, 0, 4, 2) / 2
    assert np.allclose(half.ravel(), model.decode(latents).ravel(), atol=1e-6)


def test_uint8_is_the_nearest(model: Model) -> None:
    floats, numbers = (next(samples(model.pair, 6, 0, as_uint8=as_uint8)) for as_uint8 in (False, True))
    assert numbers.dtype == np.uint8
    assert np.abs(numbers - floats * 255).max() <= 0.501


def test_reconstruct_goes_through_the_mean_or_a_draw(model: Model) -> None:
    images = some(model, 40)
    mean, std = model.encode(images)
    assert np.allclose(model.reconstruct(images), model.decode(mean), atol=1e-6)
    pictures = images if images.ndim == 4 else images[..., None]
    epsilon = noise.normal(noise.keys(4, "posterior", noise.digests(pictures)), 2)[:, 0]
    assert np.allclose(model.reconstruct(images, seed=4), model.decode(mean + std * epsilon), atol=1e-5)
    order = np.random.default_rng(0).permutation(40)
    assert np.allclose(model.reconstruct(images[order], seed=4), model.reconstruct(images, seed=4)[order], atol=1e-6)


def test_interpolate_takes_images_and_latents(model: Model) -> None:
    images = some(model, 2)
    mean, _ = model.encode(images)
    between_images = model.interpolate(*images, steps=4)
    assert np.allclose(between_images, model.interpolate(*mean, steps=4), atol=1e-6)
    assert np.allclose(between_images[[0, -1]], model.reconstruct(images), atol=1e-5)
    straight = model.interpolate(*mean, steps=3, method="lerp")
    assert np.allclose(straight[1], model.decode(mean.mean(axis=0, keepdims=True))[0], atol=1e-5)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (pixels(2, 9, 8), "(2, 9, 8)"),
        (pixels(2, 8, 8, 3), "(2, 8, 8, 3)"),
        (pixels(2, 1, 8, 8), "(2, 1, 8, 8)"),
        (pixels(8, 8), "(8, 8)"),
        (pixels(0, 8, 8), "(0, 8, 8): there are none"),
        (pixels(2, 8, 8).astype(int), "int64"),
        (pixels(2, 8, 8) > 5, "bool"),
        (pixels(2, 8, 8) / 100, "outside [0, 1]"),
        (pixels(2, 8, 8) / 255 - 0.5, "outside [0, 1]"),
        (np.full((2, 8, 8), np.nan), "not numbers"),
    ],
)
def test_images_that_cannot_be_used_are_refused(grey: Path, images: Any, reason: str) -> None:
    model = load(grey)
    for call in (model.encode, model.reconstruct):
        with pytest.raises(VaeError) as caught:
            call(images)
        assert reason in caught.value.message


@pytest.mark.parametrize(
    "latents",
    [np.zeros((2, 3)), np.zeros(2), np.zeros((0, 2)), np.full((1, 2), np.inf), np.full((1, 2), 1e39), [["a", "b"]],
     [[1, 2], [3]]],
)  # fmt: skip
def test_latents_that_cannot_be_used_are_refused(grey: Path, latents: Any) -> None:
    with pytest.raises(UsageError, match=r"^latents"):
        load(grey).decode(latents)


@pytest.mark.parametrize(
    ("images", "remedy"),
    [
        (pixels(2, 8, 8) > 5, "astype(np.float32)"),
        (pixels(2, 8, 8).astype(np.uint16), "/ 65535"),
        (pixels(2, 8, 8).astype(np.int64), "astype(np.uint8)"),
        (pixels(2, 8, 8).astype(np.int64) * 4, "divide by the largest possible value"),
        (pixels(2, 8, 8).astype(object), "numbers"),
        (np.where(pixels(2, 8, 8) > 5, 0.5, np.nan), "look for NaN"),
        (np.full((2, 8, 8), 1.001), "clip(0, 1)"),
        (pixels(2, 8, 8).astype(np.float32), "/ 255"),
    ],
)
def test_the_remedy_keeps_the_pictures(grey: Path, images: Any, remedy: str) -> None:
    """Such as 16 bits, which as uint8 would be other pictures."""
    with pytest.raises(UsageError) as caught:
        load(grey).encode(images)
    assert remedy in caught.value.hint


def test_a_batch_is_not_one_image(grey: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(grey).interpolate(pixels(1, 8, 8), pixels(1, 8, 8))
    assert caught.value.hint == "take one of them: images[0]"


def test_an_estimate_is_a_number(grey: Path) -> None:
    bound = load(grey).evaluate(pixels(3, 8, 8)).bound
    assert float(bound) == bound.nats
    assert f"{bound:.1f}" == f"{bound.nats:.1f}"
    assert f"{bound}" == repr(bound)


@pytest.mark.parametrize(
    "arguments",
    [{"n": 0}, {"n": -1}, {"n": 1, "seed": -1}, {"n": 1, "seed": 2**64}, {"n": 1, "temperature": -1},
     {"n": 1, "temperature": float("nan")}, {"n": 1, "temperature": float("inf")}],
)  # fmt: skip
def test_samples_that_cannot_be_meant_are_refused(grey: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(VaeError) as caught:
        load(grey).sample(**arguments)
    assert list(arguments)[-1] in caught.value.message


@pytest.mark.parametrize("more", [{"steps": 1}, {"method": "cubic"}])
def test_interpolations_that_cannot_be_meant_are_refused(grey: Path, more: dict[str, Any]) -> None:
    with pytest.raises(VaeError, match=next(iter(more))):
        load(grey).interpolate(np.zeros(2), np.ones(2), **more)


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("evaluate", {"n": 0}),
        ("evaluate", {"n": -1}),
        ("evaluate", {"n": 2.5}),
        ("evaluate", {"importance_samples": True}),
        ("score", {"importance_samples": 1.5}),
        ("evaluate", {"split": "test"}),
        ("evaluate", {"binarize": "Threshold"}),
        ("score", {"binarize": "foo"}),
        ("traverse", {"dims": 0}),
        ("traverse", {"dims": -1}),
        ("traverse", {"dims": 3}),
        ("traverse", {"dims": 1.5}),
        ("traverse", {"steps": 0}),
        ("traverse", {"steps": "x"}),
        ("manifold", {"steps": 0}),
        ("manifold", {"steps": 2.5}),
        ("manifold", {"dims": (0, 1, 0)}),
        ("sample", {"seed": 1.5}),
    ],
)
def test_values_that_a_command_refuses_are_refused(grey: Path, call: str, arguments: dict[str, Any]) -> None:
    first: dict[str, list[Any]] = {"evaluate": [pixels(3, 8, 8)], "score": [pixels(3, 8, 8)], "sample": [2]}
    with pytest.raises(UsageError, match=f"`{next(iter(arguments))}`"):
        getattr(load(grey), call)(*first.get(call, []), **arguments)


def test_a_device_that_there_is_not_is_refused(grey: Path) -> None:
    for device in ("cuda:0", "gpu"):
        with pytest.raises(UsageError, match=f"`device` {device}: expected one of auto, cpu, cuda"):
            load(grey, device)  # type: ignore[arg-type]  # what is not among the choices


def test_some_of_an_array_are_measured(grey: Path) -> None:
    images = pixels(8, 8, 8)
    assert load(grey).evaluate(images).n == 8
    some = load(grey).evaluate(images, n=3)
    assert some.n == 3
    assert some.negative_elbo == load(grey).evaluate(images[spread(3, 8)]).negative_elbo


def test_a_picture_that_may_be_latents_is_asked_about(tmp_path: Path) -> None:
    model = load(write_pair(tmp_path, latent_dim=8))
    write_prior(tmp_path, two_gaussians(8))
    with pytest.raises(UsageError, match="one image, or 8 latents"):
        model.sample(2, like=pixels(8, 8))


def test_a_model_goes_to_another_process_after_it_was_used(model: Model) -> None:
    before = model.sample(3, seed=1)
    again = pickle.loads(pickle.dumps(model))  # noqa: S301 - our own
    np.testing.assert_array_equal(again.sample(3, seed=1), before)


def test_threads_that_begin_together_open_a_graph_once_and_leave_the_output_alone(grey: Path) -> None:
    program = """
import sys, threading
import numpy as np, vaecli
from vaecli.inference import runtime
model, opened, real = vaecli.load(sys.argv[1]), [], runtime.open_graph
runtime.open_graph = lambda *arguments: opened.append(1) or real(*arguments)
start = threading.Barrier(4)
def encode():
    start.wait()
    model.encode(np.zeros((1, 8, 8), np.uint8))
threads = [threading.Thread(target=encode) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(opened), "opened")
print("said", file=sys.stderr)
"""
    done, _ = python_and_its_memory(program, grey)
    assert (done.stdout, done.err) == (b"1 opened\n", "said\n")


def test_files_that_are_replaced_while_they_are_read_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pair(tmp_path / "old", seed=0)
    new = write_pair(tmp_path / "new", seed=1)
    real, read = graph_file.read, list[Path]()

    def reading(path: Path) -> graph_file.GraphFile:
        found = real(path)
        if not read:  # an export replaces them now
            shutil.copytree(new, path.parent, dirs_exist_ok=True)
        read.append(path)
        return found

    monkeypatch.setattr(graph_file, "read", reading)
    assert load(tmp_path / "old").pair.digest == load(new).pair.digest
    assert [path.name for path in read[:4]] == [ENCODER_FILE, DECODER_FILE] * 2


def test_a_folder_without_a_model_says_what_to_do(tmp_path: Path) -> None:
    for place, reason in ((tmp_path / "none", "no such run folder"), (tmp_path, "no exported model")):
        with pytest.raises(VaeError) as caught:
            load(place)
        assert caught.value.message.startswith(f"{place}: {reason}")
        assert "vae train" in caught.value.hint


def test_a_run_that_was_not_exported_asks_for_export(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"")
    with pytest.raises(VaeError) as caught:
        load(tmp_path)
    assert caught.value.hint == f"vae export --run {tmp_path}"


def test_a_file_instead_of_a_folder_is_refused(grey: Path) -> None:
    with pytest.raises(VaeError, match="is a file"):
        load(grey / DECODER_FILE)


def test_halves_of_different_models_are_refused(tmp_path: Path) -> None:
    write_pair(tmp_path, seed=0)
    write_decoder(tmp_path / DECODER_FILE, seed=1)
    with pytest.raises(VaeError, match="are of different models"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("missing", "works", "fails"), [(ENCODER_FILE, "sample", "encode"), (DECODER_FILE, "encode", "sample")]
)
def test_one_half_does_what_it_can(grey: Path, tmp_path: Path, missing: str, works: str, fails: str) -> None:
    half = Path(shutil.copytree(grey, tmp_path / "half"))
    (half / missing).unlink()
    arguments: dict[str, Any] = {"sample": 2, "encode": pixels(2, 8, 8)}
    model = load(half)
    assert len(getattr(model, works)(arguments[works])) == 2
    with pytest.raises(VaeError, match=missing):
        getattr(model, fails)(arguments[fails])


def test_the_encoder_is_not_opened_to_sample(grey: Path) -> None:
    model = load(grey)
    model.sample(1)
    assert list(model.pair._graphs) == [DECODER_FILE]


def test_a_decoder_that_leaves_the_range_is_refused(tmp_path: Path) -> None:
    write_pair(tmp_path)
    edit(tmp_path / DECODER_FILE, lambda model: setattr(model.graph.node[-1], "op_type", "Exp"))
    with pytest.raises(VaeError, match=r"outside \[0, 1\]"):
        load(tmp_path).sample(9, seed=0)


def test_the_metadata_are_there(grey: Path) -> None:
    model = load(grey)
    assert model.image_shape == GREY
    assert model.latent_dim == model.metadata.latent_dim == 2
    assert model.metadata.likelihood == "bernoulli"


def test_what_export_wrote_loads(trained: Path, blobs: Path) -> None:
    images = np.load(blobs)
    reconstructed = load(trained).reconstruct(images)
    assert reconstructed.shape == images.shape
    assert reconstructed.std() > 0


def test_a_traversal_is_that_of_the_command(trained: Path, tmp_path: Path) -> None:
    model = load(trained, "cpu")
    walk = model.traverse(seed=3, dims=2, steps=5, reach=1)
    flags = ("--seed", "3", "--dims", "2", "--steps", "5", "--range", "1", "--dtype", "float32", "--json")
    result = vae("traverse", "--run", trained, "-o", tmp_path / "o.npy", *flags)
    assert (walk.dimensions, walk.coordinates) == (result.json["dimensions"], result.json["coordinates"])
    np.testing.assert_array_equal(walk.images.reshape(10, 8, 8), np.load(tmp_path / "o.npy"))


def test_a_manifold_is_that_of_the_command(trained: Path, tmp_path: Path) -> None:
    plane = load(trained, "cpu").manifold((2, 0), steps=4)
    flags = ("--dims", "2", "0", "--steps", "4", "--dtype", "float32", "--json")
    result = vae("manifold", "--run", trained, "-o", tmp_path / "o.npy", *flags)
    assert [list(plane.dimensions), list(plane.coordinates)] == [result.json["dimensions"], result.json["coordinates"]]
    np.testing.assert_array_equal(plane.images.reshape(16, 8, 8), np.load(tmp_path / "o.npy"))


def test_data_may_be_a_path(trained: Path, blobs: Path) -> None:
    model = load(trained, "cpu")
    assert model.evaluate(blobs, split="all").n == 120
    assert model.traverse(data=blobs).ordered_by == "kl"


def test_images_are_in_the_range_that_they_are_promised_in(tmp_path: Path) -> None:
    """A decoder may be out of it by less than what rounding to uint8 changes."""
    write_pair(tmp_path)
    edit(tmp_path / DECODER_FILE, add_to_the_image)
    model = load(tmp_path, "cpu")
    images = model.sample(50, seed=1)
    assert images.max() == 1
    model.encode(images)


def add_to_the_image(model: onnx.ModelProto) -> None:
    """Let the last operator's result be larger by 0.0005, and large everywhere."""
    last = model.graph.node[-1]
    image, last.output[0] = last.output[0], "before"
    for name, value in (("least", 0.999), ("more", 0.0005)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.float32), name))
    model.graph.node.append(onnx.helper.make_node("Max", ["before", "least"], ["raised"]))
    model.graph.node.append(onnx.helper.make_node("Add", ["raised", "more"], ["above"]))
    model.graph.node.append(onnx.helper.make_node("Add", ["above", "more"], [image]))


def test_files_are_shown_without_their_bytes(grey: Path) -> None:
    assert len(repr(load(grey).pair.files)) < 5000


def test_labels_are_those_of_an_array(trained: Path) -> None:
    with pytest.raises(UsageError, match="labels: only with an array of images"):
        load(trained).evaluate(labels=["a"])


def test_a_path_is_no_array(grey: Path) -> None:
    model = load(grey)
    for path in ("a.png", Path("a.png")):
        with pytest.raises(UsageError, match=r"images: a\.png is a path") as refusal:
            model.encode(path)  # type: ignore[arg-type]  # as a beginner does
        assert "model.read(path)" in refusal.value.hint
