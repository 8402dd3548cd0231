"""Direct logit attribution: what each source says to the logits itself, not through others.

The logits are linear in what the sources write, once the scale of the final norm is held at what it is on this prompt.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mdmcourse.circuits.adapter import anatomy_of, centred, norm_weight
from mdmcourse.lens.components import written_by_sources
from mdmcourse.models.reading import LanguageModel
from mdmcourse.tasks.task import Prompts


@torch.no_grad()
def direct_attribution(model: LanguageModel, prompts: Prompts, batch_size: int = 64) -> Float[Tensor, "prompt source"]:
    """Each source's share of logit(answer) - logit(distractor), in logits, on the clean prompts.

    The columns are `Graph.sources`. Their sum is the logit difference, but for what biases add (Llama has none).
    Elhage et al. (2021), "A Mathematical Framework for Transformer Circuits".
    Raises InputError for a decoder of an unknown family, and if there are no prompts.
    """
    norm = anatomy_of(model).final_norm
    unembedding = model.decoder.get_output_embeddings().weight
    rows = []
    for part, written, scale in written_by_sources(model, prompts, batch_size):
        towards = (unembedding[part.answer] - unembedding[part.distractor]).float()
        direction = centred(norm, towards * norm_weight(norm, torch.float32)) * scale
        rows.append(torch.einsum("bd,bsd->bs", direction, written.float()).cpu())
    return torch.cat(rows)
