"""The instruments that look inside, against what the library itself says and against small sums by hand."""

from __future__ import annotations

import inspect

import pytest
import torch
from circuits_helpers import MASK, READINGS, random_prompts
from helpers import FAMILIES, tiny_decoder

from mdmcourse.circuits import Graph
from mdmcourse.circuits.capture import target_logits
from mdmcourse.errors import InputError
from mdmcourse.lens import (
    answer_lens,
    attention_distance,
    attention_patterns,
    component_lens,
    direct_attribution,
    logit_lens,
    neuron_activations,
    residual_stream,
    skip_layers,
    top_prompts,
)
from mdmcourse.models import MDM

pytestmark = pytest.mark.parametrize("family", FAMILIES)
every_reading = pytest.mark.parametrize("reading", READINGS)


def logit_differences(model, prompts):
    logits = target_logits(model, prompts.clean, prompts.target).detach()
    rows = torch.arange(len(prompts))
    return logits[rows, prompts.answer] - logits[rows, prompts.distractor]


@every_reading
def test_the_stream_is_what_the_library_calls_hidden_states(family, reading):
    model, tokens = READINGS[reading](tiny_decoder(family)), random_prompts().clean
    with torch.no_grad():
        theirs = model.decoder.base_model(**model.inputs(tokens), output_hidden_states=True).hidden_states
    ours = residual_stream(model, tokens)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours[:-1], theirs[:-1], strict=True):  # the library's last one has gone through the norm
        assert torch.equal(mine, other)


@every_reading
def test_the_last_place_of_the_lens_is_the_models_answer(family, reading):
    model, tokens = READINGS[reading](tiny_decoder(family)), random_prompts().clean
    found = logit_lens(model, tokens)
    torch.testing.assert_close(found[-1], model.logits(tokens).detach(), equal_nan=True)
    assert torch.equal(found[0].isnan(), found[-1].isnan())


def test_an_mdm_without_shift_is_read_where_it_stands(family):
    model, tokens = MDM(tiny_decoder(family), mask_id=MASK, shift=False), random_prompts().clean
    torch.testing.assert_close(logit_lens(model, tokens)[-1], model.logits(tokens).detach())
    assert not logit_lens(model, tokens).isnan().any()


@every_reading
def test_the_answers_lens_agrees_with_the_whole(family, reading):
    model, prompts = READINGS[reading](tiny_decoder(family)), random_prompts(5)
    rows, lens = torch.arange(5), logit_lens(model, prompts.clean)
    found = answer_lens(model, prompts, batch_size=2)
    at_target = lens[:, rows, prompts.target]
    p = at_target.softmax(dim=-1)
    torch.testing.assert_close(found.probability, p[:, rows, prompts.answer])
    torch.testing.assert_close(found.entropy, torch.special.entr(p).sum(dim=-1))
    order = at_target.argsort(dim=-1, descending=True)
    assert torch.equal(found.rank, (order == prompts.answer[:, None]).int().argmax(dim=-1))
    torch.testing.assert_close(found.logit_diff[-1], logit_differences(model, prompts))


@every_reading
def test_what_all_sources_say_is_what_the_model_says(family, reading):
    decoder = tiny_decoder(family)
    model, prompts = READINGS[reading](decoder), random_prompts(5)
    with torch.no_grad():  # biases belong to no source
        for name, parameter in decoder.named_parameters():
            if name.endswith(("c_proj.bias", "ln_f.bias")) and ".mlp." not in name:
                parameter.zero_()
    found = direct_attribution(model, prompts, batch_size=2)
    assert found.shape == (5, Graph.of(model).n_sources)
    torch.testing.assert_close(found.sum(dim=1), logit_differences(model, prompts), rtol=1e-4, atol=1e-5)


def test_a_source_says_what_is_lost_without_it(family):
    """With the norm's scale held, the logits without the last MLP lack exactly what it said."""
    model, prompts = READINGS["full"](tiny_decoder(family)), random_prompts(4)
    said = direct_attribution(model, prompts)[:, -1]
    stream = residual_stream(model, prompts.clean)[-1]
    written: list[torch.Tensor] = []
    mlp = [module for name, module in model.decoder.named_modules() if name.endswith("mlp")][-1]
    hook = mlp.register_forward_hook(lambda module, args, output: written.append(output.detach()))
    target_logits(model, prompts.clean, prompts.target)
    hook.remove()
    rows, at = torch.arange(4), prompts.target - 1
    weight, without = model.decoder.get_output_embeddings().weight.detach(), stream - written[0]
    norm = next(m for n, m in model.decoder.named_modules() if n.endswith(("model.norm", "ln_f")))
    mean = stream.mean(dim=-1, keepdim=True) if family == "gpt2" else 0
    mean_without = without.mean(dim=-1, keepdim=True) if family == "gpt2" else 0
    eps = getattr(norm, "eps", None) or norm.variance_epsilon
    scale = torch.rsqrt((stream - mean).square().mean(dim=-1, keepdim=True) + eps)
    lost = ((stream - mean) - (without - mean_without)) * scale * norm.weight.detach()
    towards = weight[prompts.answer] - weight[prompts.distractor]
    torch.testing.assert_close(said, (lost[rows, at] * towards).sum(dim=-1), rtol=1e-4, atol=1e-5)


@every_reading
def test_a_component_alone_says_what_its_own_output_says(family, reading):
    """A head and an MLP, read by hooks of this test's own, through the library's own norm and embedding."""
    decoder = tiny_decoder(family)
    model, prompts = READINGS[reading](decoder), random_prompts(5)
    blocks = decoder.transformer.h if family == "gpt2" else decoder.model.layers
    norm = decoder.transformer.ln_f if family == "gpt2" else decoder.model.norm
    out = blocks[1].attn.c_proj if family == "gpt2" else blocks[1].self_attn.o_proj
    seen = {}
    hooks = [
        out.register_forward_pre_hook(lambda module, args: seen.update(heads=args[0].detach())),
        blocks[0].mlp.register_forward_hook(lambda module, args, output: seen.update(mlp=output.detach())),
        norm.register_forward_pre_hook(lambda module, args: seen.update(stream=args[0].detach())),
    ]
    target_logits(model, prompts.clean, prompts.target)
    for hook in hooks:
        hook.remove()
    rows, at = torch.arange(5), prompts.target - 1
    heads, graph = decoder.config.num_attention_heads, Graph.of(model)
    width = seen["heads"].shape[-1] // heads
    weight = out.weight.detach() if family == "gpt2" else out.weight.detach().T
    alone = {
        graph.heads_of(1).start + 1: (
            seen["heads"] @ (torch.arange(len(weight)) // width == 1).diag().float() @ weight
        ),
        graph.mlp_of(0): seen["mlp"],
    }
    eps = getattr(norm, "eps", None) or norm.variance_epsilon

    def spread(x):
        x = x - x.mean(dim=-1, keepdim=True) if family == "gpt2" else x
        return x, (x.square().mean(dim=-1, keepdim=True) + eps).sqrt()

    for divide_by in ("whole", "own"):
        found = component_lens(model, prompts, divide_by, batch_size=2)
        assert found.probability.shape == (graph.n_sources, 5)
        for row, output in alone.items():
            x, own = spread(output[rows, at])
            size = own if divide_by == "own" else spread(seen["stream"][rows, at])[1]
            ready = x / size * norm.weight.detach()
            if family == "gpt2" and divide_by == "own":
                ready = ready + norm.bias.detach()
            logits = ready @ decoder.get_output_embeddings().weight.detach().T
            difference = logits[rows, prompts.answer] - logits[rows, prompts.distractor]
            if reading != "arm":
                logits[:, MASK] = -torch.inf
            p = logits.softmax(dim=-1)
            torch.testing.assert_close(found.probability[row], p[rows, prompts.answer], rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(found.entropy[row], torch.special.entr(p).sum(dim=-1), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found.logit_diff[row], difference, rtol=1e-4, atol=1e-5)
            order = logits.argsort(dim=-1, descending=True)
            assert torch.equal(found.rank[row], (order == prompts.answer[:, None]).int().argmax(dim=-1))


@every_reading
def test_components_divided_by_the_whole_are_direct_attribution(family, reading):
    model, prompts = READINGS[reading](tiny_decoder(family)), random_prompts(5)
    found = component_lens(model, prompts, batch_size=2).logit_diff
    torch.testing.assert_close(found.T, direct_attribution(model, prompts), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="divide_by='both'"):
        inspect.unwrap(component_lens)(model, prompts, "both")  # as without checks of types


@every_reading
def test_patterns_sum_to_one_and_see_what_may_be_seen(family, reading):
    model, tokens = READINGS[reading](tiny_decoder(family)), random_prompts().clean
    before = model.decoder.config._attn_implementation
    patterns = attention_patterns(model, tokens)
    assert model.decoder.config._attn_implementation == before
    torch.testing.assert_close(patterns.sum(dim=-1), torch.ones(patterns.shape[:-1]))
    future = patterns * torch.ones(7, 7).triu(1)
    assert bool((future > 0).any()) == (reading != "arm")
    distance = attention_distance(patterns)
    assert float(distance[..., 0].max()) < 1e-6 or reading != "arm"
    assert 0 <= float(distance.min()) <= float(distance.max()) <= 6


def test_neurons_are_what_the_last_matrix_of_the_mlp_reads(family):
    model, prompts = READINGS["full"](tiny_decoder(family)), random_prompts(4)
    found = neuron_activations(model, prompts, batch_size=3)
    written: list[torch.Tensor] = []
    mlp = [module for name, module in model.decoder.named_modules() if name.endswith("mlp")][-1]
    hook = mlp.register_forward_hook(lambda module, args, output: written.append(output.detach()))
    target_logits(model, prompts.clean, prompts.target)
    hook.remove()
    last = mlp.c_proj if family == "gpt2" else mlp.down_proj
    again = last(found[-1]).detach()
    torch.testing.assert_close(again, written[0][torch.arange(4), prompts.target - 1], rtol=1e-4, atol=1e-5)
    assert top_prompts(found, 0, 1, 4).tolist() == found[0, :, 1].abs().sort(descending=True).indices.tolist()


def test_leaving_out_a_layer_is_running_without_it(family):
    decoder = tiny_decoder(family)
    model, prompts = READINGS["full"](decoder), random_prompts(4)
    found = skip_layers(model, prompts, batch_size=3)
    torch.testing.assert_close(found[0], logit_differences(model, prompts))
    blocks = decoder.transformer.h if family == "gpt2" else decoder.model.layers
    kept = [block for index, block in enumerate(blocks) if index != 1]
    shorter = torch.nn.ModuleList(kept)
    if family == "gpt2":
        decoder.transformer.h = shorter
    else:
        decoder.model.layers = shorter
        decoder.config.num_hidden_layers = len(kept)
    torch.testing.assert_close(found[2], logit_differences(model, prompts), rtol=1e-4, atol=1e-5)


def test_hooks_are_gone_after_an_error(family):
    model, prompts = READINGS["arm"](tiny_decoder(family)), random_prompts(4)
    with pytest.raises(InputError, match="one number a prompt"):
        skip_layers(model, prompts, lambda logits, prompts, clean: logits)
    for instrument in (answer_lens, component_lens, direct_attribution, neuron_activations, skip_layers):
        with pytest.raises(InputError, match="no prompts"):
            instrument(model, prompts.select(slice(0, 0)))
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.decoder.modules()]
    assert sum(hooks) == 0
