"""Direct logit attribution: what has to be true of the answer of lesson 07."""

from __future__ import annotations

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson07 as answers
from mdmcourse.exercises.checks.given import copies, gives_a_tensor, leaves
from mdmcourse.exercises.checks.tools import differs, numbers, shape_of, shown
from mdmcourse.exercises.exercise import Answer, Exercise, Property

D = 6


def _written(seed: int) -> tuple[Tensor, Tensor, float, Tensor]:
    writes = numbers(5, 3, D, seed=seed, low=-2.0, high=2.0)
    writes[2] *= 5  # sources of different sizes, and a mean that is not 0
    writes[1] += 1
    return writes, numbers(D, seed=seed + 1, low=0.5, high=2.0), 0.5, numbers(3, D, seed=seed + 2, low=-1.0, high=1.0)


def _ask(answer: Answer, *given: Tensor | float) -> Tensor:
    """With copies: an answer that writes into its arguments is told so at the end, and not by a sum that is wrong."""
    found: Tensor = answer(*copies(*given))
    return found


def _through_the_norm(writes: Tensor, gain: Tensor, eps: float, towards: Tensor) -> Tensor:
    """The logit difference as the decoder computes it."""
    stream = writes.sum(dim=0)
    return (gain * stream / (stream.square().mean(dim=-1, keepdim=True) + eps).sqrt() * towards).sum(dim=-1)


def _share_shape(answer: Answer, seed: int) -> str | None:
    found = _ask(answer, *_written(seed))
    if isinstance(found, Tensor) and found.shape == (5, 3):
        return None
    return f"for five sources and three prompts it gave {shape_of(found)}"


def _silent(answer: Answer, seed: int) -> str | None:
    writes, gain, eps, towards = _written(seed)
    writes[3] = 0
    found = _ask(answer, writes, gain, eps, towards)[3]
    if found.isnan().any() or found.abs().max() > 1e-4:
        return f"of a source that writes nothing it gave {shown(found)}"
    return None


def _one_scale(answer: Answer, seed: int) -> str | None:
    """Two sources that write v and 3 v: the second says three times as much."""
    writes, gain, eps, towards = _written(seed)
    writes[1] = 3 * writes[0]
    found = _ask(answer, writes, gain, eps, towards)
    return differs(found[1], 3 * found[0], "of a source that writes three times what another writes", 1e-3)


def _not_rescaled(answer: Answer, seed: int) -> str | None:
    found = _ask(answer, *_written(seed))
    for what, total in (("the shares", found.sum(dim=0)), ("the sizes of the shares", found.abs().sum(dim=0))):
        if torch.allclose(total.double(), torch.ones(3).double(), atol=1e-3):
            return f"for each of three prompts {what} add up to 1"
    return None


def _own_prompt(answer: Answer, seed: int) -> str | None:
    """Prompt 0 stays, the others change: what is said at prompt 0 stays."""
    writes, gain, eps, towards = _written(seed)
    other, elsewhere = writes.clone(), towards.clone()
    other[:, 1:] *= 3
    elsewhere[1:] += 2
    return differs(
        _ask(answer, other, gain, eps, elsewhere)[:, 0], _ask(answer, writes, gain, eps, towards)[:, 0],
        "of the first prompt, when only the two others were changed,", 1e-3,
    )  # fmt: skip


def _gain_in_r(answer: Answer, seed: int) -> str | None:
    """Twice the gain cancels if it is in r too."""
    writes, gain, _, towards = _written(seed)
    once, twice, flat = (_ask(answer, writes, each, 0.0, towards) for each in (gain, 2 * gain, torch.ones(D)))
    if differs(twice, once, "", 1e-3) is None and differs(flat, once, "", 1e-3) is not None:
        return "with eps = 0 a gain twice as large changed nothing: it was divided out again"
    return None


def _gain(answer: Answer, seed: int) -> str | None:
    writes, _, eps, towards = _written(seed)
    only = torch.zeros(D)
    only[seed % D] = 1
    ratio = _ask(answer, writes, 2 * only, eps, towards), _ask(answer, writes, only, eps, towards)
    return differs(ratio[0], 2 * ratio[1], "with a gain twice as large", 1e-3) or (
        "the gain makes no difference"
        if differs(ratio[0], _ask(answer, writes, torch.ones(D), eps, towards), "") is None else None
    )  # fmt: skip


def _inside(answer: Answer, seed: int) -> str | None:
    """Is it right without eps, and wrong with it?"""
    writes, gain, eps, towards = _written(seed)
    wrong = differs(
        _ask(answer, writes, gain, eps, towards).sum(dim=0), _through_the_norm(writes, gain, eps, towards), "", 1e-3
    )
    right = differs(
        _ask(answer, writes, gain, 0.0, towards).sum(dim=0), _through_the_norm(writes, gain, 0.0, towards), "", 1e-3
    )
    return f"with eps = 0 the sum is right; with eps = {eps}{wrong}" if wrong and right is None else None


def _summed_features(answer: Answer, seed: int) -> str | None:
    given = _written(seed)
    if differs(D * _ask(answer, *given).sum(dim=0), _through_the_norm(*given), "", 1e-3) is None:
        return f"with d_model = {D} all shares were {D} times too small"
    return None


def _of_the_sum(answer: Answer, seed: int) -> str | None:
    """A vector handed from one source to another leaves the stream, and what the other sources say, as it was."""
    writes, gain, _, towards = _written(seed)
    if differs(
        _ask(answer, writes, gain, 0.0, towards).sum(dim=0) / len(writes),
        _through_the_norm(writes, gain, 0.0, towards), "", 1e-3,
    ) is None:  # fmt: skip
        return f"with {len(writes)} sources and eps = 0 all shares were {len(writes)} times too large"
    if _sums(answer, seed) is None:
        return None
    handed = numbers(3, D, seed=seed + 3, low=1.0, high=4.0)
    other = writes.clone()
    other[0] -= handed
    other[-1] += handed
    return differs(
        _ask(answer, other, gain, 0.0, towards)[1:-1], _ask(answer, writes, gain, 0.0, towards)[1:-1],
        "when the first source wrote less and the last one as much more, so that the stream was the same, of the "
        "sources between them", 1e-3,
    )  # fmt: skip


def _sums(answer: Answer, seed: int) -> str | None:
    given = _written(seed)
    return differs(
        _ask(answer, *given).sum(dim=0),
        _through_the_norm(*given),
        "the sum over sources against the logit difference:",
        1e-3,
    )


def _each(answer: Answer, seed: int) -> str | None:
    writes, gain, eps, towards = _written(seed)
    scale = torch.rsqrt(writes.sum(dim=0).square().mean(dim=-1) + eps)
    expected = ((writes * gain) * towards).sum(dim=-1) * scale
    return differs(_ask(answer, writes, gain, eps, towards), expected, "source by source", 1e-3)


DIRECT_SHARES = Exercise(
    lesson="07",
    task="direct logit attribution: the logit difference, divided among those who write",
    minutes=15,
    difficulty=3,
    reference=answers.direct_shares,
    properties=(
        gives_a_tensor(_written),
        Property(
            "it gives one number for each source and prompt", _share_shape,
            "Sum over d_model only.",
        ),
        Property(
            "a source that writes nothing says nothing", _silent,
            "0 divided by its own size is NaN or worse. And what is constant belongs to no source.",
        ),
        Property(
            "all sources are divided by the same", _one_scale,
            "If each source is divided by its own size, one that whispers counts like one that shouts, and the sum "
            "is wrong. Use the size of the whole stream, writes.sum(dim=0), for all.",
        ),
        Property(
            "the shares are in logits", _not_rescaled,
            "Do not rescale them: they add up to the logit difference, and not to 1.",
        ),
        Property(
            "each prompt counts for itself", _own_prompt,
            "r is one number for each prompt, a mean over d_model only, and each prompt has its own row of `towards`: "
            "multiply with it number by number. writes @ towards.T takes every prompt with every direction.",
        ),
        Property(
            "r is the size of the stream before the gain", _gain_in_r,
            "The norm divides first and multiplies with the gain then: the gain does not belong into r.",
        ),
        Property("the norm's gain is in it", _gain, "The norm multiplies each feature with its gain."),
        Property(
            "eps is inside the root", _inside,
            "RMSNorm divides by sqrt(mean(x^2) + eps): eps is added before the root is taken.",
        ),
        Property(
            "products with the direction are summed over d_model", _summed_features,
            "A logit is a scalar product: the last step is a sum over d_model, not a mean.",
        ),
        Property(
            "r is the size of the sum of all sources", _of_the_sum,
            "The stream is what all sources wrote, added up: writes.sum(dim=0), not a mean over them, nor one of them.",
        ),
        Property(
            "the shares add up to the logit difference", _sums,
            "RMSNorm divides the stream by the root of its *mean square*: no mean is subtracted, and it is a mean, "
            "not a sum.",
        ),
        Property(
            "each source gets what it says itself", _each,
            "The sum is right, the parts are not: project each source's own vector onto the direction.",
        ),
        leaves(
            "what goes in is", _written,
            "Written into were the vectors of the caller: writes * gain makes a new tensor, writes *= gain does not.",
        ),
    ),
    hints=(
        "The stream is writes.sum(dim=0). Its norm divides by r = sqrt(mean over d_model of its square, plus eps).",
        "Hold r fixed. Then everything is linear: a source's share is its vector, times gain, times towards, summed "
        "over d_model, and divided by r of that prompt.",
        'torch.einsum("spd,d,pd->sp", writes, gain, towards) / r, with r of shape [prompt].',
    ),
)  # fmt: skip
