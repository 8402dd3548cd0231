"""What is measured on attention patterns: what has to be true of the answers of lesson 07."""

from __future__ import annotations

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson07 as answers
from mdmcourse.exercises.checks.given import gives_a_tensor, leaves
from mdmcourse.exercises.checks.tools import differs, numbers, shape_of, shown
from mdmcourse.exercises.exercise import Answer, Exercise, Property


def patterns(seed: int, n: int, causal: bool = False, lead: tuple[int, ...] = (2, 3)) -> Tensor:
    """Attention of some heads: every row is a distribution over the keys that it sees."""
    scores = numbers(*lead, n, n, seed=seed, low=-2.0, high=2.0)
    if causal:
        scores = scores.masked_fill(~torch.ones(n, n, dtype=torch.bool).tril(), -torch.inf)
    return scores.softmax(dim=-1)


# --- sink_score


def _a_full_pattern(seed: int) -> tuple[Tensor, bool]:
    return patterns(seed, 6), False


def _a_score_a_key(answer: Answer, seed: int) -> str | None:
    found = answer(patterns(seed, 6, lead=(2, 5)), False)
    if isinstance(found, Tensor) and found.shape == (2, 5, 6):
        return None
    return f"for patterns of shape (2, 5, 6, 6) it gave {shape_of(found)}"


def _keys_not_queries(answer: Answer, seed: int) -> str | None:
    """All queries look at one key, nearly only: that key has the score 0.9, all others have 0.02."""
    n, key = 6, seed % 6
    pattern = torch.full((1, n, n), 0.02)
    pattern[..., key] = 0.9
    found = answer(pattern, False)
    if found.isnan().any():
        return f"every query looks at key {key}, and every key is seen by five others; it gave {shown(found)}"
    if found[0, key] < 0.5 or found.sum() - found[0, key] > 0.5:
        return f"every query looks at key {key}; it gave {shown(found)}"
    return None


def _not_itself(answer: Answer, seed: int) -> str | None:
    n = 6
    found = answer(torch.full((1, n, n), 0.02) + 0.88 * torch.eye(n), False)
    if not found.abs().max() < 0.1:  # 0.02 if it does not count
        return f"every query gives 0.9 to itself and 0.02 to each other key; it gave {shown(found)}"
    return None


def _full(answer: Answer, seed: int) -> str | None:
    pattern = patterns(seed, 6)
    off = pattern * (1 - torch.eye(6))
    return differs(answer(pattern.clone(), False), off.sum(dim=-2) / 5, "with full attention and six positions")


def _giving_nothing(answer: Answer, seed: int) -> str | None:
    """Three queries look at key 0, three at key 5, and nobody anywhere else: queries that give nothing count too."""
    pattern = torch.zeros(1, 6, 6)
    pattern[0, 3:, 0] = 1
    pattern[0, :3, 5] = 1
    expected = torch.tensor([[0.6, 0, 0, 0, 0, 0.6]])
    return differs(answer(pattern, False), expected, "queries 3, 4 and 5 look at key 0, queries 0, 1 and 2 at key 5:")


def _from_behind(answer: Answer, seed: int) -> str | None:
    pattern = torch.zeros(1, 7, 7)
    pattern[..., 0] = 1
    found = answer(pattern, True)[0]
    if found[0].isnan() or found[0] < 0.5:
        return f"causal, seven positions, every query looks at key 0; it gave {shown(found)}"
    return None


def _three_are_enough(answer: Answer, seed: int) -> str | None:
    for given, causal, key in (
        ("causal, seven positions: key 3", True, 3),
        ("four positions, all seen: key 0", False, 0),
    ):
        if answer(patterns(seed, 7 if causal else 4, causal), causal)[..., key].isnan().any():
            return f"{given} is seen by three other queries; it gave NaN"
    return None


def _causal(answer: Answer, seed: int) -> str | None:
    pattern = patterns(seed, 7, causal=True)
    found = answer(pattern.clone(), True)
    expected = torch.stack([pattern[..., key + 1 :, key].mean(dim=-1) for key in range(4)], dim=-1)
    return differs(found[..., :4], expected, "with causal attention, keys 0 to 3 of seven positions:")


def _too_few(answer: Answer, seed: int) -> str | None:
    found = answer(patterns(seed, 7, causal=True), True)[0, 0]
    unsure = found.isnan().tolist()
    if unsure != [False] * 4 + [True] * 3:
        return f"causal, seven positions: keys 4, 5, 6 are seen by two, one and no other query; it gave {shown(found)}"
    return None


def _too_few_in_full(answer: Answer, seed: int) -> str | None:
    found = answer(patterns(seed, 3), False)
    if not found.isnan().all():
        return f"three positions, all seen: each key is seen by two other queries; it gave {shown(found[0, 0])}"
    return None


SINK_SCORE = Exercise(
    lesson="07",
    task="how much attention each key gets from the other queries that can see it",
    minutes=12,
    difficulty=2,
    reference=answers.sink_score,
    properties=(
        gives_a_tensor(_a_full_pattern),
        Property(
            "it gives one number for each key of each head", _a_score_a_key,
            "Average over queries (dim=-2), and keep all axes before them.",
        ),
        Property(
            "it is about keys", _keys_not_queries,
            "Row i is the attention that query i *gives*, and its sum is 1. You want what a key *gets*: a mean down "
            "each column, dim=-2.",
        ),
        Property(
            "a position's look at itself does not count", _not_itself,
            "Leave out the diagonal: a head that only ever looks at itself has no sink.",
        ),
        Property(
            "the mean is over the other queries", _full,
            "With n positions and full attention n - 1 *other* queries see each key: divide by that.",
        ),
        Property(
            "a query that gives nothing counts too", _giving_nothing,
            "Who can see a key is not who looks at it: a query that sees a key and gives it 0 belongs to the mean. "
            "Build the table of who sees whom from the length and `causal`, not from pattern > 0.",
        ),
        Property(
            "in causal attention a key is seen from behind", _from_behind,
            "pattern[..., i, j]: query i sees key j if i > j. That is the lower triangle, tril, and not triu.",
        ),
        Property(
            "three queries are enough", _three_are_enough,
            "NaN is for *fewer* than three: count < 3.",
        ),
        Property(
            "keys that few can see are not put at a disadvantage", _causal,
            "In causal attention key j is seen only by the queries behind it: divide by how many they are.",
        ),
        Property(
            "a mean over fewer than three queries is NaN", _too_few,
            "The last keys of a causal pattern are seen by two, one and no other query. Put NaN there.",
        ),
        Property(
            "that holds for full attention too", _too_few_in_full,
            "With full attention and three positions two other queries see each key. Count the queries; do not put "
            "NaN at the last three keys whatever the pattern.",
        ),
        leaves(
            "the pattern is", _a_full_pattern,
            "The lesson uses the same patterns again. pattern * sees makes a new tensor; writing into "
            "pattern[..., i, i] changes the caller's.",
        ),
    ),
    hints=(
        "Make a table sees[i, j] of booleans: may query i see key j, i being another position? Full: i != j. "
        "Causal: i > j.",
        "(pattern * sees).sum(dim=-2) is what each key gets from others; sees.sum(dim=0) says from how many.",
        "Divide the one by the other, then .masked_fill(count < 3, torch.nan). Beware of 0 / 0: count.clamp(min=1).",
    ),
)  # fmt: skip


# --- row_change


def _two_patterns(seed: int) -> tuple[Tensor, Tensor]:
    return patterns(seed, 4), patterns(seed + 1, 6)


def _number_a_head(answer: Answer, seed: int) -> str | None:
    found = answer(patterns(seed, 4), patterns(seed + 1, 6))
    if isinstance(found, Tensor) and found.shape == (2, 3):
        return None
    return f"for patterns of shape (2, 3, 4, 4) and (2, 3, 6, 6) it gave {shape_of(found)}"


def _same(answer: Answer, seed: int) -> str | None:
    same = patterns(seed, 5)
    return differs(answer(same, same.clone()), torch.zeros(2, 3), "for two equal patterns")


def _elsewhere(answer: Answer, seed: int) -> str | None:
    """All attention goes to another key."""
    before, after = torch.eye(5)[None], torch.eye(5).roll(1, dims=1)[None]
    return differs(answer(before, after), torch.ones(1), "every row looks at another key than before, five rows each:")


def _half(answer: Answer, seed: int) -> str | None:
    before, after = torch.eye(4)[None], torch.eye(4)[None].clone()
    after[0, :2] = torch.tensor([0.0, 0.0, 0.5, 0.5])
    after[0, 2:] = torch.tensor([0.5, 0.5, 0.0, 0.0])
    after = (after + before) / 2
    return differs(answer(before, after), torch.tensor([0.5]), "every row moved half of its attention:")


def _one_row(answer: Answer, seed: int) -> str | None:
    """The mean over rows: one of four rows moves everything."""
    before = torch.eye(4)[None].clone()
    after = before.clone()
    after[0, 1] = torch.tensor([1.0, 0, 0, 0])
    return differs(answer(before, after), torch.tensor([0.25]), "one of four rows moved all of its attention:")


def _columns_hide_it(answer: Answer, seed: int) -> str | None:
    """Rows trade places: every key gets as much as before, and every row has changed."""
    before = torch.eye(4)[None].clone()
    after = before[:, [1, 0, 3, 2]]
    found = answer(before, after)
    if found.abs().max() < 0.05:
        return "rows 0 and 1, and rows 2 and 3, traded what they look at; it gave 0"
    return None


def _causal_growth(answer: Answer, seed: int) -> str | None:
    after = patterns(seed, 7, causal=True)
    found = answer(after[..., :4, :4].clone(), after)
    return differs(found, torch.zeros(2, 3), "a causal text grew from four to seven tokens, its first rows unchanged:")


def _new_keys(answer: Answer, seed: int) -> str | None:
    """Rows that both have look at a key that is new."""
    before = torch.eye(4)[None].clone()
    after = torch.eye(6)[None].clone()
    after[0, :4] = torch.tensor([0.0, 0, 0, 0, 1, 0])
    return differs(
        answer(before, after), torch.ones(1), "four rows look at a key that was not there before, all of them:"
    )


def _random_growth(answer: Answer, seed: int) -> str | None:
    before, after = _two_patterns(seed)
    wider = torch.cat([before, torch.zeros(2, 3, 4, 2)], dim=-1)
    expected = (after[..., :4, :] - wider).clamp(min=0).sum(dim=-1).mean(dim=-1)
    return differs(answer(before.clone(), after.clone()), expected, "for two patterns of four and six positions")


ROW_CHANGE = Exercise(
    lesson="07",
    task="a measure of how much attention moved that new queries cannot fool",
    minutes=15,
    optional=True,
    difficulty=3,
    reference=answers.row_change,
    properties=(
        gives_a_tensor(_two_patterns),
        Property(
            "it gives one number for each head", _number_a_head,
            "Keep the axes before the last two. The two patterns may have different lengths: compare rows 0 to m - 1.",
        ),
        Property("it is 0 if nothing changed", _same, "Compare the two patterns entry by entry."),
        Property(
            "it sees changes that the columns hide", _columns_hide_it,
            "What keys get in all can stay the same while every row changes. Take differences before you sum.",
        ),
        Property(
            "it is 1 if all attention went elsewhere", _elsewhere,
            "A row that moves all of its attention has lost 1 at one key and gained 1 at another: the absolute "
            "differences add up to 2. Sum them over keys, halve, and average over rows.",
        ),
        Property(
            "it is the share that moved", _half,
            "Half of the attention moved: that is 0.5. No squares, no largest entry: absolute differences.",
        ),
        Property(
            "it is a mean over rows", _one_row,
            "Average over rows, do not take the largest or the sum.",
        ),
        Property(
            "a causal text that grows has changed nothing", _causal_growth,
            "Rows that are new have no past: leave them out, and average over the rows that both have.",
        ),
        Property(
            "attention that goes to a new key has moved", _new_keys,
            "Cutting the new keys off loses what goes there. Give `before` columns of zeros for them.",
        ),
        Property(
            "it is right for any two patterns", _random_growth,
            "Half the sum over keys of |after - before|, averaged over the rows that both have.",
        ),
        leaves(
            "the patterns are", _two_patterns,
            "The lesson uses the same patterns again. after[...] - wider makes a new tensor; -= and abs_() do not.",
        ),
    ),
    hints=(
        "Rows first: which rows do both patterns have? after[..., :m, :] are those, with n keys each.",
        "before has only m keys. Nobody looked at the others: pad it with zeros, torch.nn.functional.pad(before, "
        "(0, n - m)).",
        "Then (difference).abs().sum(dim=-1) is twice the attention that a row moved. Halve it, and average over "
        "rows.",
    ),
)  # fmt: skip
