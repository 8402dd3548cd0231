"""A sentence under the forward process: drag the noise level, and see it disappear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from mdmcourse.errors import InputError
from mdmcourse.widgets.base import CourseWidget, html_table, script, style
from mdmcourse.widgets.data import numbers, short, words
from mdmcourse.widgets.words import titled_as

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

STOPS = 200  # of the slider: t moves in steps of 0.005
DRAWS = 40  # how many times masks are drawn: enough to see how much chance there is in their number
MOST = 200  # tokens
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)  # of t, in the fallback's table
HEADER = ("t", "rate 1 − α(t)", "masks expected", "masks here", "weight")


class MaskingExplorer(CourseWidget):
    """The forward process on one sentence: at noise level t every token is masked with probability 1 - alpha(t), on its
    own; the loss then counts with the weight -alpha'(t) / (1 - alpha(t)), for the linear schedule 1/t.

    >>> MaskingExplorer(["The", " cat", " sat", " on", " the", " mat"], t=0.3)

    Parameters
    ----------
    tokens: the sentence, one string a token.
    maskable: which tokens may be masked, as in `forward_process`; by default all.
    schedules: for each name alpha at evenly spaced t from 0 to 1, never rising; by default the linear and the cosine
        schedule of `mdmcourse.diffusion` and the quadratic one, alpha = 1 - t**2.
    t: the noise level that is shown first.
    seed: of the masks. A draw gives every token a number u between 0 and 1, and masks it while u < 1 - alpha(t): so
        masks only come as t grows, and at every t they have the right distribution.

    Raises InputError for tokens that are no strings, none or more than 200, and for what is no schedule or no t.
    """

    _esm = script("plot.js", "masking.js")
    _css = style("plot.css", "masking.css")
    tokens: traitlets.List[str] = traitlets.List().tag(sync=True)
    maskable: traitlets.List[bool] = traitlets.List().tag(sync=True)
    schedules: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    draws: traitlets.List[str] = traitlets.List().tag(sync=True)
    schedule = traitlets.Unicode().tag(sync=True)
    t = traitlets.Float().tag(sync=True)
    draw = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        tokens: Sequence[str],
        maskable: Sequence[bool] | None = None,
        schedules: Mapping[str, ArrayLike] | None = None,
        t: float = 0.5,
        seed: int = 0,
    ) -> None:
        shown = words("The tokens", tokens)
        if len(shown) > MOST:
            raise InputError(
                f"There are {len(shown)} tokens.", "They could not be told apart.", f"Give a sentence, {MOST} at most."
            )
        allowed = [True] * len(shown) if maskable is None else [bool(each) for each in maskable]
        if len(allowed) != len(shown) or not any(allowed):
            raise InputError(
                f"maskable has {len(allowed)} entries, {sum(allowed)} of them True, for {len(shown)} tokens.",
                "It has to say of every token whether it may be masked, and of one at least that it may.",
                "Leave it out to mask any token.",
            )
        _check_t(t)
        made = known_schedules() if schedules is None else [_given(name, alpha) for name, alpha in schedules.items()]
        if not made:
            raise InputError(
                "schedules is empty.", "There is no rate to mask with.", "Leave it out for the usual ones."
            )
        u = np.random.default_rng(seed).integers(
            0, 1000, (DRAWS, len(shown))
        )  # thousandths: below 1, as a rate of 1 needs
        super().__init__(
            tokens=shown, maskable=allowed, schedules=made, schedule=made[0]["name"], t=float(t),
            draws=[" ".join(map(str, row)) for row in u.tolist()],
        )  # fmt: skip

    def _curves(self) -> dict[str, Any]:
        return next(each for each in self.schedules if each["name"] == self.schedule)

    def at(self, t: float) -> tuple[float, list[bool], float | None]:
        """At noise level t, rounded to the slider's stops: the rate of masking, which tokens are masked, the weight
        (None where it is infinite)."""
        _check_t(t)
        stop = round(t * STOPS)
        rate, weight = self._curves()["rate"][stop], self._curves()["weight"][stop]
        u = np.array(self.draws[self.draw].split(), dtype=int) / 1000
        return rate, [allowed and bool(each < rate) for each, allowed in zip(u, self.maskable, strict=True)], weight

    def figure(self) -> Figure:
        """The same content as a still picture: the sentence at several t, the rate and the weight over t."""
        from mdmcourse.figures import course_style
        from mdmcourse.widgets.stills import masked_sentence

        levels = sorted({0.0, *LEVELS, self.t, 1.0})
        with course_style():
            return masked_sentence(
                self.tokens, {t: self.at(t)[1] for t in levels}, self.schedules, self.schedule, self.t
            )

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        for t in sorted({*LEVELS, self.t}):
            rate, masked, weight = self.at(t)
            number = "infinite" if weight is None else f"{weight:.2f}"
            rows.append((f"{t:g}", f"{rate:.2f}", f"{rate * sum(self.maskable):.1f}", str(sum(masked)), number))
        return rows

    def _sentence(self) -> str:
        return " ".join("▒" if masked else word for word, masked in zip(self.tokens, self.at(self.t)[1], strict=True))

    def as_text(self) -> str:
        """The sentence as it is masked now, and a table over t."""
        rows = ["  ".join(f"{cell:>14}" for cell in row) for row in (HEADER, *self._rows())]
        return "\n".join([f"{self.schedule}, t = {self.t:g}: {self._sentence()}", *rows])

    def as_html(self) -> str:
        """The same."""
        return html_table([f"{self.schedule}, t = {self.t:g}"], [[self._sentence()]]) + html_table(HEADER, self._rows())

    def __repr__(self) -> str:
        return f"MaskingExplorer({len(self.tokens)} tokens, {self.schedule}, t = {self.t:g})"


def _check_t(t: float) -> None:
    if isinstance(t, bool) or not isinstance(t, int | float) or not 0 <= t <= 1:
        raise InputError(
            f"t={t!r}.", "A noise level is a number from 0 (nothing masked) to 1 (all masked).", "Give one in between."
        )


def known_schedules() -> list[dict[str, Any]]:
    """Linear, cosine, and of the polynomial ones the quadratic (all in Shi et al., arXiv 2406.04329), at all stops."""
    t = np.linspace(0, 1, STOPS + 1)
    turn = np.pi / 2 * (1 - t)
    with np.errstate(divide="ignore"):
        return [
            _curve("linear", 1 - t, 1 / t),
            _curve("cosine", 1 - np.cos(turn), np.pi / 2 * np.tan(turn)),
            _curve("quadratic", 1 - t**2, 2 / t),
        ]


def _given(name: str, alpha: ArrayLike) -> dict[str, Any]:
    """A schedule from its alpha at evenly spaced t; its slope by differences."""
    values = numbers(f"The schedule {name!r}", alpha, "t")
    if len(values) < 3 or values.min() < 0 or values.max() > 1 or (np.diff(values) > 0).any():
        raise InputError(
            f"The schedule {name!r} has {len(values)} values from {values.min():.3g} to {values.max():.3g}.",
            "alpha is the chance that a token is still there: it falls, or stays, from at most 1 to at least 0.",
            "Give alpha(t) at three or more evenly spaced t from 0 to 1.",
        )
    t = np.linspace(0, 1, STOPS + 1)
    fine = np.interp(t, np.linspace(0, 1, len(values)), values)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _curve(name, fine, -np.gradient(fine, t) / (1 - fine))


def _curve(name: str, alpha: NDArray[Any], weight: NDArray[Any]) -> dict[str, Any]:
    # cos and tan leave tiny rests at t = 0, where nothing is masked and the weight has no bound.
    weight = np.where(1 - alpha < 1e-9, np.inf, weight)
    return {"name": titled_as(name, 24), "rate": np.round(1 - alpha, 4).tolist(), "weight": short(weight.tolist())}
