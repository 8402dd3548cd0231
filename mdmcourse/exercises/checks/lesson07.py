"""Looking inside: what has to be true of the answers."""

from __future__ import annotations

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson07 as answers
from mdmcourse.exercises.checks.attention_measures import ROW_CHANGE, SINK_SCORE
from mdmcourse.exercises.checks.direct_parts import DIRECT_SHARES
from mdmcourse.exercises.checks.given import gives_a_tensor, leaves
from mdmcourse.exercises.checks.tools import differs, numbers, shape_of, shown
from mdmcourse.exercises.exercise import Answer, Exercise, Property

# --- lens_logits

D, VOCAB = 6, 9


class Norm:
    """A norm with a gain, called like the decoder's own."""

    def __init__(self, seed: int) -> None:
        self.gain = numbers(D, seed=seed, low=0.5, high=2.0)

    def __call__(self, x: Tensor) -> Tensor:
        return self.gain * x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-6)


class Head:
    """An unembedding, called like the decoder's own."""

    def __init__(self, seed: int) -> None:
        self.weight = numbers(VOCAB, D, seed=seed, low=-1.0, high=1.0)

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.weight.T


def _parts(seed: int) -> tuple[Tensor, Norm, Head, Tensor]:
    """A stream that grows from place to place, the modules, and the rows as the decoder computes them."""
    stream = (
        numbers(4, 2, 5, D, seed=seed, low=-1.0, high=1.0) * torch.tensor([0.2, 1.0, 3.0, 9.0])[:, None, None, None]
    )
    norm, head = Norm(seed + 1), Head(seed + 2)
    return stream, norm, head, head(norm(stream))


def _asked(seed: int) -> tuple[Tensor, Norm, Head, bool]:
    return (*_parts(seed)[:3], True)


def _lens_shape(answer: Answer, seed: int) -> str | None:
    stream, norm, head, raw = _parts(seed)
    found = answer(stream, norm, head, False)
    if isinstance(found, Tensor) and found.shape == raw.shape:
        return None
    return f"for a stream of shape {tuple(stream.shape)} and {VOCAB} words it gave {shape_of(found)}"


def _scale_free(answer: Answer, seed: int) -> str | None:
    """The final norm divides the size out."""
    stream, norm, head, _ = _parts(seed)
    return differs(
        answer(10 * stream, norm, head, False), answer(stream, norm, head, False),
        "for a stream ten times as large, which the norm brings to the same size,", 1e-3,
    )  # fmt: skip


def _no_probabilities(answer: Answer, seed: int) -> str | None:
    stream, norm, head, raw = _parts(seed)
    found = answer(stream, norm, head, False)
    for name, made in (("probabilities", raw.softmax(-1)), ("logarithms of probabilities", raw.log_softmax(-1))):
        if differs(found, made, "") is None:
            return f"it gave {name}"
    return None


def _unshifted(answer: Answer, seed: int) -> str | None:
    stream, norm, head, raw = _parts(seed)
    return differs(answer(stream, norm, head, False), raw, "for a decoder without shift")


def _along_positions(answer: Answer, seed: int) -> str | None:
    """Is it another axis along which the rows were moved?"""
    stream, norm, head, raw = _parts(seed)
    found = answer(stream, norm, head, True)
    to, before = slice(1, None), slice(None, -1)  # nothing is asked of position 0
    moved = {
        "place": (found[to, :, to], raw[before, :, to]),
        "text": (found[:, to, to], raw[:, before, to]),
        "word": (found[:, :, to, to], raw[:, :, to, before]),
    }
    for axis, (name, (one, other)) in zip((0, 1, 3), moved.items(), strict=True):
        if differs(one, other, "", 1e-3) is None:
            return f"for a shifted decoder the rows were moved along axis {axis}, from one {name} to the next"
    return None


def _first_is_nan(answer: Answer, seed: int) -> str | None:
    stream, norm, head, _ = _parts(seed)
    found = answer(stream, norm, head, True)
    silent = found.isnan().all(dim=-1).all(dim=0).all(dim=0).tolist()
    if silent != [True] + [False] * 4 or found.isnan().any(dim=-1).sum() != found.isnan().all(dim=-1).sum():
        where = [position for position, each in enumerate(silent) if each]
        return f"for a shifted decoder and five positions NaN stands at {where or 'none'}, expected was position 0 only"
    return None


def _shifted(answer: Answer, seed: int) -> str | None:
    stream, norm, head, raw = _parts(seed)
    return differs(
        answer(stream, norm, head, True)[:, :, 1:], raw[:, :, :-1], "for a shifted decoder, positions 1 to 4:"
    )


LENS_LOGITS = Exercise(
    lesson="07",
    task="the logit lens: what every place of the residual stream would say",
    minutes=10,
    difficulty=2,
    reference=answers.lens_logits,
    properties=(
        gives_a_tensor(_asked),
        Property(
            "it gives a logit for each place, text, position and word", _lens_shape,
            "norm and head work on the last axis and leave the others as they are: no loop is needed.",
        ),
        Property(
            "the stream goes through the final norm", _scale_free,
            "The output matrix was trained on streams that the final norm had brought to one size. Apply norm(...) "
            "at every place, not only at the last.",
        ),
        Property("it gives logits", _no_probabilities, "No softmax: logits are asked for."),
        Property(
            "without a shift row i scores token i", _unshifted,
            "head(norm(stream)), in this order, and nothing moved.",
        ),
        Property(
            "rows are moved along the positions", _along_positions,
            "The axes are place, text, pos and word: positions are axis 2. The other three stay as they are.",
        ),
        Property(
            "with a shift only the first position is NaN", _first_is_nan,
            "The row at position i - 1 scores token i. No row scores token 0: NaN there, in all words. torch.roll "
            "would put the last row there.",
        ),
        Property(
            "with a shift row i - 1 scores token i", _shifted,
            "aligned[:, :, 1:] = raw[:, :, :-1]. Positions are the third axis.",
        ),
        leaves(
            "the stream is", _asked,
            "The lesson reads the same stream again. Write into a new tensor: torch.full_like(raw, torch.nan).",
        ),
    ),
    hints=(
        "First the rows as the decoder computes them: raw = head(norm(stream)), for all places at once.",
        "If the decoder is shifted, the row at position i - 1 scores token i. Begin with torch.full_like(raw, "
        "torch.nan).",
        "Then aligned[:, :, 1:] = raw[:, :, :-1]. Without a shift raw itself is the answer.",
    ),
)  # fmt: skip


# --- settled_place


def _table(*rows: str) -> Tensor:
    """Prompts as strings from the first place to the last, x where the answer is on top."""
    return torch.tensor([[each == "x" for each in row] for row in rows]).T


def _seen_of(answer: Answer, rows: tuple[str, ...], expected: tuple[int, ...], what: str) -> str | None:
    found = answer(_table(*rows))
    if isinstance(found, Tensor) and found.shape == (len(rows),) and found.tolist() == list(expected):
        return None
    got = shown(found) if isinstance(found, Tensor) and found.shape == (len(rows),) else shape_of(found)
    return f"{what} ({', '.join(rows)}; x is on top) it gave {got}, expected was {list(expected)}"


def _some_table(seed: int) -> tuple[Tensor]:
    return (numbers(9, 40, seed=seed) < 0.6,)


def _a_place_a_prompt(answer: Answer, seed: int) -> str | None:
    found = answer(torch.rand(6, 11) < 0.5)
    if isinstance(found, Tensor) and found.shape == (11,):
        return None
    return f"for six places and eleven prompts it gave {shape_of(found)}"


def _simple(answer: Answer, seed: int) -> str | None:
    return _seen_of(answer, ("..xxx", "....x", ".xxxx"), (2, 4, 1), "for answers that come on top once, and stay")


def _always(answer: Answer, seed: int) -> str | None:
    return _seen_of(answer, ("xxxxx",), (0,), "for an answer that is on top everywhere")


def _to_stay(answer: Answer, seed: int) -> str | None:
    return _seen_of(answer, ("xx..x", ".x.xx", "x.xxx"), (4, 3, 2), "for answers that come on top, go, and come back")


def _never(answer: Answer, seed: int) -> str | None:
    return _seen_of(answer, (".....", "xxxx.", "..x.."), (5, 5, 5), "for answers that are not on top at the end")


def _any_table(answer: Answer, seed: int) -> str | None:
    (on_top,) = _some_table(seed)
    expected = torch.tensor([next((p for p in range(9) if bool(column[p:].all())), 9) for column in on_top.T])
    found = answer(on_top.clone())
    return differs(found, expected, "for 40 random prompts")


SETTLED_PLACE = Exercise(
    lesson="07",
    task="the place from which the answer is on top to stay",
    minutes=8,
    difficulty=2,
    reference=answers.settled_place,
    properties=(
        gives_a_tensor(_some_table),
        Property("it gives one place for each prompt", _a_place_a_prompt, "Places are the first axis."),
        Property(
            "it finds where the answer comes on top", _simple,
            "Places are counted from 0, and the place where it comes on top is the one that counts.",
        ),
        Property(
            "an answer that is always on top is settled at place 0", _always,
            "Looking for the last place where it is *not* on top, and adding 1? There is none here.",
        ),
        Property(
            "it has to stay on top", _to_stay,
            "An answer can be on top by luck, and go again. Count from the end: how long has it been on top?",
        ),
        Property(
            "an answer that is not on top at the end never settled", _never,
            "Give the number of places. Beware of argmax: of a column without any True it is 0.",
        ),
        Property("it is right for any table", _any_table, "Compare with a loop over prompts and places."),
        leaves(
            "the table is", _some_table,
            "Others read the same table. Begin with on_top.clone() if you want to write into it.",
        ),
    ),
    hints=(
        "Read each column from its end. For how many places in a row has the answer been on top?",
        "on_top.flip(0).int().cumprod(dim=0) is 1 as long as, read from the end, it has always been on top.",
        "Their sum over places is the length of the last run. It began that many places before the end.",
    ),
)  # fmt: skip


EXERCISES = (SINK_SCORE, ROW_CHANGE, LENS_LOGITS, SETTLED_PLACE, DIRECT_SHARES)
