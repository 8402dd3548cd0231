"""Circuits: what has to be true of the answers."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson09 as answers
from mdmcourse.exercises.checks.edge_parts import EDGE_SCORES, RULE_WEIGHTS
from mdmcourse.exercises.checks.tools import differs, generator, numbers, shape_of
from mdmcourse.exercises.exercise import Answer, Exercise, Property

# --- without_dead_ends

Edges = set[tuple[str, str]]
WAY: Edges = {("input", "a0.h1"), ("a0.h1", "m0"), ("m0", "m1"), ("m1", "logits"), ("input", "m1")}


def _listed(edges: Edges) -> str:
    return ", ".join(f"{source}->{node}" for source, node in sorted(edges)) or "none"


def _kept(answer: Answer, edges: Edges, expected: Edges) -> str | None:
    found = answer(set(edges))
    if found == expected:
        return None
    told = f"of {_listed(edges)}"
    if expected - found:
        return f"{told} it left out {_listed(expected - found)}"
    return f"{told} it kept {_listed(found - expected)}"


def _pairs(answer: Answer, seed: int) -> str | None:
    found = answer(set(WAY))
    if not isinstance(found, set):
        return f"it gave a {type(found).__name__}"
    odd = [each for each in found if each not in WAY]
    return f"it gave {odd[0]!r}, which is no edge that went in" if odd else None


def _all_useful(answer: Answer, seed: int) -> str | None:
    return _kept(answer, WAY, WAY) or _kept(answer, {("input", "logits")}, {("input", "logits")})


def _leads_nowhere(answer: Answer, seed: int) -> str | None:
    return _kept(answer, WAY | {("m0", "a1.h2")}, WAY)


def _not_fed(answer: Answer, seed: int) -> str | None:
    return _kept(answer, WAY | {("a1.h3", "m1")}, WAY)


def _in_a_row(answer: Answer, seed: int) -> str | None:
    nowhere = {("m0", "a1.h0"), ("a1.h0", "m2"), ("m2", "a3.h1")}
    unfed = {("a0.h3", "a1.h2"), ("a1.h2", "m2"), ("m2", "logits")}
    return _kept(answer, WAY | nowhere, WAY) or _kept(answer, WAY | unfed, WAY)


def _nothing_left(answer: Answer, seed: int) -> str | None:
    return _kept(answer, {("input", "m0"), ("m1", "logits")}, set()) or _kept(answer, set(), set())


def _leaves_edges(answer: Answer, seed: int) -> str | None:
    edges = WAY | {("m0", "a1.h2"), ("a1.h3", "m1")}
    given = set(edges)
    answer(given)
    return None if given == edges else f"afterwards the set that went in lacked {_listed(edges - given)}"


def _random_graphs(answer: Answer, seed: int) -> str | None:
    rng = random.Random(seed)
    nodes = ["input", *(f"m{layer}" for layer in range(7)), "logits"]
    for _ in range(20):
        edges = {(u, v) for i, u in enumerate(nodes) for v in nodes[i + 1 :] if rng.random() < 0.25}
        fed, useful = {"input"}, {"logits"}
        for u in nodes:
            fed |= {v for source, v in edges if source == u and u in fed}
        for v in reversed(nodes):
            useful |= {u for u, node in edges if node == v and v in useful}
        wrong = _kept(answer, edges, {(u, v) for u, v in edges if u in fed and v in useful})
        if wrong:
            return wrong
    return None


WITHOUT_DEAD_ENDS = Exercise(
    lesson="09",
    task="prune what no way from the input to the logits uses",
    minutes=12,
    difficulty=2,
    reference=answers.without_dead_ends,
    properties=(
        Property("it gives a set of edges", _pairs, "Return a set of pairs (source, node), out of those that came in."),
        Property(
            "an edge on a way is kept", _all_useful,
            "The input has nothing before it and the logits have nothing behind: they are no dead ends.",
        ),
        Property(
            "an edge into a node that goes nowhere is dropped", _leads_nowhere,
            "A node from which no way leads to the logits does nothing. Look from the logits backwards too.",
        ),
        Property(
            "an edge out of a node that gets nothing is dropped", _not_fed,
            "Without the input behind it, a node sends the same on both prompts. Look from the input forwards too.",
        ),
        Property(
            "several dead ends in a row are dropped", _in_a_row,
            "When an edge is gone, the one before or behind it may have become a dead end: go on till none is left.",
        ),
        Property(
            "nothing is left if there is no way", _nothing_left, "Both ends have to be reached, by the same way."
        ),
        Property("the set that goes in is not changed", _leaves_edges, "Begin with a copy: set(edges)."),
        Property("it holds for random graphs", _random_graphs, "Draw the edges named here; follow them by hand."),
    ),
    hints=(
        "A node is fed if it is the input or an edge enters it; it is useful if it is the logits or an edge leaves it.",
        "Keep the edges from a fed node into a useful one. What you dropped may have fed, or used, others: repeat.",
        "kept = set(edges), then in a loop: fed = {'input'} | {v for _, v in kept}, useful = {'logits'} | {u for u, _ "
        "in kept}, further = those with u in fed and v in useful; stop when further == kept.",
    ),
)  # fmt: skip


# --- faithfulness


def _metrics(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    full, none = numbers(6, seed=seed, low=2.0, high=9.0), numbers(6, seed=seed + 1, low=-3.0, high=1.0)
    return none + numbers(6, seed=seed + 2) * (full - none), full, none


def _one_number(answer: Answer, seed: int) -> str | None:
    found = answer(*_metrics(seed))
    one = isinstance(found, float) or getattr(found, "shape", None) == ()  # a tensor, or NumPy's number
    return None if one else f"for six prompts it gave {shape_of(found)}"


def _as_tensor(found: Any) -> Tensor:
    return torch.as_tensor(found)


def _all_edges(answer: Answer, seed: int) -> str | None:
    _, full, none = _metrics(seed)
    return differs(_as_tensor(answer(full.clone(), full, none)), torch.tensor(1.0), "for the circuit of all edges")


def _no_edges(answer: Answer, seed: int) -> str | None:
    _, full, none = _metrics(seed)
    return differs(_as_tensor(answer(none.clone(), full, none)), torch.tensor(0.0), "for the circuit of no edges")


def _beyond(answer: Answer, seed: int) -> str | None:
    _, full, none = _metrics(seed)
    for f in (1.3, -0.4):
        found = _as_tensor(answer(none + f * (full - none), full, none))
        wrong = differs(found, torch.tensor(f), f"for a circuit that keeps {f} of every prompt's metric")
        if wrong:
            return wrong
    return None


def _means_first(answer: Answer, seed: int) -> str | None:
    circuit, full, none = torch.tensor([5.0, 3.0]), torch.tensor([10.0, 3.1]), torch.tensor([0.0, 3.0])
    expected = torch.tensor(2.5 / 5.05)
    found = _as_tensor(answer(circuit, full, none))
    return differs(found, expected, "with 5 of 10 lost on one prompt, and on another all of the 0.1 that there was,")


def _downwards(answer: Answer, seed: int) -> str | None:
    circuit, full, none = (-each for each in _metrics(seed))
    expected = (circuit.mean() - none.mean()) / (full.mean() - none.mean())
    return differs(_as_tensor(answer(circuit, full, none)), expected, "where all edges give less than none")


def _leaves_metrics(answer: Answer, seed: int) -> str | None:
    given = _metrics(seed)
    answer(*given)
    names = ("circuit", "full", "none")
    changed = [
        name for name, one, other in zip(names, given, _metrics(seed), strict=True) if not torch.equal(one, other)
    ]
    return f"afterwards `{changed[0]}` held other numbers" if changed else None


FAITHFULNESS = Exercise(
    lesson="09",
    task="normalised faithfulness, from the metric of every prompt",
    minutes=5,
    difficulty=1,
    reference=answers.faithfulness,
    properties=(
        Property("it gives one number", _one_number, "Take the mean over prompts."),
        Property(
            "what it was given is not overwritten", _leaves_metrics,
            "circuit -= none changes the caller's vector: write circuit - none.",
        ),
        Property("it is 1 with all edges", _all_edges, "Divide by what there is to be kept: full minus none."),
        Property("it is 0 with no edges", _no_edges, "Subtract what is there without any edge: none."),
        Property(
            "it may lie above 1 and below 0", _beyond,
            "A circuit may do more than the model, or push the other way. Do not clip, and take no absolute value.",
        ),
        Property(
            "means are taken before the ratio", _means_first,
            "A ratio for each prompt explodes where the two runs hardly differ. Mean over prompts first, then divide.",
        ),
        Property(
            "the distance keeps its sign", _downwards,
            "Divide by full.mean() - none.mean(), without abs(): a model may do worse with all its edges.",
        ),
    ),
    hints=(
        "Two differences: what the circuit has more than no edges, and what all edges have more than no edges.",
        "Take the mean of each of the three over prompts, before you divide.",
        "(circuit.mean() - none.mean()) / (full.mean() - none.mean())",
    ),
)  # fmt: skip


# --- control_circuit: 7 sources, 6 readers

UPSTREAM = torch.tensor([1, 4, 4, 5, 6, 7])
IS_EDGE = torch.arange(7)[:, None] < UPSTREAM


def _circuit() -> Tensor:
    """Of each reader another number of edges, from the first sources: none, one, ... of those upstream."""
    return torch.arange(7)[:, None] < torch.tensor([1, 0, 2, 1, 3, 3])


def _draw(answer: Answer, seed: int) -> Any:
    return answer(_circuit(), IS_EDGE.clone(), generator(seed))


def _same_shape(answer: Answer, seed: int) -> str | None:
    found = _draw(answer, seed)
    if isinstance(found, Tensor) and found.shape == IS_EDGE.shape and found.dtype == torch.bool:
        return None
    return f"it gave {shape_of(found)}" + (f" of {found.dtype}" if isinstance(found, Tensor) else "")


def _only_edges(answer: Answer, seed: int) -> str | None:
    for number in range(20):
        odd = int((_draw(answer, seed + 1000 * number) & ~IS_EDGE).sum())
        if odd:
            return f"{odd} of its edges do not exist in the graph"
    return None


def _own_edges_too(answer: Answer, seed: int) -> str | None:
    """Reader 0 has one source and one edge: it has to be drawn in every control."""
    drawn = torch.stack([_draw(answer, seed + 1000 * number) for number in range(20)])
    if drawn.any() and not (drawn & _circuit()).any():
        return "in 20 draws none of the circuit's own edges was drawn, not even where a reader has no other source"
    return None


def _same_number(answer: Answer, seed: int) -> str | None:
    for number in range(20):
        found, expected = int(_draw(answer, seed + 1000 * number).sum()), int(_circuit().sum())
        if found != expected:
            return f"it has {found} edges, the circuit {expected}"
    return None


def _same_readers(answer: Answer, seed: int) -> str | None:
    for number in range(20):
        found, expected = _draw(answer, seed + 1000 * number).sum(dim=0), _circuit().sum(dim=0)
        if not torch.equal(found, expected):
            return f"into its readers go {found.tolist()} edges, in the circuit {expected.tolist()}"
    return None


def _by_generator(answer: Answer, seed: int) -> str | None:
    if not torch.equal(_draw(answer, seed), _draw(answer, seed)):
        return "two generators with the same seed gave two circuits"
    return None


def _at_random(answer: Answer, seed: int) -> str | None:
    drawn = {tuple(_draw(answer, seed + 1000 * number).flatten().tolist()) for number in range(20)}
    return f"20 draws gave {len(drawn)} different circuits" if len(drawn) < 5 else None


def _blind(answer: Answer, seed: int) -> str | None:
    """Six standard errors: a right answer fails once in many millions of draws."""
    draws, g = 400, generator(seed)
    share = sum(answer(_circuit(), IS_EDGE.clone(), g).double() for _ in range(draws)) / draws
    expected = torch.where(IS_EDGE, (_circuit().sum(dim=0) / UPSTREAM).double(), 0)
    off = (share - expected).abs() > 6 * (expected * (1 - expected) / draws).sqrt() + 1e-9
    if not off.any():
        return None
    source, reader = off.nonzero()[0].tolist()
    return (
        f"reader {reader} has {int(UPSTREAM[reader])} sources and {int(_circuit()[:, reader].sum())} edges, and source "
        f"{source} was drawn in a share {float(share[source, reader]):.2f} of draws, expected was "
        f"{float(expected[source, reader]):.2f}"
    )


def _leaves_circuit(answer: Answer, seed: int) -> str | None:
    edges, exists = _circuit(), IS_EDGE.clone()
    answer(edges, exists, generator(seed))
    if torch.equal(edges, _circuit()) and torch.equal(exists, IS_EDGE):
        return None
    return "the tensors that went in were changed"


CONTROL_CIRCUIT = Exercise(
    lesson="09",
    task="design a random circuit that a found one has to beat",
    minutes=15,
    optional=True,
    difficulty=3,
    reference=answers.control_circuit,
    properties=(
        Property(
            "it gives booleans of the shape of the edges", _same_shape,
            "A tensor of torch.bool, like torch.zeros_like(edges): True where an edge is drawn.",
        ),
        Property(
            "it has only edges that exist", _only_edges,
            "The sources of a reader are those upstream of it: draw from exists[:, reader] only.",
        ),
        Property(
            "the circuit's own edges may be drawn too", _own_edges_too,
            "A control knows nothing of the circuit: each source upstream has the same chance, in the circuit or not.",
        ),
        Property("it has as many edges", _same_number, "Draw without putting back, so that no edge is drawn twice."),
        Property(
            "each reader gets as many edges as before", _same_readers,
            "Draw for each column by itself: edges[:, reader].sum() sources of those that it has.",
        ),
        Property(
            "the generator decides", _by_generator, "Pass it on: torch.randperm(n, generator=generator)."
        ),
        Property("two draws differ", _at_random, "Draw with the generator that is given, and do not seed it anew."),
        Property(
            "every source upstream has the same chance", _blind,
            "A control knows nothing of the circuit: it may draw its edges too, and prefers no source.",
        ),
        Property("what goes in is not changed", _leaves_circuit, "Begin with torch.zeros_like(edges)."),
    ),
    hints=(
        "Go through the readers. Of each count the edges, and draw as many of its sources, all with the same chance.",
        "Its sources: exists[:, reader].nonzero()[:, 0]. A random order: torch.randperm(n, generator=generator).",
        "found = torch.zeros_like(edges); for each reader: sources = exists[:, reader].nonzero()[:, 0]; "
        "order = torch.randperm(len(sources), generator=generator); "
        "found[sources[order[:int(edges[:, reader].sum())]], reader] = True.",
    ),
)  # fmt: skip

EXERCISES = (EDGE_SCORES, RULE_WEIGHTS, WITHOUT_DEAD_ENDS, FAITHFULNESS, CONTROL_CIRCUIT)
