"""Graphs, scores and circuits as data: counted, named, chosen and pruned, against slow versions made from names."""

from __future__ import annotations

import json
import re
from typing import Any

import networkx
import pytest
import torch
from circuits_helpers import all_edges, random_circuit, random_scores, reader_names, source_names
from helpers import assert_three_parts, without_shape_checks
from torch import Tensor

from mdmcourse.circuits import Circuit, Graph, Scores
from mdmcourse.errors import CheckpointError, InputError

GRAPHS = {
    "plain": Graph(2, 4, 4),
    "grouped": Graph(3, 4, 2),
    "one shared": Graph(2, 3, 1),
    "one head": Graph(4, 1, 1),
    "one layer": Graph(1, 4, 2),
}


@pytest.fixture(params=GRAPHS)
def graph(request: pytest.FixtureRequest) -> Graph:
    return GRAPHS[request.param]


def by_size(scores: Scores) -> list[tuple[float, str, str]]:
    """All edges, the largest |score| first, without a matrix operation."""
    return sorted(
        ((abs(scores[f"{source}->{reader}"]), source, reader) for source, reader in all_edges(scores.graph)),
        reverse=True,
    )


def nodes_of(reader: str, graph: Graph) -> list[str]:
    """The nodes that read through a reader: for a shared key or value head, all query heads of its group."""
    node = reader.partition("<")[0]
    if ".kv" not in node:
        return [node]
    layer, group = node.split(".kv")
    size = graph.heads // graph.kv_heads
    return [f"{layer}.h{int(group) * size + member}" for member in range(size)]


def alive(edges: set[str], graph: Graph) -> set[str]:
    """The edges on a way from the input to the logits; every reader is a node of its own, before those it feeds."""
    network = networkx.DiGraph()
    network.add_nodes_from(["input", "logits"])
    for edge in edges:
        source, reader = edge.split("->")
        network.add_edge(source, ("reader", reader))
        for node in nodes_of(reader, graph):
            network.add_edge(("reader", reader), node)
    fed = networkx.descendants(network, "input") | {"input"}
    useful = networkx.ancestors(network, "logits") | {"logits"}
    return {edge for edge in edges if edge.split("->")[0] in fed and ("reader", edge.split("->")[1]) in useful}


def names(circuit: Circuit) -> set[str]:
    found = circuit.names()
    assert len(set(found)) == len(found)
    return set(found)


# --- graphs -------------------------------------------------------------------------------------------------


def configs() -> dict[str, tuple[Any, int]]:
    """Real models' shapes, and the number of edges that papers give for them."""
    import transformers

    return {
        "gpt2 small": (transformers.GPT2Config(), 32_491),
        "qwen2.5 7b": (
            transformers.Qwen2Config(num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4),
            935_747,
        ),
        "llama 2 7b": (
            transformers.LlamaConfig(num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32),
            1_592_881,
        ),
    }


@pytest.mark.parametrize("name", ["gpt2 small", "qwen2.5 7b", "llama 2 7b"])
def test_graphs_have_as_many_edges_as_papers_count(name: str) -> None:
    config, expected = configs()[name]
    graph = Graph.of(config, "query")
    assert graph.n_edges == int(graph.exists.sum()) == expected
    grouped = Graph.of(config)
    assert (grouped.n_edges < expected) == (name == "qwen2.5 7b")
    assert grouped.kv_heads == getattr(config, "num_key_value_heads", 12)


def test_one_key_value_head_has_one_reader_of_each_kind() -> None:
    """By hand: 2 layers, 3 heads, 1 shared: (3 + 2) * (1 + 5) into heads, 4 + 8 into MLPs, 9 into the logits."""
    assert Graph(2, 3, 1).n_edges == 30 + 12 + 9


def test_graph_refuses_other_readers() -> None:
    with without_shape_checks(), pytest.raises(InputError) as caught:
        Graph.of(configs()["gpt2 small"][0], "head")  # type: ignore[arg-type]
    assert_three_parts(caught.value, "'head'")


def test_an_edge_runs_from_every_source_to_every_later_reader(graph: Graph) -> None:
    assert list(graph.sources) == source_names(graph.layers, graph.heads)
    assert list(graph.readers) == reader_names(graph.layers, graph.heads, graph.kv_heads)
    assert (graph.n_sources, graph.n_readers) == (len(graph.sources), len(graph.readers)) == graph.exists.shape
    found = {(graph.sources[row], graph.readers[column]) for row, column in graph.exists.nonzero().tolist()}
    assert found == set(all_edges(graph))
    assert graph.n_edges == len(found)


def test_parts_of_the_matrix_are_where_their_names_are(graph: Graph) -> None:
    for layer in range(graph.layers):
        assert all(re.fullmatch(rf"a{layer}\.h\d+", name) for name in graph.sources[graph.heads_of(layer)])
        assert len(graph.sources[graph.heads_of(layer)]) == graph.heads
        assert graph.sources[graph.mlp_of(layer)] == graph.readers[graph.mlp_reader(layer)] == f"m{layer}"
        for kind, columns in graph.attention_readers(layer).items():
            assert len(graph.readers[columns]) == (graph.heads if kind == "q" else graph.kv_heads)
            assert all(re.fullmatch(rf"a{layer}\.\w+<{kind}>", name) for name in graph.readers[columns])
    assert graph.readers[graph.logits_reader] == "logits"
    layers = [-1 if name == "input" else int(name[1:].split(".")[0]) for name in graph.sources]
    assert graph.source_layer.tolist() == layers
    layers = [graph.layers if name == "logits" else int(name[1:].split(".")[0]) for name in graph.readers]
    assert graph.reader_layer.tolist() == layers


def test_names_lead_back_to_their_edges(graph: Graph) -> None:
    for row, column in graph.exists.nonzero().tolist():
        assert graph.edge(f"{graph.sources[row]}->{graph.readers[column]}") == (row, column)


@pytest.mark.parametrize(
    "name",
    ["", "input", "input->", "->logits", "logits->input", "m1->m0", "m0->m0", "a0.h0->a0.h1<q>", "m0->a0.h0<k>",
     "input->a0.h0", "input->a0.h0<k>", "input->a9.h0<q>", "input -> logits", "input->logits->m0"],
)  # fmt: skip
def test_an_edge_that_is_none_is_refused(name: str) -> None:
    """Backwards, to itself, side by side, of no such head, of a key head that is shared."""
    graph = GRAPHS["grouped"]
    scores = random_scores(graph)
    for call in (graph.edge, lambda name: scores[name], lambda name: name in Circuit.full(graph)):
        with pytest.raises(InputError) as caught:
            call(name)
        assert_three_parts(caught.value, repr(name))


def test_sources_read_through_their_own_readers(graph: Graph) -> None:
    for column, reader in enumerate(graph.readers):
        marked = torch.zeros(graph.n_readers, dtype=torch.bool)
        marked[column] = True
        found = {graph.sources[row] for row in graph.read_by(marked).nonzero()[:, 0].tolist()}
        assert found == set(nodes_of(reader, graph)) - {"logits"}
    for row, source in enumerate(graph.sources):
        one = torch.zeros(graph.n_sources, dtype=torch.bool)
        one[row] = True
        for logits in (False, True):
            found = {graph.readers[column] for column in graph.readers_of(one, logits).nonzero()[:, 0].tolist()}
            mine = {reader for reader in graph.readers if source in nodes_of(reader, graph)}
            assert found == mine | ({"logits"} if logits else set())


# --- scores -------------------------------------------------------------------------------------------------


def test_the_top_scores_are_the_largest(graph: Graph) -> None:
    scores = random_scores(graph)
    for n in (0, 1, 7, graph.n_edges, graph.n_edges + 5):
        expected = [f"{source}->{reader}" for _, source, reader in by_size(scores)[:n]]
        assert [name for name, _ in scores.top(n)] == expected
        assert all(value == scores[name] for name, value in scores.top(n))
    assert any(value < 0 for _, value in scores.top())


def test_edges_of_score_zero_come_before_entries_that_are_no_edges() -> None:
    graph = GRAPHS["grouped"]
    nothing = Scores(torch.zeros(graph.exists.shape), 3, 4, 2, 0.0, 0.0, 1, {})
    assert len({graph.edge(name) for name, _ in nothing.top(graph.n_edges)}) == graph.n_edges
    assert Circuit.top(nothing, graph.n_edges).kept == graph.n_edges


def test_sums_over_sources_and_readers_count_every_edge_once(graph: Graph) -> None:
    scores = random_scores(graph)
    for n, source in enumerate(graph.sources):
        mine = sum(size for size, other, _ in by_size(scores) if other == source)
        assert float(scores.of_sources()[n]) == pytest.approx(mine, rel=1e-4)
    for n, reader in enumerate(graph.readers):
        mine = sum(size for size, _, other in by_size(scores) if other == reader)
        assert float(scores.of_readers()[n]) == pytest.approx(mine, rel=1e-4)


def test_scores_of_no_prompt_are_refused() -> None:
    scores = Scores(torch.zeros(2, 2), 1, 1, 1, 0.0, 0.0, 3, {}, torch.zeros(3, 2, 2))
    with pytest.raises(InputError, match="No prompt was chosen"):
        scores.of(torch.tensor([], dtype=torch.long))


def test_scores_show_what_they_are() -> None:
    scores = random_scores(GRAPHS["grouped"])
    best = scores.top(1)[0][0]
    for piece in ("eap", f"{scores.graph.n_edges} edges", "5 prompts", best):
        assert piece in repr(scores)


def test_scores_of_seven_billion_parameters_fit_into_little_memory() -> None:
    """A number an edge, and nothing else that grows with the edges."""
    graph = Graph.of(configs()["llama 2 7b"][0], "query")
    assert graph.n_sources * graph.n_readers * 4 < 100e6
    assert graph.n_sources * graph.n_readers < 2.1 * graph.n_edges


# --- circuits -----------------------------------------------------------------------------------------------


def test_top_takes_the_largest_and_prunes_dead_ends(graph: Graph) -> None:
    scores = random_scores(graph)
    for k in {0, 1, 5, graph.n_edges // 3, graph.n_edges - 1, graph.n_edges}:
        chosen = {f"{source}->{reader}" for _, source, reader in by_size(scores)[:k]}
        circuit, pruned = Circuit.top(scores, k, prune=False), Circuit.top(scores, k)
        assert names(circuit) == chosen
        assert names(pruned) == alive(chosen, graph)
        assert circuit.asked == pruned.asked == circuit.kept == k
        assert pruned.kept == len(pruned) == len(alive(chosen, graph))


def test_threshold_takes_all_that_are_large_enough(graph: Graph) -> None:
    scores = random_scores(graph)
    least = by_size(scores)[10][0]  # the 11th is in: "at least"
    for value in (0.0, 0.7, least, 100.0):
        chosen = {f"{source}->{reader}" for size, source, reader in by_size(scores) if size >= value}
        assert names(Circuit.threshold(scores, value, prune=False)) == chosen
        assert names(Circuit.threshold(scores, value)) == alive(chosen, graph)
    assert len(Circuit.threshold(scores, least, prune=False)) == 11
    assert len(Circuit.threshold(scores, 0.0)) == graph.n_edges


def test_greedy_grows_backwards_from_the_logits(graph: Graph) -> None:
    for seed in (0, 1):
        scores = random_scores(graph, seed)
        edges, inside = list(by_size(scores)), {"logits"}
        chosen: set[str] = set()
        for k in range(graph.n_edges + 1):
            if k in {0, 1, 5, graph.n_edges // 4, graph.n_edges // 2, graph.n_edges}:
                circuit = Circuit.greedy(scores, k)
                assert len(chosen) == circuit.asked == k
                assert names(circuit) == alive(chosen, graph)
            for edge in edges:
                _, source, reader = edge
                if inside & set(nodes_of(reader, graph)):
                    chosen.add(f"{source}->{reader}")
                    inside.add(source)
                    edges.remove(edge)
                    break


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1, 0.3, 0.7])
def test_pruning_keeps_what_lies_on_a_way(graph: Graph, share: float) -> None:
    for seed in range(8):
        circuit = random_circuit(graph, share, seed)
        before, pruned = circuit.edges.clone(), circuit.pruned()
        assert names(pruned) == alive(names(circuit), graph)
        assert torch.equal(pruned.pruned().edges, pruned.edges)
        assert torch.equal(circuit.edges, before)
        assert pruned.asked == circuit.asked


def test_a_shared_key_head_keeps_its_whole_group_alive() -> None:
    """What feeds it feeds every query head of the group, and is of use if one of them is."""
    graph = GRAPHS["grouped"]
    found = Circuit.of(graph, torch.zeros_like(graph.exists))
    for name in ("input->a0.kv1<k>", "a0.h2->logits", "a0.h3->m1", "m1->a2.h0<q>", "a0.h0->logits", "input->a1.kv0<v>"):
        found.edges[graph.edge(name)] = True
    assert found.pruned().names() == ["input->a0.kv1<k>", "a0.h2->logits"]


def test_the_longest_way_is_found() -> None:
    """Through every attention and every MLP of a deep decoder: a chain of edges, each between neighbours."""
    graph = Graph(30, 1, 1)
    chain = [node for layer in range(30) for node in (f"a{layer}.h0", f"m{layer}")]
    steps = zip(["input", *chain], [*chain, "logits"], strict=True)
    edges = {f"{one}->{two}<v>" if two.startswith("a") else f"{one}->{two}" for one, two in steps}
    circuit = Circuit.empty(graph)
    for edge in edges:
        circuit.edges[graph.edge(edge)] = True
    assert names(circuit.pruned()) == edges
    circuit.edges[graph.edge("m14->a15.h0<v>")] = False
    assert len(circuit.pruned()) == 0


def test_full_and_empty() -> None:
    graph = GRAPHS["grouped"]
    full, empty = Circuit.full(graph), Circuit.empty(graph)
    assert names(full) == {"->".join(edge) for edge in all_edges(graph)}
    assert (len(empty), empty.names(), empty.nodes()) == (0, [], [])
    assert full.nodes() == list(graph.sources)
    full.edges[0, 0] = False
    assert graph.exists[0, 0]  # a copy


def test_circuits_never_change_scores(graph: Graph) -> None:
    scores = random_scores(graph)
    before, exists = scores.values.clone(), scores.exists.clone()
    for make in (Circuit.top, Circuit.greedy):
        make(scores, 9).edges.fill_(True)
    Circuit.top(scores, 9, prune=False).edges.fill_(False)
    Circuit.threshold(scores, 0.1, prune=False).edges.fill_(True)
    Circuit.full(scores.graph).edges.fill_(False)
    Circuit.top(scores, 9).to_networkx(scores)
    assert torch.equal(scores.values, before)
    assert torch.equal(scores.exists, exists)


def test_circuits_are_sets_of_edges(graph: Graph) -> None:
    one, other = random_circuit(graph, 0.4, 0), random_circuit(graph, 0.6, 1)
    a, b = names(one), names(other)
    assert names(one & other) == a & b
    assert names(one | other) == a | b
    assert names(one - other) == a - b
    assert (one | other).asked == len(a | b)
    assert one.jaccard(other) == pytest.approx(len(a & b) / len(a | b))
    assert one.jaccard(one) == Circuit.empty(graph).jaccard(Circuit.empty(graph)) == 1.0
    assert one.jaccard(Circuit.empty(graph)) == 0.0
    for source, reader in all_edges(graph):
        assert (f"{source}->{reader}" in one) == (f"{source}->{reader}" in a)
    used = {edge.split("->")[0] for edge in a} | {node for edge in a for node in nodes_of(edge.split("->")[1], graph)}
    assert set(one.nodes()) == used - {"logits"}


def test_circuits_of_different_graphs_do_not_meet() -> None:
    one, other = Circuit.full(Graph(2, 4, 4)), Circuit.full(Graph(2, 4, 2))
    for call in (lambda: one & other, lambda: one | other, lambda: one - other, lambda: one.jaccard(other)):
        with pytest.raises(InputError) as caught:
            call()
        assert_three_parts(caught.value, repr(one.graph), repr(other.graph))


@pytest.mark.parametrize("k", [-1, 111, 10**9])
def test_a_number_of_edges_that_is_none_is_refused(k: int) -> None:
    scores = random_scores(GRAPHS["plain"])
    assert scores.graph.n_edges == 110
    for make in (Circuit.top, Circuit.greedy):
        with pytest.raises(InputError) as caught:
            make(scores, k)
        assert_three_parts(caught.value, f"k={k}")


@pytest.mark.parametrize("wrong", ["another shape", "no edge"])
def test_edges_that_do_not_belong_to_the_graph_are_refused(wrong: str) -> None:
    graph = GRAPHS["grouped"]
    edges = GRAPHS["plain"].exists if wrong == "another shape" else ~graph.exists
    with pytest.raises(InputError) as caught:
        Circuit.of(graph, edges)
    assert_three_parts(caught.value, str(tuple(edges.shape)))


# --- elsewhere ----------------------------------------------------------------------------------------------


def test_circuits_come_back_from_json_and_from_their_file(graph: Graph, tmp_path: Any) -> None:
    for circuit in (Circuit.top(random_scores(graph), 12), Circuit.empty(graph), Circuit.full(graph)):
        circuit.save(tmp_path / "circuit")
        for read in (Circuit.from_json(circuit.to_json()), Circuit.load(tmp_path / "circuit")):
            assert torch.equal(read.edges, circuit.edges)
            assert (read.graph, read.asked, repr(read)) == (circuit.graph, circuit.asked, repr(circuit))
    with pytest.raises(CheckpointError) as caught:
        Scores.load(tmp_path / "circuit")
    assert_three_parts(caught.value, "Circuit")


GOOD = {"graph": {"layers": 2, "heads": 4, "kv_heads": 2}, "asked": 1, "edges": ["input->logits"]}
BAD_JSON = {
    "no json": "{",
    "empty": "",
    "a list": "[]",
    "a number": "3",
    "no edges": json.dumps({"graph": GOOD["graph"], "asked": 1}),
    "no graph": json.dumps({"edges": [], "asked": 1}),
    "another graph": json.dumps(GOOD | {"graph": {"layers": 2}}),
    "a graph of words": json.dumps(GOOD | {"graph": {"layers": "2", "heads": 4, "kv_heads": 2}}),
    "a negative graph": json.dumps(GOOD | {"graph": {"layers": -2, "heads": 4, "kv_heads": 2}}),
    "heads that cannot be grouped": json.dumps(GOOD | {"graph": {"layers": 2, "heads": 4, "kv_heads": 3}}),
    "no such edge": json.dumps(GOOD | {"edges": ["m1->m0"]}),
    "edges that are numbers": json.dumps(GOOD | {"edges": [3]}),
    "one edge without a list": json.dumps(GOOD | {"edges": "input->logits"}),
    "asked for a word": json.dumps(GOOD | {"asked": "many"}),
}


@pytest.mark.parametrize("bad", BAD_JSON)
def test_json_that_is_no_circuit_is_refused(bad: str) -> None:
    assert Circuit.from_json(json.dumps(GOOD)).names() == ["input->logits"]
    with without_shape_checks(), pytest.raises(InputError) as caught:
        Circuit.from_json(BAD_JSON[bad])
    assert_three_parts(caught.value)


def test_networkx_has_an_edge_for_every_head_that_reads() -> None:
    """A shared key head is read by all query heads of its group; MLPs and logits read as themselves."""
    graph = GRAPHS["grouped"]
    scores = random_scores(graph)
    circuit = Circuit.empty(graph)
    for name in ("input->a0.kv1<k>", "input->a0.h3<q>", "a0.h2->m1", "m1->logits", "input->logits"):
        circuit.edges[graph.edge(name)] = True
    found = circuit.to_networkx(scores)
    readers = {(one, two, about["reader"]) for one, two, about in found.edges(data=True)}
    assert readers == {
        ("input", "a0.h2", "a0.kv1<k>"),
        ("input", "a0.h3", "a0.kv1<k>"),
        ("input", "a0.h3", "a0.h3<q>"),
        ("a0.h2", "m1", "m1"),
        ("m1", "logits", "logits"),
        ("input", "logits", "logits"),
    }
    for one, _, about in found.edges(data=True):
        assert about["score"] == scores[f"{one}->{about['reader']}"]
    assert set(found.nodes) == {*circuit.nodes(), "logits"}
    assert not any("score" in about for *_, about in circuit.to_networkx().edges(data=True))


def test_networkx_agrees_on_what_is_reachable(graph: Graph) -> None:
    """In a pruned circuit every node lies between the input and the logits."""
    for seed in range(3):
        circuit = random_circuit(graph, 0.5, seed).pruned()
        found = circuit.to_networkx()
        size = graph.heads // graph.kv_heads
        assert found.number_of_edges() == sum(size if ".kv" in name else 1 for name in circuit.names())
        assert networkx.is_directed_acyclic_graph(networkx.DiGraph(found))
        assert networkx.descendants(found, "input") | {"input"} >= {one for one, _ in found.edges()}


def test_a_circuit_shows_its_size() -> None:
    circuit = Circuit.top(random_scores(GRAPHS["grouped"]), 30)
    for piece in (f"{circuit.kept} of {circuit.graph.n_edges} edges", "asked for 30", f"{len(circuit.nodes())} nodes"):
        assert piece in repr(circuit)
    assert "asked" not in repr(Circuit.full(GRAPHS["plain"]))


def test_what_a_circuit_operation_gives_is_its_own(graph: Graph) -> None:
    """Changing the result changes nothing that it was made from."""
    one, other = random_circuit(graph, 0.5, 0), random_circuit(graph, 0.5, 1)
    before: list[Tensor] = [one.edges.clone(), other.edges.clone()]
    for result in (one & other, one | other, one - other, one.pruned()):
        result.edges.fill_(True)
    assert torch.equal(one.edges, before[0])
    assert torch.equal(other.edges, before[1])
