"""Answers to the exercises of lesson 03: wrong ones, the mistakes that people make, and right ones done otherwise."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import torch

from mdmcourse.exercises.answers.lesson03 import attention_layer, noise_levels


def layer(
    split=lambda y, heads: y.unflatten(-1, (heads, -1)).transpose(1, 2),
    scale=lambda d, d_model: d**-0.5,
    mask=lambda scores: scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf),
    axis=-1,
    after=lambda attention: attention,
    apply=lambda x, w: x @ w.T,
    turn_q=True,
    turn_v=False,
    always=None,
    join=lambda z: z.transpose(1, 2).flatten(2),
    out=lambda z, wo: z @ wo.T,
):
    """A layer of attention with one thing done in another way."""

    def made(x, wq, wk, wv, wo, heads, rotate, causal):
        q, k, v = (split(apply(x, w), heads) for w in (wq, wk, wv))
        if turn_q:
            q, k = rotate(q), rotate(k)
        if turn_v:
            v = rotate(v)
        scores = q @ k.transpose(-1, -2) * scale(q.shape[-1], x.shape[-1])
        if causal if always is None else always:
            scores = mask(scores)
        attention = scores.softmax(dim=axis)
        if causal:
            attention = after(attention)
        return out(join(attention @ v), wo), attention

    return made


def output_only(x, wq, wk, wv, wo, heads, rotate, causal):
    return attention_layer(x, wq, wk, wv, wo, heads, rotate, causal)[0]


def by_einsum(x, wq, wk, wv, wo, heads, rotate, causal):
    batch, pos, width = x.shape
    project = [w.view(heads, width // heads, width) for w in (wq, wk, wv)]
    q, k, v = (torch.einsum("bpm,hdm->bhpd", x, w) for w in project)
    scores = torch.einsum("bhqd,bhkd->bhqk", rotate(q), rotate(k)) / math.sqrt(width // heads)
    visible = torch.ones(pos, pos).tril().bool() if causal else torch.ones(pos, pos).bool()
    weights = torch.where(visible, scores - scores.amax(dim=-1, keepdim=True), torch.tensor(-1e30)).exp()
    attention = weights / weights.sum(dim=-1, keepdim=True)
    z = torch.einsum("bhqk,bhkd->bqhd", attention, v).reshape(batch, pos, width)
    return torch.nn.functional.linear(z, wo), attention


def with_library(x, wq, wk, wv, wo, heads, rotate, causal):
    q, k, v = (torch.nn.functional.linear(x, w).unflatten(-1, (heads, -1)).transpose(1, 2) for w in (wq, wk, wv))
    q, k = rotate(q), rotate(k)
    z = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    bias = torch.full((x.shape[1], x.shape[1]), -torch.inf).triu(1) if causal else 0.0
    attention = (q @ k.mT / math.sqrt(q.shape[-1]) + bias).softmax(-1)
    return torch.nn.functional.linear(z.transpose(1, 2).flatten(2), wo), attention


def sorted_levels(batch, generator):
    return noise_levels(batch, generator).sort().values


def same_place(batch, generator):
    """Kingma and others: one random number, and steps of 1 / batch from there, round and round."""
    u = (torch.rand((), generator=generator) + torch.arange(batch) / batch) % 1
    return 0.001 + 0.999 * u


def middles(batch, generator):
    return 0.001 + 0.999 * (torch.randperm(batch, generator=generator) + 0.5) / batch


def forgets_the_generator(batch, generator):
    return 0.001 + 0.999 * (torch.randperm(batch) + torch.rand(batch)) / batch


def levels_by_loop(batch, generator):
    order = torch.randperm(batch, generator=generator).tolist()
    return torch.tensor([max(0.001, (j + float(torch.rand((), generator=generator))) / batch) for j in order])


def flipped_by_a_coin(batch, generator):
    """The slices in order, or all turned round."""
    order = torch.arange(batch)
    slices = order if torch.rand((), generator=generator) < 0.5 else order.flip(0)
    return 0.001 + 0.999 * (slices + torch.rand(batch, generator=generator)) / batch


def token_losses(logits, x):
    return -logits.log_softmax(-1).gather(-1, x[..., None])[..., 0]


def loss(
    value=token_losses,
    where=lambda masked, maskable: masked,
    weight=lambda t: 1 / t,
    divisor=lambda masked, maskable: maskable.sum(),
    select=lambda losses, chosen: losses.masked_fill(~chosen, 0),
    end=lambda total: total,
    obey=True,
):
    """A training loss with one thing done in another way."""

    def made(logits, x, masked, maskable, t, weighted=True):
        losses = select(value(logits, x), where(masked, maskable))
        if weighted or not obey:
            losses = losses * weight(t)[:, None]
        return end(losses.sum() / divisor(masked, maskable))

    return made


def loss_by_cross_entropy(logits, x, masked, maskable, t, weighted=True):
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), x, reduction="none")
    each = torch.where(masked, losses, 0).sum(dim=1)
    return (each / t if weighted else each).sum() / maskable.sum()


def loss_of_next(logits, x, masked, maskable, t, weighted=True):
    """As an ARM's rows are read: row i for token i + 1."""
    each = (token_losses(logits[:, :-1], x[:, 1:]).masked_fill(~masked[:, 1:], 0)).sum(dim=1)
    return (each / t if weighted else each).sum() / maskable.sum()


def loss_text_by_text(logits, x, masked, maskable, t, weighted=True):
    each = token_losses(logits, x).masked_fill(~masked, 0).sum(dim=1) / maskable.sum(dim=1)
    return (each / t if weighted else each).mean()


def loss_by_loop(logits, x, masked, maskable, t, weighted=True):
    total = logits[0, -1].sum() * 0 if not masked.any() else torch.zeros(())
    for n, i in masked.nonzero().tolist():
        total = total - logits[n, i].log_softmax(-1)[x[n, i]] / (t[n] if weighted else 1)
    return total / int(maskable.sum())


def entropy(columns):
    counts = Counter(map(tuple, columns.tolist())).values()
    return -sum(n / len(columns) * math.log(n / len(columns)) for n in counts)


def by_groups(
    texts, seen, i, mean=lambda sizes, each: sum(n * h for n, h in zip(sizes, each, strict=True)) / sum(sizes)
):
    """Groups of texts that look the same, and the entropy of x_i in each."""
    groups = {}
    for text in texts.tolist():
        groups.setdefault(tuple(text[j] for j in seen), []).append([text[i]])
    each = [entropy(torch.tensor(group)) for group in groups.values()]
    return mean([len(group) for group in groups.values()], each)


def appends_to_seen(texts, seen, i):
    before = entropy(texts[:, seen])
    seen.append(i)
    return entropy(texts[:, seen]) - before


def counts_kinds(texts, seen, i):
    """log of how many different tokens there are."""
    kinds = {}
    for text in texts.tolist():
        kinds.setdefault(tuple(text[j] for j in seen), set()).add(text[i])
    return sum(math.log(len(kinds[tuple(text[j] for j in seen)])) for text in texts.tolist()) / len(texts)


def most_frequent(texts, seen, i):
    groups = {}
    for text in texts.tolist():
        groups.setdefault(tuple(text[j] for j in seen), []).append(text[i])
    best = {key: max(Counter(group).values()) / len(group) for key, group in groups.items()}
    return -sum(math.log(best[tuple(text[j] for j in seen)]) for text in texts.tolist()) / len(texts)


def plan(
    seeds=lambda place, count: range(3),
    new=lambda base, changes: {**base, **changes},
    steps=lambda base, run, budget, runs: budget // runs // run["batch_size"],
    extra=lambda place: {},
    values_of=lambda values: values,
):
    """A list of runs with one thing done in another way."""

    def made(base, factor, values, budget):
        values, found = values_of(values), []
        count = sum(len(seeds(place, len(values))) for place in range(len(values)))
        for place, value in enumerate(values):
            for seed in seeds(place, len(values)):
                run = new(base, {factor: value, "seed": seed, **extra(place)})
                run["steps"] = steps(base, run, budget, count)
                found.append(run)
        return found

    return made


def in_place(base, changes):
    base.update(changes)
    return base


def one_dictionary(base, factor, values, budget):
    run, found = dict(base), []
    for value, seed in itertools.product(values, range(3)):
        run |= {factor: value, "seed": seed}
        found.append(run)
    return found


def by_product(base, factor, values, budget):
    seeds = [11, 22, 33, 44, 55]
    each = budget / (len(values) * len(seeds))
    runs = [dict(base, **{factor: value}, seed=seed) for seed, value in itertools.product(seeds, values)]
    return [dict(run, steps=int(each / run["batch_size"])) for run in runs]


ONE, SLICE = "the attention of each query adds up to 1", "exactly one level lies in each slice"
ROWS = "every row is as likely to get a large t as any other"
SEEDS = "each value has three to ten different seeds"
LINEAR, ROW = "weights are applied as nn.Linear applies them", "row i of the logits scores token i"
TRIANGLE, OWN = "causal means no later position, full means all", "each head has its own features"
SCORES = "scores are products of queries and keys over the root of d"
MIXED = "the values are mixed, put side by side and sent through wo"
DIVISOR = "the sum is divided by the number of maskable tokens"
LOG_P = "the loss of a token is -log p of the right token"
NOTHING_SEEN = "with nothing seen it is the entropy of the token, in nats"
WRONG = {
    "attention_layer": {
        "the output only": (output_only, "it gives the output and the attention"),
        "softmax over the queries": (layer(axis=-2), ONE),
        "masked after the softmax": (layer(mask=lambda s: s, after=lambda a: a.tril()), ONE),
        "zeros for later scores": (layer(mask=lambda s: s.tril()), TRIANGLE),
        "the wrong triangle": (
            layer(mask=lambda s: s.masked_fill(torch.ones_like(s, dtype=torch.bool).tril(-1), -torch.inf)), TRIANGLE,
        ),
        "always causal": (layer(always=True), TRIANGLE),
        "never causal": (layer(always=False), TRIANGLE),
        "sees one position ahead": (
            layer(mask=lambda s: s.masked_fill(torch.ones_like(s, dtype=torch.bool).triu(2), -torch.inf)), TRIANGLE,
        ),
        "the diagonal masked too": (
            layer(mask=lambda s: s.masked_fill(torch.ones_like(s, dtype=torch.bool).triu(0), -torch.inf)), TRIANGLE,
        ),
        "heads by view": (
            layer(split=lambda y, h: y.reshape(y.shape[0], h, y.shape[1], -1), join=lambda z: z.reshape(2, 5, -1)), OWN,
        ),
        "heads interleaved": (
            layer(split=lambda y, h: y.unflatten(-1, (-1, h)).permute(0, 3, 1, 2)), OWN,
        ),
        "not scaled": (layer(scale=lambda d, d_model: 1), SCORES),
        "scaled by d_model": (layer(scale=lambda d, d_model: d_model**-0.5), SCORES),
        "scaled by d": (layer(scale=lambda d, d_model: 1 / d), SCORES),
        "weights not transposed": (layer(apply=lambda x, w: x @ w), LINEAR),
        "not rotated": (layer(turn_q=False), "queries and keys are rotated"),
        "values rotated": (layer(turn_v=True), MIXED),
        "without wo": (layer(out=lambda z, wo: z), MIXED),
        "wo not transposed": (layer(out=lambda z, wo: z @ wo), MIXED),
        "heads not brought back": (layer(join=lambda z: z.reshape(z.shape[0], z.shape[2], -1)), MIXED),
    },
    "noise_levels": {
        "one number for all": (
            lambda batch, g: torch.rand((), generator=g), "it gives one level for each text",
        ),
        "percent": (lambda batch, g: 100 * noise_levels(batch, g), "levels lie between 0.001 and 1"),
        "independent": (lambda batch, g: 0.001 + 0.999 * torch.rand(batch, generator=g), SLICE),
        "several in a slice": (
            lambda batch, g: 0.001 + 0.999 * (torch.randint(batch, (batch,), generator=g) + 0.5) / batch, SLICE,
        ),
        "middles": (middles, "a level can lie anywhere in its slice"),
        "linspace": (
            lambda batch, g: torch.linspace(0.001, 1, batch), "a level can lie anywhere in its slice",
        ),
        "sorted": (sorted_levels, ROWS),
        "turned round by a coin": (flipped_by_a_coin, ROWS),
        "slices in order": (
            lambda batch, g: 0.001 + 0.999 * (torch.arange(batch) + torch.rand(batch, generator=g)) / batch, ROWS,
        ),
        "another generator": (forgets_the_generator, "the random numbers come from the generator"),
    },
    "training_loss": {
        "one number for each text": (
            lambda logits, x, masked, maskable, t, weighted=True: (token_losses(logits, x) * masked).sum(1) / t,
            "it gives one number",
        ),
        "a Python float": (loss(end=lambda total: total.item()), "it gives one number"),
        "all maskable": (loss(where=lambda masked, maskable: maskable), "only masked positions count"),
        "all positions": (
            loss(where=lambda masked, maskable: torch.ones_like(masked)), "only masked positions count",
        ),
        "the sign": (loss(value=lambda logits, x: -token_losses(logits, x)), LOG_P),
        "no softmax": (loss(value=lambda logits, x: -logits.gather(-1, x[..., None])[..., 0]), LOG_P),
        "probabilities": (
            loss(value=lambda logits, x: -logits.softmax(-1).gather(-1, x[..., None])[..., 0]), LOG_P,
        ),
        "softmax twice": (
            loss(value=lambda logits, x: token_losses(logits.softmax(-1), x)), LOG_P,
        ),
        "shifted": (
            loss(value=lambda logits, x: token_losses(logits.roll(1, dims=1), x)), ROW,
        ),
        "shifted as for an ARM": (loss_of_next, ROW),
        "shifted the other way": (loss(value=lambda logits, x: token_losses(logits.roll(-1, dims=1), x)), ROW),
        "in bits": (loss(value=lambda logits, x: token_losses(logits, x) / math.log(2)), LOG_P),
        "over the masked": (loss(divisor=lambda masked, maskable: masked.sum()), DIVISOR),
        "over the texts": (loss(divisor=lambda masked, maskable: len(masked)), DIVISOR),
        "the mean of the texts' means": (loss_text_by_text, DIVISOR),
        "over all positions": (loss(divisor=lambda masked, maskable: masked.numel()), DIVISOR),
        "times t": (loss(weight=lambda t: t), "each text is weighted with 1/t of its own"),
        "the mean t": (
            loss(weight=lambda t: (1 / t.mean()).expand(len(t))), "each text is weighted with 1/t of its own",
        ),
        "always weighted": (loss(obey=False), "weighted=False leaves out the weight and nothing else"),
        "0 times nan": (
            loss(select=lambda losses, chosen: losses * chosen), "nan at other rows, or no mask at all, does no harm",
        ),
        "cut off": (loss(end=lambda total: total.detach()), "the loss has a gradient"),
    },
    "entropy_given": {
        "in bits": (lambda texts, seen, i: by_groups(texts, seen, i) / math.log(2), NOTHING_SEEN),
        "the sign": (lambda texts, seen, i: -by_groups(texts, seen, i), NOTHING_SEEN),
        "how many different tokens": (counts_kinds, NOTHING_SEEN),
        "the most frequent": (most_frequent, NOTHING_SEEN),
        "seen not used": (lambda texts, seen, i: entropy(texts[:, [i]]), "a token that follows from those seen has 0"),
        "only the last seen": (
            lambda texts, seen, i: by_groups(texts, seen[-1:], i), "a token that follows from those seen has 0",
        ),
        "the joint entropy": (
            lambda texts, seen, i: entropy(texts[:, [*seen, i]]), "a token that follows from those seen has 0",
        ),
        "the other way round": (
            lambda texts, seen, i: entropy(texts[:, [*seen, i]]) - entropy(texts[:, [i]])
            if len(seen)
            else entropy(texts[:, [i]]),
            "a token that follows from those seen has 0",
        ),
        "a sum over what can be seen": (
            lambda texts, seen, i: by_groups(texts, seen, i, lambda sizes, each: sum(each)),
            "a token that has nothing to do with those seen keeps its entropy",
        ),
        "seen longer afterwards": (appends_to_seen, "neither texts nor seen is changed"),
        "groups count alike": (
            lambda texts, seen, i: by_groups(texts, seen, i, lambda sizes, each: sum(each) / len(each)),
            "frequent texts count more",
        ),
        "the largest": (
            lambda texts, seen, i: by_groups(texts, seen, i, lambda sizes, each: max(each)),
            "frequent texts count more",
        ),
    },
    "fair_runs": {
        "one dictionary": (one_dictionary, "it gives a list of separate dictionaries and leaves base alone"),
        "base changed": (plan(new=in_place), "it gives a list of separate dictionaries and leaves base alone"),
        "a key too many": (
            plan(extra=lambda place: {"name": place}), "it gives a list of separate dictionaries and leaves base alone",
        ),
        "a larger rate for the second": (
            plan(extra=lambda place: {"learning_rate": 5e-3 * (1 + place)}),
            "only the factor differs from base, and takes all its values",
        ),
        "a value left out": (
            plan(values_of=lambda values: values[:-1]), "only the factor differs from base, and takes all its values",
        ),
        "one seed": (plan(seeds=lambda place, count: [0]), SEEDS),
        "one seed three times": (
            plan(seeds=lambda place, count: [0, 0, 0]), SEEDS,
        ),
        "hundreds of seeds": (plan(seeds=lambda place, count: range(200)), SEEDS),
        "seeds go on counting": (
            plan(seeds=lambda place, count: range(3 * place, 3 * place + 3)), "all values have the same seeds",
        ),
        "the same steps for all": (
            plan(steps=lambda base, run, budget, runs: budget // runs // base["batch_size"]),
            "every run sees the same number of texts",
        ),
        "broken steps": (
            plan(steps=lambda base, run, budget, runs: budget / runs / run["batch_size"]),
            "every run sees the same number of texts",
        ),
        "the budget for each run": (
            plan(steps=lambda base, run, budget, runs: budget // run["batch_size"]),
            "all runs together keep to the budget, and use it",
        ),
        "the budget for each value": (
            plan(steps=lambda base, run, budget, runs: 3 * budget // runs // run["batch_size"]),
            "all runs together keep to the budget, and use it",
        ),
        "steps rounded to the nearest": (
            plan(steps=lambda base, run, budget, runs: round(budget / runs / run["batch_size"])),
            "all runs together keep to the budget, and use it",
        ),
        "half of it": (
            plan(steps=lambda base, run, budget, runs: budget // (2 * runs * run["batch_size"])),
            "all runs together keep to the budget, and use it",
        ),
    },
}  # fmt: skip

RIGHT = {
    "attention_layer": {"einsum, softmax by hand": by_einsum, "the library's": with_library},
    "noise_levels": {"one random number for all": same_place, "a loop": levels_by_loop},
    "training_loss": {"cross_entropy": loss_by_cross_entropy, "a loop": loss_by_loop},
    "entropy_given": {
        "groups": by_groups,
        "a difference of entropies": lambda texts, seen, i: entropy(texts[:, [*seen, i]]) - entropy(texts[:, seen]),
    },
    "fair_runs": {
        "five seeds, by product": by_product,
        "four seeds": plan(seeds=lambda place, count: range(4)),
        "copies": plan(new=lambda base, changes: dict(base) | changes),
    },
}
