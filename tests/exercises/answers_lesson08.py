"""Answers to the exercises of lesson 08: wrong ones, the mistakes that people make, and right ones done otherwise."""

from __future__ import annotations

import torch

from mdmcourse.exercises.answers import lesson08 as own


def patching(change, *, remove=True, careful=True):
    """with_patch with another hook: change(stream, given, positions) gives the stream that is read."""

    def answer(block, given, positions, run):
        handle = block.register_forward_pre_hook(lambda module, args: (change(args[0], given, positions), *args[1:]))
        if not careful:
            found = run()
            if remove:
                handle.remove()
            return found
        try:
            return run()
        finally:
            handle.remove()

    return answer


def put(stream, given, positions):
    stream = stream.clone()
    stream[:, positions] = given[:, positions]
    return stream


def masked(stream, given, positions):
    here = torch.zeros(stream.shape[1], dtype=torch.bool)
    here[positions] = True
    return torch.where(here[None, :, None], given, stream)


def in_place(stream, given, positions):
    stream[:, positions] = given[:, positions]
    return stream


def added(stream, given, positions):
    stream = stream.clone()
    stream[:, positions] += given[:, positions]
    return stream


def shifted(stream, given, positions):
    stream = stream.clone()
    stream[:, positions] = given[:, [i - 1 for i in positions]]
    return stream


def of_the_first(stream, given, positions):
    stream = stream.clone()
    stream[:, positions] = given[0, positions]
    return stream


def on_prompts(stream, given, positions):
    """The axes mixed up: rows, not positions."""
    stream = stream.clone()
    stream[positions] = given[positions]
    return stream


def first_only(stream, given, positions):
    stream = stream.clone()
    stream[:, positions[0]] = given[:, positions[0]]
    return stream


def on_output(block, given, positions, run):
    handle = block.register_forward_hook(lambda module, args, output: put(output, given, positions))
    try:
        return run()
    finally:
        handle.remove()


def nothing_returned(block, given, positions, run):
    def hook(module, args):
        put(args[0], given, positions)

    handle = block.register_forward_pre_hook(hook)
    try:
        return run()
    finally:
        handle.remove()


def too_late(block, given, positions, run):
    found = run()
    block.register_forward_pre_hook(lambda module, args: (put(args[0], given, positions),)).remove()
    return found


def result_lost(block, given, positions, run):
    own.with_patch(block, given, positions, run)
    return given


def share(patched, clean, corrupted, direction):
    """In one formula: how far from where it set out."""
    start = corrupted if direction == "denoise" else clean
    return (patched - start).mean() / (clean + corrupted - 2 * start).mean()


def mean_of_ratios(patched, clean, corrupted, direction):
    start, end = (corrupted, clean) if direction == "denoise" else (clean, corrupted)
    return ((patched - start) / (end - start)).mean()


def runs(**other):
    """The course's runs, but for some claims, by their first letters."""
    found = own.deciding_runs()
    keys = dict(zip(["enough", "needed", "only", "stand_ins", "partners"], found, strict=True))
    return lambda: found | {keys[name]: each for name, each in other.items()}


def averaged(points=None, *, divide=True, way=None, gradient_of=None):
    """averaged_effect with other points, other ends or another end of the calculation."""

    def answer(metric, start, end, steps):
        total = torch.zeros_like(start)
        chosen = points(steps) if points else [(k + 0.5) / steps for k in range(steps)]
        for alpha in chosen:
            point = (start + alpha * (end - start)).detach().requires_grad_()
            value = metric(point)
            total += torch.autograd.grad((gradient_of or torch.sum)(value), point)[0]
        if divide:
            total = total / len(chosen)
        return (total * (way(start, end) if way else end - start)).sum(dim=-1)

    return answer


def product_of_sums(metric, start, end, steps):
    total = torch.zeros(start.shape[:2])
    for k in range(steps):
        point = (start + (k + 0.5) / steps * (end - start)).detach().requires_grad_()
        total += torch.autograd.grad(metric(point).sum(), point)[0].sum(dim=-1)
    return total / steps * (end - start).sum(dim=-1)


def asks_of_start(metric, start, end, steps):
    start.requires_grad_()
    return averaged()(metric, start, end, steps).detach()


def one_gradient(alpha):
    def answer(metric, start, end, steps):
        point = (start + alpha * (end - start)).detach().requires_grad_()
        return (torch.autograd.grad(metric(point).sum(), point)[0] * (end - start)).sum(dim=-1)

    return answer


def trapezoid(metric, start, end, steps):
    total = torch.zeros_like(start)
    for k in range(steps + 1):
        point = (start + k / steps * (end - start)).detach().requires_grad_()
        total += torch.autograd.grad(metric(point).sum(), point)[0] * (0.5 if k in (0, steps) else 1)
    return (total / steps * (end - start)).sum(dim=-1)


def stream_alone(block, given, positions, run):
    """The hook hands on the stream and drops whatever else the block was given."""
    handle = block.register_forward_pre_hook(lambda module, args: put(args[0], given, positions))
    try:
        return run()
    finally:
        handle.remove()


def changes_there(gradient, here, there):
    there -= here
    return (gradient * there).sum(dim=-1)


def changes_patched(patched, clean, corrupted, direction):
    distance = (clean - corrupted).mean()
    patched -= corrupted if direction == "denoise" else clean
    return patched.mean() / distance * (1 if direction == "denoise" else -1)


def never_asks(metric, start, end, steps):
    total = torch.zeros_like(start)
    for k in range(steps):
        point = start + (k + 0.5) / steps * (end - start)
        total += torch.autograd.grad(metric(point).sum(), point)[0]
    return (total / steps * (end - start)).sum(dim=-1)


def asks_too_late(metric, start, end, steps):
    total = torch.zeros_like(start)
    for k in range(steps):
        point = start + (k + 0.5) / steps * (end - start)
        value = metric(point.detach().requires_grad_()).sum()
        total += torch.autograd.grad(value, point.requires_grad_())[0]
    return (total / steps * (end - start)).sum(dim=-1)


ONE_EACH = "it is one number for each prompt and position"
NOISE, DENOISE = "noising nothing is 0, destroying everything is 1", "denoising nothing is 0, restoring everything is 1"
LINEAR = "for a linear metric it is exact"
GRADIENT = "it is a tensor, from a gradient at the point that the metric is given"

WRONG = {
    "with_patch": {
        "the result is lost": (result_lost, "it gives back what run() gives"),
        "the hook returns nothing": (
            nothing_returned, "run() happens while the hook is there, and the hook's result is used",
        ),
        "a hook on the output": (on_output, "run() happens while the hook is there, and the hook's result is used"),
        "run() comes first": (too_late, "run() happens while the hook is there, and the hook's result is used"),
        "added": (patching(added), "at these positions the block reads the given stream"),
        "one position too early": (patching(shifted), "at these positions the block reads the given stream"),
        "rows for positions": (patching(on_prompts), "at these positions the block reads the given stream"),
        "the first position only": (patching(first_only), "at these positions the block reads the given stream"),
        "the whole stream": (patching(lambda s, g, p: g), "all other positions stay as they are"),
        "the first prompt's": (patching(of_the_first), "each prompt gets its own part of `given`"),
        "in place": (patching(in_place), "what it was given is not overwritten"),
        "the stream alone": (stream_alone, "the block's other arguments still reach it"),
        "never removed": (patching(put, remove=False, careful=False), "the hook is gone afterwards"),
        "not removed after an error": (patching(put, careful=False), "the hook is gone even if run() fails"),
    },
    "normalised_effect": {
        "one number each": (
            lambda p, c, k, d: (p - k) / (c - k) if d == "denoise" else (c - p) / (c - k),
            "it is one number for all prompts",
        ),
        "of the clean run": (lambda p, c, k, d: p.mean() / c.mean(), DENOISE),
        "denoised from the clean end": (
            lambda p, c, k, d: (c.mean() - p.mean()) / (c.mean() - k.mean()), DENOISE,
        ),
        "not divided": (lambda p, c, k, d: p.mean() - k.mean() if d == "denoise" else c.mean() - p.mean(), DENOISE),
        "one direction for both": (lambda p, c, k, d: own.normalised_effect(p, c, k, "denoise"), NOISE),
        "noise with a minus": (
            lambda p, c, k, d: own.normalised_effect(p, c, k, d) * (1 if d == "denoise" else -1), NOISE,
        ),
        "clipped": (
            lambda p, c, k, d: own.normalised_effect(p, c, k, d).clamp(0, 1), "what is below 0 or above 1 is kept",
        ),
        "absolute": (lambda p, c, k, d: own.normalised_effect(p, c, k, d).abs(), "what is below 0 or above 1 is kept"),
        "mean of ratios": (mean_of_ratios, "means come first, the ratio afterwards"),
        "medians": (
            lambda p, c, k, d: own.normalised_effect(p.median()[None], c.median()[None], k.median()[None], d),
            "what is below 0 or above 1 is kept",
        ),
        "a distance without its sign": (
            lambda p, c, k, d: (p - k if d == "denoise" else c - p).mean() / (c.mean() - k.mean()).abs(),
            "it is right where the clean metric is the lower one",
        ),
        "changes its argument": (changes_patched, "what it was given is not overwritten"),
    },
    "deciding_runs": {
        "no dictionary": (lambda: list(own.deciding_runs().values()), "it is a list of runs for each claim"),
        "patching for direction": (runs(enough=[("patch", "A")]), "it is a list of runs for each claim"),
        "a part that is not there": (runs(enough=[("denoise", "D")]), "it is a list of runs for each claim"),
        "enough by noising": (runs(enough=[("noise", "A")]), "what is enough is decided"),
        "enough by noising the rest alone": (runs(enough=[("denoise", "BC")]), "what is enough is decided"),
        "needed by denoising": (runs(needed=[("denoise", "A")]), "what is needed is decided"),
        "only A: enough": (runs(only=[("denoise", "A")]), "what alone matters is decided"),
        "only A: needed": (runs(only=[("noise", "A")]), "what alone matters is decided"),
        "stand-ins by denoising": (
            runs(stand_ins=[("denoise", "A"), ("denoise", "B"), ("denoise", "AB")]), "stand-ins are found",
        ),
        "stand-ins, one by one": (runs(stand_ins=[("noise", "A"), ("noise", "B")]), "stand-ins are found"),
        "partners by noising": (
            runs(partners=[("noise", "A"), ("noise", "B"), ("noise", "AB")]), "partners are found",
        ),
        "partners, together only": (runs(partners=[("denoise", "AB")]), "partners are found"),
        "C as well": (runs(enough=[("denoise", "A"), ("denoise", "C")]), "no run is too many"),
        "both directions, always": (runs(needed=[("denoise", "A"), ("noise", "A")]), "no run is too many"),
    },
    "linear_effect": {
        "mean over features": (lambda g, h, t: (g * (t - h)).mean(dim=-1), LINEAR),
        "one number a prompt": (lambda g, h, t: (g * (t - h)).sum(dim=(1, 2)), ONE_EACH),
        "not summed": (lambda g, h, t: g * (t - h), ONE_EACH),
        "sum over positions": (lambda g, h, t: (g * (t - h)).sum(dim=1), ONE_EACH),
        "gradient times activation": (lambda g, h, t: (g * t).sum(dim=-1), "if nothing moves, nothing changes"),
        "backwards": (lambda g, h, t: (g * (h - t)).sum(dim=-1), "along the gradient the metric rises"),
        "absolute": (lambda g, h, t: (g * (t - h)).sum(dim=-1).abs(), "against the gradient it falls"),
        "norms": (lambda g, h, t: g.norm(dim=-1) * (t - h).norm(dim=-1), "against the gradient it falls"),
        "sums multiplied": (lambda g, h, t: g.sum(dim=-1) * (t - h).sum(dim=-1), LINEAR),
        "an array": (lambda g, h, t: (g * (t - h)).sum(dim=-1).numpy(), "it gives a tensor"),
        "changes its argument": (changes_there, "what it was given is not overwritten"),
    },
    "averaged_effect": {
        "one number a prompt": (lambda m, s, e, n: averaged()(m, s, e, n).sum(dim=1), ONE_EACH),
        "the difference itself": (lambda m, s, e, n: m(e) - m(s), ONE_EACH),
        "the gradient at the start": (one_gradient(0.0), "every point lies on the way, and each is used"),
        "the gradient in the middle": (one_gradient(0.5), "every point lies on the way, and each is used"),
        "beyond the end": (
            averaged(lambda n: [2 * k / n for k in range(n)]), "every point lies on the way, and each is used",
        ),
        "a sum for a mean": (averaged(divide=False), "more points give no larger result"),
        "from the end to the start": (averaged(way=lambda s, e: s - e), LINEAR),
        "times the end": (averaged(way=lambda s, e: e), LINEAR),
        "mean of the metric": (averaged(gradient_of=torch.mean), LINEAR),
        "the first half of the way": (
            averaged(lambda n: [k / n / 2 for k in range(n)]), "the shares add up to the whole",
        ),
        "all at the start": (averaged(lambda n: [0.0] * n), "the shares add up to the whole"),
        "sums multiplied": (product_of_sums, LINEAR),
        "never asks for gradients": (never_asks, GRADIENT),
        "asks after the metric": (asks_too_late, GRADIENT),
        "an array": (lambda m, s, e, n: averaged()(m, s, e, n).numpy(), GRADIENT),
        "asks `start` for gradients": (asks_of_start, "`start` and `end` are left as they were"),
    },
}  # fmt: skip

RIGHT = {
    "with_patch": {"masked": patching(masked), "clone first": patching(put)},
    "normalised_effect": {
        "from the start": share,
        "a float": lambda p, c, k, d: own.normalised_effect(p, c, k, d).item(),
        "NumPy's number": lambda p, c, k, d: own.normalised_effect(p, c, k, d).numpy()[()],
        "an array of one number": lambda p, c, k, d: own.normalised_effect(p, c, k, d).numpy(),
    },
    "deciding_runs": {
        "in another order": runs(only=[("noise", "A"), ("denoise", "A")]),
        "named by the rest": runs(enough=[("noise", "BC")], needed=[("denoise", "BC")]),
        "letters in another order": runs(stand_ins=[("noise", "BA"), ("noise", "B"), ("noise", "A")]),
    },
    "linear_effect": {
        "einsum": lambda g, h, t: torch.einsum("npf,npf->np", g, t - h),
        "two products": lambda g, h, t: (g * t).sum(dim=2) - (g * h).sum(dim=2),
    },
    "averaged_effect": {
        "left ends": averaged(lambda n: [k / n for k in range(n)]),
        "right ends": averaged(lambda n: [(k + 1) / n for k in range(n)]),
        "ends included": averaged(lambda n: [k / (n - 1) for k in range(n)]),
        "trapezoid": trapezoid,
    },
}  # fmt: skip
