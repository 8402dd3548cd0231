"""Answers to the exercises of lesson 04: wrong ones, the mistakes that people make, and right ones done otherwise."""

from __future__ import annotations

import torch

from mdmcourse.exercises.answers import lesson04 as own


def scores(probabilities, chosen, order, **instead):
    """The course's scores but for some orders."""
    return instead[order]() if order in instead else own.certainty(probabilities, chosen, order)


def of_maximum(p, c, order):
    return scores(p, c, order, confidence=lambda: p.max(dim=-1).values)


def per_word(p, c, order):
    return scores(p, c, order, entropy=lambda: p * p.log())


def highest_entropy(p, c, order):
    return scores(p, c, order, entropy=lambda: torch.special.entr(p).sum(-1))


def nan_entropy(p, c, order):
    return scores(p, c, order, entropy=lambda: (p * p.log()).sum(-1))


def margin_of_chosen(p, c, order):
    return scores(p, c, order, margin=lambda: p.gather(-1, c[:, None])[:, 0] - p.topk(2).values[:, 1])


def margin_to_worst(p, c, order):
    return scores(p, c, order, margin=lambda: p.max(-1).values - p.min(-1).values)


def margin_as_quotient(p, c, order):
    return scores(p, c, order, margin=lambda: p.topk(2).values[:, 0] / p.topk(2).values[:, 1])


def seeded_order(p, c, order):
    return scores(p, c, order, random=lambda: torch.rand(len(p), generator=torch.Generator().manual_seed(0)))


def left_to_right_for_random(p, c, order):
    return scores(p, c, order, random=lambda: -torch.arange(len(p)).float())


def certainty_in_place(p, c, order):
    found = own.certainty(p, c, order)
    p /= p.max()
    return found


def certainty_loop(p, c, order):
    rows = []
    for row, token in zip(p.double(), c, strict=True):
        best = row.sort(descending=True).values
        rows.append(
            {
                "random": torch.rand(()).double(),
                "confidence": row[token].log(),
                "margin": best[0] - best[1],
                "entropy": (row[row > 0] * row[row > 0].log2()).sum(),
            }[order]
        )
    return torch.stack(rows)


def pick_with_topk(score, allowed, count):
    best = score.masked_fill(~allowed, -torch.inf).topk(min(count, len(score))).indices
    return torch.zeros_like(allowed).scatter(0, best, True)


def pick_by_product(score, allowed, count):
    order = (score * allowed).argsort(descending=True, stable=True)
    return torch.zeros_like(allowed).scatter(0, order[:count], True) & allowed


def pick_filled(value):
    """Forbidden positions get a number that beats negative scores."""

    def filled(score, allowed, count):
        order = score.masked_fill(~allowed, value).argsort(descending=True, stable=True)
        return torch.zeros_like(allowed).scatter(0, order[:count], True) & allowed

    return filled


def pick_single_argsort(score, allowed, count):
    return (score.masked_fill(~allowed, -torch.inf).argsort(descending=True, stable=True) < count) & allowed


def pick_with_topk_allowed(score, allowed, count):
    return pick_with_topk(score, allowed, count) & allowed


def pick_lowest(score, allowed, count):
    return own.pick(-score, allowed, count)


def pick_threshold(score, allowed, count):
    least = score.masked_fill(~allowed, -torch.inf).sort(descending=True).values[max(count - 1, 0)]
    return allowed & (score >= least)


def pick_before_allowed(score, allowed, count):
    order = score.argsort(descending=True, stable=True)
    return torch.zeros_like(allowed).scatter(0, order[:count], True) & allowed


def pick_nan(score, allowed, count):
    low = score[allowed].min() - 1
    order = (score * allowed + low * ~allowed).argsort(descending=True, stable=True)
    return torch.zeros_like(allowed).scatter(0, order[:count], True) & allowed


def pick_rightmost(score, allowed, count):
    return own.pick(score.flip(0), allowed.flip(0), count).flip(0)


def pick_in_place(score, allowed, count):
    score[~allowed] = -torch.inf
    return own.pick(score, allowed, count)


def pick_loop(score, allowed, count):
    left = [i for i in range(len(score)) if allowed[i]]
    picked = torch.zeros(len(score), dtype=torch.bool)
    for _ in range(count):
        if left:
            best = max(left, key=lambda i: (float(score[i]), -i))
            left.remove(best)
            picked[best] = True
    return picked


def sampler(
    *, divide=lambda a, left, budget: -(-a // left), copy=True, clone_start=True, by=2, write=0, whole=False,
    hide="older", after_last=False, evenly=True, note=True, ties=pick_loop, among="hidden",
):  # fmt: skip
    """The loop, with one thing done otherwise."""

    def unmask(look, tokens, mask_id, passes, remask=0, block_length=None):
        now, tokens_at_start = tokens.clone() if clone_start else tokens, tokens.clone()
        states, sure = [now.clone()], torch.zeros(len(tokens))
        to_write = (tokens == mask_id).nonzero()[:, 0].tolist()
        size = block_length or len(to_write)
        blocks = [to_write[i : i + size] for i in range(0, len(to_write), size)]
        for number, block in enumerate(blocks):
            budget = len(range(number, passes, len(blocks)))
            for left in range(budget, 0, -1):
                inside = torch.tensor([i in (to_write if whole else block) for i in range(len(tokens))])
                hidden, older = inside & (now == mask_id), inside & (now != mask_id)
                if not hidden.any():
                    break
                now = now.clone() if copy else now
                said = look(now.clone())
                again = min(remask, len(block) - 1)
                to_come = again * max(0, left - 1 - (left == budget)) if evenly else 0
                places = {"hidden": hidden, "inside": inside, "all": torch.ones_like(hidden)}[among]
                keep = ties(said[by], places, divide(int(hidden.sum()) + to_come, left, budget))
                now[keep] = said[write][keep].to(now.dtype)
                sure[keep if note else inside] = said[1][keep if note else inside]
                if left > 1 or after_last:
                    can = {"older": older, "any": inside & (now != mask_id), "all": (now != mask_id) & ~keep}
                    can["blocks"] = can["all"] & (tokens_at_start == mask_id)
                    now[ties(-sure, can[hide], again)] = mask_id
                states.append(now)
        return states

    return unmask


def surest_hidden(look, tokens, mask_id, passes, remask=0, block_length=None):
    def turned(now):
        chosen, confidence, score = look(now)
        return chosen, -confidence, score

    return own.unmask(turned, tokens, mask_id, passes, remask, block_length)


def only_the_end(look, tokens, mask_id, passes, remask=0, block_length=None):
    return own.unmask(look, tokens, mask_id, passes, remask, block_length)[-1]


def ignores_blocks(look, tokens, mask_id, passes, remask=0, block_length=None):
    return own.unmask(look, tokens, mask_id, passes, remask)


def writes_over_the_prompt(look, tokens, mask_id, passes, remask=0, block_length=None):
    def also(now):
        chosen, confidence, score = look(now)
        first[:] = [chosen[0]]
        return chosen, confidence, score

    first: list = []
    states = own.unmask(also, tokens, mask_id, passes, remask, block_length)
    states[-1][0] = first[0]
    return states


def marginals(joint, groups):
    return own.written_by(joint, [[i for group in groups for i in group]])


def one_by_one(joint, groups):
    return own.written_by(joint, [[i] for group in groups for i in group])


def last_group_only(joint, groups):
    """Each group sees the one before it, and nothing older."""
    written, before = torch.ones_like(joint), []
    for group in groups:
        for i in group:
            unknown = [k for k in range(joint.ndim) if k not in (*before, i)]
            together = joint.sum(dim=unknown, keepdim=True) if unknown else joint
            written = written * together / together.sum(dim=i, keepdim=True)
        before = group
    return written


def together_in_a_group(joint, groups):
    """Each group is drawn from its joint conditional: the chain rule, for any groups."""
    return joint.clone()


def not_divided(joint, groups):
    written, seen = torch.ones_like(joint), []
    for group in groups:
        for i in group:
            unknown = [k for k in range(joint.ndim) if k not in (*seen, i)]
            written = written * (joint.sum(dim=unknown, keepdim=True) if unknown else joint)
        seen = seen + group
    return written


def without_where(joint, groups, fill=None):
    written, seen = torch.ones_like(joint), []
    for group in groups:
        for i in group:
            unknown = [k for k in range(joint.ndim) if k not in (*seen, i)]
            together = joint.sum(dim=unknown, keepdim=True) if unknown else joint
            conditional = together / together.sum(dim=i, keepdim=True)
            written = written * (conditional if fill is None else conditional.nan_to_num(fill))
        seen = seen + group
    return written


def divided_in_the_end(joint, groups):
    """Nothing where nothing is possible, and the rest made larger."""
    found = without_where(joint, groups, 0.0)
    return found / found.sum()


def uniform_over_the_first_axis(joint, groups):
    written, seen = torch.ones_like(joint), []
    for group in groups:
        for i in group:
            unknown = [k for k in range(joint.ndim) if k not in (*seen, i)]
            together = joint.sum(dim=unknown, keepdim=True) if unknown else joint
            before = together.sum(dim=i, keepdim=True)
            written = written * torch.where(before > 0, together / before, 1 / joint.shape[0])
        seen = seen + group
    return written


def mixed_up(joint, groups):
    """A list of axes, not a table."""
    return own.written_by(joint, groups).reshape(-1)


def spoils_groups(joint, groups):
    found = own.written_by(joint, groups)
    groups.pop()
    return found


def written_by_entries(joint, groups):
    """Entry by entry."""
    import itertools

    found = torch.zeros_like(joint)
    for x in itertools.product(*map(range, joint.shape)):
        p, part, axes = 1.0, joint, list(range(joint.ndim))
        for group in groups:
            total = part.sum()
            for i in group:
                row = part.movedim(axes.index(i), 0).reshape(joint.shape[i], -1).sum(dim=1)
                p *= float(row[x[i]] / total) if total > 0 else 1 / joint.shape[i]
            for i in group:
                part = part.select(axes.index(i), x[i])
                axes.remove(i)
        found[x] = p
    return found


def by_rank(key, round_up=True):
    def choose(p, hidden, left):
        count = -(-int(hidden.sum()) // left) if round_up else max(1, int(hidden.sum()) // left)
        return own.pick(key(p), hidden, count)

    return choose


def minus_entropy(p):
    return -torch.special.entr(p).sum(-1)


def only_the_sure(p, hidden, left):
    return hidden & (p.max(-1).values > 0.9)


def sure_or_one(p, hidden, left):
    sure = hidden & (p.max(-1).values > 0.9)
    return sure if sure.any() else own.pick(p.max(-1).values, hidden, 1)


def as_indices(p, hidden, left):
    return own.choose_now(p, hidden, left).nonzero()[:, 0]


def written_too(p, hidden, left):
    return own.choose_now(p, torch.ones_like(hidden), left)


def drawn(p, hidden, left):
    return own.pick(torch.rand(len(hidden)), hidden, -(-int(hidden.sum()) // left))


def sure_words_first(p, hidden, left):
    """By the best word's probability instead of the entropy."""
    best = p.max(-1).values
    sure = hidden & (best > 0.93)
    unsure = hidden & ~sure
    return sure | own.pick(best, unsure, -(-int(unsure.sum()) // left))


def up_to_a_nat(p, hidden, left):
    """Sorted by entropy, as many as have little to say to each other: the sum of all but the largest below a bound.
    Where the budget forces more, the unsure ones evenly (Ben-Hamu and others, arXiv 2505.24857, bound it so)."""
    entropy = torch.special.entr(p).sum(-1).masked_fill(~hidden, torch.inf)
    order = entropy.argsort()[: int(hidden.sum())]
    ordered = entropy[order]
    fits = ordered.cumsum(0) - ordered <= 0.4
    unsure = int((ordered > 0.25).sum())
    sure = len(ordered) - unsure
    count = max(int(fits.sum()) if left > 1 else 0, sure + -(-unsure // left))
    return torch.zeros_like(hidden).scatter(0, order[:count], True)


SHAPE = "it gives True or False for each position"
BUDGET = "the budget is kept, and no mask is left"
ENOUGH, IMPOSSIBLE = "it takes as many as it should", "what is impossible in the table does no harm"
HIDES = "remasking hides the least sure of the tokens written before this pass"
WRONG = {
    "certainty": {
        "a list": (lambda p, c, order: own.certainty(p, c, order).tolist(), "it gives a tensor"),
        "an array": (lambda p, c, order: own.certainty(p, c, order).numpy(), "it gives a tensor"),
        "one score a word": (per_word, "it gives one number for each position"),
        "confidence of the best word": (of_maximum, "confidence looks at the token that was chosen"),
        "margin of the chosen token": (margin_of_chosen, "margin is how far the best word is ahead of the second"),
        "margin to the worst": (margin_to_worst, "margin is how far the best word is ahead of the second"),
        "margin as a quotient": (margin_as_quotient, "margin is how far the best word is ahead of the second"),
        "highest entropy first": (highest_entropy, "the lowest entropy comes first"),
        "0 log 0": (nan_entropy, "probabilities of 0 do no harm"),
        "a fixed seed": (seeded_order, "random is another order each time"),
        "left to right for random": (left_to_right_for_random, "random is another order each time"),
        "in-place change": (certainty_in_place, "its input is not changed"),
    },
    "pick": {
        "indices": (lambda score, allowed, count: own.pick(score, allowed, count).nonzero()[:, 0], SHAPE),
        "numbers": (lambda score, allowed, count: own.pick(score, allowed, count).float(), SHAPE),
        "not only allowed ones": (
            lambda score, allowed, count: own.pick(score, torch.ones_like(allowed), count),
            "only allowed positions are taken",
        ),
        "topk, and more than there are": (pick_with_topk, "only allowed positions are taken"),
        "chosen before what is allowed": (pick_before_allowed, ENOUGH),
        "times allowed": (pick_by_product, ENOUGH),
        "filled with 0": (pick_filled(0.0), ENOUGH),
        "filled with -1": (pick_filled(-1.0), ENOUGH),
        "argsort for ranks": (pick_single_argsort, ENOUGH),
        "topk, of the allowed ones": (pick_with_topk_allowed, "of equal scores the leftmost are taken"),
        "a threshold": (pick_threshold, "it takes no more than count"),
        "the lowest": (pick_lowest, "the highest scores are taken, negative ones too"),
        "NaN": (pick_nan, "NaN where nothing may be taken does no harm"),
        "the rightmost of equals": (pick_rightmost, "of equal scores the leftmost are taken"),
        "in-place change": (pick_in_place, "its input is not changed"),
    },
    "unmask": {
        "only the end": (only_the_end, "it gives the states, and each pass looks at the last one"),
        "one tensor for all states": (sampler(copy=False), "it gives the states, and each pass looks at the last one"),
        "the caller's tokens changed": (
            sampler(clone_start=False, copy=False), "it gives the states, and each pass looks at the last one",
        ),
        "rounded down": (sampler(divide=lambda a, left, budget: a // left if left > 1 else a - 1), BUDGET),
        "the same number each pass, rounded down": (sampler(divide=lambda a, left, budget: 8 // budget), BUDGET),
        "chooses among all positions": (sampler(among="all"), "the prompt stays as it is"),
        "chooses among the whole block": (
            sampler(among="inside"), "without remasking a pass changes nothing but masks",
        ),
        "hides after the last pass": (sampler(after_last=True), HIDES),
        "hides in finished blocks": (sampler(hide="blocks"), HIDES),
        "hides the prompt": (sampler(hide="all"), HIDES),
        "the prompt written over": (writes_over_the_prompt, "the prompt stays as it is"),
        "one a pass, the rest at the end": (
            sampler(divide=lambda a, left, budget: 1 if left > 1 else a), "each pass writes as many as are due",
        ),
        "by confidence, not by score": (
            sampler(by=1), "the highest scores are written, with the chosen tokens",
        ),
        "blocks not kept apart": (
            sampler(whole=True), "blocks are filled from left to right, each with its share of the passes",
        ),
        "no blocks": (ignores_blocks, "blocks are filled from left to right, each with its share of the passes"),
        "the surest hidden": (surest_hidden, HIDES),
        "hides what it has just written": (sampler(hide="any"), HIDES),
        "confidence noted for all": (sampler(note=False), HIDES),
        "what is hidden again does not count": (
            sampler(evenly=False), "with remasking, the work is spread evenly over the passes",
        ),
    },
    "written_by": {
        "a list": (mixed_up, "it gives a table of the same shape"),
        "not divided": (not_divided, "the table sums to 1"),
        "marginals whatever the groups": (marginals, "one position a pass gives the joint itself"),
        "the last group only": (last_group_only, "one position a pass gives the joint itself"),
        "one by one within a group": (one_by_one, "all in one pass gives the product of the marginals"),
        "the joint whatever the groups": (
            together_in_a_group, "all in one pass gives the product of the marginals",
        ),
        "0/0": (without_where, IMPOSSIBLE),
        "0/0 made 0, and divided by the sum": (divided_in_the_end, IMPOSSIBLE),
        "as many words everywhere as on the first axis": (uniform_over_the_first_axis, IMPOSSIBLE),
        "0/0 made 0": (
            lambda joint, groups: without_where(joint, groups, 0.0), "what is impossible in the table does no harm",
        ),
        "groups changed": (spoils_groups, "neither the table nor groups is changed"),
    },
    "choose_now": {
        "indices": (as_indices, "it gives True or False for each position"),
        "written positions too": (written_too, "it chooses masks, at least one"),
        "a threshold that nothing reaches": (only_the_sure, "it chooses masks, at least one"),
        "one a pass": (sure_or_one, "no mask is left when the budget is spent"),
        "rounded down": (
            by_rank(minus_entropy, round_up=False),
            "in the world of cities it is never further from the truth than random choice",
        ),
        "drawn": (drawn, "the same question gets the same answer"),
        "everything at once": (
            lambda p, hidden, left: hidden.clone(),
            "in the world of cities it is never further from the truth than random choice",
        ),
        "left to right": (
            by_rank(lambda p: -torch.arange(len(p)).float()),
            "in the world of cities it is never further from the truth than random choice",
        ),
        "highest entropy first": (
            by_rank(lambda p: -minus_entropy(p)),
            "in the world of cities it is never further from the truth than random choice",
        ),
        "lowest entropy first": (
            by_rank(minus_entropy), "in the world of echoes it is never further from the truth than random choice",
        ),
    },
}  # fmt: skip

RIGHT = {
    "certainty": {"loop, in double and in bits": certainty_loop},
    "pick": {"loop": pick_loop},
    "unmask": {"with lists": sampler()},
    "written_by": {"entry by entry": written_by_entries},
    "choose_now": {"by the best word": sure_words_first, "up to a bound": up_to_a_nat},
}
