"""CircuitViewer: what it sends is what the scores say, what it refuses, and that text stays text."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mdmcourse import load_pair
from mdmcourse.circuits import Circuit, Faithfulness, Graph, Scores, attribute, compare
from mdmcourse.errors import InputError
from mdmcourse.tasks import get_task
from mdmcourse.widgets import CircuitViewer
from mdmcourse.widgets.circuits_roles import roles_by_task
from mdmcourse.widgets.circuits_state import counts, kinds
from mdmcourse.widgets.packing import unpacked

GRAPH = Graph(layers=3, heads=4, kv_heads=2)
HOSTILE = ["<script>alert(1)</script>", "</div>", '"onload="', "$\\frac$", "a" * 10_000, "​", "\x00\x07", "مرحبا"]


def made_up(seed: int, graph: Graph = GRAPH, prompts: int = 6) -> Scores:
    by_prompt = torch.randn(prompts, *graph.exists.shape, generator=torch.Generator().manual_seed(seed)) * graph.exists
    return Scores(
        by_prompt.mean(dim=0),
        graph.layers,
        graph.heads,
        graph.kv_heads,
        1.0,
        0.0,
        prompts,
        {"task": "made up"},
        by_prompt,
    )


def curve(asked: list[int]) -> Faithfulness:
    by_prompt = torch.linspace(0, 1, len(asked))[:, None].repeat(1, 2).double()
    return Faithfulness(
        torch.tensor(asked).double() / GRAPH.n_edges, torch.tensor(asked), torch.tensor(asked), by_prompt,
        torch.ones(2).double(), torch.zeros(2).double(), {},
    )  # fmt: skip


ONE, TWO = made_up(1), made_up(2)
COMPARISON = compare(ONE, TWO, ks=[5, 20, 60], bootstrap=4, halvings=2)


def names_of(scores: Scores, k: int) -> set[str]:
    return {name for name, _ in scores.top(k)}


# What it sends


@pytest.mark.parametrize("k", [1, 7, 40, GRAPH.n_edges])
def test_kept_lost_and_new_are_those_of_the_scores(k: int):
    viewer = CircuitViewer({"ARM": ONE, "MDM": TWO}, k=k)
    task, graph = unpacked(viewer.tasks[0]), unpacked(viewer.graph)
    one, two = names_of(ONE, k), names_of(TWO, k)
    width = len(graph["readers"])
    found = {
        f"{graph['nodes'][edge // width]}->{graph['readers'][edge % width]}": kind
        for edge, kind in zip(task["edges"], kinds(task, k).tolist(), strict=True)
    }
    assert {name for name, kind in found.items() if kind == 0} == one & two
    assert {name for name, kind in found.items() if kind == 1} == one - two
    assert {name for name, kind in found.items() if kind == 2} == two - one
    assert counts(task, k) == (len(one & two), len(one - two), len(two - one), len(one & two) / len(one | two))


def test_scores_and_ranks_are_those_of_the_scores():
    task = unpacked(CircuitViewer({"ARM": ONE, "MDM": TWO}, most=30, k=5).tasks[0])
    for scores, sent, order in zip((ONE, TWO), task["scores"], task["order"], strict=True):
        assert sent.tolist() == scores.values.flatten()[task["edges"].tolist()].tolist()
        assert sent[order].tolist() == [value for _, value in scores.top(30)]


def test_an_edge_ends_where_the_graph_says():
    graph = unpacked(CircuitViewer({"ARM": ONE, "MDM": TWO}).graph)
    for reader, name in enumerate(graph["readers"]):
        marked = torch.zeros(GRAPH.n_readers, dtype=torch.bool)
        marked[reader] = True
        owners = [graph["nodes"][graph["owner"][reader] + each] for each in range(graph["owners"][reader])]
        if name == "logits":
            assert owners == ["logits"]
        else:
            assert owners == [GRAPH.sources[node] for node in GRAPH.read_by(marked).nonzero()[:, 0].tolist()]
        assert graph["readerRows"][reader] == graph["rows"][graph["owner"][reader]]


def test_measures_are_those_of_the_comparison():
    viewer = CircuitViewer({"ARM": ONE, "MDM": TWO}, COMPARISON, {"ARM": curve([0, 5, 50])})
    task = unpacked(viewer.tasks[0])
    sent = task["comparison"]
    assert sent["ks"] == [5, 20, 60]
    assert sent["overlap"] == pytest.approx([counts(task, k)[3] for k in sent["ks"]], abs=2e-3)
    assert sent["ceilings"][1] == pytest.approx(COMPARISON.ceiling_two.tolist(), abs=2e-3)
    assert sent["low"] == pytest.approx(COMPARISON.overlap[:, 1].tolist(), abs=2e-3)
    for key, expected in (("sourceProfile", COMPARISON.source_profile), ("readerProfile", COMPARISON.reader_profile)):
        np.testing.assert_allclose(np.stack(task[key]), expected, rtol=1e-5, atol=1e-6)
    assert task["faithfulness"] == [{"asked": [0, 5, 50], "values": [0.0, 0.5, 1.0]}, None]


def test_without_a_bootstrap_there_is_no_interval():
    viewer = CircuitViewer({"ARM": ONE, "MDM": TWO}, compare(ONE, TWO, ks=[5], bootstrap=0, halvings=1))
    assert viewer.tasks[0]["comparison"]["low"] == [None]


def test_the_state_of_a_pair_and_two_tasks_is_small():
    pair = load_pair("toy-countdown")
    scores = {}
    for name in ("ioi", "countdown"):
        prompts = get_task(name).prompts(pair.arm.tokenizer, 4, mask_id=pair.mdm.mask_id)
        scores[name] = {
            "ARM": attribute(pair.arm, prompts, "eap", keep_prompts=True),
            "MDM": attribute(pair.mdm, prompts, "eap", keep_prompts=True),
        }
    comparisons = {name: compare(*both.values(), bootstrap=0, halvings=1) for name, both in scores.items()}
    viewer = CircuitViewer(scores, comparisons)
    in_a_notebook = [[[[[viewer.graph, viewer.tasks]]]]]  # as deep as there, a line for each number
    assert len(json.dumps(in_a_notebook, allow_nan=False, indent=1)) < 120_000
    top = (
        Circuit.top(scores["ioi"]["ARM"], 100, prune=False).edges
        & Circuit.top(scores["ioi"]["MDM"], 100, prune=False).edges
    )
    assert counts(unpacked(viewer.tasks[0]), 100)[0] == int(top.sum())


# What it shows where it cannot run


@pytest.mark.parametrize("title", HOSTILE)
def test_text_stays_text(title: str, tmp_path):
    models = {title: ONE, f"{title} 2": TWO}
    viewer = CircuitViewer({title: models}, {title: COMPARISON}, k=9, roles={title: {title: {"a0.h1": title}}})
    data, _ = viewer._repr_mimebundle_()
    for tag in ("<script", "</div", '"onload'):
        assert tag not in data["text/html"]
    viewer.figure().savefig(tmp_path / "figure.png", dpi=30)
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_its_still_forms_say_what_was_measured_near_its_size(tmp_path):
    models = {"ARM": ONE, "MDM": TWO}
    viewer = CircuitViewer(models, COMPARISON, {"ARM": curve([5, 40]), "MDM": curve([10, 50])}, k=18)
    low, high = COMPARISON.overlap[1, 1:].tolist()
    assert viewer._measured() == [
        f"made up: Measured at K = 20: overlap {COMPARISON.overlap[1, 0]:.2f} [{low:.2f}, {high:.2f}]; between halves "
        f"of the prompts {COMPARISON.overlap_of_halves[1]:.2f}, ceilings {COMPARISON.ceiling_one[1]:.2f} (ARM) and "
        f"{COMPARISON.ceiling_two[1]:.2f} (MDM); chance {COMPARISON.chance[1]:.2f}.",
        "made up: Faithfulness, nearest size measured: ARM 1.00 (at 40 edges), MDM 0.00 (at 10 edges).",
    ]
    for line in viewer._measured():
        assert line in viewer.as_text()
        assert line in viewer.as_html()
    below = viewer.figure()._supxlabel.get_text().replace("\n", " ")
    assert below == " ".join(line.removeprefix("made up: ") for line in viewer._measured())
    viewer.figure().savefig(tmp_path / "figure.png")
    assert CircuitViewer(models, k=18).figure()._supxlabel is None


def test_no_text_enters_the_page_as_html():
    assert "innerHTML" not in CircuitViewer._esm
    assert "insertAdjacentHTML" not in CircuitViewer._esm


def test_repr_is_stable_and_there_is_a_fallback():
    viewer = CircuitViewer({"ARM": ONE, "MDM": TWO})
    assert repr(viewer) == f"CircuitViewer(made up: ARM and MDM, {GRAPH.n_edges} edges)"
    data, _ = viewer._repr_mimebundle_()
    assert "0x" not in data["text/plain"]
    kept, lost, new, jaccard = counts(unpacked(viewer.tasks[0]), 50)
    assert f"<td>50</td><td>{kept}</td><td>{lost}</td><td>{new}</td><td>{jaccard:.2f}</td>" in data["text/html"]
    name, score = TWO.top(1)[0]
    assert f"{name} {score:+.3g}" in data["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in data


@pytest.mark.parametrize("k", [1, 30, GRAPH.n_edges])
def test_the_figure_draws_every_edge_once(k: int):
    viewer = CircuitViewer({"ARM": ONE, "MDM": TWO}, k=5)
    figure = viewer.figure(k)
    drawn = [len(each.get_paths()) for each in figure.axes[0].collections if len(each.get_facecolor()) == 0]
    assert drawn[:3] == list(counts(unpacked(viewer.tasks[0]), k)[:3])
    assert f"of {k} edges kept" in figure.axes[0].get_title(loc="left")


@pytest.mark.parametrize(
    "roles", [{"a0.h1": "x", "logits": "y"}, {"ARM": {"a0.h1": "x"}, "MDM": {"logits": "y"}}, {"one": {"MDM": {}}}, {}]
)
def test_roles_may_be_given_for_all_for_models_and_for_tasks(roles):
    tasks = {"one": {"ARM": ONE, "MDM": TWO}, "two": {"ARM": TWO, "MDM": ONE}}
    viewer = CircuitViewer(tasks, k=5, roles=roles)
    for task in viewer.tasks:
        if "a0.h1" in roles:
            assert task["roles"] == [roles, roles]
        else:
            assert task["roles"] == [roles.get("ARM", {}), roles.get("MDM", {})]


def test_a_role_of_one_task_is_shown_there_and_in_the_fallback():
    tasks = {"one": {"ARM": ONE, "MDM": TWO}, "two": {"ARM": TWO, "MDM": ONE}}
    viewer = CircuitViewer(tasks, k=5, roles={"two": {"MDM": {"m1": "copies <b>x5</b>" + "." * 100}}})
    assert [task["roles"][0] for task in viewer.tasks] == [{}, {}]
    (text,) = viewer.tasks[1]["roles"][1].values()
    assert text == "copies <b>x5</b>" + "." * 43 + "…"
    data, _ = viewer._repr_mimebundle_()
    assert f"two, MDM, m1: {text}" in data["text/plain"]
    assert "<td>two</td><td>MDM</td><td>m1</td><td>copies &lt;b&gt;x5" in data["text/html"]
    assert "role" not in CircuitViewer(tasks, k=5).as_html()


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ("name mover", "holds a str"),
        ([("a0.h1", "x")], "holds a list"),
        ({"a0.h1": 3}, "holds a int"),
        ({"a0.h1": "x", "a0.h2": None}, "holds a NoneType"),
        ({"a0.h1": "x", "a0.h2": {}}, "names the models"),
        ({"a9.h0": "x"}, "names the nodes"),
        ({"ARM": {"a0.h1": "x"}, "other": {"a0.h1": "x"}}, "names the models"),
        ({"ARM": {"a0.h1": "x"}, "MDM": "x"}, "holds a str"),
        ({"task": {"ARM": {"a0.h1": "x"}}}, "names the tasks"),
        ({"made up": {"ARM": {"a0.h1": "x"}, "MDM": "x"}}, "holds a str"),
        ({"made up": {"ARM": {"a0.h1": {"x": "y"}}}}, "holds a"),
    ],
)
def test_roles_of_nothing_in_the_picture_are_refused(roles, message):
    with pytest.raises(InputError, match=message):
        roles_by_task(roles, {"made up": {"ARM": ONE, "MDM": TWO}}, GRAPH.sources)


# What it refuses


def altered(**changes: object) -> SimpleNamespace:
    return SimpleNamespace(**{"values": ONE.values, "exists": ONE.exists, "graph": ONE.graph, "about": {}, **changes})


def with_nan() -> torch.Tensor:
    values = ONE.values.clone()
    values[0, 0] = torch.nan
    return values


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({},), "No scores"),
        ((None,), "No scores"),
        (({"ARM": ONE},), "has the models"),
        (({"a": {"ARM": ONE, "MDM": TWO}, "b": {"ARM": ONE, "other": TWO}},), "has the models"),
        (({"a": {"ARM": ONE, "MDM": TWO}, "b": ONE},), "has the models"),
        (({"ARM": ONE, "MDM": 3.0},), "are a float"),
        (({"ARM": ONE, "MDM": made_up(1, Graph(2, 4, 2))},), "belong to"),
        (({"ARM": ONE, "MDM": altered(values=ONE.values[1:])},), "have the shape"),
        (({"ARM": ONE, "MDM": altered(values=with_nan())},), "NaN or infinity"),
        (({"ARM": ONE, "MDM": altered(values=ONE.values * 0)},), "all zero"),
        (({"ARM": ONE, "MDM": TWO}, {"a": COMPARISON}), "not a Comparison"),
        (({"a": {"ARM": ONE, "MDM": TWO}}, {"b": COMPARISON}), "comparisons names"),
        (({"ARM": TWO, "MDM": ONE}, COMPARISON), "other layer profiles"),
        (({"ARM": ONE, "MDM": TWO}, None, {"other": curve([5])}), "names \\['other'\\]"),
        (({"ARM": ONE, "MDM": TWO}, None, {"ARM": curve([10_000])}), "up to 10000 edges"),
        (({"ARM": ONE, "MDM": TWO}, None, {"ARM": COMPARISON}), "not a Faithfulness"),
        (({"ARM": ONE, "MDM": TWO}, None, None, 0), "most=0"),
        (({"ARM": ONE, "MDM": TWO}, None, None, 20, 21), "k=21"),
    ],
)
def test_what_cannot_be_shown_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        CircuitViewer(*arguments)


def test_a_comparison_of_another_graph_is_refused():
    small = [made_up(seed, Graph(2, 4, 2)) for seed in (1, 2)]
    with pytest.raises(InputError, match="other layer profiles"):
        CircuitViewer({"ARM": ONE, "MDM": TWO}, compare(*small, ks=[5], bootstrap=0, halvings=1))


@pytest.mark.parametrize("k", [0, -1, True, GRAPH.n_edges + 1])
def test_sizes_that_cannot_be_shown_are_refused_later_too(k):
    viewer = CircuitViewer({"ARM": ONE, "MDM": TWO}, k=5)
    with pytest.raises(InputError, match="k="):
        viewer.figure(k)
    with pytest.raises(InputError, match="task names"):
        viewer.figure(5, "no such task")
