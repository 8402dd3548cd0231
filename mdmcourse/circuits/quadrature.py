"""Rules for the integral along the way from the corrupted to the clean prompt."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from mdmcourse.errors import InputError

Rule = Literal["left", "right", "midpoint", "gauss-legendre"]


def quadrature(rule: Rule, steps: int) -> list[tuple[float, float]]:
    """Points alpha in [0, 1], 0 being the corrupted and 1 the clean prompt, and their weights, which sum to 1.

    "left" (alpha = k/m for k = 0 .. m-1) and "right" (k = 1 .. m) are what published code uses; their error falls as
    1/m. "midpoint" costs the same and errs as 1/m^2; "gauss-legendre" is exact for polynomials of degree 2m - 1.
    Raises InputError for an unknown rule, or fewer steps than one.
    """
    if rule not in get_args(Rule) or not isinstance(steps, int) or steps < 1:
        raise InputError(
            f"rule={rule!r}, steps={steps}.",
            "There is no such rule of integration, or nothing to evaluate.",
            f"Use one of {', '.join(get_args(Rule))}, with a whole number of steps from 1.",
        )
    if rule == "gauss-legendre":
        points, weights = np.polynomial.legendre.leggauss(steps)
        return [((1 + float(point)) / 2, float(weight) / 2) for point, weight in zip(points, weights, strict=True)]
    first = {"left": 0.0, "midpoint": 0.5, "right": 1.0}[rule]
    return [((k + first) / steps, 1 / steps) for k in range(steps)]
