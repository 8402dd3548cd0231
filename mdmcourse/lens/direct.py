"""Direct logit attribution: what each source says to the logits itself, not through others.

The logits are linear in what the sources write, once the scale of the final norm is held at what it is on this prompt.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mdmcourse.circuits.adapter import anatomy, centred, norm_weight, unit_and_scale
from mdmcourse.circuits.capture import before, head_outputs, recording, target_logits
from mdmcourse.lens.logit_lens import batches
from mdmcourse.models.reading import LanguageModel
from mdmcourse.tasks.task import Prompts


@torch.no_grad()
def direct_attribution(model: LanguageModel, prompts: Prompts, batch_size: int = 64) -> Float[Tensor, "prompt source"]:
    """Each source's share of logit(answer) - logit(distractor), in logits, on the clean prompts.

    The columns are `Graph.sources`. Their sum is the logit difference, but for what biases add (Llama has none).
    Elhage et al. (2021), "A Mathematical Framework for Transformer Circuits".
    Raises InputError for a decoder of an unknown family, and if there are no prompts.
    """
    parts = anatomy(model.decoder)
    unembedding = model.decoder.get_output_embeddings().weight
    rows = []
    for part in batches(prompts, batch_size, model):
        last: list[Tensor] = []
        hook = before(parts.final_norm, last.append)
        try:
            with recording(parts) as written:
                target_logits(model, part.clean, part.target)
        finally:
            hook.remove()
        each, at = torch.arange(len(part), device=model.device), part.target - int(model.shift)
        sources = [written.input[each, at][:, None]]
        for layer, heads, mlp in zip(parts.layers, written.heads, written.mlps, strict=True):
            sources += [head_outputs(layer, heads[each, at][:, None])[:, :, 0], mlp[each, at][:, None]]
        _, scale = unit_and_scale(parts.final_norm, last[0][each, at].float())
        towards = (unembedding[part.answer] - unembedding[part.distractor]).float()
        direction = centred(parts.final_norm, towards * norm_weight(parts.final_norm, torch.float32)) * scale
        rows.append(torch.einsum("bd,bsd->bs", direction, torch.cat(sources, dim=1).float()).cpu())
    return torch.cat(rows)
