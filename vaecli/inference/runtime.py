"""Sessions of ONNX Runtime: on which device a graph runs, and running it. Only this module imports onnxruntime."""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from vaecli import limits, model_format, processors
from vaecli.config import DeviceChoice
from vaecli.errors import DeviceError, UsageError, VaeError, missing_package
from vaecli.inference import header
from vaecli.inference.header import GraphFile
from vaecli.inference.nodes import MOST_SIZES
from vaecli.model_format import BATCH
from vaecli.streams import diverted
from vaecli.wording import listed

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
ERRORS, FATAL = 3, 4  # what a session writes to stderr itself, with names from the file, unchanged
QUICK = 0.05  # seconds for which Ctrl-C may wait
SMALLEST_RESIZED = 64  # numbers in a row of what a Resize gives
SMALLEST_PRODUCT = 256  # numbers in each of many products of matrices
WIDE = ("tensor(float)", "tensor(double)", "tensor(int32)", "tensor(int64)")  # types of numbers of 32 bits or more
NARROW = 4  # the memory of a model is limited to this part if it expands narrower numbers
# ONNX Runtime computes 8 or 16 numbers at once. Those left over at the end of a batch are computed by other code, which
# rounds differently. Batches of a multiple of 16 rows have none left over. A few large pictures are not worth that.
ALIGNED = 16
SMALL = 1024  # numbers of a picture
_REGISTERING = threading.Lock()

# How an error of ONNX Runtime says that memory is lacking: the limit's, with what is left and what was asked for, or
# the machine's.
LACKS_ROOM = re.compile(r"Available memory of (\d+) is smaller than requested bytes of (\d+)|Failed to allocate memory")

Array: TypeAlias = NDArray[np.float32]
Shape: TypeAlias = tuple[int, ...]  # of one image or latent, without the batch


class Room:
    """How the runs of a session share its memory. Where it is too little, they take fewer rows, at last one by one."""

    def __init__(self) -> None:
        self.rows = sys.maxsize  # of a run, at most
        self.quick = 0  # rows of the largest run that took less than QUICK seconds
        self._one_at_a_time = False
        self._running = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self) -> Iterator[bool]:
        """Compute one run within the block. Yields whether no other one can run meanwhile."""
        with self._changed:
            while self._one_at_a_time and self._running:
                self._changed.wait()
            self._running += 1
            alone = self._one_at_a_time
        try:
            yield alone
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def give_way(self, rows: int, *, alone: bool) -> bool:
        """Make room after a run of `rows` rows failed for lack of memory. Returns whether to try again."""
        with self._changed:
            if rows > 1:
                self.rows = min(self.rows, rows // 2)
            else:
                self._one_at_a_time = True
        return rows > 1 or not alone


@dataclass(frozen=True)
class Graph:
    """An opened graph. Its tensors have the names and shapes that follow from its metadata."""

    file: GraphFile
    provider: str
    fallback: str  # why `auto` did not take CUDA; empty where it did, or where onnxruntime has no CUDA
    input: str
    outputs: Mapping[str, Shape]
    session: Any  # onnxruntime.InferenceSession, which brings no types
    label: int | None = None  # of a conditional model: the class that every row is taken for
    room: Room = field(default_factory=Room)

    @property
    def workers(self) -> int:
        """How many batches to compute at the same time."""
        return processors.usable() if self.provider == CPU else 2  # a GPU computes one; pictures are read meanwhile

    def run(self, names: Sequence[str], batch: Array, labels: NDArray[np.int64] | None = None) -> list[Array]:
        """Compute the outputs `names` of a batch (b, ...): arrays (b, ...) float32. Threads may call it at once.

        A row's outputs are the same in any batch of 16 rows or more, and of small pictures in any batch. A batch that
        does not fit into the memory that the file may ask for is computed in parts.
        A conditional model needs the class of each row: `labels` (b,), else the graph's own.

        Raises:
            VaeError: ONNX Runtime fails, a single row asks for too much memory, or a shape is wrong or a value not
                finite.
            UsageError: the batch is empty; or the model is conditional, and the class is not given.
        """
        if not len(batch):  # a dense graph would take it, and a convolutional one not
            raise UsageError(f"{self.file.path}: an empty batch", "pass one or more")
        count = len(batch)
        if count >= ALIGNED or math.prod(self.file.metadata.image_shape) <= SMALL:
            batch, labels = _aligned(batch), None if labels is None else _aligned(labels)
        feed: dict[str, Any] = {self.input: batch}
        if classes := self.file.metadata.classes:
            if labels is None and self.label is None:
                problem = f"{self.file.path.parent}: the model is conditional, and no class is given"
                raise UsageError(problem, f"name one with `label`: {listed(classes)} (in Python: model.given)")
            feed[model_format.LABEL] = np.full(len(batch), self.label) if labels is None else labels
        results = [result[:count] for result in self._in_parts(names, feed, len(batch))]
        for name, result in zip(names, results, strict=True):
            expected = (count, *self.outputs[name])
            if result.shape != expected:
                raise VaeError(f"{self.file.path}: {name} has shape {result.shape}, not {expected}", "export it again")
            with np.errstate(all="ignore"):
                finite = np.isfinite(result.sum())  # NaN and infinity survive a sum
            if not finite:
                raise VaeError(f"{self.file.path}: {name} has values that are not finite", "train and export it again")
        return results

    def _in_parts(self, names: Sequence[str], feed: Mapping[str, NDArray[Any]], count: int) -> list[Array]:
        """The outputs `names` for the `count` rows of what is fed, in parts where there is no room for all."""
        parts, first = list[list[Array]](), 0
        while first < count:
            last, alone = min(count, first + self.room.rows), False
            try:
                with self.room.taken() as alone:
                    part = {name: rows[first:last] for name, rows in feed.items()}
                    start, known = time.perf_counter(), last - first <= self.room.quick
                    parts.append(_run(self.session, names, part, quick=known))
                    if time.perf_counter() - start < QUICK:
                        self.room.quick = max(self.room.quick, last - first)
            except Exception as error:  # its exceptions have no base class of their own
                lacking = LACKS_ROOM.search(str(error))
                if not lacking or not self.room.give_way(last - first, alone=alone):
                    raise _failed(self.file, error) from error
            else:
                first = last
        return parts[0] if len(parts) == 1 else [np.concatenate(part) for part in zip(*parts, strict=True)]


def _aligned(rows: NDArray[Any]) -> NDArray[Any]:
    """The rows, and the last one again until there are a multiple of ALIGNED."""
    missing = -len(rows) % ALIGNED
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows


def open_graph(file: GraphFile, device: DeviceChoice) -> Graph:
    """Open a session for a graph that `header.read` has checked, and check its inputs and outputs.

    `auto` takes CUDA where a CUDA session starts, else the CPU.

    Raises:
        VaeError: onnxruntime is not installed or cannot open the graph, or a tensor does not fit the metadata.
        DeviceError: `cuda` was asked for and does not work.
    """
    runtime = _import_runtime()
    session, fallback = None, ""
    if device == "cuda" or (device == "auto" and CUDA in runtime.get_available_providers()):
        session, fallback = _cuda_session(runtime, file)
        if session is None and device == "cuda":
            raise DeviceError(
                f"`device` cuda: {fallback}",
                "vaecli[gpu] brings its libraries, nvidia-smi shows its driver; or use `device` cpu",
            )
    if session is None:
        file, session = _cpu_session(runtime, file)
    image, latent = tuple(file.metadata.image_shape), (file.metadata.latent_dim,)
    outputs: dict[str, Shape]
    if file.path.name == model_format.ENCODER_FILE:
        source, shape = model_format.IMAGE, image
        outputs = {model_format.MEAN: latent, model_format.STD: latent}
    else:
        source, shape = model_format.LATENT, latent
        facts = file.metadata
        parameters = model_format.parameter_shapes(facts.likelihood, facts.image_shape, facts.components)
        outputs = {model_format.IMAGE: image, **parameters}
    inputs: dict[str, Sequence[int | str]] = {source: (BATCH, *shape)}
    if file.metadata.classes:
        inputs[model_format.LABEL] = (BATCH,)
    _check(file, session.get_inputs(), inputs)
    _check(file, session.get_outputs(), {name: (BATCH, *size) for name, size in outputs.items()})
    return Graph(file, session.get_providers()[0], fallback, source, outputs, session)


@dataclass(frozen=True)
class PriorGraph:
    """An opened prior, a mixture of k Gaussians of d dimensions. It runs on the CPU: it is small."""

    file: GraphFile
    session: Any  # onnxruntime.InferenceSession, which brings no types

    def run(self, names: Sequence[str], noise: Array, choice: Array) -> list[Array]:
        """The outputs `names` for `noise` (b, d) and `choice` (b,). Raises VaeError where ONNX Runtime fails."""
        try:
            return _run(self.session, names, {model_format.NOISE: noise, model_format.CHOICE: choice})
        except Exception as error:
            raise _failed(self.file, error) from error


def open_prior(file: GraphFile) -> PriorGraph:
    """Open a session for a prior that `header.read` has checked, and check its inputs and outputs.

    Raises:
        VaeError: onnxruntime is not installed or cannot open the graph, or a tensor does not fit the metadata.
    """
    if file.metadata.prior is None:
        raise VaeError(f"{file.path}: is not a prior", "copy each file of a model under its own name")
    count, size = file.metadata.prior.components, file.metadata.latent_dim
    file, session = _cpu_session(_import_runtime(), file)
    _check(file, session.get_inputs(), {model_format.NOISE: (BATCH, size), model_format.CHOICE: (BATCH,)})
    outputs: dict[str, Sequence[int | str]] = {
        model_format.LATENT: (BATCH, size),
        model_format.LOG_WEIGHTS: (count,),
        model_format.MEANS: (count, size),
        model_format.FACTORS: (count, size, size),
    }
    _check(file, session.get_outputs(), outputs)
    return PriorGraph(file, session)


def _failed(file: GraphFile, error: Exception) -> VaeError:
    """The error for a run that failed: what the graph asks for is too much, or it is not right."""
    lacking = LACKS_ROOM.search(str(error))
    if lacking is None:
        return VaeError(f"{file.path}: ONNX Runtime failed: {_first_line(error)}", "export it again")
    if lacking[1] is None:
        return VaeError(f"{file.path}: this machine lacks the memory that it asks for", "use a machine with more")
    most = _most_memory(file)
    problem = f"{file.path}: asks for more than {most / 1e6:,.0f} MB of memory"
    needed = (most + int(lacking[2]) - int(lacking[1])) * (NARROW if file.narrow else 1)
    return VaeError(problem, f"if you trust it, allow it: {limits.MEGABYTES}={-(-needed // 10**6)}, or more")


def providers() -> list[str]:
    """What the installed onnxruntime can run on, whether or not it starts. Raises VaeError where none is installed."""
    return list(_import_runtime().get_available_providers())


def _check(file: GraphFile, found: Sequence[Any], expected: Mapping[str, Sequence[int | str]]) -> None:
    """Compare a session's inputs or outputs with those that follow from the metadata. Raises VaeError.

    A first size of BATCH must be free.
    """
    tensors = {tensor.name: tensor for tensor in found}
    if tensors.keys() != expected.keys():
        raise VaeError(
            f"{file.path}: its tensors are {', '.join(sorted(tensors))}, not {', '.join(sorted(expected))}",
            "export it again; or is the encoder named as the decoder?",
        )
    for name, shape in expected.items():
        tensor = tensors[name]
        # A size that is not a number is free. Such sizes are checked in every run.
        fits = len(tensor.shape) == len(shape) and all(
            not isinstance(size, int) or size == wanted for size, wanted in zip(tensor.shape, shape, strict=True)
        )
        kind = "tensor(int64)" if name == model_format.LABEL else "tensor(float)"
        if tensor.type != kind or not fits:
            raise VaeError(
                f"{file.path}: its {name} is {tensor.type} {tensor.shape}, not {kind} {[*shape]}",
                "export it again",
            )


def _import_runtime() -> ModuleType:
    """Import onnxruntime, without its messages about unknown graphics cards, and without telemetry.

    From 1.32 on it sends telemetry by default: it stores a device id and looks up a host of its vendor.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        with contextlib.ExitStack() as quiet:
            if "onnxruntime" not in sys.modules:
                nowhere = quiet.enter_context(Path(os.devnull).open("r+b"))
                quiet.enter_context(diverted(nowhere.fileno()))
            import onnxruntime  # type: ignore[import-untyped]  # it ships no types
    except ImportError as error:
        if not isinstance(error, ModuleNotFoundError) or error.name != "onnxruntime":
            raise VaeError(
                f"onnxruntime is installed but cannot be imported: {_first_line(error)}",
                "pip uninstall onnxruntime onnxruntime-gpu, then install one of vaecli[cpu] and vaecli[gpu]",
            ) from error
        onnxruntime = None
    # An uninstalled package may leave an empty folder, which Python imports as a namespace package.
    if not hasattr(onnxruntime, "InferenceSession"):
        missing = missing_package("onnxruntime", "cpu", "using a model")
        missing.hint += ", or with an NVIDIA GPU: pip install 'vaecli[gpu]'"
        raise missing
    return cast(ModuleType, onnxruntime)


def _cpu_session(runtime: ModuleType, file: GraphFile) -> tuple[GraphFile, Any]:
    """A session on the CPU, and the file with what was found out of it."""
    try:
        file = replace(file, narrow=_check_sizes(runtime, file))
        return file, _session(runtime, file, [CPU])
    except VaeError:
        raise
    except Exception as error:
        if LACKS_ROOM.search(str(error)):
            raise _failed(file, error) from error
        raise VaeError(
            f"{file.path}: ONNX Runtime cannot open it: {_first_line(error)}",
            "export it again, or pip install --upgrade onnxruntime",
        ) from error


def _cuda_session(runtime: ModuleType, file: GraphFile) -> tuple[Any, str]:
    """A session that runs on CUDA, or None and the reason why there is none."""
    if CUDA not in runtime.get_available_providers():
        return None, "the onnxruntime installed here has no CUDA (pip install 'vaecli[gpu]' brings one)"
    import tempfile  # a CPU does not need it

    session, reason = None, ""
    with tempfile.TemporaryFile() as log:
        with _captured(log):
            try:
                if hasattr(runtime, "preload_dlls"):
                    runtime.preload_dlls()
                # Without TF32 the pictures are those that a CPU computes, except for rounding.
                session = _session(runtime, file, [(CUDA, {"use_tf32": "0"}), CPU])
            except Exception as error:
                reason = _first_line(error)
        log.seek(0)
        said = log.read().decode(errors="replace")
    # Where CUDA does not start, the session runs on the CPU without an error.
    if session is not None and session.get_providers()[0] == CUDA:
        return session, ""
    return None, reason or _complaint(said) or "CUDA does not start, and ONNX Runtime does not say why"


def _run(
    session: Any,  # noqa: ANN401 - untyped
    names: Sequence[str],
    feed: Mapping[str, Any],
    *,
    quick: bool = False,
) -> list[Array]:
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = FATAL  # its own line of an error has names from the file, unchanged
    if quick or threading.current_thread() is not threading.main_thread():
        results: list[Array] = session.run(list(names), feed, options)
        return results
    # Python hears of Ctrl-C only where its main thread waits in Python, and one operator can compute for hours. A
    # thread costs half a millisecond, so none is started for what is known to be quick.
    done, failed = list[list[Array]](), list[Exception]()

    def compute() -> None:
        try:
            done.append(session.run(list(names), feed, options))
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=compute, name="vae", daemon=True)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        options.terminate = True  # before the next operator
        raise
    if failed:
        raise failed[0]
    return done[0]


def _check_sizes(runtime: ModuleType, file: GraphFile) -> bool:
    """Raise VaeError where a file asks for what nothing limits as it runs. Returns whether an Expand is narrow.

    - A Resize that gives what pictures never are: one long axis, or of unknown length. Beside its output it takes 8
      bytes for each place of each axis. The first axis is the batch.
    - A shape or list of axes of unknown length, or of many numbers: a tensor with as many axes takes more than these.
    - Products of many small matrices. Each takes 90 bytes.
    - A narrow Expand gives numbers of fewer than 32 bits. It takes 8 bytes for each of its input.
    """
    wanted = dict.fromkeys((*file.resized, *file.expanded, *file.sizes, *chain(*file.products)))
    if not wanted:
        return False
    shapes_alone = replace(file, content=header.with_outputs(file.content, list(wanted)))
    given = {output.name: output for output in _session(runtime, shapes_alone, [CPU], optimised=False).get_outputs()}
    for shape in (given[name].shape for name in file.resized):
        known = all(isinstance(side, int) and side <= header.LARGEST_SIDE for side in shape[1:])
        if not known or math.prod(shape[1:]) < SMALLEST_RESIZED:
            problem = f"{file.path}: resizes to {shape}, which no exported model needs"
            raise VaeError(problem, "use a model from vae export: its sizes are known before it runs")
    for shape in (given[name].shape for name in file.sizes):
        if not all(isinstance(side, int) for side in shape) or math.prod(shape) > MOST_SIZES:
            problem = f"{file.path}: computes a shape or axes of {shape} numbers, which no exported model needs"
            raise VaeError(problem, "use a model from vae export: its tensors have few axes")
    for *matrices, product in ([given[name].shape for name in names] for names in file.products):
        one_a_row = len(product) == 3 and isinstance(product[0], str)  # only the batch has a name
        known = len(product) > 2 and all(isinstance(side, int) for side in product[-2:])
        large = known and math.prod(product[-2:]) >= SMALLEST_PRODUCT
        if max(map(len, matrices)) > 2 and not one_a_row and not large:
            problem = f"{file.path}: multiplies many small matrices, which no exported model needs"
            raise VaeError(problem, "use a model from vae export: its products are of large ones")
    return any(given[name].type not in WIDE for name in file.expanded)


def _session(runtime: ModuleType, file: GraphFile, providers: Sequence[Any], *, optimised: bool = True) -> Any:  # noqa: ANN401 - untyped
    options = runtime.SessionOptions()
    if not optimised:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Whole batches on several threads scale better than one batch split over threads.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL if list(providers) == [CPU] else ERRORS  # which say why CUDA does not start
    # The bytes were checked as ONNX, so they are not read as another format.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # Constants that the graph computes are computed as it runs, where memory is limited.
    more = {"providers": list(providers), "enable_fallback": 0, "disabled_optimizers": ["ConstantFolding"]}
    if list(providers) != [CPU]:
        return runtime.InferenceSession(file.content, options, **more)
    options.add_session_config_entry("session.use_env_allocators", "1")
    with _REGISTERING:  # a session keeps the allocator that is registered when it is made
        _limit_memory(runtime, _most_memory(file))
        return runtime.InferenceSession(file.content, options, **more)


def _most_memory(file: GraphFile) -> int:
    """The bytes that a session may take for weights and for the outputs of its operators."""
    return limits.most_unpacked(len(file.content)) // (NARROW if file.narrow else 1)


def _limit_memory(runtime: ModuleType, size: int) -> None:
    """Let the next session take this many bytes for weights and for the outputs of its operators, and no more."""
    memory = runtime.OrtMemoryInfo("Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT)
    with contextlib.suppress(Exception):  # where an older runtime does not replace the first one, all share that
        runtime.create_and_register_allocator(memory, runtime.OrtArenaCfg({"max_mem": size}))


@contextlib.contextmanager
def _captured(log: BinaryIO) -> Iterator[None]:
    """Send the runtime's messages to `log`: its Python code prints, its C++ code writes to file descriptor 2."""
    printed = io.StringIO()
    with diverted(log.fileno()), contextlib.redirect_stdout(printed):
        yield
    log.write(printed.getvalue().encode())


def _complaint(said: str) -> str:
    """The most informative line of the runtime's messages where CUDA did not start."""
    lines, words = said.splitlines(), ("failed to load", "failure", "error", "cuda")
    return next((_first_line(line) for word in words for line in lines if word in line.lower()), "")


def _first_line(error: object) -> str:
    """The first line of a message of the runtime, without colours, time stamps, source lines and folders."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    for noise in (
        r"\x1b\[[0-9;]*m",
        r"^\S+ \S+ \[\w:onnxruntime:[^\]]*\] ",
        r"^.*\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ",
        r"/\S*/",
    ):
        line = re.sub(noise, "", line)
    return line[:300]
