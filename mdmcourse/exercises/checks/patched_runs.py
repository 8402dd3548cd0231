"""Patching by hand, and its effect: what has to be true of the answers."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from mdmcourse.exercises.answers import lesson08 as answers
from mdmcourse.exercises.checks.tools import differs, numbers, shape_of
from mdmcourse.exercises.exercise import Answer, Exercise, Property

# --- with_patch

POSITIONS = [1, 3]


class _Block(nn.Module):
    """Remembers the stream that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = torch.empty(0)

    def forward(self, stream: Tensor, scale: float = 1.0) -> Tensor:
        self.seen = stream.clone()
        return scale * torch.tanh(stream).cumsum(dim=1)

    @property
    def hooks(self) -> int:
        return len(self._forward_pre_hooks) + len(self._forward_hooks)


def _streams(seed: int, *, same: bool = False) -> tuple[Tensor, Tensor]:
    stream, given = numbers(4, 5, 6, seed=seed), numbers(4, 5, 6, seed=seed + 1, low=2.0, high=3.0)
    return stream, given[:1].expand(4, -1, -1).clone() if same else given


def _patched(answer: Answer, stream: Tensor, given: Tensor) -> tuple[_Block, Any]:
    block = _Block()
    return block, answer(block, given, list(POSITIONS), lambda: block(stream))


def _hands_back(answer: Answer, seed: int) -> str | None:
    token = object()
    found = answer(_Block(), _streams(seed)[1], list(POSITIONS), lambda: token)
    return None if found is token else f"run() gave something, with_patch gave a {type(found).__name__}"


def _runs_under_the_hook(answer: Answer, seed: int) -> str | None:
    stream, given = _streams(seed)
    block, _ = _patched(answer, stream.clone(), given)
    return "it read the stream of its own run" if torch.equal(block.seen, stream) else None


def _reads_given(answer: Answer, seed: int) -> str | None:
    stream, given = _streams(seed, same=True)
    block, _ = _patched(answer, stream, given)
    if block.seen.shape != stream.shape:
        return f"it read {shape_of(block.seen)}, not one of shape {tuple(stream.shape)}"
    return differs(block.seen[:, POSITIONS], given[:, POSITIONS], f"at positions {POSITIONS} of all prompts")


def _leaves_others(answer: Answer, seed: int) -> str | None:
    stream, given = _streams(seed)
    block, _ = _patched(answer, stream, given)
    others = [i for i in range(stream.shape[1]) if i not in POSITIONS]
    return differs(block.seen[:, others], stream[:, others], f"patched at {POSITIONS}, at positions {others}")


def _own_prompt(answer: Answer, seed: int) -> str | None:
    stream, given = _streams(seed)
    block, _ = _patched(answer, stream, given)
    return differs(block.seen[1:, POSITIONS], given[1:, POSITIONS], "for the second prompt and those after it")


def _other_arguments(answer: Answer, seed: int) -> str | None:
    stream, given = _streams(seed)
    block = _Block()
    found = answer(block, given, list(POSITIONS), lambda: block(stream, 2.0))
    if torch.equal(found, 2 * torch.tanh(block.seen).cumsum(dim=1)):
        return None
    return "run() called block(stream, 2.0), and the block never saw the 2.0"


def _nothing_changed(answer: Answer, seed: int) -> str | None:
    stream, given = _streams(seed)
    copies = stream.clone(), given.clone()
    _patched(answer, stream, given)
    if not torch.equal(stream, copies[0]):
        return "the stream of the run that is repeated was overwritten in place"
    return None if torch.equal(given, copies[1]) else "`given` was overwritten"


def _hook_is_gone(answer: Answer, seed: int) -> str | None:
    stream, given = _streams(seed)
    block, _ = _patched(answer, stream, given)
    left = block.hooks
    block(stream)
    if left or not torch.equal(block.seen, stream):
        return f"after it, {left} hook{'s' if left != 1 else ''} still hung on the block"
    return None


def _gone_after_an_error(answer: Answer, seed: int) -> str | None:
    block = _Block()

    def fails() -> None:
        raise RuntimeError("interrupted")

    with suppress(RuntimeError):
        answer(block, _streams(seed)[1], list(POSITIONS), fails)
    return f"run() raised an error, and {block.hooks} hook stayed on the block" if block.hooks else None


WITH_PATCH = Exercise(
    lesson="08",
    task="a run with the residual stream patched at some positions before one layer",
    minutes=12,
    difficulty=2,
    reference=answers.with_patch,
    properties=(
        Property("it gives back what run() gives", _hands_back, "Return the result of run()."),
        Property(
            "run() happens while the hook is there, and the hook's result is used", _runs_under_the_hook,
            "Register the hook, then call run(), then remove it. A pre-hook on the block has to *return* the new "
            "arguments, (stream, *args[1:]); a hook on its output comes too late.",
        ),
        Property(
            "at these positions the block reads the given stream", _reads_given,
            "The axes are [prompt, pos, d_model]: stream[:, positions] = given[:, positions], no shift, nothing added.",
        ),
        Property(
            "all other positions stay as they are", _leaves_others,
            "Only `positions` are patched. Replacing the whole stream is the other run, and restores everything.",
        ),
        Property(
            "each prompt gets its own part of `given`", _own_prompt,
            "given[0] is the first prompt's. Every prompt has its partner in the same row.",
        ),
        Property(
            "the block's other arguments still reach it", _other_arguments,
            "What a pre-hook returns takes the place of *all* positional arguments: return (stream, *args[1:]).",
        ),
        Property(
            "what it was given is not overwritten", _nothing_changed,
            "Other code may still hold the tensor in args[0]: work on args[0].clone().",
        ),
        Property(
            "the hook is gone afterwards", _hook_is_gone,
            "handle = block.register_forward_pre_hook(...), and handle.remove() before you return. A forgotten hook "
            "patches every later run.",
        ),
        Property(
            "the hook is gone even if run() fails", _gone_after_an_error,
            "try: return run() -- finally: handle.remove(). Otherwise one error in a notebook patches all runs after.",
        ),
    ),
    hints=(
        "A pre-hook gets (module, args). args[0] is the stream [prompt, pos, d_model]. What it returns takes the place "
        "of args.",
        "In the hook: stream = args[0].clone(); stream[:, positions] = given[:, positions]; "
        "return (stream, *args[1:]).",
        "Around it: handle = block.register_forward_pre_hook(put), then try: return run() and finally: "
        "handle.remove().",
    ),
)  # fmt: skip


# --- normalised_effect


def _three(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Metrics of a patched, a clean and a corrupted run: patched in between, for each prompt elsewhere."""
    clean = numbers(6, seed=seed, low=5.0, high=9.0)
    corrupted = numbers(6, seed=seed + 1, low=-3.0, high=3.0)
    return corrupted + numbers(6, seed=seed + 2, low=0.1, high=0.4) * (clean - corrupted), clean, corrupted


def _one_number(answer: Answer, seed: int) -> str | None:
    for direction in ("denoise", "noise"):
        found = answer(*_three(seed), direction)
        if not isinstance(found, float) and getattr(found, "shape", None) != ():  # a tensor, or NumPy's number
            return f"for six prompts it gave {shape_of(found)}"
    return None


def _close(found: Any, expected: Any, given: str) -> str | None:
    return differs(torch.as_tensor(found), torch.as_tensor(expected, dtype=torch.float32), given)


def _ends(answer: Answer, seed: int) -> str | None:
    _, clean, corrupted = _three(seed)
    for patched, share, what in ((corrupted, 0.0, "no effect at all"), (clean, 1.0, "everything restored")):
        wrong = _close(answer(patched, clean, corrupted, "denoise"), share, f'for "denoise" with {what}')
        if wrong:
            return wrong
    return None


def _noise_ends(answer: Answer, seed: int) -> str | None:
    _, clean, corrupted = _three(seed)
    for patched, share, what in ((clean, 0.0, "no effect at all"), (corrupted, 1.0, "everything destroyed")):
        wrong = _close(answer(patched, clean, corrupted, "noise"), share, f'for "noise" with {what}')
        if wrong:
            return wrong
    return None


def _beyond(answer: Answer, seed: int) -> str | None:
    _, clean, corrupted = _three(seed)
    for share in (1.2, -0.2):
        patched = corrupted + share * (clean - corrupted)
        for direction, expected in (("denoise", share), ("noise", 1 - share)):
            wrong = _close(answer(patched, clean, corrupted, direction), expected, f'for "{direction}" of that kind')
            if wrong:
                return wrong
    return None


def _means_first(answer: Answer, seed: int) -> str | None:
    clean, corrupted = torch.tensor([4.0, 4.0, 8.0]), torch.tensor([4.0, 0.0, -4.0])
    patched = corrupted + torch.tensor([0.0, 1.0, 3.0])
    given = "with a prompt whose two runs agree, a mean distance of 16/3 and a mean effect of 4/3,"
    return _close(answer(patched, clean, corrupted, "denoise"), 0.25, given)


def _general(answer: Answer, seed: int) -> str | None:
    patched, clean, corrupted = _three(seed)
    share = (patched.mean() - corrupted.mean()) / (clean.mean() - corrupted.mean())
    for direction, expected in (("denoise", share), ("noise", 1 - share)):
        found = answer(patched, clean, corrupted, direction)
        if wrong := _close(found, expected.item(), f'for "{direction}"'):
            return wrong
    return None


def _downwards(answer: Answer, seed: int) -> str | None:
    patched, clean, corrupted = (-each for each in _three(seed))
    share = (patched.mean() - corrupted.mean()) / (clean.mean() - corrupted.mean())
    for direction, expected in (("denoise", share), ("noise", 1 - share)):
        found = answer(patched, clean, corrupted, direction)
        if wrong := _close(found, expected.item(), f'for "{direction}", the clean metric being the lower one,'):
            return wrong
    return None


def _leaves_metrics(answer: Answer, seed: int) -> str | None:
    for direction in ("denoise", "noise"):
        given = _three(seed)
        answer(*given, direction)
        if not all(torch.equal(one, other) for one, other in zip(given, _three(seed), strict=True)):
            return f'after "{direction}" one of the three vectors held other numbers'
    return None


NORMALISED_EFFECT = Exercise(
    lesson="08",
    task="the share of the distance between the two runs that a patch covers",
    minutes=6,
    difficulty=1,
    reference=answers.normalised_effect,
    properties=(
        Property("it is one number for all prompts", _one_number, "Take means over prompts, .mean()."),
        Property(
            "what it was given is not overwritten", _leaves_metrics,
            "patched -= corrupted changes the caller's vector: write patched - corrupted.",
        ),
        Property(
            "denoising nothing is 0, restoring everything is 1", _ends,
            "(patched - corrupted) / (clean - corrupted): the way back from the corrupted run.",
        ),
        Property(
            "noising nothing is 0, destroying everything is 1", _noise_ends,
            "The clean run is repeated now: count from there, (clean - patched) / (clean - corrupted).",
        ),
        Property(
            "what is below 0 or above 1 is kept", _beyond,
            "A patch can overshoot, or do the opposite. A clipped or absolute value would hide that.",
        ),
        Property(
            "means come first, the ratio afterwards", _means_first,
            "A mean of ratios blows up where the two runs of one prompt nearly agree. Divide mean by mean.",
        ),
        Property("it is right in between", _general, "Divide by the distance of the two runs, and by nothing else."),
        Property(
            "it is right where the clean metric is the lower one", _downwards,
            "The distance has a sign: clean.mean() - corrupted.mean(), without abs().",
        ),
    ),
    hints=(
        "The distance is clean.mean() - corrupted.mean(), in both directions.",
        'For "denoise" the patched run set out from the corrupted one: how far has it come?',
        'For "noise" it set out from the clean one: (clean.mean() - patched.mean()) / distance.',
    ),
)  # fmt: skip
