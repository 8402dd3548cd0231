"""Nothing stays behind: hooks, flags and weights are as before, whatever happened; and watching changes no bit."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, get_args

import pytest
import torch
from circuits_helpers import INSTRUMENTS, READINGS, leaves_no_trace, random_circuit, random_prompts, shallow
from helpers import DECODER_NAMES, DECODERS, POSITIONS, VOCABULARY, tiny_decoder
from torch import Tensor, nn

from mdmcourse.circuits import Graph, activation_patching, attribute, run_circuit, run_circuits
from mdmcourse.circuits.adapter import anatomy
from mdmcourse.circuits.attribution import Method
from mdmcourse.circuits.capture import after, recording
from mdmcourse.circuits.intervention import Ablation, Remembered, block_outputs, rerouted
from mdmcourse.circuits.patching import What

PROMPTS = random_prompts()
SHAPES = [("qwen3", True), ("gpt2", False)]


@pytest.mark.parametrize("readers", ["kv", "query"])
@pytest.mark.parametrize("method", get_args(Method))
def test_attribution_leaves_nothing_behind(method: Any, readers: Any) -> None:
    for shape in SHAPES:
        decoder = tiny_decoder(*shape) if method == "eap" else shallow(*shape)
        next(decoder.parameters()).requires_grad_(False)  # a part that was frozen stays so, the others do not become so
        with leaves_no_trace(decoder):
            attribute(READINGS["full"](decoder), PROMPTS, method, 2, readers=readers, batch_size=2)


@pytest.mark.parametrize("ablation", get_args(Ablation))
@pytest.mark.parametrize("readers", ["kv", "query"])
def test_running_a_circuit_leaves_nothing_behind(readers: Any, ablation: Any) -> None:
    for shape in SHAPES:
        model = READINGS["full"](tiny_decoder(*shape))
        with leaves_no_trace(model.decoder):
            run_circuit(model, PROMPTS, random_circuit(Graph.of(model, readers), 0.5), ablation)


@pytest.mark.parametrize("what", get_args(What))
def test_patching_leaves_nothing_behind(what: Any) -> None:
    for shape in SHAPES:
        model = READINGS["full"](tiny_decoder(*shape))
        with leaves_no_trace(model.decoder):
            activation_patching(model, PROMPTS, what, by_position=False)


def failing(error: type[BaseException], call: int, calls: list[int]) -> Callable:
    """A metric that raises the `call`-th time that it is asked, counted in `calls`."""

    def metric(logits: Tensor, prompts: Any, clean: Tensor) -> Tensor:
        calls.append(len(calls))
        if len(calls) == call:
            raise error("on purpose")
        return logits[:, 5]

    return metric


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize(("method", "call"), [("eap-ig", 1), ("eap-ig", 2), ("eap-ig", 4), ("exact", 5)])
def test_attribution_that_fails_leaves_nothing_behind(method: Any, call: int, error: type[BaseException]) -> None:
    """The metric fails in the clean run, in the corrupted run, and then with hooks in place."""
    decoder, calls = tiny_decoder("llama", True), list[int]()
    settings = {"metric": failing(error, call, calls), "readers": "query", "batch_size": 3}
    with leaves_no_trace(decoder), pytest.raises(error, match="on purpose"):
        attribute(READINGS["full"](decoder), PROMPTS, method, 3, **settings)  # type: ignore[arg-type]
    assert len(calls) == call


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("call", [1, 2])
def test_running_circuits_that_fails_leaves_nothing_behind(call: int, error: type[BaseException]) -> None:
    model, calls = READINGS["full"](tiny_decoder("llama", True)), list[int]()
    circuits = [random_circuit(Graph.of(model, "query"), share) for share in (0.2, 0.5)]
    with leaves_no_trace(model.decoder), pytest.raises(error, match="on purpose"):
        run_circuits(model, PROMPTS, circuits, metric=failing(error, call, calls))
    assert len(calls) == call


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("call", [1, 4])
def test_patching_that_fails_leaves_nothing_behind(call: int, error: type[BaseException]) -> None:
    model, calls = READINGS["arm"](tiny_decoder("llama")), list[int]()
    with leaves_no_trace(model.decoder), pytest.raises(error, match="on purpose"):
        activation_patching(model, PROMPTS, "heads", metric=failing(error, call, calls))
    assert len(calls) == call


@contextmanager
def raising(module: nn.Module, error: BaseException, call: int) -> Iterator[None]:
    """The module's forward raises at its `call`-th call."""
    original, count = module.forward, 0

    def forward(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == call:
            raise error
        return original(*args, **kwargs)

    module.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        del module.forward
    assert count == call


WORK = {
    **INSTRUMENTS,
    **{what: partial(activation_patching, what=what) for what in get_args(What)},
    "ungrouped": lambda model, prompts: run_circuit(model, prompts, random_circuit(Graph.of(model, "query"), 0.5)),
}


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("broken")], ids=repr)
@pytest.mark.parametrize("name", WORK)
def test_a_decoder_that_fails_in_the_middle_is_left_as_it_was(name: str, error: BaseException, last: bool) -> None:
    """In the first forward pass, with some hooks in place, and in one with all of them, after the clean run and the
    corrupted one (a single circuit needs the latter only); afterwards everything works."""
    call = 1 if not last else 2 if name in ("run_circuit", "ungrouped") else 3
    decoder = tiny_decoder("llama", True)
    model = READINGS["full"](decoder)
    with leaves_no_trace(decoder):
        with raising(decoder.model.layers[1].mlp, error, call), pytest.raises(type(error)):
            WORK[name](model, PROMPTS)
        WORK[name](model, PROMPTS.select(slice(0, 1)))


@pytest.mark.parametrize("no_grad", [torch.no_grad, contextlib.nullcontext])
def test_gradients_that_are_off_do_not_disturb(no_grad: Callable) -> None:
    model = READINGS["full"](tiny_decoder("llama"))
    with no_grad():
        found = attribute(model, PROMPTS, "eap", batch_size=3)
    assert found.values.abs().max() > 1e-2
    assert not found.values.requires_grad


def test_watching_changes_no_bit_of_a_deep_model() -> None:
    """30 layers in float32: recording, and rerouting without a removed edge."""
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=30, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=POSITIONS,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = transformers.LlamaForCausalLM(config).eval()
    for read in READINGS.values():
        model = read(decoder)
        parts, graph = anatomy(decoder), Graph.of(model)
        with torch.no_grad():
            plain = model.logits(PROMPTS.clean)
            with recording(parts) as written:
                assert torch.equal(model.logits(PROMPTS.clean).nan_to_num(), plain.nan_to_num())
            assert (len(written.heads), len(written.mlps)) == (30, 30)
            nothing = torch.zeros_like(graph.exists)
            with rerouted(parts, graph, nothing, written):
                assert torch.equal(model.logits(PROMPTS.clean).nan_to_num(), plain.nan_to_num())


@pytest.mark.parametrize(("family", "grouped"), DECODERS, ids=DECODER_NAMES)
def test_layers_that_are_not_computed_change_no_bit(family: str, grouped: bool) -> None:
    """An edge into each reader, with the layers before it computed, and with what they gave before."""
    model = READINGS["full"](tiny_decoder(family, grouped))
    graph, parts = Graph.of(model), anatomy(model.decoder)
    own = parts.layers[0].block.forward
    parts.layers[0].block.forward = own  # as Accelerate has it
    with torch.no_grad():
        with recording(parts) as corrupted:
            model.logits(PROMPTS.corrupted)
        with recording(parts) as clean, block_outputs(parts.layers) as outputs:
            plain = model.logits(PROMPTS.clean).nan_to_num()
        computed: list[int] = []
        hooks = [after(layer.mlp, lambda output: computed.append(1)) for layer in parts.layers]
        for reader in range(graph.n_readers):
            removed = torch.zeros_like(graph.exists)
            removed[int(graph.upstream[reader]) - 1, reader] = True
            logits = []
            for remembered in (None, Remembered(outputs, clean)):
                computed.clear()
                with rerouted(parts, graph, removed, corrupted, remembered):
                    logits.append(model.logits(PROMPTS.clean).nan_to_num())
            assert torch.equal(*logits)
            assert not torch.equal(logits[0], plain)
            assert len(computed) == graph.layers - int(graph.reader_layer[reader])
        for hook in hooks:
            hook.remove()
        assert torch.equal(model.logits(PROMPTS.clean).nan_to_num(), plain)
    assert vars(parts.layers[0].block)["forward"] is own
    assert "forward" not in vars(parts.layers[1].block)
