"""Answers to the exercises of lesson 07: wrong ones, the mistakes that people make, and right ones done otherwise."""

from __future__ import annotations

import torch
from torch.nn.functional import pad


def visible(n, causal):
    sees = ~torch.eye(n, dtype=torch.bool)
    return sees.tril() if causal else sees


def with_itself(pattern, causal):
    n = pattern.shape[-1]
    sees = torch.ones(n, n).tril() if causal else torch.ones(n, n)
    count = sees.sum(dim=0)
    return (pattern.sum(dim=-2) / count).masked_fill(count < 4, torch.nan)


def gives(pattern, causal):
    sees = visible(pattern.shape[-1], causal)
    return (pattern * sees).sum(dim=-1) / sees.sum(dim=1)


def divided_by_all(pattern, causal):
    n = pattern.shape[-1]
    sees = visible(n, causal)
    return ((pattern * sees).sum(dim=-2) / (n - 1)).masked_fill(sees.sum(dim=0) < 3, torch.nan)


def divided_by_n(pattern, causal):
    sees = visible(pattern.shape[-1], causal)
    return (pattern * sees).mean(dim=-2).masked_fill(sees.sum(dim=0) < 3, torch.nan)


def no_nan(pattern, causal):
    sees = visible(pattern.shape[-1], causal)
    return (pattern * sees).sum(dim=-2) / sees.sum(dim=0).clamp(min=1)


def nan_for_one_only(pattern, causal):
    sees = visible(pattern.shape[-1], causal)
    return (pattern * sees).sum(dim=-2) / sees.sum(dim=0)  # 0 / 0 at the last


def over_the_heads(pattern, causal):
    sees = visible(pattern.shape[-1], causal)
    return ((pattern * sees).sum(dim=-2) / sees.sum(dim=0)).flatten(0, -2).mean(dim=0)


def score_in_loops(pattern, causal):
    n = pattern.shape[-1]
    found = torch.full(pattern.shape[:-1], torch.nan)
    for key in range(n):
        queries = [query for query in range(n) if query != key and (query > key or not causal)]
        if len(queries) >= 3:
            found[..., key] = pattern[..., queries, key].mean(dim=-1)
    return found


def score_by_nanmean(pattern, causal):
    sees = visible(pattern.shape[-1], causal)
    found = torch.where(sees, pattern, torch.nan).nanmean(dim=-2)
    return torch.where(sees.sum(dim=0) >= 3, found, torch.nan)


def scored(pattern, sees, fewest=3):
    count = sees.sum(dim=-2)
    return ((pattern * sees).sum(dim=-2) / count.clamp(min=1)).masked_fill(count < fewest, torch.nan)


def diagonal_set_to_zero(pattern, causal):
    n = pattern.shape[-1]
    pattern[..., range(n), range(n)] = 0
    return scored(pattern, visible(n, causal))


def nan_at_the_last_three(pattern, causal):
    found = no_nan(pattern, causal).clone()
    if causal:
        found[..., -3:] = torch.nan
    return found


def upper_triangle(pattern, causal):
    sees = ~torch.eye(pattern.shape[-1], dtype=torch.bool)
    return scored(pattern, sees.triu() if causal else sees)


def who_looks(pattern, causal):
    return scored(pattern, (pattern > 0) & ~torch.eye(pattern.shape[-1], dtype=torch.bool))


def change_in_place(before, after):
    m = before.shape[-1]
    after[..., :m, :m] -= before
    return after[..., :m, :].abs().sum(dim=-1).mean(dim=-1) / 2


def moved(before, after):
    m, n = before.shape[-1], after.shape[-1]
    return (after[..., :m, :] - pad(before, (0, n - m))).abs()


def cut(before, after):
    m = before.shape[-1]
    return (after[..., :m, :m] - before).abs().sum(dim=-1).mean(dim=-1) / 2


def all_rows(before, after):
    m, n = before.shape[-1], after.shape[-1]
    return (after - pad(before, (0, n - m, 0, n - m))).abs().sum(dim=-1).mean(dim=-1) / 2


def of_columns(before, after):
    m, n = before.shape[-1], after.shape[-1]
    return (after[..., :m, :].mean(dim=-2) - pad(before, (0, n - m)).mean(dim=-2)).abs().sum(dim=-1) / 2


def signs_kept(before, after):
    m, n = before.shape[-1], after.shape[-1]
    return (after[..., :m, :] - pad(before, (0, n - m))).sum(dim=-1).mean(dim=-1) / 2


def change_in_loops(before, after):
    m, n = before.shape[-1], after.shape[-1]
    rows = []
    for row in range(m):
        lost = sum((before[..., row, key] - after[..., row, key]).clamp(min=0) for key in range(m))
        rows.append(lost)
    assert n >= m
    return torch.stack(rows).mean(dim=0)


def aligned(raw, shifted):
    if not shifted:
        return raw
    first = torch.full_like(raw[:, :, :1], torch.nan)
    return torch.cat([first, raw[:, :, :-1]], dim=2)


def norm_at_the_end_only(stream, norm, head, shifted):
    return aligned(head(torch.cat([stream[:-1], norm(stream[-1:])])), shifted)


def backwards(stream, norm, head, shifted):
    raw = head(norm(stream))
    if not shifted:
        return raw
    out = torch.full_like(raw, torch.nan)
    out[:, :, :-1] = raw[:, :, 1:]
    return out


def rolled(stream, norm, head, shifted):
    raw = head(norm(stream))
    return raw.roll(1, dims=2) if shifted else raw


def rolled_batch(stream, norm, head, shifted):
    raw = head(norm(stream))
    if not shifted:
        return raw
    out = raw.roll(1, dims=1).clone()
    out[:, :, 0] = torch.nan
    return out


def not_moved(stream, norm, head, shifted):
    raw = head(norm(stream)).clone()
    if shifted:
        raw[:, :, 0] = torch.nan
    return raw


def cut_off(stream, norm, head, shifted):
    raw = head(norm(stream))
    return raw[:, :, :-1] if shifted else raw[:, :, 1:]


def along_axis(axis):
    def lens(stream, norm, head, shifted):
        raw = head(norm(stream))
        if not shifted:
            return raw
        out = torch.full_like(raw, torch.nan)
        out.movedim(axis, 0)[1:] = raw.movedim(axis, 0)[:-1]
        return out

    return lens


def lens_in_place(stream, norm, head, shifted):
    stream[:] = norm(stream)
    return aligned(head(stream), shifted)


def lens_by_place(stream, norm, head, shifted):
    return torch.stack([aligned(head(norm(place))[None], shifted)[0] for place in stream])


def lens_padded(stream, norm, head, shifted):
    if shifted:
        return pad(head(norm(stream[:, :, :-1])), (0, 0, 1, 0), value=torch.nan)
    return head(norm(stream))


def first_on_top(on_top):
    return torch.where(on_top.any(dim=0), on_top.int().argmax(dim=0), len(on_top))


def stays_from(on_top):
    return on_top.flip(0).int().cumprod(dim=0).flip(0)


def last_not_on_top(on_top):
    """Without the + 1, and without the case in which there is none."""
    place = torch.arange(len(on_top))[:, None]
    return torch.where(on_top, -1, place).amax(dim=0)


def last_off_plus_one_by_argmax(on_top):
    return len(on_top) - (~on_top).flip(0).int().argmax(dim=0)


def settled_loop(on_top):
    found = []
    for column in on_top.T.tolist():
        place = len(column)
        while place and column[place - 1]:
            place -= 1
        found.append(place)
    return torch.tensor(found)


def settled_last_off(on_top):
    place = torch.arange(1, len(on_top) + 1)[:, None]
    return torch.where(on_top, 0, place).amax(dim=0)


def settled_in_place(on_top):
    for place in reversed(range(len(on_top) - 1)):
        on_top[place] &= on_top[place + 1]
    return len(on_top) - on_top.sum(dim=0)


def scale_of(writes, eps):
    return torch.rsqrt(writes.sum(dim=0).square().mean(dim=-1) + eps)


def each_its_own_norm(writes, gain, eps, towards):
    own = torch.rsqrt(writes.square().mean(dim=-1, keepdim=True) + eps)
    return (writes * own * gain * towards).sum(dim=-1)


def no_gain(writes, gain, eps, towards):
    return (writes * towards).sum(dim=-1) * scale_of(writes, eps)


def no_scale(writes, gain, eps, towards):
    return (writes * gain * towards).sum(dim=-1)


def eps_outside(writes, gain, eps, towards):
    return (writes * gain * towards).sum(dim=-1) / (writes.sum(dim=0).square().mean(dim=-1).sqrt() + eps)


def layer_norm(writes, gain, eps, towards):
    stream = writes.sum(dim=0)
    scale = torch.rsqrt(stream.var(dim=-1, unbiased=False) + eps)
    return ((writes - writes.mean(dim=-1, keepdim=True)) * gain * towards).sum(dim=-1) * scale


def divided_by_length(writes, gain, eps, towards):
    stream = writes.sum(dim=0)
    return (writes * gain * towards).sum(dim=-1) * torch.rsqrt(stream.square().sum(dim=-1) + eps)


def shares_of_one(writes, gain, eps, towards):
    shares = (writes * gain * towards).sum(dim=-1)
    return shares / shares.sum(dim=0)


def total(writes, gain, eps, towards):
    return ((writes * gain * towards).sum(dim=-1) * scale_of(writes, eps)).sum(dim=0)


def spread_evenly(writes, gain, eps, towards):
    size = writes.norm(dim=-1)
    return total(writes, gain, eps, towards) * size / size.sum(dim=0)


def scale_over_prompts(writes, gain, eps, towards):
    return (writes * gain * towards).sum(dim=-1) * torch.rsqrt(writes.sum(dim=0).square().mean() + eps)


def shares_by(writes, gain, eps, towards, stream):
    return (writes * gain * towards).sum(dim=-1) * torch.rsqrt(stream.square().mean(dim=-1) + eps)


def scale_of_the_mean(writes, gain, eps, towards):
    return shares_by(writes, gain, eps, towards, writes.mean(dim=0))


def scale_of_the_last(writes, gain, eps, towards):
    return shares_by(writes, gain, eps, towards, writes[-1])


def gain_in_the_scale(writes, gain, eps, towards):
    return shares_by(writes, gain, eps, towards, gain * writes.sum(dim=0))


def features_averaged(writes, gain, eps, towards):
    return shares_in_loops(writes, gain, eps, towards) / len(gain)


def all_directions(writes, gain, eps, towards):
    return ((writes * gain * scale_of(writes, eps)[:, None]) @ towards.T).sum(dim=-1)


def shares_of_sizes(writes, gain, eps, towards):
    shares = (writes * gain * towards).sum(dim=-1)
    return shares / shares.abs().sum(dim=0)


def gain_in_place(writes, gain, eps, towards):
    scale = scale_of(writes, eps)
    writes *= gain
    return (writes * towards).sum(dim=-1) * scale


def shares_in_loops(writes, gain, eps, towards):
    sources, prompts, _ = writes.shape
    found = torch.zeros(sources, prompts)
    for prompt in range(prompts):
        stream = writes[:, prompt].sum(dim=0)
        r = (stream.pow(2).mean() + eps).sqrt()
        for source in range(sources):
            found[source, prompt] = (writes[source, prompt] / r * gain) @ towards[prompt]
    return found


def shares_by_matrices(writes, gain, eps, towards):
    direction = gain * towards * scale_of(writes, eps)[:, None]
    return torch.bmm(writes.transpose(0, 1), direction[..., None])[..., 0].T


A_TENSOR = "it gives a tensor"
AXIS = "rows are moved along the positions"
LESS_THAN_THREE = "a mean over fewer than three queries is NaN"
WRONG = {
    "sink_score": {
        "rows instead of columns": (gives, "it is about keys"),
        "sum of rows": (lambda pattern, causal: pattern.sum(dim=-1), "it is about keys"),
        "with the look at itself": (with_itself, "a position's look at itself does not count"),
        "divided by n": (divided_by_n, "the mean is over the other queries"),
        "divided by n - 1 always": (divided_by_all, "keys that few can see are not put at a disadvantage"),
        "no NaN": (no_nan, LESS_THAN_THREE),
        "NaN at the last only": (nan_for_one_only, LESS_THAN_THREE),
        "heads averaged away": (over_the_heads, "it gives one number for each key of each head"),
        "the largest": (
            lambda pattern, causal: (pattern * visible(pattern.shape[-1], causal)).amax(dim=-2),
            "the mean is over the other queries",
        ),
        "causal or not, the same": (
            lambda pattern, causal: score_in_loops(pattern, True), "it is about keys",
        ),
        "always full": (
            lambda pattern, causal: score_in_loops(pattern, False),
            "keys that few can see are not put at a disadvantage",
        ),
        "the diagonal set to zero": (diagonal_set_to_zero, "the pattern is not changed"),
        "NaN at the last three, if causal": (nan_at_the_last_three, "that holds for full attention too"),
        "more than three": (
            lambda pattern, causal: scored(pattern, visible(pattern.shape[-1], causal), 4), "three queries are enough",
        ),
        "upper triangle": (upper_triangle, "in causal attention a key is seen from behind"),
        "of those who look": (who_looks, "a query that gives nothing counts too"),
        "an array": (lambda pattern, causal: score_in_loops(pattern, causal).numpy(), A_TENSOR),
    },
    "row_change": {
        "not halved": (
            lambda before, after: moved(before, after).sum(dim=-1).mean(dim=-1),
            "it is 1 if all attention went elsewhere",
        ),
        "new keys cut off": (cut, "attention that goes to a new key has moved"),
        "new rows counted": (all_rows, "a causal text that grows has changed nothing"),
        "columns": (of_columns, "it sees changes that the columns hide"),
        "the largest row": (
            lambda before, after: moved(before, after).sum(dim=-1).amax(dim=-1) / 2, "it is a mean over rows",
        ),
        "the sum over rows": (
            lambda before, after: moved(before, after).sum(dim=(-1, -2)) / 2, "it is 1 if all attention went elsewhere",
        ),
        "squares": (
            lambda before, after: moved(before, after).square().sum(dim=-1).mean(dim=-1) / 2,
            "it is the share that moved",
        ),
        "mean over keys": (
            lambda before, after: moved(before, after).mean(dim=(-1, -2)), "it is 1 if all attention went elsewhere",
        ),
        "largest key moved": (
            lambda before, after: (moved(before, after).amax(dim=-1) > 0.2).double().mean(dim=-1),
            "it is the share that moved",
        ),
        "one number for all": (lambda before, after: cut(before, after).mean(), "it gives one number for each head"),
        "in place": (change_in_place, "the patterns are not changed"),
        "a list": (lambda before, after: change_in_loops(before, after).tolist(), A_TENSOR),
        "signs kept": (signs_kept, "it sees changes that the columns hide"),
    },
    "lens_logits": {
        "no norm": (
            lambda stream, norm, head, shifted: aligned(head(stream), shifted),
            "the stream goes through the final norm",
        ),
        "norm at the end only": (norm_at_the_end_only, "the stream goes through the final norm"),
        "probabilities": (
            lambda stream, norm, head, shifted: aligned(head(norm(stream)).softmax(-1), shifted), "it gives logits",
        ),
        "logarithms": (
            lambda stream, norm, head, shifted: aligned(head(norm(stream)).log_softmax(-1), shifted), "it gives logits",
        ),
        "the shift forgotten": (
            lambda stream, norm, head, shifted: head(norm(stream)), "with a shift only the first position is NaN",
        ),
        "the shift the other way": (backwards, "with a shift only the first position is NaN"),
        "rolled": (rolled, "with a shift only the first position is NaN"),
        "rolled over texts": (rolled_batch, AXIS),
        "moved from text to text": (along_axis(1), AXIS),
        "moved from place to place": (along_axis(0), AXIS),
        "moved from word to word": (along_axis(3), AXIS),
        "rolled over places": (
            lambda stream, norm, head, shifted: head(norm(stream)).roll(int(shifted), dims=0), AXIS,
        ),
        "in place": (lens_in_place, "the stream is not changed"),
        "an array": (lambda *given: lens_by_place(*given).numpy(), A_TENSOR),
        "NaN, but not moved": (not_moved, "with a shift row i - 1 scores token i"),
        "shift where there is none": (
            lambda stream, norm, head, shifted: aligned(head(norm(stream)), True),
            "the stream goes through the final norm",
        ),
        "a position cut off": (cut_off, "it gives a logit for each place, text, position and word"),
        "the last place only": (
            lambda stream, norm, head, shifted: aligned(head(norm(stream))[-1:], shifted),
            "it gives a logit for each place, text, position and word",
        ),
        "normed twice": (
            lambda stream, norm, head, shifted: aligned(head(norm(norm(stream))), shifted),
            "without a shift row i scores token i",
        ),
    },
    "settled_place": {
        "first on top": (first_on_top, "it has to stay on top"),
        "argmax": (lambda on_top: on_top.int().argmax(dim=0), "it has to stay on top"),
        "how often on top": (lambda on_top: len(on_top) - on_top.sum(dim=0), "it has to stay on top"),
        "how long, not from where": (
            lambda on_top: stays_from(on_top).sum(dim=0), "it finds where the answer comes on top",
        ),
        "argmax of what stays": (
            lambda on_top: stays_from(on_top).argmax(dim=0), "an answer that is not on top at the end never settled",
        ),
        "last not on top": (last_not_on_top, "it finds where the answer comes on top"),
        "last not on top, by argmax": (
            last_off_plus_one_by_argmax, "an answer that is always on top is settled at place 0",
        ),
        "a place too late": (lambda on_top: settled_loop(on_top) + 1, "it finds where the answer comes on top"),
        "the mean": (lambda on_top: settled_loop(on_top).double().mean(), "it gives one place for each prompt"),
        "of each place": (lambda on_top: settled_loop(on_top.T), "it gives one place for each prompt"),
        "a list": (lambda on_top: settled_loop(on_top).tolist(), A_TENSOR),
        "in place": (settled_in_place, "the table is not changed"),
        "never: the last place": (
            lambda on_top: settled_loop(on_top).clamp(max=len(on_top) - 1),
            "an answer that is not on top at the end never settled",
        ),
    },
    "direct_shares": {
        "each source its own norm": (each_its_own_norm, "all sources are divided by the same"),
        "no gain": (no_gain, "the norm's gain is in it"),
        "no scale": (no_scale, "the shares add up to the logit difference"),
        "eps outside the root": (eps_outside, "eps is inside the root"),
        "eps forgotten": (
            lambda writes, gain, eps, towards: shares_in_loops(writes, gain, 0.0, towards), "eps is inside the root",
        ),
        "a mean subtracted": (layer_norm, "the shares add up to the logit difference"),
        "a sum for a mean": (divided_by_length, "the shares add up to the logit difference"),
        "shares of one": (shares_of_one, "the shares are in logits"),
        "shares of the sum of sizes": (shares_of_sizes, "the shares are in logits"),
        "size of the mean over sources": (scale_of_the_mean, "r is the size of the sum of all sources"),
        "size of the last source": (scale_of_the_last, "r is the size of the sum of all sources"),
        "gain in the size too": (gain_in_the_scale, "r is the size of the stream before the gain"),
        "a mean over d_model": (features_averaged, "products with the direction are summed over d_model"),
        "every direction for every prompt": (all_directions, "each prompt counts for itself"),
        "gain multiplied in place": (gain_in_place, "what goes in is not changed"),
        "an array": (lambda *given: shares_in_loops(*given).numpy(), A_TENSOR),
        "the sum over sources": (total, "it gives one number for each source and prompt"),
        "by the size of what is written": (spread_evenly, "each source gets what it says itself"),
        "one scale for all prompts": (scale_over_prompts, "each prompt counts for itself"),
        "prompts first": (
            lambda writes, gain, eps, towards: shares_in_loops(writes, gain, eps, towards).T,
            "it gives one number for each source and prompt",
        ),
    },
}  # fmt: skip

RIGHT = {
    "sink_score": {"loops": score_in_loops, "nanmean": score_by_nanmean},
    "row_change": {"what was lost, in loops": change_in_loops},
    "lens_logits": {"place by place": lens_by_place, "the last row left out": lens_padded},
    "settled_place": {"loop": settled_loop, "after the last place off": settled_last_off},
    "direct_shares": {"loops": shares_in_loops, "matrices": shares_by_matrices},
}
