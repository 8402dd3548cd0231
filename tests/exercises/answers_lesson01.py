"""Answers to the exercises of lesson 01: wrong ones, the mistakes that people make, and right ones done otherwise."""

from __future__ import annotations

import itertools

import torch


def normal(weight):
    return weight / weight.sum()


def rest(table, i=0):
    """[words at i, everything else]."""
    table = table.movedim(i, 0)
    return table.reshape(len(table), -1)


# --- next_conditional


def sums_over_no_axis(joint, prefix):
    """With a full prefix the tuple of axes is empty, and PyTorch sums over all."""
    part = joint[tuple(prefix)]
    return normal(part.sum(dim=tuple(range(1, part.ndim))))


def indexed_with_a_list(joint, prefix):
    part = joint[prefix]
    return normal(part.flatten(1).sum(1) if part.ndim > 1 else part)


def next_in_place(joint, prefix):
    joint /= joint[tuple(prefix)].sum()
    return rest(joint[tuple(prefix)]).sum(1)


def three_tokens(joint, prefix):
    """Sums over one axis more for each word that the prefix is short of two; four tokens were not thought of."""
    weight = joint[tuple(prefix)]
    for _ in range(2 - len(prefix)):
        weight = weight.sum(dim=-1)
    return normal(weight if weight.ndim == 1 else weight[:, 0])


def next_loop(joint, prefix):
    n = len(prefix)
    weight = torch.zeros(joint.shape[n])
    for entry in itertools.product(*map(range, joint.shape)):
        if list(entry[:n]) == list(prefix):
            weight[entry[n]] += joint[entry]
    return weight / weight.sum()


def next_by_ratio(joint, prefix):
    """p(prefix, word) / p(prefix), each summed from the table on its own."""
    part = joint[(*prefix, ...)]
    weight = part.sum(dim=tuple(range(1, part.ndim))) if part.ndim > 1 else part
    return weight / joint[(*prefix, ...)].sum()


# --- any_conditional


def seen_part(joint, seen):
    for position, word in seen.items():
        joint = joint.narrow(position, word, 1)
    return joint


def before_only(joint, seen, i):
    return normal(rest(seen_part(joint, {k: w for k, w in seen.items() if k < i}), i).sum(1))


def after_only(joint, seen, i):
    return normal(rest(seen_part(joint, {k: w for k, w in seen.items() if k > i}), i).sum(1))


def neighbours_only(joint, seen, i):
    return normal(rest(seen_part(joint, {k: w for k, w in seen.items() if abs(k - i) == 1}), i).sum(1))


def axes_moved(joint, seen, i):
    """`select` takes the axis away, and the positions of the others are wrong from there on."""
    for position, word in seen.items():
        joint = joint.select(min(position, joint.ndim - 1), word)
    return normal(rest(joint, min(i - sum(k < i for k in seen), joint.ndim - 1)).sum(1))


def each_on_its_own(joint, seen, i):
    """p(i) times the product of p(seen word | i): as if the seen words were independent."""
    marginal = rest(joint, i).sum(1)
    weight = marginal
    for position, word in seen.items():
        weight = weight * rest(joint.narrow(position, word, 1), i).sum(1) / marginal
    return normal(weight)


def wrong_way_round(joint, seen, i):
    return rest(seen_part(joint, seen), i).sum(1) / rest(joint, i).sum(1)


def any_in_place(joint, seen, i):
    for position, word in seen.items():
        others = [other for other in range(joint.shape[position]) if other != word]
        joint.index_fill_(position, torch.tensor(others), 0)
    return normal(rest(joint, i).sum(1))


def empties_seen(joint, seen, i):
    while seen:
        position, word = seen.popitem()
        joint = joint.narrow(position, word, 1)
    return normal(rest(joint, i).sum(1))


def by_index(joint, seen, i):
    index = tuple(slice(seen[k], seen[k] + 1) if k in seen else slice(None) for k in range(joint.ndim))
    weight = joint[index]
    for axis in range(joint.ndim):
        if axis != i:
            weight = weight.sum(dim=axis, keepdim=True)
    return normal(weight.flatten())


def by_masking(joint, seen, i):
    joint = joint.float()
    for position, word in seen.items():
        shape = [-1 if axis == position else 1 for axis in range(joint.ndim)]
        joint = joint * (torch.arange(joint.shape[position]) == word).view(shape)
    return normal(torch.stack([joint.select(i, word).sum() for word in range(joint.shape[i])]))


# --- sequence_nll


def picked(log_p, tokens):
    return log_p.gather(-1, tokens[..., None])[..., 0]


def nll(raw, x, start):
    return -picked(raw.log_softmax(-1)[:, start - 1 : -1], x[:, start:])


def unshifted(raw, x, start):
    return -picked(raw.log_softmax(-1)[:, start:], x[:, start:]).sum(1)


def shifted_the_other_way(raw, x, start):
    rows = raw.log_softmax(-1).roll(-1, dims=1)
    return -picked(rows[:, start:], x[:, start:]).sum(1)


def softmax_over(axis):
    def answer(raw, x, start):
        return -picked(raw.log_softmax(axis)[:, start - 1 : -1], x[:, start:]).sum(1)

    return answer


def nll_loop(raw, x, start):
    found = []
    for n in range(len(x)):
        total = 0.0
        for i in range(start, x.shape[1]):
            total += float(torch.nn.functional.cross_entropy(raw[n, i - 1], x[n, i]))
        found.append(total)
    return torch.tensor(found, dtype=torch.float64)


def nll_cross_entropy(raw, x, start):
    rows = raw[:, start - 1 : -1].transpose(1, 2)
    return torch.nn.functional.cross_entropy(rows, x[:, start:], reduction="none").sum(-1)


# --- can_depend


def ones(length):
    return torch.ones(length, length, dtype=torch.bool)


def depend(length, causal, shifted):
    found = ones(length).tril() if causal else ones(length)
    return torch.cat([~ones(length)[:1], found[:-1]]) if shifted else found


def upper(length, causal, shifted):
    return depend(length, causal, shifted).T


def never_itself(length, causal, shifted):
    return depend(length, causal, shifted) & (~torch.eye(length, dtype=torch.bool) if causal else ones(length))


def wraps(length, causal, shifted):
    return (ones(length).tril() if causal else ones(length)).roll(int(shifted), dims=0)


def shifted_up(length, causal, shifted):
    return ones(length).tril(int(shifted)) if causal else ones(length)


def mdm_without_itself(length, causal, shifted):
    found = depend(length, causal, shifted)
    return found & ~torch.eye(length, dtype=torch.bool) if shifted else found


def first_column(length, causal, shifted):
    found = depend(length, causal, False)
    return torch.cat([~ones(length)[:, :1], found[:, :-1]], dim=1) if shifted else found


def depend_loop(length, causal, shifted):
    row = [i - 1 if shifted else i for i in range(length)]
    return torch.tensor([[row[i] >= 0 and (j <= row[i] or not causal) for j in range(length)] for i in range(length)])


def depend_by_comparison(length, causal, shifted):
    i, j = torch.arange(length)[:, None], torch.arange(length)[None]
    return (i >= shifted) & ((j <= i - int(shifted)) if causal else (j >= 0))


# --- forced_and_free


def forced(next_token, x, start):
    return torch.stack([(next_token(x[:, :i]) == x[:, i]).double().mean() for i in range(start, x.shape[1])])


def write(next_token, x, start):
    written = x[:, :start]
    while written.shape[1] < x.shape[1]:
        written = torch.cat([written, next_token(written)[:, None]], dim=1)
    return written


def free(next_token, x, start):
    return (write(next_token, x, start) == x)[:, start:].double().mean(0)


def alias(next_token, x, start):
    first, second, written = [], [], x
    for i in range(start, x.shape[1]):
        first.append((next_token(x[:, :i]) == x[:, i]).double().mean())
        written[:, i] = next_token(written[:, :i])
        second.append((written[:, i] == x[:, i]).double().mean())
    return torch.stack(first), torch.stack(second)


def sees_the_answer(next_token, x, start):
    shares = [(next_token(x[:, : i + 1]) == x[:, i]).double().mean() for i in range(start, x.shape[1])]
    return torch.stack(shares), free(next_token, x, start)


def counts(next_token, x, start):
    return forced(next_token, x, start) * len(x), free(next_token, x, start) * len(x)


def whole_batch(next_token, x, start):
    one, two = forced(next_token, x, start), free(next_token, x, start)
    return (one == 1).double(), (two == 1).double()


def first_text(next_token, x, start):
    return forced(next_token, x[:1], start), free(next_token, x[:1], start)


COUNTED = "it is what one counts in the table"
GUESS = "a model that guesses costs log(words) a token"
ROW = "a number added to a whole row changes nothing"
CAUSAL = "causal attention, not shifted: the token and what stands before it"
CAUSAL_SHIFTED = "causal attention, shifted: only what stands before"
FULL_SHIFTED = "full attention, shifted: everything, except for token 0"
SQUARE = "it is a square of booleans"
VECTORS = "it gives two vectors, with one number for each token of the answer"
FREE = "free, the model goes on from its own mistake"
WRONG = {
    "next_conditional": {
        "later words not summed over": (
            lambda joint, prefix: normal(joint[tuple(prefix)]), "it gives one number for each word",
        ),
        "one number for all": (
            lambda joint, prefix: joint[tuple(prefix)].sum(), "the axis of the next word is left",
        ),
        "sum over dim=()": (sums_over_no_axis, "the axis of the next word is left"),
        "indexed with a list": (indexed_with_a_list, "it takes the prefix as a list"),
        "a list": (lambda joint, prefix: next_loop(joint, prefix).tolist(), "it gives a tensor"),
        "not divided": (lambda joint, prefix: rest(joint[tuple(prefix)]).sum(1), "it sums to 1"),
        "divided by the whole table": (
            lambda joint, prefix: rest(joint[tuple(prefix)]).sum(1) / joint.sum(), "it sums to 1",
        ),
        "in-place change": (next_in_place, "the table is not changed"),
        "maximum instead of sum": (
            lambda joint, prefix: normal(rest(joint[tuple(prefix)]).amax(1)), COUNTED,
        ),
        "later words fixed": (lambda joint, prefix: normal(rest(joint[tuple(prefix)])[:, 0]), COUNTED),
        "prefix ignored": (
            lambda joint, prefix: normal(rest(joint, len(prefix)).sum(1)), COUNTED,
        ),
        "only the last word of the prefix": (
            lambda joint, prefix: normal(
                rest(seen_part(joint, {len(prefix) - 1: prefix[-1]} if prefix else {}), len(prefix)).sum(1)
            ), COUNTED,
        ),
        "softmax instead of dividing": (
            lambda joint, prefix: rest(joint[tuple(prefix)]).sum(1).softmax(0), COUNTED,
        ),
        "prefix at the end": (
            lambda joint, prefix: normal(rest(joint.permute(*reversed(range(joint.ndim)))[tuple(prefix)]).sum(1)),
            COUNTED,
        ),
        "three tokens only": (three_tokens, "it works for longer sequences too"),
    },
    "any_conditional": {
        "hidden words not summed over": (
            lambda joint, seen, i: normal(seen_part(joint, seen).squeeze()), "it gives one number for each word",
        ),
        "a list": (lambda joint, seen, i: by_index(joint, seen, i).tolist(), "it gives a tensor"),
        "not divided": (lambda joint, seen, i: rest(seen_part(joint, seen), i).sum(1), "it sums to 1"),
        "the condition the wrong way round": (wrong_way_round, "it sums to 1"),
        "in-place change": (any_in_place, "neither the table nor seen is changed"),
        "seen emptied": (empties_seen, "neither the table nor seen is changed"),
        "axes that move": (axes_moved, "words before i count, together"),
        "each seen word on its own": (each_on_its_own, "words before i count, together"),
        "neighbours only": (neighbours_only, "words before i count, together"),
        "only what stands after": (after_only, "words before i count, together"),
        "only what stands before": (before_only, "words after i count as well"),
        "maximum instead of sum": (
            lambda joint, seen, i: normal(rest(seen_part(joint, seen), i).amax(1)),
            "what is neither seen nor asked for is summed over",
        ),
        "hidden words fixed": (
            lambda joint, seen, i: normal(rest(seen_part(joint, seen), i)[:, 0]),
            "what is neither seen nor asked for is summed over",
        ),
    },
    "sequence_nll": {
        "one number for all": (
            lambda raw, x, start: nll(raw, x, start).sum(), "it gives one number for each sequence",
        ),
        "a list": (lambda raw, x, start: nll_loop(raw, x, start).tolist(), "it gives a tensor"),
        "one for each token": (nll, "it gives one number for each sequence"),
        "no softmax": (
            lambda raw, x, start: -picked(raw[:, start - 1 : -1], x[:, start:]).sum(1), ROW,
        ),
        "softmax over positions": (softmax_over(1), ROW),
        "softmax over the batch": (softmax_over(0), ROW),
        "mean instead of sum": (lambda raw, x, start: nll(raw, x, start).mean(1), GUESS),
        "sign": (lambda raw, x, start: -nll(raw, x, start).sum(1), GUESS),
        "in bits": (lambda raw, x, start: nll(raw, x, start).sum(1) / 0.6931, GUESS),
        "no logarithm": (lambda raw, x, start: -(-nll(raw, x, start)).exp().sum(1), GUESS),
        "the last token left out": (lambda raw, x, start: nll(raw, x, start)[:, :-1].sum(1), GUESS),
        "not shifted": (unshifted, "row i scores token i + 1"),
        "shifted the other way": (shifted_the_other_way, "row i scores token i + 1"),
        "the prompt counted": (lambda raw, x, start: nll(raw, x, 1).sum(1), "the prompt costs nothing"),
        "one token of the prompt counted": (
            lambda raw, x, start: nll(raw, x, max(1, start - 1)).sum(1), "the prompt costs nothing",
        ),
        "the best token instead of x": (
            lambda raw, x, start: -raw.log_softmax(-1)[:, start - 1 : -1].amax(-1).sum(1), "it is what a loop gives",
        ),
        "logarithm of the softmax": (
            lambda raw, x, start: -picked(raw.softmax(-1).log()[:, start - 1 : -1], x[:, start:]).sum(1),
            "large scores do no harm",
        ),
    },
    "can_depend": {
        "numbers": (lambda length, causal, shifted: depend(length, causal, shifted).float(), SQUARE),
        "zeros and -inf": (
            lambda length, causal, shifted: torch.zeros(length, length).masked_fill(
                ~depend(length, causal, shifted), -torch.inf
            ), SQUARE,
        ),
        "always causal": (
            lambda length, causal, shifted: depend(length, True, shifted), "full attention, not shifted: everything",
        ),
        "causal turned round": (
            lambda length, causal, shifted: depend(length, not causal, shifted),
            "full attention, not shifted: everything",
        ),
        "rows and columns swapped": (upper, CAUSAL),
        "never the token itself": (never_itself, CAUSAL),
        "the shift ignored": (lambda length, causal, shifted: depend(length, causal, False), CAUSAL_SHIFTED),
        "shifted the other way": (shifted_up, CAUSAL_SHIFTED),
        "the first row wraps round": (wraps, CAUSAL_SHIFTED),
        "the first column cleared": (first_column, CAUSAL_SHIFTED),
        "the shift for causal attention only": (
            lambda length, causal, shifted: depend(length, causal, shifted and causal), FULL_SHIFTED,
        ),
        "an MDM that cannot see what it predicts": (mdm_without_itself, FULL_SHIFTED),
    },
    "forced_and_free": {
        "averaged over tokens": (
            lambda f, x, start: (forced(f, x, start).mean(), free(f, x, start).mean()), VECTORS,
        ),
        "one of the two": (lambda f, x, start: forced(f, x, start), VECTORS),
        "the prompt counted": (lambda f, x, start: (forced(f, x, 1), free(f, x, 1)), VECTORS),
        "written = x": (alias, "x is not changed"),
        "off by one: the answer in view": (sees_the_answer, "a model that is always right is right both ways"),
        "counts instead of shares": (counts, "a model that is always right is right both ways"),
        "swapped": (
            lambda f, x, start: (free(f, x, start), forced(f, x, start)), "forced, one mistake stays one mistake",
        ),
        "free both times": (
            lambda f, x, start: (free(f, x, start), free(f, x, start)), "forced, one mistake stays one mistake",
        ),
        "forced both times": (lambda f, x, start: (forced(f, x, start), forced(f, x, start)), FREE),
        "the product of forced accuracies": (
            lambda f, x, start: (forced(f, x, start), forced(f, x, start).cumprod(0)),
            "free, a token that needs none of the wrong ones is right again",
        ),
        "right so far": (
            lambda f, x, start: (
                forced(f, x, start), (write(f, x, start) == x)[:, start:].double().cumprod(1).mean(0),
            ),
            "free, a token that needs none of the wrong ones is right again",
        ),
        "all texts or none": (whole_batch, "they are shares of the batch"),
        "the first text only": (first_text, "they are shares of the batch"),
    },
}  # fmt: skip

RIGHT = {
    "next_conditional": {"loop": next_loop, "ratio of two sums": next_by_ratio},
    "any_conditional": {
        "slices, one axis at a time": by_index,
        "zeros where it is not seen, in float": by_masking,
        "from the joint of seen and asked": lambda joint, seen, i: (
            torch.stack([seen_part(joint, {**seen, i: word}).sum() for word in range(joint.shape[i])])
            / seen_part(joint, seen).sum()
        ),
    },
    "sequence_nll": {"loop, in double": nll_loop, "cross_entropy": nll_cross_entropy},
    "can_depend": {"loop": depend_loop, "comparison": depend_by_comparison},
    "forced_and_free": {
        "writes first, compares afterwards": lambda f, x, start: (forced(f, x, start), free(f, x, start)),
        "a list, in float": lambda f, x, start: [forced(f, x, start).float(), free(f, x, start).float()],
    },
}
