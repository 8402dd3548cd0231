"""Comparing circuits: every measure against a slow definition, and the limits that it must reach."""

import itertools
import json
import math
from dataclasses import replace

import pytest
import torch
from circuits_helpers import MASK, random_prompts
from helpers import assert_close, tiny_decoder

from mdmcourse import load_pair
from mdmcourse.circuits import Comparison, Graph, Scores, attribute, compare, faithfulness_curve
from mdmcourse.circuits.comparison import (
    MEASURES,
    chance_overlap,
    entropy,
    gini,
    overlap_curve,
    rank_correlation,
    reader_profile,
    source_profile,
)
from mdmcourse.circuits.metrics import answer_logprob
from mdmcourse.cli import main
from mdmcourse.errors import InputError, UnknownNameError
from mdmcourse.models import ARM, MDM
from mdmcourse.study.circuits import as_text, without_nan
from mdmcourse.tasks import get_task

SIDES = ("clean", "corrupted")
GRAPH = Graph(layers=2, heads=4, kv_heads=2)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def made_up(seed=0, prompts=12, scale=0.0):
    """Scores of random edges; with `scale` every prompt says something else."""
    generator = seeded(seed)
    shape = GRAPH.exists.shape
    common = torch.randn(shape, generator=generator)
    by_prompt = (common + scale * torch.randn(prompts, *shape, generator=generator)) * GRAPH.exists
    return Scores(by_prompt.mean(dim=0), 2, 4, 2, 1.0, 0.0, prompts, {"task": "made up"}, by_prompt)


# Measures


def test_overlap_is_the_jaccard_index_of_the_strongest_edges():
    one, two = torch.randn(2, 60, generator=seeded())
    two = one + two
    ks = torch.tensor([1, 2, 5, 17, 59, 60])
    for k, found in zip(ks.tolist(), overlap_curve(one, two, ks).tolist(), strict=True):
        sets = [set(sorted(range(60), key=lambda i, x=x: -abs(x[i].item()))[:k]) for x in (one, two)]
        assert found == pytest.approx(len(sets[0] & sets[1]) / len(sets[0] | sets[1]))


@pytest.mark.parametrize(("n", "k"), [(5, 1), (6, 3), (7, 5), (7, 7)])
def test_chance_is_the_mean_over_all_pairs_of_sets(n, k):
    sets = [set(chosen) for chosen in itertools.combinations(range(n), k)]
    mean = sum(len(a & b) / len(a | b) for a in sets for b in sets) / len(sets) ** 2
    assert chance_overlap(k, n) == pytest.approx(mean)


def test_chance_holds_for_the_graph_of_a_large_model():
    assert chance_overlap(100_000, 1_592_881) == pytest.approx(100_000 / (2 * 1_592_881 - 100_000), rel=1e-3)


def test_rank_correlation_is_spearmans():
    from scipy.stats import spearmanr

    one, two = torch.randn(2, 40, generator=seeded(1))
    two = one + two
    assert rank_correlation(one, two) == pytest.approx(spearmanr(one.abs(), two.abs()).statistic)
    assert rank_correlation(one, -3 * one) == pytest.approx(1)


def test_concentration_has_its_known_values():
    one_has_all, equal = torch.tensor([[0.0, 0.0, 0.0, 2.0], [3.0, 3.0, 3.0, 3.0]])
    assert_close(entropy(torch.stack([one_has_all, equal])), torch.tensor([0.0, math.log(4)]))
    assert_close(gini(torch.stack([one_has_all, equal])), torch.tensor([0.75, 0.0]))
    weights = torch.rand(9, generator=seeded())
    pairs = sum(abs(a - b) for a in weights.tolist() for b in weights.tolist())
    assert gini(weights[None]).item() == pytest.approx(pairs / (2 * 9 * weights.sum().item()))


def test_profiles_add_up_the_scores_of_each_layer():
    scores = made_up()
    size = scores.values.abs()
    sources, readers = source_profile(size, GRAPH), reader_profile(size, GRAPH)
    expected_sources, expected_readers = torch.zeros(3), torch.zeros(3)
    for row, source in enumerate(scores.sources):
        for column, reader in enumerate(scores.readers):
            left = 0 if source == "input" else 1 + int(source[1])
            arrived = 2 if reader == "logits" else int(reader[1])
            expected_sources[left] += size[row, column]
            expected_readers[arrived] += size[row, column]
    assert_close(sources, expected_sources / size.sum())
    assert_close(readers, expected_readers / size.sum())


# The whole


def test_a_model_compared_with_itself_is_the_same():
    scores = made_up(scale=0.5)
    same = compare(scores, scores, bootstrap=20, halvings=5)
    assert (same.overlap == 1).all()
    assert same.measures["rank_correlation"]["between"] == pytest.approx([1, 1, 1])
    for name in MEASURES:
        assert same.measures[name]["difference"] == [0, 0, 0]
        assert same.measures[name]["one"] == same.measures[name]["two"]
    assert torch.equal(same.ceiling_one, same.ceiling_two)
    assert_close(same.overlap_of_halves, same.ceiling_one)


def test_prompts_that_agree_reach_the_ceiling_of_one():
    both = compare(made_up(0), made_up(1), bootstrap=10, halvings=5)
    assert_close(both.ceiling_one, torch.ones(len(both.ks)))
    assert_close(both.overlap_of_halves, both.overlap[:, 0])
    assert_close(both.overlap[:, 1], both.overlap[:, 2])  # no prompt, no spread
    assert (both.overlap[:, 0] < 1).all()


def test_scores_that_have_nothing_in_common_overlap_by_chance():
    curves = [compare(made_up(s), made_up(s + 100), ks=[10], bootstrap=0, halvings=1).overlap[0, 0] for s in range(40)]
    assert torch.stack(curves).mean().item() == pytest.approx(chance_overlap(10, GRAPH.n_edges), abs=0.02)


def test_intervals_hold_the_value_and_shrink_with_prompts():
    few = compare(made_up(0, 12, 1.0), made_up(1, 12, 1.0), bootstrap=100, halvings=2)
    many = compare(made_up(0, 200, 1.0), made_up(1, 200, 1.0), bootstrap=100, halvings=2)
    for name in ("source_centre", "effective_edges"):
        widths = []
        for both in (few, many):
            value, low, high = both.measures[name]["difference"]
            widths.append(high - low)
        assert low < value < high
        assert widths[1] < 0.6 * widths[0]


def test_a_seed_decides_the_comparison():
    one, two = made_up(0, scale=1.0), made_up(1, scale=1.0)
    first, again, other = (compare(one, two, bootstrap=10, halvings=3, seed=seed) for seed in (0, 0, 1))
    assert first.measures == again.measures
    assert torch.equal(first.ceiling_one, again.ceiling_one)
    assert first.measures != other.measures


def test_each_circuit_is_run_in_each_model(tokenizer, tmp_path):
    pair = load_pair("toy-chain")
    prompts = get_task("ioi").prompts(tokenizer, 12)
    scores = [attribute(model, prompts, steps=2, keep_prompts=True) for model in (pair.arm, pair.mdm)]
    both = compare(*scores, models=(pair.arm, pair.mdm), prompts=prompts, fractions=[0.1, 1.0], bootstrap=5, halvings=2)
    assert set(both.cross) == {f"circuit of {whose} in {where}" for whose in ("one", "two") for where in ("one", "two")}
    for curve in both.cross.values():
        assert curve[-1] == pytest.approx([1, 1, 1])
    both.save(tmp_path / "comparison.safetensors")
    again = Comparison.load(tmp_path / "comparison.safetensors")
    assert again.cross == both.cross
    assert torch.equal(again.overlap, both.overlap)
    assert repr(again) == repr(both)


def test_the_error_of_the_integral_falls_with_steps(tokenizer):
    pair = load_pair("toy-chain")
    prompts = get_task("ioi").prompts(tokenizer, 12)
    few, many = (attribute(pair.arm, prompts, steps=steps).integration_error for steps in (1, 60))
    assert abs(many) < 1e-3 < abs(few)


def test_circuits_are_judged_by_the_metric_of_the_scores():
    model, prompts = ARM(tiny_decoder("llama")), random_prompts(6)
    both = {"models": (model, model), "prompts": prompts, "fractions": (0.1, 0.5), "bootstrap": 0, "halvings": 1}
    scores = attribute(model, prompts, steps=1, metric="answer_logprob", keep_prompts=True)
    found = [value for value, *_ in compare(scores, scores, **both).cross["circuit of one in two"]]
    expected = faithfulness_curve(model, prompts, scores, (0.1, 0.5), metric="answer_logprob").values
    assert found == pytest.approx(expected.tolist(), rel=1e-5)

    def logit_diff(logits, batch, clean):
        return 2 * answer_logprob(logits, batch, clean)

    own = attribute(model, prompts, steps=1, metric=logit_diff, keep_prompts=True)
    for one, two in ((own, own), (scores, own)):
        with pytest.raises(InputError, match="own logit_diff"):
            compare(one, two, **both)
        given = compare(one, two, metric=logit_diff, **both)
        assert [value for value, *_ in given.cross["circuit of one in two"]] == pytest.approx(found, rel=1e-3)
        compare(one, two, bootstrap=0, halvings=1)  # nothing is run


# Errors


def test_scores_of_different_prompts_are_refused():
    model, prompts = ARM(tiny_decoder("llama")), random_prompts(6)
    one, other = (attribute(model, each, steps=1, keep_prompts=True) for each in (prompts, random_prompts(6, seed=1)))
    settings = {"bootstrap": 0, "halvings": 1}
    few, mask = torch.arange(4), torch.arange(6) < 4
    for a, b in ((one, other), (one.of(few), one.of(few + 1))):
        with pytest.raises(InputError, match="different prompts"):
            compare(a, b, **settings)
    compare(one.of(few), one.of(mask), **settings)
    # As an ARM reads them that has no row for the mask: token 0 in its place.
    without = replace(prompts, **{n: getattr(prompts, n).masked_fill(prompts.clean == MASK, 0) for n in SIDES})
    compare(one, attribute(model, without, steps=1, keep_prompts=True), **settings)


def test_what_cannot_be_compared_is_refused():
    one = made_up()
    with pytest.raises(InputError, match="meets"):
        compare(one, made_up(prompts=11))
    with pytest.raises(InputError, match="do not say what each prompt"):
        compare(one, Scores(one.values, 2, 4, 2, 1.0, 0.0, 12, {}))
    with pytest.raises(InputError, match="Only one of models and prompts"):
        compare(one, one, models=(ARM(tiny_decoder("llama")), MDM(tiny_decoder("llama"), mask_id=2)))
    nothing = Scores(torch.zeros_like(one.values), 2, 4, 2, 1.0, 1.0, 12, {}, torch.zeros(12, *one.values.shape))
    for both in ((one, nothing), (nothing, one)):
        with pytest.raises(InputError, match="are zero"):
            compare(*both)
    for ks in ([], [0], [GRAPH.n_edges + 1]):
        with pytest.raises(InputError, match="ks="):
            compare(one, one, ks=ks)
    with pytest.raises(InputError, match="fractions="):
        compare(one, one, fractions=[5.0])
    with pytest.raises(UnknownNameError):
        compare(one, one, metric="logit_dif")


# The command


def test_the_command_tells_of_every_member(capsys):
    assert main(["circuits", "toy-chain", "chain", "--prompts", "8", "--steps", "2", "--top", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)  # JSON knows no NaN
    assert set(told["members"]) == {"arm", "mdm", "mdm-second-seed", "arm-trained-on", "attention-switched"}
    for row in told["members"].values():
        assert row["faithfulness"][-1] == pytest.approx(1)
        assert len(row["top_edges"]) == 3
        assert {"cpr", "cmd", "kept"} <= row.keys()
    assert set(told["comparisons"]) == {f"arm ~ {member}" for member in told["members"] if member != "arm"}
    with_mdm = told["comparisons"]["arm ~ mdm"]
    assert set(with_mdm["cross_faithfulness"]) == {
        f"circuit of {whose} in {where}" for whose in ("arm", "mdm") for where in ("arm", "mdm")
    }
    assert set(with_mdm["measures"]["gini_edges"]) == {"arm", "mdm", "difference"}
    own = [value for value, _, _ in with_mdm["cross_faithfulness"]["circuit of mdm in mdm"]]
    assert own == pytest.approx(told["members"]["mdm"]["faithfulness"], abs=1e-6)
    text = as_text(told)
    assert "describes a guess" in told["members"]["arm"]["warnings"][0]  # it cannot do a chain
    assert "--steps" in told["members"]["mdm"]["warnings"][0]  # two points are not enough
    assert text.count("WARNING") == sum(len(row["warnings"]) for row in told["members"].values())
    for shown in (*told["members"], *told["comparisons"], told["members"]["mdm"]["top_edges"][0][0]):
        assert shown in text
    explained = text.partition("How to read it")[2]
    for word in ("logit difference", "error of the integral", "CPR, CMD", "ceilings", "chance", "[low, high]"):
        assert word in explained
    assert " one " not in text.partition("How to read it")[0]  # models are called by their names
    assert max(map(len, text.splitlines())) < 160


def test_what_is_no_number_is_none_in_json_and_told_in_words():
    """The faithfulness of a circuit of a model that does no better with all its edges than with none."""
    nan, row = float("nan"), [0.1, 1.0]
    member = {"clean": 1.0, "corrupted": 1.0, "integration_error": nan, "edges": 10, "fractions": row, "kept": [1, 10]}
    member |= {"faithfulness": [nan, float("inf")], "cpr": nan, "cmd": nan, "top_edges": [("input->logits", 1.0)]}
    member |= {"warnings": []}
    result = {"name": "made up", "task": "ioi", "seed": 0, "prompts": 1, "members": {"arm": member}, "comparisons": {}}
    told = without_nan(result)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    text = as_text(told)
    assert "error of the integral unknown" in text
    assert "CPR n/a, CMD n/a" in text


def test_the_command_refuses_a_task_that_the_pair_never_saw(capsys):
    assert main(["circuits", "toy-chain", "countdown"]) == 1
    assert "was not trained on countdown" in capsys.readouterr().err
    assert main(["circuits", "toy-chain", "chian"]) == 1
    assert "Did you mean chain" in capsys.readouterr().err
    assert main(["circuits", "toy-chain", "chain", "--prompts", "3"]) == 1
    assert "Ask for 4 or more" in capsys.readouterr().err
