"""Signals that end a command: SIGTERM and SIGHUP end it as Ctrl-C does, which removes what was being written."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from functools import partial
from types import FrameType
from typing import Any

RETRY = 0.01  # seconds until a lost interruption is raised again

ENDING = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]

_received: signal.Signals | None = None


def install_handlers(*, interrupts: bool = True) -> None:
    """Raise KeyboardInterrupt at SIGTERM and SIGHUP, and with `interrupts` at Ctrl-C.

    A signal that is ignored stays ignored: nohup ignores SIGHUP.
    """
    for number in (*ENDING, *([signal.SIGINT] if interrupts else [])):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)
    sys.unraisablehook = _raise_again


def ignore() -> None:
    """Ignore these signals from now on: all that is left is to report the first one."""
    for number in (*ENDING, signal.SIGINT):
        if signal.getsignal(number) is _end:
            signal.signal(number, signal.SIG_IGN)


def received() -> bool:
    """Whether one of these signals has arrived."""
    return _received is not None


def exit_code() -> int:
    """Of a command that was interrupted: 130 by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP."""
    return 128 + (signal.SIGINT if _received is None else _received)


def caused(error: BaseException) -> bool:
    """Whether an error stands for KeyboardInterrupt: compiled code that is being imported turns it into ImportError."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__cause__
    return cause is not None


def end_by_interrupt() -> None:
    """End the process by SIGINT where it is in the foreground of a terminal; elsewhere return.

    The shell ends a loop only if the command died of the signal. It shows 130 then, too. Programs without a terminal
    get the exit code 130 itself.
    """
    if _in_foreground():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)


def _in_foreground() -> bool:
    """Whether Ctrl-C on a terminal is for this process."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY)
    except OSError:  # there is none
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # it was closed
        return False
    finally:
        os.close(terminal)


def _end(number: int, _: FrameType | None) -> None:
    global _received
    if _received is not None and number in ENDING:
        return  # one is enough: what follows is cleaning up
    _received = signal.Signals(number)
    raise KeyboardInterrupt


def _raise_again(lost: Any) -> None:  # noqa: ANN401 - sys.UnraisableHookArgs, which only type checkers know
    """Raise a KeyboardInterrupt again that Python dropped, as it does in finalizers and callbacks of weakrefs."""
    global _received
    if _received is None or not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    number, _received = _received, None
    again = partial(_thread.interrupt_main, number)
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:  # it also ends what the main thread waits for
        again = partial(signal.pthread_kill, main, number)
    threading.Timer(RETRY, again).start()  # raised here, it would be dropped again
