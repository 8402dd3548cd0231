"""What cannot be computed is refused in words, by every instrument in the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from circuits_helpers import INSTRUMENTS, random_prompts, random_scores
from helpers import POSITIONS, VOCABULARY, assert_three_parts, tiny_decoder, without_shape_checks
from torch import Tensor

from mdmcourse.circuits import Circuit, Graph, attribute, faithfulness_curve, run_circuit, run_circuits
from mdmcourse.errors import InputError, UnknownNameError
from mdmcourse.models import ARM
from mdmcourse.models.lowrank import attach, detach

PROMPTS = random_prompts()


@pytest.fixture(params=INSTRUMENTS)
def instrument(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return INSTRUMENTS[request.param]


def assert_refused(
    call: Callable[..., Any], *args: Any, seen: str | tuple[str, ...] = "", error: type = InputError, **settings: Any
) -> Any:
    """The call ends in such an error, in three parts, that says what was seen."""
    with without_shape_checks(), pytest.raises(error) as caught:
        call(*args, **settings)
    assert_three_parts(caught.value, *((seen,) if isinstance(seen, str) else seen))
    return caught.value


# Settings

SETTINGS: list[tuple[str, dict[str, Any], str]] = [
    *((name, {"batch_size": size}, f"batch_size={size}") for name in INSTRUMENTS for size in (0, -1)),
    ("attribute", {"method": "eap-gp"}, "'eap-gp'"),
    ("attribute", {"rule": "simpson"}, "'simpson'"),
    ("attribute", {"steps": 0}, "steps=0"),
    ("attribute", {"steps": -1}, "steps=-1"),
    ("attribute", {"steps": 2.5}, "steps=2.5"),
    ("attribute", {"readers": "heads"}, "'heads'"),
    ("attribute", {"method": "exact", "positions": True}, "exact"),
    ("run_circuit", {"ablation": "noise"}, "'noise'"),
    ("faithfulness_curve", {"ablation": "noise"}, "'noise'"),
    ("faithfulness_curve", {"fractions": ()}, "[]"),
    ("faithfulness_curve", {"fractions": (0.1, 1.1)}, "1.1"),
    ("faithfulness_curve", {"fractions": (-0.1, 1.0)}, "-0.1"),
    ("faithfulness_curve", {"fractions": (0.5, 0.1)}, "[0.5, 0.1]"),
    ("faithfulness_curve", {"selection": "best"}, "'best'"),
    ("activation_patching", {"what": "mlp"}, "what='mlp'"),
    ("activation_patching", {"direction": "clean"}, "direction='clean'"),
]


@pytest.mark.parametrize(("name", "settings", "seen"), SETTINGS, ids=str)
def test_settings_that_are_none_are_refused(name: str, settings: dict[str, Any], seen: str) -> None:
    assert_refused(INSTRUMENTS[name], ARM(tiny_decoder("llama")), PROMPTS, seen=seen, **settings)


def test_no_prompts_are_refused(instrument: Callable) -> None:
    assert_refused(instrument, ARM(tiny_decoder("llama")), PROMPTS.select(slice(0, 0)), seen="no prompts")


def test_a_bare_decoder_is_refused(instrument: Callable) -> None:
    error = assert_refused(instrument, tiny_decoder("llama"), PROMPTS, seen="LlamaForCausalLM")
    assert "ARM(decoder.eval(), tokenizer)" in error.do


# Metrics


def test_an_unknown_metric_is_refused(instrument: Callable) -> None:
    error = assert_refused(
        instrument, ARM(tiny_decoder("llama")), PROMPTS, seen="logit_dif", error=UnknownNameError, metric="logit_dif"
    )
    assert "logit_diff" in str(error)


@pytest.mark.parametrize(
    ("metric", "shape"),
    [
        (lambda logits, prompts, clean: logits.mean(), "()"),
        (lambda logits, prompts, clean: logits, f"(3, {VOCABULARY})"),
    ],
    ids=["a mean", "all logits"],
)
def test_a_metric_of_another_shape_is_refused(metric: Callable, shape: str, instrument: Callable) -> None:
    model = ARM(tiny_decoder("llama"))
    assert_refused(instrument, model, PROMPTS, seen=("3 prompts", shape), metric=metric, batch_size=3)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_metric_that_is_no_number_is_refused(value: float, instrument: Callable) -> None:
    """For one prompt of three: its mean would say nothing, and so would every score."""

    def metric(logits: Tensor, prompts: Any, clean: Tensor) -> Tensor:
        return torch.where(torch.arange(len(logits)) == 1, value, logits[:, 5])

    model = ARM(tiny_decoder("llama"))
    assert_refused(instrument, model, PROMPTS, seen=f"{value} for 1 of 3", metric=metric, batch_size=3)


@pytest.mark.parametrize(
    ("change", "kind"),
    [(lambda x: x.mean().item(), "float"), (lambda x: x.tolist(), "list"), (lambda x: x.detach().numpy(), "ndarray")],
    ids=["float", "list", "array"],
)
def test_a_metric_that_gives_no_tensor_is_refused(change: Callable, kind: str, instrument: Callable) -> None:
    model = ARM(tiny_decoder("llama"))
    assert_refused(instrument, model, PROMPTS, seen=kind, metric=lambda logits, *_: change(logits[:, 5]))


def test_a_metric_without_a_slope_is_refused_by_attribution() -> None:
    """A root at zero, and a metric that no gradient reaches."""
    model = ARM(tiny_decoder("llama"))

    def root(logits: Tensor, prompts: Any, clean: Tensor) -> Tensor:
        return (logits[:, 5] - logits[:, 5].detach()).sqrt()

    assert_refused(attribute, model, PROMPTS, metric=root, seen="not a number")

    def detached(logits: Tensor, prompts: Any, clean: Tensor) -> Tensor:
        return logits.detach()[:, 5]

    assert_refused(attribute, model, PROMPTS, metric=detached, seen="detached")
    assert attribute(model, PROMPTS.select(slice(0, 1)), "exact", metric=detached).values.abs().max() > 0


# Models


def test_a_decoder_in_training_mode_is_refused(instrument: Callable) -> None:
    decoder = tiny_decoder("gpt2").train()
    assert_refused(instrument, ARM(decoder), PROMPTS, seen="training mode")
    assert decoder.training


def test_low_rank_changes_that_are_not_merged_are_refused(instrument: Callable) -> None:
    """The weights that are read would not be those that the decoder computes with."""
    model = ARM(tiny_decoder("llama"))
    attach(model, 2, 4.0)
    assert_refused(instrument, model, PROMPTS, seen="low-rank")
    detach(model.decoder)
    instrument(model, PROMPTS.select(slice(0, 1)))


@pytest.mark.parametrize("how", ["as transformers says", "weights that are whole numbers"])
def test_quantised_weights_are_refused(how: str, instrument: Callable) -> None:
    decoder = tiny_decoder("llama")
    if how == "as transformers says":
        decoder.is_quantized = True
    else:
        codes = decoder.model.layers[0].mlp.up_proj.weight.to(torch.int8)
        decoder.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(codes, requires_grad=False)
    assert_refused(instrument, ARM(decoder), PROMPTS, seen="quantised")


OTHERS = {
    "mistral": ("MistralForCausalLM", {"sliding_window": 4}, "sliding window"),
    "mixtral": ("MixtralForCausalLM", {"num_local_experts": 2}, "mixture of experts"),
    "qwen2": (
        "Qwen2ForCausalLM",
        {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0},
        "sliding window",
    ),
}


@pytest.mark.parametrize("family", OTHERS)
def test_a_decoder_that_edges_do_not_describe_is_refused_with_the_reason(family: str, instrument: Callable) -> None:
    import transformers

    name, special, reason = OTHERS[family]
    model = getattr(transformers, name)
    shape = {"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    shape |= {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": POSITIONS}
    decoder = model(model.config_class(**shape, **special)).eval()
    assert_refused(instrument, ARM(decoder), PROMPTS, seen=(family, reason))


# Circuits


@pytest.mark.parametrize("graph", [Graph(3, 4, 2), Graph(2, 8, 2), Graph(2, 4, 1)], ids=repr)
def test_a_circuit_of_another_shape_is_refused(graph: Graph) -> None:
    model = ARM(tiny_decoder("llama", True))
    both = [Circuit.full(Graph.of(model)), Circuit.full(graph)]
    for call in (
        lambda: run_circuit(model, PROMPTS, Circuit.full(graph)),
        lambda: run_circuits(model, PROMPTS, both),
        lambda: faithfulness_curve(model, PROMPTS, random_scores(graph), (0.5,)),
    ):
        assert_refused(call, seen=repr(graph))


def test_sizes_that_are_no_sizes_are_refused() -> None:
    model = ARM(tiny_decoder("llama", True))
    scores = random_scores(Graph.of(model))
    assert_refused(faithfulness_curve, model, PROMPTS, scores, [float("nan")], seen="nan")
    for choose in (Circuit.top, Circuit.greedy):
        assert_refused(choose, scores, 2.5, seen="k=2.5")


def test_scores_of_another_graph_are_not_shown_beside_a_circuit() -> None:
    scores = random_scores(Graph(3, 4, 2))
    circuit = Circuit.top(random_scores(Graph(2, 4, 2)), 20)
    assert_refused(circuit.to_networkx, scores, seen=repr(scores.graph))


def test_circuits_of_both_kinds_of_readers_do_not_mix() -> None:
    model = ARM(tiny_decoder("llama", True))
    both = [Circuit.full(Graph.of(model, readers)) for readers in ("kv", "query")]
    assert_refused(run_circuits, model, PROMPTS, both, seen=("2 key-value", "4 key-value"))
