"""What a layer is worth: leave it out, and see what is lost."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdmcourse.circuits.adapter import anatomy_of
from mdmcourse.circuits.capture import target_logits
from mdmcourse.circuits.metrics import Metric, get_metric, judge
from mdmcourse.lens.logit_lens import batches
from mdmcourse.models.reading import LanguageModel
from mdmcourse.tasks.task import Prompts


@torch.no_grad()
def skip_layers(
    model: LanguageModel, prompts: Prompts, metric: str | Metric = "logit_diff", batch_size: int = 64
) -> Float[Tensor, "run prompt"]:
    """The metric of every clean prompt: first of the whole model, then with each layer in turn left out (its input
    goes on as its output).

    Raises InputError for a decoder of an unknown family, and if there are no prompts.
    """
    parts, judged = anatomy_of(model), get_metric(metric)[1]
    columns = []
    for part in batches(prompts, batch_size, model):
        whole = target_logits(model, part.clean, part.target)
        runs = [judge(judged, whole, part, whole)]
        for layer in parts.layers:
            hook = layer.block.register_forward_hook(_skipped, with_kwargs=True)
            try:
                runs.append(judge(judged, target_logits(model, part.clean, part.target), part, whole))
            finally:
                hook.remove()
        columns.append(torch.stack(runs).cpu())
    return torch.cat(columns, dim=1)


def _skipped(block: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
    stream = args[0] if args else kwargs["hidden_states"]
    return (stream, *output[1:]) if isinstance(output, tuple) else stream
