"""Attribution: every score against finite differences, patching and integrals made without the code under test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from circuits_helpers import (
    KINDS,
    LENGTH,
    READINGS,
    all_edges,
    between,
    copies,
    derivatives,
    double,
    double_norms,
    kind_of,
    plus,
    random_prompts,
    shallow,
    some_edges,
    ungrouped,
)
from helpers import (
    DECODER_NAMES,
    DECODERS,
    VOCABULARY,
    assert_three_parts,
    tiny_decoder,
)
from torch import Tensor
from torch.nn import functional as F

from mdmcourse.circuits import Graph, Scores, attribute
from mdmcourse.errors import InputError
from mdmcourse.models import ARM, MDM

GROUPED = [(family, grouped) for family, grouped in DECODERS if grouped]
PROMPTS = random_prompts()
# Pairs that differ in one token only: an integral along a short way needs few steps.
NEAR = replace(PROMPTS, corrupted=torch.where(torch.arange(LENGTH) == 1, PROMPTS.corrupted, PROMPTS.clean))


@pytest.fixture
def _in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    double_norms(monkeypatch)


@pytest.fixture(params=DECODERS, ids=DECODER_NAMES)
def decoder(request: pytest.FixtureRequest, _in_float64: None) -> Any:
    return double(*request.param)


@pytest.fixture(params=READINGS)
def read(request: pytest.FixtureRequest) -> Callable[[Any], ARM | MDM]:
    return READINGS[request.param]


def assert_scores(found: Tensor, expected: Tensor, rtol: float = 1e-5) -> None:
    """Equal to rtol; what is far smaller than the largest of them, to rtol of a thousandth of that."""
    largest = float(expected.abs().max())
    assert largest > 1e-3, "nothing to compare"
    torch.testing.assert_close(found.double(), expected.double(), rtol=rtol, atol=rtol * 1e-3 * largest)


def by_prompt(scores: Scores, edges: list[tuple[str, str]]) -> Tensor:
    """Rows of edges, columns of prompts."""
    of_prompts = scores.need_prompts()
    return torch.stack([of_prompts[(slice(None), *scores.graph.edge("->".join(edge)))] for edge in edges])


def gauss_legendre(steps: int) -> list[tuple[float, float]]:
    points, weights = np.polynomial.legendre.leggauss(steps)
    return [(0.5 + 0.5 * x, 0.5 * w) for x, w in zip(points, weights, strict=True)]


def along_the_way(
    model: ARM | MDM, edges: list[tuple[str, str]], points: list[tuple[float, float]], metric: str = "logit_diff"
) -> Tensor:
    """The weighted mean of derivatives while the embedding stands between the corrupted (0) and the clean one (1)."""
    each = [weight * derivatives(model, PROMPTS, edges, metric, alpha, ("input",)) for alpha, weight in points]
    return torch.stack(each).sum(dim=0)


# --- what a score is ----------------------------------------------------------------------------------------


def test_decoders_by_hand_are_the_decoders(decoder: Any, read: Callable) -> None:
    """The reference of this file is one: it computes the logits of transformers."""
    model = read(decoder)
    hand, _, _ = between(model, PROMPTS)
    for readers in ("kv", "query"):
        raw, written = hand.run(PROMPTS.clean, readers=readers)
        expected = decoder(**model.inputs(PROMPTS.clean), use_cache=False).logits
        torch.testing.assert_close(raw, expected, rtol=1e-11, atol=1e-11)
    assert list(written) == list(Graph.of(model).sources)


def test_eap_is_the_directional_derivative_of_one_reader(decoder: Any, read: Callable) -> None:
    model = read(decoder)
    scores = attribute(model, PROMPTS, "eap", keep_prompts=True, batch_size=3)
    edges = some_edges(scores.graph)
    assert {kind_of(reader) for _, reader in edges} == set(KINDS)
    assert_scores(by_prompt(scores, edges), derivatives(model, PROMPTS, edges))


def test_eap_ig_is_the_mean_of_derivatives_along_the_way(decoder: Any) -> None:
    """The way: the embedding goes from the corrupted (0) to the clean prompt (1)."""
    for reading in READINGS if decoder.config.model_type == "llama" else ["full"]:
        model = READINGS[reading](decoder)
        scores = attribute(model, PROMPTS, "eap-ig", 2, keep_prompts=True, batch_size=3)
        edges = some_edges(scores.graph, each=2, seed=1)
        assert_scores(by_prompt(scores, edges), along_the_way(model, edges, gauss_legendre(2)))


@pytest.mark.usefixtures("_in_float64")
@pytest.mark.parametrize(
    ("rule", "steps", "points"),
    [
        ("left", 2, [(0.0, 0.5), (0.5, 0.5)]),
        ("right", 2, [(0.5, 0.5), (1.0, 0.5)]),
        ("midpoint", 2, [(0.25, 0.5), (0.75, 0.5)]),
        ("midpoint", 9, [((n + 0.5) / 9, 1 / 9) for n in range(9)]),  # more runs than a layer has attention readers
    ],
)
def test_every_rule_has_its_own_points(rule: Any, steps: int, points: list) -> None:
    model = READINGS["full"](double("qwen2", True))
    scores = attribute(model, PROMPTS, "eap-ig", steps, rule, keep_prompts=True, batch_size=3)
    edges = some_edges(scores.graph, each=2, seed=2)
    assert_scores(by_prompt(scores, edges), along_the_way(model, edges, points))


def test_eap_ig_activations_moves_the_source_group_itself(decoder: Any) -> None:
    """For the edges of a head all heads of its layer move; for those of an MLP, it alone; upstream all is clean."""
    model = READINGS["full"](decoder)
    scores = attribute(model, PROMPTS, "eap-ig-activations", 2, keep_prompts=True, batch_size=3)
    edges = all_edges(scores.graph)
    heads = [tuple(f"a{layer}.h{head}" for head in range(4)) for layer in (0, 1)]
    for moved in (("input",), heads[0], ("m0",), heads[1], ("m1",)):
        mine = [edge for edge in edges if edge[0] in moved]
        chosen = mine[:: max(1, len(mine) // 6)] + mine[-1:]
        expected = sum(
            weight * derivatives(model, PROMPTS, chosen, alpha=alpha, moved=moved)
            for alpha, weight in gauss_legendre(2)
        )
        assert_scores(by_prompt(scores, chosen), expected)


def test_eap_ig_activations_is_complete_for_every_group() -> None:
    """All that leaves a group adds up to what is lost when the group writes what it wrote on the corrupted prompt."""
    model = READINGS["full"](double("gpt2"))
    scores = attribute(model, PROMPTS, "eap-ig-activations", 8, keep_prompts=True, batch_size=3)
    hand, clean, corrupted = between(model, PROMPTS)
    for moved in ("input", "a0", "m0", "a1", "m1"):
        rows = [row for row, name in enumerate(scores.sources) if name.startswith(moved)]
        put = {scores.sources[row]: corrupted[scores.sources[row]] for row in rows}
        metric = [hand.metric(hand.run(PROMPTS.clean, put=each)[0], PROMPTS) for each in (clean, put)]
        found = scores.need_prompts()[:, rows].sum(dim=(1, 2)).double()
        torch.testing.assert_close(found, metric[0] - metric[1], rtol=1e-3, atol=1e-3)
        assert (metric[0] - metric[1]).abs().max() > 0.03


def test_the_input_row_is_the_same_for_both_integrals(decoder: Any) -> None:
    model = READINGS["block"](decoder)
    one = attribute(model, PROMPTS, "eap-ig", 2, batch_size=3)
    other = attribute(model, PROMPTS, "eap-ig-activations", 2, batch_size=3)
    torch.testing.assert_close(one.values[0], other.values[0])
    assert not torch.allclose(one.values[1:], other.values[1:], rtol=0.1)


def test_eap_ig_is_complete(decoder: Any) -> None:
    """With many steps, all that leaves the input adds up to the difference between the two runs."""
    model = READINGS["full"](decoder)
    scores = attribute(model, NEAR, "eap-ig", 24, keep_prompts=True, batch_size=3)
    hand, _, _ = between(model, PROMPTS)
    clean, corrupted = (hand.metric(hand.run(each)[0], NEAR) for each in (NEAR.clean, NEAR.corrupted))
    found, expected = scores.need_prompts()[:, 0].sum(dim=1).double(), clean - corrupted
    torch.testing.assert_close(found, expected, rtol=0, atol=0.01 * float(expected.abs().max()))
    assert scores.clean == pytest.approx(float(clean.mean()), rel=1e-6)
    assert scores.corrupted == pytest.approx(float(corrupted.mean()), rel=1e-6)


@pytest.mark.usefixtures("_in_float64")
@pytest.mark.parametrize(("family", "grouped", "reading"), [("llama", True, "full"), ("gpt2", False, "arm")])
def test_exact_is_one_edge_patched_at_a_time(family: str, grouped: bool, reading: str) -> None:
    """Every single edge."""
    model = READINGS[reading](double(family, grouped) if family == "llama" else shallow(family).double())
    scores = attribute(model, PROMPTS, "exact", keep_prompts=True, batch_size=3)
    edges = all_edges(scores.graph)
    assert len(edges) == scores.graph.n_edges
    hand, clean, corrupted = between(model, PROMPTS)
    many = copies(PROMPTS, len(edges))
    changes = [(reader, corrupted[source] - clean[source]) for source, reader in edges]
    patched = hand.metric(hand.run(many.clean, plus(changes))[0], many).view(len(edges), -1)
    assert_scores(by_prompt(scores, edges), hand.metric(hand.run(PROMPTS.clean)[0], PROMPTS) - patched)


@pytest.mark.usefixtures("_in_float64")
@pytest.mark.parametrize("metric", ["answer_logprob", "kl"])
@pytest.mark.parametrize("reading", READINGS)
def test_other_metrics_are_derived_as_well(metric: str, reading: str) -> None:
    """In an MDM the mask token, whose logit is the lowest number there is, does no harm."""
    model = READINGS[reading](double("qwen2", True))
    scores = attribute(model, PROMPTS, steps=2, metric=metric, keep_prompts=True, batch_size=3)
    edges = some_edges(scores.graph)
    assert_scores(by_prompt(scores, edges), along_the_way(model, edges, gauss_legendre(2), metric))


def test_float32_scores_are_those_of_float64_up_to_rounding() -> None:
    """With the norms of transformers as they are, in float32: the tests above put others in their place."""
    for family, grouped in DECODERS:
        with pytest.MonkeyPatch.context() as patch:
            double_norms(patch)
            high = attribute(READINGS["full"](double(family, grouped)), PROMPTS, steps=1, batch_size=3)
        low = attribute(READINGS["full"](tiny_decoder(family, grouped)), PROMPTS, steps=1, batch_size=3)
        torch.testing.assert_close(low.values, high.values, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", ["eap", "eap-ig"])
def test_bfloat16_scores_are_those_of_float32_up_to_rounding(method: Any) -> None:
    """Of the same weights. 16 runs are more than a layer has readers: sums are kept in two ways."""
    for family, grouped in DECODERS:
        rounded = tiny_decoder(family, grouped).bfloat16()
        low = attribute(READINGS["full"](rounded), PROMPTS, method, steps=16, keep_prompts=True, batch_size=3)
        high = attribute(READINGS["full"](rounded.float()), PROMPTS, method, steps=16, keep_prompts=True, batch_size=3)
        assert low.values.dtype == torch.float32
        error = (low.need_prompts() - high.need_prompts()).norm() / high.need_prompts().norm()
        assert 0 < error < 0.03, (family, grouped, error)


# --- grouped and ungrouped ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("_in_float64")
@pytest.mark.parametrize("method", ["eap", "eap-ig", "eap-ig-activations", "exact"])
@pytest.mark.parametrize(("family", "grouped"), GROUPED)
def test_the_ungrouped_graph_is_that_of_a_decoder_without_groups(family: str, grouped: bool, method: Any) -> None:
    decoder = double(family, grouped) if method in ("eap", "eap-ig") else shallow(family, grouped).double()
    alone = ungrouped(decoder)
    for read in READINGS.values() if method == "eap" else [READINGS["full"]]:
        found = attribute(read(decoder), PROMPTS, method, 2, readers="query", batch_size=3)
        expected = attribute(read(alone), PROMPTS, method, 2, batch_size=3)
        assert found.graph == expected.graph == Graph(decoder.config.num_hidden_layers, 4, 4)
        assert_scores(found.values, expected.values)


@pytest.mark.usefixtures("_in_float64")
@pytest.mark.parametrize("method", ["eap", "eap-ig", "eap-ig-activations"])
@pytest.mark.parametrize(("family", "grouped"), GROUPED)
def test_copies_of_a_key_head_share_its_score(family: str, grouped: bool, method: Any) -> None:
    """A gradient is a sum over all uses: the scores of the ungrouped graph, summed over a group, are the grouped ones.

    What is not shared has the same score in both.
    """
    model = READINGS["full"](double(family, grouped))
    shared, alone = (attribute(model, PROMPTS, method, 1, readers=kind, batch_size=3) for kind in ("kv", "query"))
    assert (shared.graph, alone.graph) == (Graph(2, 4, 2), Graph(2, 4, 4))
    for reader in shared.readers:
        column = shared.values[:, shared.readers.index(reader)]
        if ".kv" in reader:
            node, _, kind = reader.partition("<")
            layer, _, group = node.partition(".kv")
            members = [f"{layer}.h{int(group) * 2 + member}<{kind}" for member in (0, 1)]
        else:
            members = [reader]
        of_members = [alone.values[:, alone.readers.index(member)] for member in members]
        torch.testing.assert_close(sum(of_members), column, rtol=1e-5, atol=1e-6)
    assert all(float(alone.values[:, n].abs().sum()) > 0 for n in range(len(alone.readers)))


# --- positions, prompts, batches ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "reading"),
    [("eap", "arm"), ("eap", "full"), ("eap", "block"), ("eap-ig", "full"), ("eap-ig-activations", "full")],
)
def test_positions_add_up_to_the_scores(method: Any, reading: str) -> None:
    model = READINGS[reading](tiny_decoder("qwen3", True))
    scores = attribute(model, PROMPTS, method, 2, positions=True, keep_prompts=True, batch_size=2)
    plain = attribute(model, PROMPTS, method, 2, keep_prompts=True, batch_size=2)
    assert plain.by_position is None
    assert scores.by_position is not None
    assert scores.by_position.shape == (LENGTH, *scores.values.shape)
    torch.testing.assert_close(scores.by_position.sum(dim=0), scores.values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores.values, plain.values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores.need_prompts(), plain.need_prompts(), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("_in_float64")
def test_a_score_of_a_position_is_that_of_the_edge_at_this_position_alone() -> None:
    model = READINGS["full"](double("llama"))
    scores = attribute(model, PROMPTS, "eap", positions=True, batch_size=3)
    edges = some_edges(scores.graph, each=2)
    hand, clean, corrupted = between(model, PROMPTS)
    assert scores.by_position is not None
    for source, reader in edges:
        row, column = scores.graph.edge(f"{source}->{reader}")
        direction = (corrupted[source] - clean[source])[None] * torch.eye(LENGTH).double()[:, None, :, None]
        many = copies(PROMPTS, LENGTH)
        ends = [
            hand.metric(hand.run(many.clean, plus([(reader, eps * each) for each in direction]))[0], many)
            for eps in (1e-5, -1e-5)
        ]
        expected = ((ends[1] - ends[0]) / 2e-5).view(LENGTH, -1).mean(dim=1)
        assert_scores(scores.by_position[:, row, column], expected)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_masked_positions_work_in_an_mdm_and_never_in_an_arm(family: str) -> None:
    """The last token is masked in every prompt, behind its target."""
    decoder = tiny_decoder(family)
    of_arm, of_mdm = (
        attribute(READINGS[reading](decoder), PROMPTS, steps=2, positions=True, batch_size=3).by_position
        for reading in ("arm", "full")
    )
    assert of_arm is not None
    assert of_mdm is not None
    target = int(PROMPTS.target.max())
    assert (PROMPTS.clean[:, target:] == 2).all()
    for position in range(target, LENGTH):
        assert (of_arm[position] == 0).all()
        assert (of_mdm[position, 0] == 0).all()  # the mask is the same in both prompts
        assert (of_mdm[position, 1:].abs() > 1e-4).any()
    assert (of_arm[:target] != 0).flatten(1).any(dim=1).all()


def test_prompts_are_kept_and_their_mean_is_the_score(read: Callable) -> None:
    model = read(tiny_decoder("qwen2", True))
    scores = attribute(model, PROMPTS, "eap", keep_prompts=True, batch_size=2)
    assert scores.prompts == 3
    torch.testing.assert_close(scores.need_prompts().mean(dim=0), scores.values)
    for n in range(3):
        alone = attribute(model, PROMPTS.select(torch.tensor([n])), "eap", batch_size=1)
        torch.testing.assert_close(scores.need_prompts()[n], alone.values, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(scores.of(torch.tensor([n])).values, alone.values, rtol=1e-4, atol=1e-5)


def test_scores_without_prompts_say_what_they_would_need() -> None:
    scores = attribute(ARM(tiny_decoder("llama")), PROMPTS, "eap")
    with pytest.raises(InputError) as caught:
        scores.of(torch.tensor([0]))
    assert_three_parts(caught.value)


@pytest.mark.parametrize("method", ["eap", "eap-ig", "eap-ig-activations", "exact"])
def test_the_size_of_a_batch_does_not_matter(method: Any) -> None:
    decoder = tiny_decoder("llama", True) if method in ("eap", "eap-ig") else shallow("llama", True)
    model, prompts = READINGS["full"](decoder), random_prompts(4)
    expected = attribute(model, prompts, method, 2, batch_size=4)
    for batch_size in (1, 3, None) if method == "eap" else (3, None):
        found = attribute(model, prompts, method, 2, batch_size=batch_size)
        torch.testing.assert_close(found.values, expected.values, rtol=1e-4, atol=1e-5)
        assert found.clean == pytest.approx(expected.clean, abs=1e-5)
        assert found.corrupted == pytest.approx(expected.corrupted, abs=1e-5)


@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("tokens", [1, 5, 2 * LENGTH])
@pytest.mark.parametrize("steps", [2, 9])
def test_gradients_written_out_in_parts_give_the_same_scores(
    tokens: int, steps: int, positions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One token at a time, some of a prompt's, and all of two prompts out of three; of few and of many steps, which are
    summed up in different ways."""
    model, prompts = READINGS["full"](tiny_decoder("qwen2", True)), random_prompts(3)
    whole = attribute(model, prompts, steps=steps, positions=positions)
    token = Graph.of(model).n_readers * model.decoder.config.hidden_size * 4
    monkeypatch.setattr("mdmcourse.circuits.gradients.WRITTEN_OUT", tokens * token)
    in_parts = attribute(model, prompts, steps=steps, positions=positions)
    torch.testing.assert_close(in_parts.values, whole.values, rtol=1e-4, atol=1e-5)
    if positions:
        torch.testing.assert_close(in_parts.by_position, whole.by_position, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_what_stands_behind_the_target_is_nothing_to_an_arm_and_input_to_an_mdm(family: str) -> None:
    """Three more tokens at the end, as padding would be."""
    decoder = tiny_decoder(family)
    longer = replace(
        PROMPTS, **{name: F.pad(getattr(PROMPTS, name), (0, 3), value=4) for name in ("clean", "corrupted")}
    )
    for reading, same in (("arm", True), ("full", False)):
        model = READINGS[reading](decoder)
        plain, padded = (attribute(model, prompts, steps=2, batch_size=3).values for prompts in (PROMPTS, longer))
        assert torch.allclose(plain, padded, rtol=1e-4, atol=1e-5) == same


def test_prompts_of_two_tokens_and_prompts_that_do_not_differ(read: Callable) -> None:
    model = read(tiny_decoder("qwen2", True))
    cut = {name: getattr(PROMPTS, name)[:, :2] for name in ("clean", "corrupted")}
    short = attribute(model, replace(PROMPTS, **cut, target=torch.ones(3, dtype=torch.long)), steps=40, batch_size=3)
    assert abs(short.integration_error) < 0.02
    same = attribute(model, replace(PROMPTS, corrupted=PROMPTS.clean), steps=2, batch_size=3)
    assert (same.values == 0).all()
    assert np.isnan(same.integration_error)
    for method in ("eap", "exact"):  # nothing is integrated
        scores = attribute(model, PROMPTS.select(slice(0, 1)), method)
        assert np.isnan(scores.integration_error)


# --- metrics ------------------------------------------------------------------------------------------------


def test_kl_is_zero_at_the_clean_prompt_and_so_is_its_slope(read: Callable) -> None:
    model = read(tiny_decoder("llama"))
    flat = attribute(model, PROMPTS, "eap", metric="kl", batch_size=3)
    assert flat.clean == pytest.approx(0, abs=1e-6)
    assert flat.corrupted < -0.01
    assert flat.values.abs().max() < 1e-4
    assert attribute(model, PROMPTS, "eap-ig", metric="kl", batch_size=3).values.abs().max() > 1e-2


def test_a_function_is_a_metric() -> None:
    """It is given logits at the target, the prompts of the batch, and the clean run's logits."""
    model = READINGS["full"](tiny_decoder("llama"))

    def mine(logits: Tensor, prompts: Any, clean: Tensor) -> Tensor:
        assert logits.shape == clean.shape == (len(prompts), VOCABULARY)
        rows = torch.arange(len(prompts))
        return 3 * logits[rows, prompts.answer] - 3 * logits[rows, prompts.distractor]

    found = attribute(model, PROMPTS, steps=2, metric=mine, batch_size=2)
    expected = attribute(model, PROMPTS, steps=2, batch_size=2)
    torch.testing.assert_close(found.values, 3 * expected.values, rtol=1e-4, atol=1e-5)
    assert (found.about["metric"], expected.about["metric"]) == ("mine", "logit_diff")
