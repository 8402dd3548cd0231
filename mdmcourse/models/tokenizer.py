"""A word-level tokenizer in Hugging Face format: one word, one token."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

SPECIALS = ("<pad>", "<bos>", "<mask>", "<unk>")


def word_tokenizer(words: Iterable[str]) -> Any:
    """A `PreTrainedTokenizerFast` with the four special tokens first (ids 0 to 3) and then `words`, in their order.

    Text is split at spaces and around the punctuation marks ``, . ; ? !``, and begins with <bos>. A word outside
    the vocabulary becomes <unk>; `LanguageModel.encode` refuses it by name.
    """
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Sequence, Split, WhitespaceSplit
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(dict.fromkeys((*SPECIALS, *words)))}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = Sequence([WhitespaceSplit(), Split(Regex(r"[,.;?!]"), "isolated")])
    backend.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<bos>",
        mask_token="<mask>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
    )
