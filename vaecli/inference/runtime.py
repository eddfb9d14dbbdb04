"""ONNX Runtime: which device runs a graph, and the session that does. Nobody else imports onnxruntime."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from vaecli import model_format, processors
from vaecli.config import DeviceChoice
from vaecli.errors import DeviceError, VaeError, missing_package
from vaecli.inference.header import GraphFile

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

Array: TypeAlias = NDArray[np.float32]
Shape: TypeAlias = tuple[int, ...]  # of one image or latent, without the batch


@dataclass(frozen=True)
class Graph:
    """An opened graph: its tensors' names and shapes are those that its metadata promises."""

    file: GraphFile
    provider: str
    fallback: str  # why `auto` did not take CUDA; empty where it did, or where there was none to take
    input: str
    outputs: Mapping[str, Shape]
    session: Any  # onnxruntime.InferenceSession, which brings no types

    @property
    def workers(self) -> int:
        """How many batches are worth computing side by side.

        A GPU computes one at a time; a second thread converts what went before, or counts its nats.
        """
        return processors.usable() if self.provider == CPU else 2

    def run(self, names: Sequence[str], batch: Array) -> list[Array]:
        """Compute the outputs `names` of one batch. Several threads may do so at once.

        Raises:
            VaeError: ONNX Runtime fails, for want of memory for instance, or computes what is not finite.
        """
        try:
            results: list[Array] = self.session.run(list(names), {self.input: batch})
        except Exception as error:  # its exceptions have no base class of their own
            raise VaeError(
                f"{self.file.path}: ONNX Runtime failed: {_first_line(error)}", "try a smaller --batch-size"
            ) from error
        for name, result in zip(names, results, strict=True):
            expected = (len(batch), *self.outputs[name])
            if result.shape != expected:
                raise VaeError(
                    f"{self.file.path}: computes {name} of shape {result.shape}, not {expected}",
                    "export it again",
                )
            with np.errstate(all="ignore"):
                finite = np.isfinite(result.sum())  # NaN and infinity survive a sum
            if not finite:
                raise VaeError(f"{self.file.path}: computes values that are not finite", "train and export it again")
        return results


def open_graph(file: GraphFile, device: DeviceChoice) -> Graph:
    """Open a session for a graph that `header.read` has judged, and check its inputs and outputs.

    `auto` takes CUDA where a CUDA session really starts, else the CPU. A session computes on the thread that
    calls it: batches run side by side (see `batches`), which scales better than splitting each one.

    Raises:
        VaeError: onnxruntime is not installed or cannot open the graph, or the graph is not what it says.
        DeviceError: `cuda` was asked for and does not work.
    """
    runtime = _import_runtime()
    session, fallback = None, ""
    if device == "cuda" or (device == "auto" and CUDA in runtime.get_available_providers()):
        session, fallback = _cuda_session(runtime, file)
        if session is None and device == "cuda":
            raise DeviceError(
                f"--device cuda: {fallback}",
                "vaecli[gpu] brings its libraries, nvidia-smi shows its driver; or use --device cpu",
            )
    if session is None:
        try:
            session = _session(runtime, file, [CPU])
        except Exception as error:
            raise VaeError(
                f"{file.path}: ONNX Runtime cannot open it: {_first_line(error)}",
                "export it again, or pip install --upgrade onnxruntime",
            ) from error
    source, inputs, outputs = _promised(file)
    _check(file, session.get_inputs(), inputs)
    _check(file, session.get_outputs(), outputs)
    return Graph(file, session.get_providers()[0], fallback, source, outputs, session)


def providers() -> list[str]:
    """What the installed onnxruntime can compute with, as it says itself; whether it starts is another question.

    Raises:
        VaeError: onnxruntime is not installed, or cannot be imported.
    """
    return list(_import_runtime().get_available_providers())


def _promised(file: GraphFile) -> tuple[str, dict[str, Shape], dict[str, Shape]]:
    """The name of the input, the inputs and the outputs that a file of this name and metadata has."""
    image, latent = tuple(file.metadata.image_shape), (file.metadata.latent_dim,)
    if file.path.name == model_format.ENCODER_FILE:
        outputs: dict[str, Shape] = {model_format.MEAN: latent, model_format.STD: latent}
        return model_format.IMAGE, {model_format.IMAGE: image}, outputs
    outputs = dict.fromkeys((model_format.IMAGE, *model_format.PARAMETERS[file.metadata.likelihood]), image)
    return model_format.LATENT, {model_format.LATENT: latent}, outputs


def _check(file: GraphFile, found: Sequence[Any], promised: Mapping[str, Shape]) -> None:
    """Hold a session's inputs or outputs against those promised. Raises VaeError where they differ."""
    tensors = {tensor.name: tensor for tensor in found}
    if tensors.keys() != promised.keys():
        raise VaeError(
            f"{file.path}: its tensors are {', '.join(sorted(tensors))}, not {', '.join(sorted(promised))}",
            "export it again; or is the encoder named as the decoder?",
        )
    for name, shape in promised.items():
        tensor = tensors[name]
        batch, *rest = tensor.shape or [0]
        # A size that is not a number is free: what it becomes is looked at in every run.
        fits = len(rest) == len(shape) and all(
            size == expected or not isinstance(size, int) for size, expected in zip(rest, shape, strict=True)
        )
        if tensor.type != "tensor(float)" or isinstance(batch, int) or not fits:
            wanted = [model_format.BATCH, *shape]
            raise VaeError(
                f"{file.path}: its {name} is {tensor.type} {tensor.shape}, not tensor(float) {wanted}",
                "export it again",
            )


def _import_runtime() -> ModuleType:
    """Import onnxruntime, keeping off the terminal what it says of graphics cards that it does not know."""
    try:
        with Path(os.devnull).open("r+b") as nowhere, _captured(nowhere):
            import onnxruntime  # type: ignore[import-untyped]  # it ships no types
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime":
            raise _missing() from error
        raise VaeError(
            f"onnxruntime is installed but cannot be imported: {_first_line(error)}",
            "pip uninstall onnxruntime onnxruntime-gpu, then install one of vaecli[cpu] and vaecli[gpu]",
        ) from error
    # What a half-removed installation leaves is an empty folder, which Python imports without complaint.
    if not hasattr(onnxruntime, "InferenceSession"):
        raise _missing()
    return cast(ModuleType, onnxruntime)


def _missing() -> VaeError:
    error = missing_package("onnxruntime", "cpu", "using a model")
    error.hint += ", or with an NVIDIA GPU: pip install 'vaecli[gpu]'"
    return error


def _cuda_session(runtime: ModuleType, file: GraphFile) -> tuple[Any, str]:
    """A session that runs on CUDA, or None and the reason why there is none."""
    if CUDA not in runtime.get_available_providers():
        return None, "the onnxruntime installed here has no CUDA (pip install 'vaecli[gpu]' brings one)"
    import tempfile

    session, reason = None, ""
    with tempfile.TemporaryFile() as log:
        with _captured(log):
            try:
                if hasattr(runtime, "preload_dlls"):
                    runtime.preload_dlls()
                # Without TF32 the pictures are those that a CPU computes, but for rounding.
                session = _session(runtime, file, [(CUDA, {"use_tf32": "0"}), CPU])
            except Exception as error:
                reason = _first_line(error)
        log.seek(0)
        said = log.read().decode(errors="replace")
    # It is listed even where it cannot start, and a session then quietly runs on the CPU.
    if session is not None and session.get_providers()[0] == CUDA:
        return session, ""
    return None, reason or _complaint(said) or "CUDA does not start, and ONNX Runtime does not say why"


def _session(runtime: ModuleType, file: GraphFile, providers: Sequence[Any]) -> Any:  # noqa: ANN401 - untyped
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    # The bytes were judged as ONNX: they are to be read as nothing else.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return runtime.InferenceSession(file.content, options, providers=list(providers), enable_fallback=0)


@contextlib.contextmanager
def _captured(log: BinaryIO) -> Iterator[None]:
    """Send what the runtime says to `log`: its Python parts print, its C++ parts write straight to fd 2."""
    try:
        terminal = os.dup(2)
    except OSError:  # there is no stderr to keep clean
        yield
        return
    printed = io.StringIO()
    try:
        os.dup2(log.fileno(), 2)
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        log.write(printed.getvalue().encode())


def _complaint(said: str) -> str:
    """The most telling line of what the runtime said while CUDA did not start."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in said.splitlines()]
    for telling in ("failed to load", "failure", "error", "cuda"):
        for line in lines:
            if telling in line.lower():
                return _first_line(line)
    return ""


def _first_line(error: object) -> str:
    """The first line of a complaint of the runtime, without stamps, source lines and folders."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    line = re.sub(r"^\S+ \S+ \[\w:onnxruntime:[^\]]*\] ", "", line)
    line = re.sub(r"^.*\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", "", line)
    line = re.sub(r"/\S*/", "", line)
    return line[:300]
