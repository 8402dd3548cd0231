"""Fair ratios on a noisy machine: run two things in turn, many times, and compare their medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def alternate(one: Callable[[], object], other: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median seconds of `one` and of `other`, run alternately after one warm-up each."""
    one(), other()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for run, collected in zip((one, other), seconds, strict=True):
            started = time.perf_counter()
            run()
            collected.append(time.perf_counter() - started)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def report(label: str, ours: float, bare: float) -> None:
    print(f"{label:<58} {1000 * ours:>9.1f} ms {1000 * bare:>9.1f} ms {ours / bare:>7.3f}")


def header() -> None:
    print(f"{'':<58} {'ours':>12} {'bare':>12} {'ratio':>7}")
