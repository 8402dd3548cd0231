"""What the tests of circuits share: prompts for tiny decoders, and decoders computed by hand, edge by edge."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from helpers import VOCABULARY, tiny_decoder
from torch import Tensor
from torch.nn import functional as F

from mdmcourse.circuits import (
    Circuit,
    Graph,
    Scores,
    activation_patching,
    attribute,
    faithfulness_curve,
    run_circuit,
)
from mdmcourse.models import ARM, MDM
from mdmcourse.tasks.task import Prompts

MASK = 2
LENGTH = 7
KINDS = ("q", "k", "v", "mlp", "logits")
READINGS: dict[str, Callable[[Any], ARM | MDM]] = {
    "arm": ARM,
    "full": lambda decoder: MDM(decoder, mask_id=MASK),
    "block": lambda decoder: MDM(decoder, mask_id=MASK, attention="block:3"),
}
Reads = Callable[[str, dict[str, Tensor]], Tensor]


def random_prompts(n: int = 3, seed: int = 0) -> Prompts:
    """Pairs that differ in two of the first three tokens; the target is the fifth or the sixth of seven tokens, and
    all is masked from there on."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randint(3, VOCABULARY, shape, generator=generator)

    clean, answer = draw(n, LENGTH), draw(n)
    corrupted = clean.clone()
    corrupted[:, :2] = 3 + (clean[:, :2] - 3 + 1 + draw(n, 2) % 40) % (VOCABULARY - 3)
    target = 4 + torch.arange(n) % 2
    masked = torch.arange(LENGTH) >= target[:, None]
    clean[masked] = corrupted[masked] = MASK
    distractor = 3 + (answer - 3 + 7) % (VOCABULARY - 3)
    return Prompts(clean, corrupted, answer, distractor, target, "random")


def random_scores(graph: Graph, seed: int = 0) -> Scores:
    """A score for every edge."""
    values = torch.randn(graph.exists.shape, generator=torch.Generator().manual_seed(seed)) * graph.exists
    return Scores(values, graph.layers, graph.heads, graph.kv_heads, 2.0, -1.0, 5, {"method": "eap"})


def random_circuit(graph: Graph, share: float, seed: int = 0) -> Circuit:
    """Each edge with the same probability."""
    draw = torch.rand(graph.exists.shape, generator=torch.Generator().manual_seed(seed))
    return Circuit.of(graph, graph.exists & (draw < share))


# Everything that runs a model on prompts and judges it by a metric. What it needs beside those is made up.
INSTRUMENTS: dict[str, Callable[..., Any]] = {
    "attribute": attribute,
    "run_circuit": lambda model, prompts, **settings: run_circuit(
        model, prompts, random_circuit(Graph.of(model), 0.5), **settings
    ),
    "faithfulness_curve": lambda model, prompts, **settings: faithfulness_curve(
        model, prompts, random_scores(Graph.of(model)), **{"fractions": (0.5,), **settings}
    ),
    "activation_patching": activation_patching,
}


# Double precision


def _norm_in_float64(self: Any, x: Tensor) -> Tensor:
    return self.weight * x / (x.square().mean(dim=-1, keepdim=True) + self.variance_epsilon).sqrt()


def double_norms(monkeypatch: Any) -> None:
    """transformers computes RMSNorm in float32 whatever it is given. Not now: finite differences need all digits."""
    from transformers.models.llama.modeling_llama import LlamaRMSNorm
    from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
    from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

    for norm in (LlamaRMSNorm, Qwen2RMSNorm, Qwen3RMSNorm):
        monkeypatch.setattr(norm, "forward", _norm_in_float64)


def double(family: str, grouped: bool = False) -> Any:
    """`helpers.tiny_decoder` in float64."""
    return tiny_decoder(family, grouped).double()


def shallow(family: str, grouped: bool = False) -> Any:
    """`helpers.tiny_decoder` with its first layer only: few edges."""
    decoder = tiny_decoder(family, grouped)
    body, name = (decoder.transformer, "h") if family == "gpt2" else (decoder.model, "layers")
    setattr(body, name, getattr(body, name)[:1])
    decoder.config.num_hidden_layers = 1
    return decoder


def ungrouped(decoder: Any) -> Any:
    """A new decoder without groups that computes the same: each query head has its own copy of its key and value head.

    Only for Llama, Qwen2 and Qwen3 as `helpers.tiny_decoder` makes them.
    """
    make = shallow if decoder.config.num_hidden_layers == 1 else tiny_decoder
    plain = make(decoder.config.model_type, grouped=False).to(decoder.dtype)
    weights = decoder.state_dict()
    for name, weight in weights.items():
        if ".k_proj." in name or ".v_proj." in name:
            heads = weight.unflatten(0, (decoder.config.num_key_value_heads, -1))
            weights[name] = torch.stack([heads[head // 2] for head in range(4)]).flatten(0, 1)
    plain.load_state_dict(weights)
    return plain


# Edges, from their names alone


def source_names(layers: int, heads: int) -> list[str]:
    return ["input", *(name for n in range(layers) for name in (*(f"a{n}.h{h}" for h in range(heads)), f"m{n}"))]


def reader_names(layers: int, heads: int, kv_heads: int) -> list[str]:
    shared = "h" if heads == kv_heads else "kv"
    names: list[str] = []
    for n in range(layers):
        names += [f"a{n}.h{h}<q>" for h in range(heads)]
        names += [f"a{n}.{shared}{h}<k>" for h in range(kv_heads)] + [f"a{n}.{shared}{h}<v>" for h in range(kv_heads)]
        names += [f"m{n}"]
    return [*names, "logits"]


def _moment(name: str) -> float:
    """When a node comes to its turn: the attention of a layer before its MLP."""
    if name in ("input", "logits"):
        return -1 if name == "input" else torch.inf
    return int(name[1:].partition(".")[0]) + (0.5 if name[0] == "m" else 0)


def kind_of(reader: str) -> str:
    return reader[-2] if reader[-1] == ">" else ("logits" if reader == "logits" else "mlp")


def all_edges(graph: Any) -> list[tuple[str, str]]:
    """Every pair of a source and a reader that comes later."""
    readers = reader_names(graph.layers, graph.heads, graph.kv_heads)
    return [
        (source, reader)
        for source in source_names(graph.layers, graph.heads)
        for reader in readers
        if _moment(source) < _moment(reader)
    ]


def some_edges(graph: Any, each: int = 3, seed: int = 0) -> list[tuple[str, str]]:
    """A few edges into every kind of reader."""
    rng, edges = random.Random(seed), all_edges(graph)
    return [edge for kind in KINDS for edge in rng.sample([e for e in edges if kind_of(e[1]) == kind], each)]


def everything(reader: str, upstream: dict[str, Tensor]) -> Tensor:
    """What a reader reads in an ordinary run."""
    return sum(upstream.values())  # type: ignore[return-value]


def plus(changes: list[tuple[str, Tensor]]) -> Reads:
    """Ordinary runs, as many as there are changes, stacked along the batch: in each of them one reader is sent its
    change in addition.
    """

    def reads(reader: str, upstream: dict[str, Tensor]) -> Tensor:
        read = everything(reader, upstream).unflatten(0, (len(changes), -1)).clone()
        for run, (where, change) in enumerate(changes):
            if where == reader:
                read[run] += change
        return read.flatten(0, 1)

    return reads


def only(kept: set[tuple[str, str]], replacement: dict[str, Tensor]) -> Reads:
    """Every reader gets from every source what it writes if the edge is kept, and else its replacement."""

    def reads(reader: str, upstream: dict[str, Tensor]) -> Tensor:
        sent = [x if (source, reader) in kept else replacement[source] for source, x in upstream.items()]
        return sum(sent[1:], torch.zeros_like(upstream["input"]) + sent[0])

    return reads


class ByHand:
    """An ARM or MDM computed by the formulas, head by head, in float64, from its weights alone.

    Every reader is asked what it reads, given what all sources upstream have written. Nothing of transformers runs.
    """

    def __init__(self, model: ARM | MDM) -> None:
        decoder = model.decoder
        self.model, self.config, self.family = model, decoder.config, decoder.config.model_type
        self.weights = {name: weight.double() for name, weight in decoder.state_dict().items()}
        self.heads = self.config.num_attention_heads
        self.kv_heads = getattr(self.config, "num_key_value_heads", self.heads)
        self.size = self.config.hidden_size // self.heads
        self.gpt2 = self.family == "gpt2"

    def run(
        self, tokens: Tensor, reads: Reads = everything, put: dict[str, Tensor] | None = None, readers: str = "kv"
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Raw logits, and what every source wrote. Sources in `put` write what is given there instead."""
        put = put or {}
        shared = readers == "kv" and self.kv_heads < self.heads
        written: dict[str, Tensor] = {}
        nobodys = torch.zeros(self.config.hidden_size, dtype=torch.float64)  # biases after the heads were summed

        def write(name: str, value: Tensor) -> None:
            written[name] = put.get(name, value)

        def read(reader: str) -> Tensor:
            return reads(reader, dict(written)) + nobodys

        write("input", self._embedding(tokens))
        for layer in range(self.config.num_hidden_layers):
            results = []
            for head in range(self.heads):
                group = head * self.kv_heads // self.heads
                sharing = f"a{layer}.kv{group}" if shared else f"a{layer}.h{head}"
                q = self._project("q", layer, head, read(f"a{layer}.h{head}<q>"))
                k = self._project("k", layer, group, read(f"{sharing}<k>"))
                v = self._project("v", layer, group, read(f"{sharing}<v>"))
                results.append(self._attend(layer, head, q, k, v))
            for head, result in enumerate(results):
                write(f"a{layer}.h{head}", result)
            if self.gpt2:
                nobodys = nobodys + self.weights[f"transformer.h.{layer}.attn.c_proj.bias"]
            write(f"m{layer}", self._mlp(layer, read(f"m{layer}")))
        final = "transformer.ln_f" if self.gpt2 else "model.norm"
        return self._norm(read("logits"), final) @ self.weights["lm_head.weight"].T, written

    def metric(self, raw: Tensor, prompts: Prompts, name: str = "logit_diff", clean: Tensor | None = None) -> Tensor:
        """The metric of every prompt, from raw logits (and those of the clean run)."""
        mine = self._at_target(raw, prompts)
        rows = torch.arange(len(prompts))
        if name == "logit_diff":
            return mine[rows, prompts.answer] - mine[rows, prompts.distractor]
        if name == "answer_logprob":
            return mine[rows, prompts.answer] - mine.exp().sum(dim=1).log()
        assert name == "kl"
        assert clean is not None
        p, q = self._at_target(clean, prompts).softmax(dim=1), mine.softmax(dim=1)
        return -(p * (p / q).log()).nansum(dim=1)

    def _at_target(self, raw: Tensor, prompts: Prompts) -> Tensor:
        """Logits of the target; the mask token is no answer of an MDM."""
        mine = raw[torch.arange(len(prompts)), prompts.target - int(self.model.shift)].clone()
        if isinstance(self.model, MDM):
            mine[:, MASK] = -torch.inf
        return mine

    # The parts

    def _embedding(self, tokens: Tensor) -> Tensor:
        if self.gpt2:
            positions = self.weights["transformer.wpe.weight"][: tokens.shape[1]]
            return self.weights["transformer.wte.weight"][tokens] + positions
        return self.weights["model.embed_tokens.weight"][tokens]

    def _norm(self, x: Tensor, name: str) -> Tensor:
        if self.gpt2:
            x = x - x.mean(dim=-1, keepdim=True)
            unit = x / (x.square().mean(dim=-1, keepdim=True) + self.config.layer_norm_epsilon).sqrt()
            return self.weights[f"{name}.weight"] * unit + self.weights[f"{name}.bias"]
        mean_square = x.square().mean(dim=-1, keepdim=True)
        return self.weights[f"{name}.weight"] * x / (mean_square + self.config.rms_norm_eps).sqrt()

    def _project(self, kind: str, layer: int, head: int, stream: Tensor) -> Tensor:
        """One head's query, key or value from what it reads: normed, projected and turned by its position."""
        mine = slice(head * self.size, (head + 1) * self.size)
        if self.gpt2:
            x = self._norm(stream, f"transformer.h.{layer}.ln_1")
            name, width = f"transformer.h.{layer}.attn.c_attn", self.config.hidden_size
            part = slice("qkv".index(kind) * width, ("qkv".index(kind) + 1) * width)
            return x @ self.weights[f"{name}.weight"][:, part][:, mine] + self.weights[f"{name}.bias"][part][mine]
        of = f"model.layers.{layer}."
        x = self._norm(stream, of + "input_layernorm") @ self.weights[f"{of}self_attn.{kind}_proj.weight"][mine].T
        if self.family == "qwen2":
            x = x + self.weights[f"{of}self_attn.{kind}_proj.bias"][mine]
        if kind == "v":
            return x
        if self.family == "qwen3":
            x = self._norm(x, f"{of}self_attn.{kind}_norm")
        # float32, as transformers computes angles in every type
        angle = torch.arange(x.shape[1])[:, None] * 10000.0 ** (-torch.arange(0, self.size, 2) / self.size)
        cos, sin = angle.float().cos().double(), angle.float().sin().double()
        left, right = x.chunk(2, dim=-1)
        return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)

    def _attend(self, layer: int, head: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What one head adds to the residual stream."""
        i, j = torch.arange(q.shape[1])[:, None], torch.arange(q.shape[1])[None]
        may = {"causal": j <= i, "full": j >= 0, "block:3": j // 3 <= i // 3}[self.model.attention]
        pattern = (q @ k.mT / self.size**0.5).masked_fill(~may, -torch.inf).softmax(dim=-1)
        mine = slice(head * self.size, (head + 1) * self.size)
        if self.gpt2:
            return pattern @ v @ self.weights[f"transformer.h.{layer}.attn.c_proj.weight"][mine]
        return pattern @ v @ self.weights[f"model.layers.{layer}.self_attn.o_proj.weight"][:, mine].T

    def _mlp(self, layer: int, stream: Tensor) -> Tensor:
        w = self.weights
        if self.gpt2:
            of = f"transformer.h.{layer}."
            inner = self._norm(stream, of + "ln_2") @ w[of + "mlp.c_fc.weight"] + w[of + "mlp.c_fc.bias"]
            return F.gelu(inner, approximate="tanh") @ w[of + "mlp.c_proj.weight"] + w[of + "mlp.c_proj.bias"]
        of = f"model.layers.{layer}."
        x = self._norm(stream, of + "post_attention_layernorm")
        gate, up = (x @ w[f"{of}mlp.{name}_proj.weight"].T for name in ("gate", "up"))
        return (F.silu(gate) * up) @ w[of + "mlp.down_proj.weight"].T


def copies(prompts: Prompts, n: int) -> Prompts:
    """All prompts, n times over."""
    return prompts.select(torch.arange(len(prompts)).repeat(n))


def between(model: ARM | MDM, prompts: Prompts) -> tuple[ByHand, dict[str, Tensor], dict[str, Tensor]]:
    """A model by hand, and what every source writes on the clean and on the corrupted prompts."""
    hand = ByHand(model)
    return hand, hand.run(prompts.clean)[1], hand.run(prompts.corrupted)[1]


def derivatives(
    model: ARM | MDM,
    prompts: Prompts,
    edges: list[tuple[str, str]],
    metric: str = "logit_diff",
    alpha: float = 1.0,
    moved: tuple[str, ...] = (),
    readers: str = "kv",
    eps: float = 1e-5,
) -> Tensor:
    """What the metric loses, for every edge and prompt, per unit of (corrupted - clean) sent to the reader alone.

    Central differences, at clean prompts with the `moved` sources at corrupted + alpha (clean - corrupted).
    """
    hand, clean, corrupted = between(model, prompts)
    n = len(edges)
    put = {
        source: (corrupted[source] + alpha * (clean[source] - corrupted[source])).repeat(n, 1, 1) for source in moved
    }
    many, reference = copies(prompts, n), hand.run(prompts.clean)[0].repeat(n, 1, 1)

    def at(step: float) -> Tensor:
        changes = [(reader, step * (corrupted[source] - clean[source])) for source, reader in edges]
        raw, _ = hand.run(many.clean, plus(changes), put, readers)
        return hand.metric(raw, many, metric, reference)

    return -((at(eps) - at(-eps)) / (2 * eps)).view(n, len(prompts))


# What is left behind


def traces(decoder: Any) -> dict[str, object]:
    """All that an intervention could leave on a decoder: hooks, gradients, flags, and changed attributes."""
    found: dict[str, object] = {"grad mode": torch.is_grad_enabled(), "training": decoder.training}
    for name, module in decoder.named_modules():
        for kind, hooks in vars(module).items():
            if kind.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called")):
                found[f"{name} {kind}"] = list(hooks)
        found[f"{name} groups"] = getattr(module, "num_key_value_groups", None)
        found[f"{name} attributes"] = sorted(vars(module))
    for name, parameter in decoder.named_parameters():
        found[f"{name} requires_grad"] = parameter.requires_grad
        found[f"{name} grad"] = parameter.grad is None
        found[f"{name} version"] = parameter._version
    return found


@contextmanager
def leaves_no_trace(decoder: Any) -> Iterator[None]:
    """The block changes nothing about a decoder, nor about what it computes, to the last bit."""
    tokens = random_prompts(seed=9).clean
    with torch.no_grad():
        logits = decoder(tokens, use_cache=False).logits
    before = traces(decoder)
    yield
    assert traces(decoder) == before
    with torch.no_grad():
        assert torch.equal(decoder(tokens, use_cache=False).logits, logits)
