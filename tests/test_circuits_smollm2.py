"""The instrument on a real model: the IOI circuit that the literature describes (Wang et al., arXiv 2211.00593).

Attention patterns are read from the library's own output, independently of everything in `circuits`.
"""

import pytest
import torch

from mdmcourse.circuits import attribute
from mdmcourse.tasks import get_task


@pytest.fixture(scope="module")
def prompts(smollm2):
    return get_task("ioi").prompts(smollm2.tokenizer, 12, mask_id=16)


@pytest.mark.slow
def test_edges_run_from_duplicate_and_induction_heads_over_s_inhibition_to_name_movers(smollm2, prompts):
    scores = attribute(smollm2, prompts)
    strongest = [name for name, _ in scores.top(60)]
    for edge in ("a8.h1->a17.h4<q>", "a17.h4->a20.kv0<v>", "a20.h0->a23.h0<q>", "a23.h0->logits"):
        assert edge in strongest
        assert scores[edge] > 0
    assert scores["a24.h4->logits"] < 0


def test_these_heads_look_where_they_should(smollm2, prompts):
    implementation = smollm2.decoder.config._attn_implementation
    smollm2.decoder.set_attn_implementation("eager")  # sdpa does not give its patterns
    try:
        with torch.no_grad():
            patterns = smollm2.decoder(prompts.clean, output_attentions=True).attentions
    finally:
        smollm2.decoder.set_attn_implementation(implementation)
    looks = {name: [] for name in ("duplicate token", "induction", "s-inhibition", "name mover", "negative name mover")}
    for row, tokens in enumerate(prompts.clean):
        end = int(prompts.target[row]) - 1
        (subject, again), (other,) = (
            (tokens[:end] == name[row]).nonzero()[:, 0].tolist() for name in (prompts.distractor, prompts.answer)
        )
        looks["duplicate token"].append(patterns[8][row, 1, again, subject])
        looks["induction"].append(patterns[17][row, 4, again, subject + 1])
        looks["s-inhibition"].append(patterns[20][row, 0, end, again])
        looks["name mover"].append(patterns[23][row, 0, end, other])
        looks["negative name mover"].append(patterns[24][row, 4, end, other])
    for kind, attention in looks.items():
        assert torch.stack(attention).mean() > 0.5, kind
