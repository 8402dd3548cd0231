"""Looking inside: what the residual stream says, who says it, what neurons and heads look at, how alike it all is."""

from mdmcourse.lens.attention import attention_distance, attention_patterns
from mdmcourse.lens.components import component_lens
from mdmcourse.lens.direct import direct_attribution
from mdmcourse.lens.logit_lens import AnswerLens, answer_lens, logit_lens, residual_stream
from mdmcourse.lens.neurons import neuron_activations, selectivity, top_prompts
from mdmcourse.lens.similarity import cosine_similarity, linear_cka, resampled_cka
from mdmcourse.lens.skipping import skip_layers

__all__ = [
    "AnswerLens", "answer_lens", "attention_distance", "attention_patterns", "component_lens", "cosine_similarity",
    "direct_attribution", "linear_cka", "logit_lens", "neuron_activations", "resampled_cka", "residual_stream",
    "selectivity", "skip_layers", "top_prompts",
]  # fmt: skip
