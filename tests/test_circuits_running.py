"""Running circuits: against decoders by hand in which every reader is sent exactly what the circuit says."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from circuits_helpers import (
    MASK,
    READINGS,
    ByHand,
    all_edges,
    between,
    double,
    double_norms,
    only,
    random_circuit,
    random_prompts,
    random_scores,
    some_edges,
)
from helpers import DECODER_NAMES, DECODERS, assert_three_parts, tiny_decoder
from torch import Tensor

from mdmcourse.circuits import (
    FRACTIONS,
    Circuit,
    Faithfulness,
    Graph,
    Scores,
    attribute,
    faithfulness_curve,
    run_circuit,
    run_circuits,
)
from mdmcourse.circuits.adapter import anatomy
from mdmcourse.circuits.faithfulness import _mean
from mdmcourse.errors import CheckpointError
from mdmcourse.models import ARM, MDM

PROMPTS = random_prompts(4)
ABLATIONS = ("counterfactual", "zero", "mean", "mean-position")


@pytest.fixture(params=DECODERS, ids=DECODER_NAMES)
def shape(request: pytest.FixtureRequest) -> tuple[str, bool]:
    return request.param


@pytest.fixture(params=READINGS)
def read(request: pytest.FixtureRequest) -> Callable[[Any], ARM | MDM]:
    return READINGS[request.param]


@pytest.fixture
def _in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    double_norms(monkeypatch)


def replacements(hand: ByHand, ablation: str) -> dict[str, Tensor]:
    """What every source writes where its edges are removed."""
    clean, corrupted = hand.run(PROMPTS.clean)[1], hand.run(PROMPTS.corrupted)[1]
    if ablation == "counterfactual":
        return corrupted
    change: Callable[[Tensor], Tensor] = {
        "zero": torch.zeros_like,
        "mean": lambda x: x.mean(dim=(0, 1)).expand_as(x),
        "mean-position": lambda x: x.mean(dim=0).expand_as(x),
    }[ablation]
    return {source: change(x) for source, x in clean.items()}


def slowly(model: ARM | MDM, circuit: Circuit, ablation: str = "counterfactual", metric: str = "logit_diff") -> Tensor:
    """The metric of every prompt by hand: each reader's input is put together from what it is sent, edge by edge."""
    hand = ByHand(model)
    kept = {tuple(name.split("->")) for name in circuit.names()}
    readers = "kv" if circuit.graph == Graph.of(model) else "query"
    raw, _ = hand.run(PROMPTS.clean, only(kept, replacements(hand, ablation)), readers=readers)
    return hand.metric(raw, PROMPTS, metric, hand.run(PROMPTS.clean)[0])


# --- what is computed ---------------------------------------------------------------------------------------


def test_all_edges_are_the_clean_run_and_none_the_corrupted_one(shape: tuple, read: Callable) -> None:
    """In float32, as readers run it."""
    model = read(tiny_decoder(*shape))
    rows = torch.arange(len(PROMPTS))
    with torch.no_grad():
        logits = [model.logits(tokens)[rows, PROMPTS.target] for tokens in (PROMPTS.clean, PROMPTS.corrupted)]
    expected = torch.stack([each[rows, PROMPTS.answer] - each[rows, PROMPTS.distractor] for each in logits])
    assert (expected[0] - expected[1]).abs().max() > 0.1
    for readers in ("kv", "query") if shape[1] else ("kv",):
        graph = Graph.of(model, readers)
        found = run_circuits(model, PROMPTS, [Circuit.full(graph), Circuit.empty(graph)])
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.usefixtures("_in_float64")
def test_random_circuits_send_every_reader_what_they_say(shape: tuple, read: Callable) -> None:
    model = read(double(*shape))
    for readers in ("kv", "query") if shape[1] else ("kv",):
        graph = Graph.of(model, readers)
        circuits = [random_circuit(graph, share, seed) for seed, share in enumerate((0.04, 0.2, 0.5, 0.9))]
        found = run_circuits(model, PROMPTS, circuits)
        expected = torch.stack([slowly(model, circuit) for circuit in circuits])
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        assert expected.std(dim=0).min() > 1e-3


@pytest.mark.usefixtures("_in_float64")
def test_layers_that_lose_edges_into_some_kinds_of_readers_only(shape: tuple) -> None:
    """Into the heads, the MLP, the logits or none of them, each layer for itself: what one layer's readers were sent
    must not be sent to another's."""
    model = READINGS["full"](double(*shape))
    graph = Graph.of(model)
    some = random_circuit(graph, 0.5).edges
    circuits = []
    for heads in itertools.product((False, True), repeat=graph.layers):
        for mlps in itertools.product((False, True), repeat=graph.layers):
            lost = torch.zeros(graph.n_readers, dtype=torch.bool)
            for layer in range(graph.layers):
                columns = graph.attention_readers(layer)
                lost[columns["q"].start : columns["v"].stop] = heads[layer]
                lost[graph.mlp_reader(layer)] = mlps[layer]
            lost[graph.logits_reader] = heads[0] != mlps[0]
            circuits.append(Circuit.of(graph, graph.exists & (some | ~lost)))
    found = run_circuits(model, PROMPTS, circuits)
    expected = torch.stack([slowly(model, circuit) for circuit in circuits])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert len(expected.unique(dim=0)) > len(circuits) / 2


@pytest.mark.usefixtures("_in_float64")
@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("shape", [("llama", True), ("gpt2", False)], ids=["llama-grouped", "gpt2"])
def test_removed_edges_carry_what_the_ablation_says(shape: tuple, ablation: Any) -> None:
    model = READINGS["full"](double(*shape))
    for readers in ("kv", "query") if shape[1] else ("kv",):
        graph = Graph.of(model, readers)
        for metric in ("logit_diff", "kl"):
            circuits = [Circuit.empty(graph), random_circuit(graph, 0.6)]
            found = run_circuits(model, PROMPTS, circuits, ablation, metric=metric)
            expected = torch.stack([slowly(model, circuit, ablation, metric) for circuit in circuits])
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("_in_float64")
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_without_edges_the_logits_read_the_sum_of_the_replacements(ablation: Any) -> None:
    """In one line: the last norm and the head, of that sum."""
    for family in ("llama", "gpt2"):
        model = READINGS["full"](double(family))
        total = torch.stack(list(replacements(ByHand(model), ablation).values())).sum(dim=0)
        decoder, rows = model.decoder, torch.arange(len(PROMPTS))
        if family == "gpt2":  # biases after the heads: nobody's, so that nothing removes them
            total = total + sum(block.attn.c_proj.bias for block in decoder.transformer.h)
        norm = decoder.transformer.ln_f if family == "gpt2" else decoder.model.norm
        with torch.no_grad():
            logits = decoder.lm_head(norm(total))[rows, PROMPTS.target - 1]
        found = run_circuit(model, PROMPTS, Circuit.empty(Graph.of(model)), ablation)
        expected = logits[rows, PROMPTS.answer] - logits[rows, PROMPTS.distractor]
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        assert (float(expected.abs().max()) == 0) == ((family, ablation) == ("llama", "zero"))


@pytest.mark.usefixtures("_in_float64")
def test_an_unshifted_mdm_is_judged_at_its_own_position() -> None:
    model = MDM(double("llama"), mask_id=MASK, shift=False)
    circuit = random_circuit(Graph.of(model), 0.5)
    torch.testing.assert_close(run_circuit(model, PROMPTS, circuit), slowly(model, circuit), rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("_in_float64")
def test_one_removed_edge_is_its_exact_score(read: Callable) -> None:
    """Two ways to the same number; a whole circuit is run, one edge is attributed."""
    model = read(double("qwen3", True))
    hand, _, corrupted = between(model, PROMPTS)
    full = Circuit.full(Graph.of(model))
    everything = run_circuit(model, PROMPTS, full)
    edges = some_edges(full.graph, each=1)
    assert len(all_edges(full.graph)) == len(full)
    for source, reader in edges:
        without = Circuit.full(full.graph)
        without.edges[full.graph.edge(f"{source}->{reader}")] = False

        def reads(name: str, upstream: dict[str, Tensor], source: str = source, reader: str = reader) -> Tensor:
            sent = sum(upstream.values())
            return sent + (corrupted[source] - upstream[source] if name == reader else 0)  # type: ignore[return-value]

        expected = hand.metric(hand.run(PROMPTS.clean, reads)[0], PROMPTS)
        torch.testing.assert_close(run_circuit(model, PROMPTS, without), expected, rtol=1e-9, atol=1e-9)
        assert (expected - everything).abs().max() > 1e-5


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_the_size_of_a_batch_does_not_matter(ablation: Any) -> None:
    """A mean is one over all prompts, not over those of a batch."""
    model = READINGS["full"](tiny_decoder("llama", True))
    circuits = [random_circuit(Graph.of(model, "query"), share) for share in (0.0, 0.5)]
    expected = run_circuits(model, PROMPTS, circuits, ablation, batch_size=4)
    assert expected.shape == (2, 4)
    for batch_size in (1, 3):
        found = run_circuits(model, PROMPTS, circuits, ablation, batch_size=batch_size)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_circuits_together_run_as_each_alone() -> None:
    model = ARM(tiny_decoder("qwen2", True))
    circuits = [random_circuit(Graph.of(model), share) for share in (0.3, 0.7)]
    found = run_circuits(model, PROMPTS, circuits)
    for row, circuit in zip(found, circuits, strict=True):
        assert torch.equal(run_circuit(model, PROMPTS, circuit), row)
    assert run_circuits(model, PROMPTS, []).shape == (0, 4)


def test_scores_of_an_arm_choose_a_circuit_of_an_mdm() -> None:
    """Cross-faithfulness: of the same decoder, or of another of the same shape and another family."""
    arm, mdm = ARM(tiny_decoder("llama", True)), READINGS["full"](tiny_decoder("qwen3", True, seed=1))
    scores = attribute(arm, PROMPTS, "eap", batch_size=4)
    for model in (MDM.from_arm(arm, weights="share", mask_id=MASK), mdm):
        found = faithfulness_curve(model, PROMPTS, scores, (0.0, 0.3, 1.0))
        by_itself = run_circuit(model, PROMPTS, Circuit.top(scores, int(found.asked[1])))
        torch.testing.assert_close(found.by_prompt[1].float(), by_itself, rtol=1e-5, atol=1e-5)
        assert found.about["scores"] == scores.about


# --- faithfulness -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("selection", ["top", "greedy"])
@pytest.mark.parametrize("readers", ["kv", "query"])
def test_faithfulness_goes_from_none_to_all(selection: Any, readers: Any) -> None:
    model = READINGS["full"](tiny_decoder("qwen2", True))
    scores = random_scores(Graph.of(model, readers))
    fractions = (0.0, 0.001, 0.1, 0.5, 1.0)
    found = faithfulness_curve(model, PROMPTS, scores, fractions, selection=selection)
    n = scores.graph.n_edges
    assert found.asked.tolist() == [0, 1, round(0.1 * n), round(0.5 * n), n]
    assert (found.kept <= found.asked).all()
    assert found.kept[[0, -1]].tolist() == [0, n]
    assert found.values[0] == pytest.approx(0, abs=1e-6)
    assert found.values[-1] == pytest.approx(1, abs=1e-6)
    assert found.by_prompt.shape == (5, 4)
    choose = {"top": Circuit.top, "greedy": Circuit.greedy}[selection]
    circuit = choose(scores, int(found.asked[3]))
    assert found.kept[3] == len(circuit)
    torch.testing.assert_close(found.by_prompt[3].float(), run_circuit(model, PROMPTS, circuit))
    m_all, m_none = (
        float(run_circuit(model, PROMPTS, each(scores.graph)).mean()) for each in (Circuit.full, Circuit.empty)
    )
    by_hand = (float(run_circuit(model, PROMPTS, circuit).mean()) - m_none) / (m_all - m_none)
    assert float(found.values[3]) == pytest.approx(by_hand, rel=1e-4)


def by_numbers() -> Faithfulness:
    generator = torch.Generator().manual_seed(0)
    by_prompt, full, none = (torch.randn(*size, generator=generator).double() for size in ((4, 6), (6,), (6,)))
    return Faithfulness(
        fractions=torch.tensor([0.0, 0.1, 0.4, 1.0], dtype=torch.float64),
        asked=torch.tensor([0, 10, 40, 100]),
        kept=torch.tensor([0, 7, 38, 100]),
        by_prompt=by_prompt,
        full=full + 5,
        none=none,
        about={"selection": "top"},
    )


def test_areas_are_trapezoids() -> None:
    found = by_numbers()
    m, m_all, m_none = found.by_prompt.numpy().mean(axis=1), found.full.numpy().mean(), found.none.numpy().mean()
    f = (m - m_none) / (m_all - m_none)
    x = found.fractions.numpy()
    assert np.allclose(found.values.numpy(), f, rtol=1e-12)
    assert found.cpr == pytest.approx(sum((x[n + 1] - x[n]) * (f[n] + f[n + 1]) / 2 for n in range(3)), rel=1e-9)
    g = np.abs(1 - f)
    assert found.cmd == pytest.approx(sum((x[n + 1] - x[n]) * (g[n] + g[n + 1]) / 2 for n in range(3)), rel=1e-9)


def test_without_an_effect_there_is_no_share_of_it_and_one_point_has_no_area() -> None:
    found = by_numbers()
    same = replace(found, none=found.full)
    assert same.values.isnan().all()
    assert math.isnan(same.cpr)
    by_size = {name: getattr(found, name)[:1] for name in ("fractions", "asked", "kept", "by_prompt")}
    one = replace(found, **by_size)
    assert math.isnan(one.cpr)
    assert math.isnan(one.cmd)


def test_faithfulness_of_some_prompts_is_made_from_their_means() -> None:
    found, prompts = by_numbers(), torch.tensor([4, 0, 4])
    m, m_all, m_none = found.by_prompt[:, prompts].mean(dim=1), found.full[prompts].mean(), found.none[prompts].mean()
    torch.testing.assert_close(found.of(prompts).values, (m - m_none) / (m_all - m_none))
    assert not torch.allclose(found.of(prompts).values, found.values)


def test_faithfulness_comes_back_from_its_file(tmp_path: Any) -> None:
    model = ARM(tiny_decoder("llama"))
    found = faithfulness_curve(model, PROMPTS, attribute(model, PROMPTS, "eap", batch_size=4), (0.1, 1.0))
    found.save(tmp_path / "curve")
    read = Faithfulness.load(tmp_path / "curve")
    for name in ("fractions", "asked", "kept", "by_prompt", "full", "none", "values"):
        assert torch.equal(getattr(read, name), getattr(found, name)), name
    assert (read.about, read.cpr, read.cmd, repr(read)) == (found.about, found.cpr, found.cmd, repr(found))
    with pytest.raises(CheckpointError) as caught:
        Scores.load(tmp_path / "curve")
    assert_three_parts(caught.value, "Faithfulness")


def test_the_fractions_of_mib_are_the_default() -> None:
    model = ARM(tiny_decoder("gpt2"))
    found = faithfulness_curve(model, PROMPTS, random_scores(Graph.of(model)))
    assert found.fractions.tolist() == list(FRACTIONS) == [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]


# --- on other devices, in other dtypes ----------------------------------------------------------------------


def test_few_sources_are_picked_out_on_the_device_of_the_stream() -> None:
    """The graph's own tensors stay on the CPU: whatever picks from the stream is first sent to where that is."""
    from torch.overrides import TorchFunctionMode

    sent, picked = set[int](), list[Tensor]()

    class Watch(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            if function is Tensor.to and isinstance(args[-1], torch.device):
                sent.add(id(result))
            if function is Tensor.index_select and args[0].ndim == 4:
                picked.append(args[2])
            return result

    model = ARM(tiny_decoder("llama", True))
    with Watch():
        run_circuit(model, PROMPTS, Circuit.top(random_scores(Graph.of(model)), 1, prune=False))
    assert picked
    assert {id(index) for index in picked} <= sent


@pytest.mark.parametrize("ablation", ["mean", "mean-position"])
def test_means_in_bfloat16_are_those_of_all_prompts_in_any_batches(ablation: Any) -> None:
    model, prompts = ARM(tiny_decoder("llama", True).bfloat16()), random_prompts(13)
    with torch.no_grad():
        one, all_together = (
            _mean(model, anatomy(model.decoder), prompts, ablation, batch_size) for batch_size in (1, len(prompts))
        )
    for found, expected in zip(one.mlps, all_together.mlps, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
