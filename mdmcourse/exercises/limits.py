"""Running somebody else's function so that it can neither hang nor disturb what comes after it."""

from __future__ import annotations

import contextlib
import ctypes
import io
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch

T = TypeVar("T")


class TimeUp(BaseException):
    """The time is over. Not an Exception, so that `except Exception` in the function does not hold it up."""


def within(seconds: float, call: Callable[[], T]) -> T:
    """Call it, and raise TimeUp in it if it takes longer.

    A thread of its own watches the clock and raises TimeUp in the calling thread, again and again until it gets
    through: that works on every operating system and in every thread, which a signal does not. A single call into
    compiled code is waited for.
    """
    caller, ready, gate = ctypes.c_ulong(threading.get_ident()), threading.Lock(), threading.Lock()
    watching, ended = [True], []
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc

    def watch() -> None:
        ready.acquire()  # not while the caller still starts this thread: nothing there could take the blow
        pause = seconds
        while not gate.acquire(timeout=pause):
            if watching[0]:
                raise_in(caller, ctypes.py_object(TimeUp))
            pause = 0.05
        ended.append(True)

    ready.acquire()
    gate.acquire()
    threading.Thread(target=watch, daemon=True).start()
    try:
        ready.release()
        return call()
    finally:
        # TimeUp may strike anywhere in here too, so there are no locks that it could leave locked: `threading.Event`
        # has one. What was raised and not yet delivered is taken back at the end.
        watching[0] = False
        while True:
            try:
                if gate.locked():
                    gate.release()
                while not ended:
                    time.sleep(1e-4)
                raise_in(caller, None)
                break
            except TimeUp:
                continue


def seed_all(seed: int) -> None:
    """Seed what an answer may draw from, apart from the generators of the same seed that the checks draw from."""
    random.seed(apart := 2**20 + seed)
    np.random.seed(apart)
    torch.manual_seed(apart)


@contextlib.contextmanager
def undisturbed() -> Iterator[io.StringIO]:
    """Random numbers, threads, gradients and the default dtype are afterwards as they were before; what is printed is
    caught and given."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    threads, gradients, dtype = torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield printed
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        torch.set_grad_enabled(gradients)
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
