"""Sessions of ONNX Runtime: on which device a graph runs, with how much memory. Only this module imports onnxruntime.

A session is an onnxruntime.InferenceSession, which brings no types.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from vaecli import limits, signals
from vaecli.errors import VaeError
from vaecli.extras import ONE_RUNTIME_REMEDY, RUNTIME_REMEDY
from vaecli.inference import graph_file
from vaecli.inference.graph_file import GraphFile
from vaecli.inference.shape_limits import NARROW_DIVISOR, TensorInfo, check_shapes, limited_tensors
from vaecli.streams import diverted

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
# Severities of what a session writes to stderr itself, with names from the file, unchanged.
ERRORS, FATAL = 3, 4
QUICK_SECONDS = 0.05  # for which Ctrl-C may wait
_REGISTERING = threading.Lock()

# How an error of ONNX Runtime says that memory is lacking: the limit's, with what is left and what was asked for, or
# the machine's.
LACKS_MEMORY = re.compile(
    r"Available memory of (\d+) is smaller than requested bytes of (\d+)|Failed to allocate memory"
)

Array: TypeAlias = NDArray[np.float32]


def import_runtime() -> ModuleType:
    """Import onnxruntime, without its messages about unknown graphics cards, and without telemetry.

    From 1.32 on it sends telemetry by default: it stores a device id and looks up a host of its vendor.

    Raises:
        VaeError: it is not installed, or cannot be imported.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        with contextlib.ExitStack() as quiet:
            if "onnxruntime" not in sys.modules:
                nowhere = quiet.enter_context(Path(os.devnull).open("r+b"))
                quiet.enter_context(diverted(nowhere.fileno()))
            import onnxruntime  # type: ignore[import-untyped]  # it ships no types
    except ImportError as error:
        if signals.caused(error):
            raise KeyboardInterrupt from error
        if not isinstance(error, ModuleNotFoundError) or error.name != "onnxruntime":
            raise VaeError(
                f"onnxruntime is installed but cannot be imported: {_first_line(error)}",
                ONE_RUNTIME_REMEDY,
            ) from error
        onnxruntime = None
    # An uninstalled package may leave an empty folder, which Python imports as a namespace package.
    if not hasattr(onnxruntime, "InferenceSession"):
        raise VaeError("using a model needs onnxruntime, which is not installed", RUNTIME_REMEDY)
    return cast(ModuleType, onnxruntime)


def providers() -> list[str]:
    """What the installed onnxruntime can run on, whether or not it starts. Raises VaeError where none is installed."""
    return list(import_runtime().get_available_providers())


def cpu_session(runtime: ModuleType, file: GraphFile) -> tuple[GraphFile, Any]:
    """A session on the CPU, and the file with what opening it has told.

    Raises:
        VaeError: ONNX Runtime cannot open the graph, or it asks for too much memory.
    """
    try:
        if names := limited_tensors(file):
            file = replace(file, narrow=check_shapes(file, _inferred(runtime, file, names)))
        return file, open_session(runtime, file, [CPU])
    except VaeError:
        raise
    except Exception as error:
        if LACKS_MEMORY.search(str(error)):
            raise run_error(file, error) from error
        raise VaeError(
            f"{file.path}: ONNX Runtime cannot open it: {_first_line(error)}",
            "export it again, or pip install --upgrade onnxruntime",
        ) from error


def cuda_session(runtime: ModuleType, file: GraphFile) -> tuple[Any, str]:
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
                session = open_session(runtime, file, [(CUDA, {"use_tf32": "0"}), CPU])
            except Exception as error:
                reason = _first_line(error)
        log.seek(0)
        said = log.read().decode(errors="replace")
    # Where CUDA does not start, the session runs on the CPU without an error.
    if session is not None and session.get_providers()[0] == CUDA:
        return session, ""
    return None, reason or _cuda_error_line(said) or "CUDA does not start, and ONNX Runtime does not say why"


def open_session(runtime: ModuleType, file: GraphFile, providers: Sequence[Any], *, optimised: bool = True) -> Any:  # noqa: ANN401 - untyped
    """A session on the first of these execution providers that starts. On the CPU alone its memory is limited.

    `optimised` lets ONNX Runtime rewrite the graph as it opens it. Raises the exceptions of ONNX Runtime.
    """
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
    arguments = {"providers": list(providers), "enable_fallback": 0, "disabled_optimizers": ["ConstantFolding"]}
    if list(providers) != [CPU]:
        return runtime.InferenceSession(file.content, options, **arguments)
    options.add_session_config_entry("session.use_env_allocators", "1")
    with _REGISTERING:  # a session keeps the allocator that is registered when it is made
        _limit_memory(runtime, _memory_limit(file))
        return runtime.InferenceSession(file.content, options, **arguments)


def run_session(
    session: Any,  # noqa: ANN401 - untyped
    names: Sequence[str],
    feed: Mapping[str, Any],
    *,
    quick: bool = False,
) -> list[Array]:
    """Compute the outputs `names` of what is fed to the inputs by name. Raises the exceptions of ONNX Runtime.

    Ctrl-C ends a run in the main thread; one that is known to be `quick` ends first.
    """
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = FATAL  # its own line of an error has names from the file, unchanged
    if quick or threading.current_thread() is not threading.main_thread():
        results: list[Array] = session.run(list(names), feed, options)
        return results
    # Python handles Ctrl-C only where its main thread runs Python, and one operator can compute for hours. A
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


def run_error(file: GraphFile, error: Exception) -> VaeError:
    """The error for a run that failed: what the graph asks for is too much, or it is not right."""
    lacking = LACKS_MEMORY.search(str(error))
    if lacking is None:
        return VaeError(f"{file.path}: ONNX Runtime failed: {_first_line(error)}", "export it again")
    if lacking[1] is None:
        return VaeError(f"{file.path}: this machine lacks the memory that it asks for", "use a machine with more")
    most = _memory_limit(file)
    problem = f"{file.path}: asks for more than {most / 1e6:,.0f} MB of memory"
    needed = (most + int(lacking[2]) - int(lacking[1])) * (NARROW_DIVISOR if file.narrow else 1)
    return VaeError(problem, f"if you trust it, allow it: {limits.MEGABYTES}={-(-needed // 10**6)}, or more")


def _inferred(runtime: ModuleType, file: GraphFile, names: Sequence[str]) -> dict[str, TensorInfo]:
    """What ONNX Runtime infers of these tensors by name from the operators, and not from what the file says."""
    alone = replace(file, content=graph_file.with_outputs(file.content, names))
    return {output.name: output for output in open_session(runtime, alone, [CPU], optimised=False).get_outputs()}


def _memory_limit(file: GraphFile) -> int:
    """The bytes that a session may take for weights and for the outputs of its operators."""
    return limits.most_unpacked(len(file.content)) // (NARROW_DIVISOR if file.narrow else 1)


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


def _cuda_error_line(said: str) -> str:
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
