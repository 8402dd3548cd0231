"""Scores of edges and rules of integration: what has to be true of the first answers of lesson 09."""

from __future__ import annotations

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson09 as answers
from mdmcourse.exercises.checks.tools import differs, generator, shape_of, shown
from mdmcourse.exercises.exercise import Answer, Exercise, Property

# --- edge_scores: 5 sources, 4 readers, 3 prompts, 6 positions, 7 numbers a position

SOURCES, READERS, PROMPTS, POS, WIDTH = 5, 4, 3, 6, 7
EXISTS = torch.arange(SOURCES)[:, None] < torch.tensor([1, 3, 3, 5])


def _runs(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    g = generator(seed)
    clean = torch.randn(SOURCES, PROMPTS, POS, WIDTH, generator=g)
    corrupted = torch.randn(SOURCES, PROMPTS, POS, WIDTH, generator=g)
    return clean, corrupted, torch.randn(READERS, PROMPTS, POS, WIDTH, generator=g)


def _one_number_an_edge(answer: Answer, seed: int) -> str | None:
    found = answer(*_runs(seed), EXISTS)
    if isinstance(found, Tensor) and found.shape == EXISTS.shape:
        return None
    return f"for {SOURCES} sources and {READERS} readers it gave {shape_of(found)}"


def _nothing_lost(answer: Answer, seed: int) -> str | None:
    clean, _, gradients = _runs(seed)
    zeros = torch.zeros(EXISTS.shape)
    return differs(answer(clean, clean.clone(), gradients, EXISTS), zeros, "with the clean prompt for the corrupted,")


def _no_edge(answer: Answer, seed: int) -> str | None:
    found = answer(*_runs(seed), EXISTS)
    if (found[~EXISTS] != 0).any():
        return f"where there is no edge it gave {float(found[~EXISTS].abs().max()):.3g}"
    return None


def _simple() -> tuple[Tensor, Tensor, Tensor]:
    """One source writes 1 at two positions of the clean prompt, where its reader has the slope 3."""
    clean = torch.zeros(SOURCES, PROMPTS, POS, WIDTH)
    clean[0, :, 1:3, 4] = 1
    gradients = torch.zeros(READERS, PROMPTS, POS, WIDTH)
    gradients[1, :, :, 4] = 3
    return clean, torch.zeros_like(clean), gradients


def _sign(answer: Answer, seed: int) -> str | None:
    clean, corrupted, gradients = _simple()
    helps = float(answer(clean, corrupted, gradients, EXISTS)[0, 1])
    harms = float(answer(clean, corrupted, -gradients, EXISTS)[0, 1])
    if helps > 0 > harms:
        return None
    return f"where the clean prompt adds what raises the metric it gave {helps:.3g}, where it lowers it {harms:.3g}"


def _prompts(answer: Answer, seed: int) -> str | None:
    runs = _runs(seed)
    doubled = [torch.cat([each, each], dim=1) for each in runs]
    return differs(answer(*doubled, EXISTS), answer(*runs, EXISTS), "with every prompt twice")


def _positions(answer: Answer, seed: int) -> str | None:
    runs = _runs(seed)
    longer = [torch.cat([each, torch.zeros_like(each)], dim=2) for each in runs]
    return differs(answer(*longer, EXISTS), answer(*runs, EXISTS), "with as many positions more, all of them zero,")


def _by_hand(answer: Answer, seed: int) -> str | None:
    found = float(answer(*_simple(), EXISTS)[0, 1])
    if abs(found - 6) < 1e-4:
        return None
    return f"for a source that writes 1 at two positions, and a slope of 3 there, it gave {found:.3g}"


def _all_edges(answer: Answer, seed: int) -> str | None:
    clean, corrupted, gradients = _runs(seed)
    expected = torch.zeros(EXISTS.shape)
    for source, reader in EXISTS.nonzero().tolist():
        each = (clean[source] - corrupted[source]) * gradients[reader]
        expected[source, reader] = each.sum() / PROMPTS
    return differs(answer(clean, corrupted, gradients, EXISTS), expected, "for random numbers")


def _leaves_runs(answer: Answer, seed: int) -> str | None:
    given, exists = _runs(seed), EXISTS.clone()
    answer(*given, exists)
    names = ("clean", "corrupted", "gradients", "exists")
    pairs = zip(names, (*given, exists), (*_runs(seed), EXISTS), strict=True)
    changed = [name for name, one, other in pairs if not torch.equal(one, other)]
    return f"afterwards `{changed[0]}` held other numbers" if changed else None


EDGE_SCORES = Exercise(
    lesson="09",
    task="the scores of all edges, from what is written and from gradients",
    minutes=10,
    difficulty=1,
    reference=answers.edge_scores,
    properties=(
        Property(
            "it gives one number for each source and reader", _one_number_an_edge,
            "The rows are sources, the columns readers: torch.einsum(\"snpd,rnpd->sr\", ...) sums over the rest.",
        ),
        Property(
            "there is no score where there is no edge", _no_edge,
            "A source cannot send to a reader upstream. Set these entries to 0 with `exists`: to 0, not to NaN.",
        ),
        Property(
            "nothing is lost if the corrupted prompt is the clean one", _nothing_lost,
            "A score is about what changes: multiply the gradient with clean minus corrupted, not with clean alone.",
        ),
        Property(
            "positive means that the edge helps", _sign,
            "Clean minus corrupted, with its sign: no absolute value, and not the other way round.",
        ),
        Property(
            "it is a mean over prompts", _prompts,
            "Divide by the number of prompts, once: it is the length of axis 1 of clean.",
        ),
        Property(
            "it is a sum over positions", _positions,
            "Every position adds to what the edge carries. Do not divide by their number.",
        ),
        Property(
            "the numbers of a position are summed too", _by_hand,
            "A dot product is a sum over d_model; nothing is divided by d_model.",
        ),
        Property(
            "each edge has its own source and reader", _all_edges,
            "Multiply prompt by prompt, and take the mean after that: means before it mix the prompts.",
        ),
        Property(
            "what it was given is not overwritten", _leaves_runs,
            "clean -= corrupted changes the caller's tensor, which later cells use again: write clean - corrupted.",
        ),
    ),
    hints=(
        "For one edge: (clean[u] - corrupted[u]) * gradients[v], summed over positions and d_model, mean over prompts.",
        'For all at once: torch.einsum("snpd,rnpd->sr", clean - corrupted, gradients). It sums over prompts too.',
        "Then divide by clean.shape[1], and multiply by `exists`: a boolean counts as 0 or 1.",
    ),
)  # fmt: skip


# --- rule_weights


def _points(seed: int) -> Tensor:
    """Three to six points, well apart, in no order."""
    n = 3 + seed % 4
    g = generator(seed)
    points = (torch.arange(n) + 0.15 + 0.7 * torch.rand(n, generator=g, dtype=torch.float64)) / n
    return points[torch.randperm(n, generator=g)]


def _tensor_like_points(answer: Answer, seed: int) -> str | None:
    points = _points(seed)
    found = answer(points.clone())
    if not isinstance(found, Tensor):
        return f"it gave {shape_of(found)}"
    return None if found.dtype == points.dtype else f"for points of {points.dtype} it gave weights of {found.dtype}"


def _one_weight_a_point(answer: Answer, seed: int) -> str | None:
    points = _points(seed)
    found = answer(points.clone())
    if isinstance(found, Tensor) and found.shape == points.shape:
        return None
    return f"for {len(points)} points it gave {shape_of(found)}"


def _moments(answer: Answer, seed: int) -> tuple[Tensor, Tensor]:
    """The sums of w_j x_j^k for two sets of as many points, k below their number."""
    one, other = _points(seed), _points(seed + 4)
    powers = torch.arange(len(one), dtype=one.dtype)[:, None]
    return one**powers @ answer(one.clone()), other**powers @ answer(other.clone())


def _finite(answer: Answer, seed: int) -> str | None:
    found = answer(_points(seed))
    return None if found.isfinite().all() else f"among the weights are {shown(found)}"


def _matrix(answer: Answer, seed: int) -> str | None:
    """The weights of the transposed system are told by what they solve."""
    points = _points(seed)
    powers = torch.arange(len(points), dtype=points.dtype)
    found = answer(points.clone())
    if torch.allclose((points ** powers[:, None]).T @ found, 1 / (powers + 1), atol=1e-6):
        return "the weights solve the equations whose row j holds the powers of point j"
    return None


def _right_side(answer: Answer, seed: int) -> str | None:
    """The same sums for other points, but not the integrals: the equations were solved with another right-hand side."""
    one, other = _moments(answer, seed)
    truth = 1 / (torch.arange(len(one), dtype=one.dtype) + 1)
    if torch.allclose(one, other, atol=1e-6) and not torch.allclose(one, truth, atol=1e-6):
        return f"whatever the points are, the integrals of 1, x, x^2, ... come out as {shown(one)}"
    return None


def _constant(answer: Answer, seed: int) -> str | None:
    for points in (_points(seed), torch.tensor([0.5], dtype=torch.float64)):
        total = answer(points.clone()).sum()
        wrong = differs(total, torch.ones_like(total), f"for {len(points)} points the weights' sum:", 1e-6)
        if wrong:
            return wrong
    return None


def _integral(answer: Answer, points: Tensor, power: int) -> str | None:
    found = (answer(points.clone()).double() * points**power).sum()
    return differs(
        found,
        torch.tensor(1 / (power + 1), dtype=torch.float64),
        f"for {len(points)} points and f(x) = x^{power}",
        1e-6,
    )


def _line(answer: Answer, seed: int) -> str | None:
    return _integral(answer, _points(seed), 1)


def _simpson(answer: Answer, seed: int) -> str | None:
    points = torch.tensor([0, 0.5, 1], dtype=torch.float64)
    return differs(answer(points.clone()).double(), torch.tensor([1, 4, 1]) / 6, "for the points 0, 1/2 and 1", 1e-6)


def _polynomials(answer: Answer, seed: int) -> str | None:
    points = _points(seed)
    for power in range(2, len(points)):
        wrong = _integral(answer, points, power)
        if wrong:
            return wrong
    return None


def _leaves_points(answer: Answer, seed: int) -> str | None:
    points = _points(seed)
    given = points.clone()
    answer(given)
    return None if torch.equal(given, points) else "the points were changed"


RULE_WEIGHTS = Exercise(
    lesson="09",
    task="the weights of a rule of integration, from its points",
    minutes=12,
    difficulty=2,
    reference=answers.rule_weights,
    properties=(
        Property(
            "it gives a tensor of the points' dtype", _tensor_like_points,
            "The points are float64, a torch tensor; so must the weights be. float32 spoils the seventh digit.",
        ),
        Property("it gives one weight for each point", _one_weight_a_point, "n points have n weights."),
        Property("the points are left as they were", _leaves_points, "Weight j belongs to point j: do not sort them."),
        Property("all weights are finite", _finite, "1 / k has no value for k = 0: on the right stands 1 / (k + 1)."),
        Property(
            "the matrix is the right way round", _matrix,
            "One equation for each power, one column for each point: row k holds the k-th powers of all points.",
        ),
        Property(
            "on the right stand the integrals", _right_side,
            "The integral of x^k from 0 to 1 is 1 / (k + 1), for k = 0, 1, 2, ...",
        ),
        Property("the integral of 1 is 1", _constant, "The equation of power 0 says that the weights sum to 1."),
        Property(
            "the integral of x is 1/2", _line,
            "Equal weights do that only for points that lie evenly about the middle. And weight j belongs to point j: "
            "if you sort the points, bring the weights back into their order.",
        ),
        Property(
            "three points at the ends and the middle give Simpson's rule", _simpson,
            "1/6, 4/6, 1/6. With three points the integral of x^2 has to be right too: use as many powers as points.",
        ),
        Property(
            "it is exact for every power below the number of points", _polynomials,
            "One equation for each power from 0 to n - 1.",
        ),
    ),
    hints=(
        "The unknowns are n weights w. The sum of w_j x_j^k over j has to be 1 / (k + 1), for k = 0 ... n - 1.",
        "These are n linear equations. Row k of the matrix is points ** k; on the right stands 1 / (k + 1).",
        "k = torch.arange(len(points), dtype=points.dtype); torch.linalg.solve(points ** k[:, None], 1 / (k + 1)).",
    ),
)  # fmt: skip
