"""Which floating-point type a machine is faster with."""

from __future__ import annotations

import time

import torch


def faster_dtype(n: int = 512) -> str:
    """Which of float32 and bfloat16 this CPU multiplies faster: many have no bfloat16 in hardware."""
    seconds = {}
    for dtype in ("float32", "bfloat16"):
        one = torch.ones(n, n).to(getattr(torch, dtype))
        rounds = []
        for _ in range(5):
            started = time.perf_counter()
            one @ one
            rounds.append(time.perf_counter() - started)
        seconds[dtype] = min(rounds)
    return min(seconds, key=seconds.__getitem__)
