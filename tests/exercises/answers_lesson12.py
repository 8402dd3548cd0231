"""Answers to the exercises of lesson 12: wrong ones, the mistakes that people make, and right ones done otherwise."""

from __future__ import annotations

import torch

from mdmcourse.lens import linear_cka


def edges(layers, heads, readers, own=True, logits=True, source=1):
    """With what people forget as switches."""
    total = 0
    for layer in range(layers):
        before = source + layer * (heads + 1)
        total += readers * before + before + (heads if own else 0)
    return total + (source + layers * (heads + 1) if logits else 0)


def edges_in_closed_form(layers, heads, kv_heads):
    readers, pairs = heads + 2 * kv_heads + 1, layers * (layers - 1) // 2
    return readers * (layers + (heads + 1) * pairs) + layers * heads + 1 + layers * (heads + 1)


def edges_listed(layers, heads, kv_heads):
    found = 0
    sources = [-1.0]  # when each writes: a head at l, an MLP at l + 1/2
    for layer in range(layers):
        found += sum(when < layer for when in sources) * (heads + 2 * kv_heads)
        sources += [float(layer)] * heads
        found += len(sources)
        sources.append(layer + 0.5)
    return found + len(sources)


def no_input(layers, heads, kv_heads):
    return edges(layers, heads, heads + 2 * kv_heads, source=0)


def heads_not_counted_below(layers, heads, kv_heads):
    return sum((heads + 2 * kv_heads + 1) * (1 + 2 * layer) + heads for layer in range(layers)) + 1 + 2 * layers


def by_row(rows, tokens, masked, flip=False, normal=True, everywhere=False, top=False):
    log_p = rows.log_softmax(dim=-1) if normal else rows
    batch, position = (torch.ones_like(masked) if everywhere else masked)[:, 1:].nonzero(as_tuple=True)
    token = tokens[batch, position + 1]
    if top:
        before, at = (log_p[batch, position + k].argmax(dim=-1) == token for k in (0, 1))
        return bool(before.double().mean() > at.double().mean())
    better = log_p[batch, position, token].mean() > log_p[batch, position + 1, token].mean()
    return bool(better) != flip


def row_after(rows, tokens, masked):
    log_p = rows.log_softmax(dim=-1)
    batch, position = masked[:, :-1].nonzero(as_tuple=True)
    token = tokens[batch, position]
    return bool(log_p[batch, position + 1, token].mean() > log_p[batch, position, token].mean())


def index_minus_one(rows, tokens, masked):
    log_p = rows.log_softmax(dim=-1)
    batch, position = masked.nonzero(as_tuple=True)
    token = tokens[batch, position]
    return bool(log_p[batch, position - 1, token].mean() > log_p[batch, position, token].mean())


def each_token_judged(rows, tokens, masked):
    log_p = rows.log_softmax(dim=-1)
    batch, position = masked[:, 1:].nonzero(as_tuple=True)
    token = tokens[batch, position + 1]
    return log_p[batch, position, token] > log_p[batch, position + 1, token]


def rolled_rows(rows, tokens, masked):
    log_p = rows.log_softmax(dim=-1)
    at = log_p.gather(-1, tokens[..., None])[..., 0]
    before = torch.cat([at.new_zeros(len(at), 1), log_p[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]], dim=1)
    where = masked.clone()
    where[:, 0] = False
    return (before[where] - at[where]).mean() > 0


def losses_compared(rows, tokens, masked):
    loss = torch.nn.functional.cross_entropy
    where = masked[:, 1:]
    return (loss(rows[:, :-1][where], tokens[:, 1:][where]) < loss(rows[:, 1:][where], tokens[:, 1:][where])).item()


def moved_mask(rows, tokens, masked):
    """The mask of a token is laid over the row of the same number, for the row before too."""
    log_p = rows.log_softmax(dim=-1)
    before = log_p[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0][masked[:, :-1]]
    at = log_p.gather(-1, tokens[..., None])[..., 0][masked]
    return bool(before.mean() > at.mean())


def two_scores(rows, tokens, masked):
    """Of all masked tokens but the first: log-probability by the row before and by their own."""
    at = rows.log_softmax(dim=-1).gather(-1, tokens[..., None])[..., 0]
    before = rows[:, :-1].log_softmax(dim=-1).gather(-1, tokens[:, 1:, None])[..., 0]
    return before, at[:, 1:], masked[:, 1:]


def mean_probability(rows, tokens, masked):
    before, at, where = two_scores(rows, tokens, masked)
    return bool(before[where].exp().mean() > at[where].exp().mean())


def majority(rows, tokens, masked):
    before, at, where = two_scores(rows, tokens, masked)
    return bool((before > at)[where].double().mean() > 0.5)


def mean_of_means(rows, tokens, masked):
    before, at, where = two_scores(rows, tokens, masked)
    each = [(before[n][where[n]] - at[n][where[n]]).mean() for n in range(len(rows)) if where[n].any()]
    return bool(torch.stack(each).mean() > 0)


def filled_in(value):
    def answer(rows, tokens, masked):
        """With `value` as the score of the first token by the row that it has not."""
        before, at, _ = two_scores(rows, tokens, masked)
        before = torch.cat([torch.full((len(rows), 1), value), before], dim=1)
        first = rows.log_softmax(dim=-1)[:, :1].gather(-1, tokens[:, :1, None])[..., 0]
        at = torch.cat([first, at], dim=1)
        return bool(before[masked].mean() > at[masked].mean())

    return answer


def columns_of(read, tokens, other):
    before = read(tokens)
    found = []
    for j in range(tokens.shape[1]):
        changed = tokens.clone()
        changed[0, j] = other
        found.append((read(changed) != before)[0].any(dim=-1))
    return found


def by(changed):
    def answer(read, tokens, other):
        before, found = read(tokens), []
        for j in range(tokens.shape[1]):
            now = tokens.clone()
            now[0, j] = other
            found.append(changed(read(now), before)[0])
        return torch.stack(found, dim=1)

    return answer


def transposed(read, tokens, other):
    return torch.stack(columns_of(read, tokens, other))


def upside_down(read, tokens, other):
    return ~torch.stack(columns_of(read, tokens, other), dim=1)


def not_put_back(read, tokens, other):
    before, changed, found = read(tokens), tokens.clone(), []
    for j in range(tokens.shape[1]):
        changed[0, j] = other
        found.append((read(changed) != before)[0].any(dim=-1))
    return torch.stack(found, dim=1)


def in_place(read, tokens, other):
    before, found = read(tokens), []
    for j in range(tokens.shape[1]):
        kept = int(tokens[0, j])
        tokens[0, j] = other
        found.append((read(tokens) != before)[0].any(dim=-1))
        tokens[0, j] = kept if j else other
    return torch.stack(found, dim=1)


def only_to_the_left(read, tokens, other):
    return torch.stack(columns_of(read, tokens, other), dim=1).tril()


def supposes_a_pattern(read, tokens, other):
    n = tokens.shape[1]
    sees = torch.stack(columns_of(read, tokens, other), dim=1)
    if sees[0, -1]:
        return torch.ones(n, n, dtype=torch.bool)
    if sees[0, 1]:
        block = torch.arange(n) // 2
        return block[:, None] >= block[None, :]
    return torch.ones(n, n, dtype=torch.bool).tril()


def with_tolerance(read, tokens, other):
    before = read(tokens)
    sees = torch.zeros(tokens.shape[1], tokens.shape[1], dtype=torch.bool)
    for j in range(tokens.shape[1]):
        changed = tokens.clone()
        changed[0, j] = other
        sees[:, j] = (read(changed) - before)[0].abs().amax(dim=-1) > 1e-4
    return sees


def in_one_batch_row_by_row(read, tokens, other):
    n = tokens.shape[1]
    before, sees = read(tokens)[0], torch.zeros(n, n, dtype=torch.bool)
    for j in range(n):
        after = read(torch.where(torch.arange(n) == j, other, tokens))[0]
        for i in range(n):
            sees[i, j] = not torch.equal(after[i], before[i])
    return sees


def shares(x, centre=True, power=2, divide=True):
    c = x - x.mean(dim=0) if centre else x
    found = c.norm(dim=1) ** power
    return found / found.sum() if divide else found


def share_of_dimensions(x):
    squares = (x - x.mean(dim=0)).square().sum(dim=0)
    return squares / squares.sum()


def whole_mean(x):
    c = (x - x.mean()).square().sum(dim=1)
    return c / c.sum()


def divided_by_the_largest(x):
    squares = (x - x.mean(dim=0)).square().sum(dim=1)
    return squares / squares.max()


def softmaxed(x):
    return (x - x.mean(dim=0)).square().sum(dim=1).softmax(dim=0)


def centred_within_tokens(x):
    squares = (x - x.mean(dim=1, keepdim=True)).square().sum(dim=1)
    return squares / squares.sum()


def centred_in_place(x):
    x -= x.mean(dim=0)
    squares = x.square().sum(dim=1)
    return squares / squares.sum()


def by_gram(x):
    c = x - x.mean(dim=0)
    return (c @ c.T).diagonal() / c.square().sum()


def kept(x, times, middle=torch.median):
    length = x.norm(dim=1)
    return length <= times * middle(length)


def giants_of_x_only(x, y, times):
    keep = kept(x, times)
    return linear_cka(x[keep], y[keep])


def giants_of_y_only(x, y, times):
    keep = kept(y, times)
    return linear_cka(x[keep], y[keep])


def only_giants_of_both(x, y, times):
    keep = kept(x, times) | kept(y, times)
    return linear_cka(x[keep], y[keep])


def nothing_left_out(x, y, times):
    return linear_cka(x, y)


def held_against_the_mean(x, y, times):
    keep = kept(x, times, torch.mean) & kept(y, times, torch.mean)
    return linear_cka(x[keep], y[keep])


def one_median_for_both(x, y, times):
    middle = torch.cat([x, y]).norm(dim=1).median()
    keep = (x.norm(dim=1) <= times * middle) & (y.norm(dim=1) <= times * middle)
    return linear_cka(x[keep], y[keep])


def unit_lengths(x, y, times):
    return linear_cka(*(each / each.norm(dim=1, keepdim=True) for each in (x, y)))


def set_to_zero(x, y, times):
    keep = kept(x, times) & kept(y, times)
    x[~keep], y[~keep] = 0, 0
    return linear_cka(x[keep], y[keep])


def kept_by(passes):
    def answer(x, y, times):
        keep = passes(x, times) & passes(y, times)
        return linear_cka(x[keep], y[keep])

    return answer


def zeroed_in_copies(x, y, times):
    keep = (kept(x, times) & kept(y, times))[:, None]
    return linear_cka(x * keep, y * keep)


def which_are_kept(x, y, times):
    return kept(x, times) & kept(y, times)


def by_indices(x, y, times):
    lengths = torch.stack([x.norm(dim=1), y.norm(dim=1)])
    giant = (lengths > times * lengths.median(dim=1, keepdim=True).values).any(dim=0)
    index = (~giant).nonzero()[:, 0]
    return torch.tensor(linear_cka(x[index], y[index]))


WRONG = {
    "edges_of": {
        "no edges to the logits": (lambda n, h, kv: edges(n, h, h + 2 * kv, logits=False), "one layer, one head"),
        "no edges from the input": (no_input, "one layer, one head"),
        "the MLP skips its own layer": (lambda n, h, kv: edges(n, h, h + 2 * kv, own=False), "one layer, one head"),
        "one reader for q, k and v": (lambda n, h, kv: edges(n, h, h), "one layer, one head"),
        "heads as one source": (lambda n, h, kv: edges(n, 1, 3), "one layer, several heads"),
        "one head a layer below": (heads_not_counted_below, "one layer, several heads"),
        "only the layer directly below": (
            lambda n, h, kv: edges(1, h, h + 2 * kv) + (n - 1) * ((h + 2 * kv + 1) * (h + 2) + h + h + 1),
            "several layers",
        ),
        "a float": (lambda n, h, kv: edges(n, h, h + 2 * kv) / 1, "it is a whole number"),
        "only one layer": (lambda n, h, kv: edges(1, h, h + 2 * kv), "several layers"),
        "keys and values for every head": (lambda n, h, kv: edges(n, h, 3 * h), "shared keys and values"),
        "shared queries too": (lambda n, h, kv: edges(n, h, 3 * kv), "shared keys and values"),
    },
    "scores_next": {
        "the other way round": (lambda *given: by_row(*given, flip=True), "clear cases"),
        "always shifted": (lambda rows, tokens, masked: True, "clear cases"),
        "the row after": (row_after, "clear cases"),
        "all tokens": (lambda *given: by_row(*given, everywhere=True), "only masked tokens count"),
        "the last row for the first token": (index_minus_one, "a mask at the first place does no harm"),
        "raw logits": (lambda *given: by_row(*given, normal=False), "logits are normalised"),
        "accuracy": (lambda *given: by_row(*given, top=True), "it looks at probabilities, not only at the top"),
        "the mask not moved": (moved_mask, "what is looked up is the token that was masked"),
        "never, for the first token": (filled_in(-torch.inf), "a mask at the first place does no harm"),
        "certain, for the first token": (filled_in(0.0), "a mask at the first place does no harm"),
        "the mean probability": (mean_probability, "the mean is of logarithms"),
        "by majority": (majority, "it counts by how much"),
        "a mean of means": (mean_of_means, "every masked token counts alike"),
        "a judgement for each token": (each_token_judged, "it gives one truth value"),
    },
    "who_sees": {
        "transposed": (transposed, "causal attention"),
        "what stays the same": (upside_down, "causal attention"),
        "a pattern without asking": (
            lambda read, tokens, other: torch.ones(tokens.shape[1], tokens.shape[1]).tril().bool(),
            "it asks, and gives [pos, pos]",
        ),
        "a list": (columns_of, "it asks, and gives [pos, pos]"),
        "numpy": (lambda *given: transposed(*given).T.numpy(), "it asks, and gives [pos, pos]"),
        "with the batch": (lambda *given: transposed(*given).T[None], "it asks, and gives [pos, pos]"),
        "all of a row": (by(lambda a, b: (a != b).all(dim=-1)), "a row has changed if one of its numbers has"),
        "another word on top": (
            by(lambda a, b: a.argmax(dim=-1) != b.argmax(dim=-1)),
            "a row has changed if one of its numbers has",
        ),
        "not put back": (not_put_back, "one token is changed at a time, and put back"),
        "in the caller's tokens": (in_place, "one token is changed at a time, and put back"),
        "only to the left": (only_to_the_left, "full and block-causal attention"),
        "supposes one of three patterns": (supposes_a_pattern, "any pattern at all"),
        "with a tolerance": (with_tolerance, "faint influences count"),
    },
    "shares_of_tokens": {
        "of dimensions": (share_of_dimensions, "one number for each token"),
        "not divided": (lambda x: shares(x, divide=False), "the shares add up to 1"),
        "divided by the largest": (divided_by_the_largest, "the shares add up to 1"),
        "not centred": (lambda x: shares(x, centre=False), "a number added everywhere changes nothing"),
        "centred within tokens": (centred_within_tokens, "a vector added to all tokens changes nothing"),
        "in place": (centred_in_place, "x is not changed"),
        "one mean for all dimensions": (whole_mean, "a vector added to all tokens changes nothing"),
        "not squared": (lambda x: shares(x, power=1), "distances count squared"),
        "a softmax": (softmaxed, "distances count squared"),
    },
    "cka_without_giants": {
        "giants of x only": (giants_of_x_only, "a giant in either is left out of both"),
        "giants of y only": (giants_of_y_only, "a giant in either is left out of both"),
        "only giants of both": (only_giants_of_both, "a giant in either is left out of both"),
        "nothing left out": (nothing_left_out, "a giant in either is left out of both"),
        "one median for both": (one_median_for_both, "each model has a median of its own"),
        "the mean": (held_against_the_mean, "lengths are held against the median, not the mean"),
        "unit lengths": (unit_lengths, "without giants it is the CKA"),
        "zeros in their place": (zeroed_in_copies, "giants are left out, not overwritten"),
        "squares of lengths": (
            kept_by(lambda x, times: x.square().sum(dim=1) <= times * x.square().sum(dim=1).median()),
            "the limit is `times` medians",
        ),
        "always ten": (kept_by(lambda x, times: kept(x, 10.0)), "the limit is `times` medians"),
        "always five": (kept_by(lambda x, times: kept(x, 5.0)), "the limit is `times` medians"),
        "lengths of what is centred": (
            kept_by(lambda x, times: kept(x - x.mean(dim=0), times)),
            "lengths are those of the vectors as they are",
        ),
        "just as long is too long": (
            kept_by(lambda x, times: x.norm(dim=1) < times * x.norm(dim=1).median()),
            "a token just as long as the limit stays",
        ),
        "overwritten": (set_to_zero, "nothing is changed in place"),
        "which tokens are kept": (which_are_kept, "it gives one number"),
    },
}  # fmt: skip
RIGHT = {
    "edges_of": {"a closed form": edges_in_closed_form, "a list of sources": edges_listed},
    "scores_next": {"differences": rolled_rows, "cross-entropies": losses_compared},
    "who_sees": {
        "entry by entry": in_one_batch_row_by_row,
        "ones and zeros": lambda *given: in_one_batch_row_by_row(*given).int(),
    },
    "shares_of_tokens": {"from the Gram matrix": by_gram},
    "cka_without_giants": {"indices, both at once": by_indices},
}
