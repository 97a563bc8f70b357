"""Ends a command from outside: a signal, or the death of a process that it depends on.

Each becomes an exception in the main thread, so that all that was opened is closed as after Ctrl-C. If that
takes too long, the process ends nevertheless.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress

import psutil

RESUME = 75
"""Exit status that asks a scheduler to start the command again (EX_TEMPFAIL of sysexits.h)."""

BUDGET_SPENT = 3
"""Exit status of a command that reached the limit of its budget."""

_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
_PR_SET_CHILD_SUBREAPER = 36
_SECONDS_TO_REAP = 5
_SECONDS_TO_CLOSE = 8.0  # schedulers send SIGKILL after 10 s or more
_SECONDS_TO_CLOSE_WHAT_IS_LOST = 3.0


class Terminated(KeyboardInterrupt):
    """A signal asked the command to end.

    Attributes:
        status: RESUME after SIGUSR1, and after any signal if a scheduler runs the command; otherwise that of
            a program that the signal ends.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = RESUME if _scheduled or number == signal.SIGUSR1 else 128 + number


class BudgetSpent(KeyboardInterrupt):
    """The run has taken or cost as much as it may.

    Attributes:
        status: The exit status.
    """

    status = BUDGET_SPENT


class ProcessLost(RuntimeError):
    """A process that the command depends on died; what needs it cannot be closed."""


Interruption = Terminated | BudgetSpent | ProcessLost

_interrupted: Interruption | None = None
_reason: ProcessLost | BudgetSpent | None = None
_report: Callable[[Interruption], int] | None = None
_actions: list[Callable[[], object]] = []
_scheduled = False


@contextmanager
def interruptible(report: Callable[[Interruption], int]) -> Iterator[None]:
    """Catches signals for the length of a command.

    Args:
        report: Says why the command ended and returns its exit status; called in another thread, before the
            process ends, if closing takes too long.
    """
    global _interrupted, _reason, _report, _scheduled
    _interrupted, _reason, _report, _scheduled = None, None, report, False
    before = {number: signal.getsignal(number) for number in _SIGNALS} if _in_main_thread() else {}
    catch_signals()
    try:
        with _limited_closing(report) if _in_main_thread() else nullcontext():
            yield
    finally:
        _report = None
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _limited_closing(report: Callable[[Interruption], int]) -> Iterator[None]:
    """Ends the process if closing takes long after a signal.

    A thread learns of signals by itself: Python's handlers wait for the main thread, which may be inside a
    library, for instance while Ray waits for a head that is gone.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch_signals, args=(reader, report), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)


def _watch_signals(reader: int, report: Callable[[Interruption], int]) -> None:
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while number := pipe.read(1):
            if number[0] in _SIGNALS:
                _end_if_closing_takes_long(report, number[0])


def catch_signals() -> None:
    """Makes signals raise Terminated within a command; for use after a library installed its own handlers."""
    if _report is not None and _in_main_thread():
        for number in _SIGNALS:
            signal.signal(number, _on_signal)


def ask_to_be_resumed() -> None:
    """Makes the command end with RESUME after every signal: what sends it will start the command again."""
    global _scheduled
    _scheduled = True


def interrupt(error: ProcessLost | BudgetSpent) -> None:
    """Raises an error in the main thread; for other threads."""
    global _reason
    _reason = error
    os.kill(os.getpid(), signal.SIGTERM)


def interruption() -> Interruption | None:
    """What interrupted the command, if anything did; libraries turn it into other exceptions on its way."""
    return _interrupted


@contextmanager
def at_end(action: Callable[[], object]) -> Iterator[None]:
    """Calls an action at the end of the block, even if the process ends before that."""
    _actions.append(action)
    try:
        yield
    finally:
        _actions.remove(action)
        action()


@contextmanager
def adopting_orphans() -> Iterator[None]:
    """Keeps processes whose parent dies among the descendants of this one, so that stop_children finds them.

    At the end it waits some seconds for those that end by themselves, so that none stays behind as a zombie.
    Only Linux can (PR_SET_CHILD_SUBREAPER of prctl(2)); elsewhere nothing is adopted.
    """
    before = psutil.Process().children()
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else lambda *_: None
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        adopted = [child for child in psutil.Process().children() if child not in before]
        psutil.wait_procs(adopted, timeout=_SECONDS_TO_REAP)
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def stop_children() -> None:
    """Kills all processes that this one started."""
    children = psutil.Process().children(recursive=True)
    for child in children:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(children, timeout=1)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _on_signal(number: int, _frame: object) -> None:
    global _interrupted
    if _interrupted is not None:
        return  # closing already
    _interrupted = _reason or Terminated(number)
    raise _interrupted


def _end_if_closing_takes_long(report: Callable[[Interruption], int], number: int) -> None:
    is_lost = isinstance(_reason, ProcessLost)
    end = time.monotonic() + (_SECONDS_TO_CLOSE_WHAT_IS_LOST if is_lost else _SECONDS_TO_CLOSE)
    while time.monotonic() < end:
        time.sleep(0.1)
        if _report is not report:
            return  # closed
    stop_children()
    for action in reversed(_actions):
        with suppress(Exception):
            action()
    os._exit(report(_interrupted or _reason or Terminated(number)))
