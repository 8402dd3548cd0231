"""One decoder, two ways to read it.

A Hugging Face causal language model computes hidden states from tokens. `ARM` reads it left to right; `MDM` reads the
same class of decoder with attention in both directions and mask tokens in its input. Both return *aligned* logits:
``logits[:, i]`` scores token i, whatever the decoder's own convention is.

The decoder of an ARM scores, at position i, the token at i+1. An MDM that was post-trained from it usually keeps that
*shift*; one trained without it scores at position i the token at i. Nothing outside this folder has to know.
"""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mdmcourse.errors import InputError
from mdmcourse.models.attention import additive_mask, block_length, block_visible

BLANK = "▒"


class LanguageModel:
    """What ARM and MDM share: a decoder, its tokenizer, and how the two are read.

    Attributes
    ----------
    decoder: a Hugging Face causal language model (Llama, Qwen2, Qwen3 or GPT-2).
    tokenizer: its tokenizer, or None.
    attention: "causal", "full" or "block:B".
    shift: True if the decoder scores token i+1 at position i.
    """

    def __init__(self, decoder: Any, tokenizer: Any, attention: str, shift: bool) -> None:
        config: Any = getattr(decoder, "config", None)
        if not hasattr(decoder, "get_input_embeddings") or not hasattr(config, "max_position_embeddings"):
            raise InputError(
                f"A {type(decoder).__name__} cannot be read as a language model.",
                "It has no embedding of tokens, or does not say how many positions it has.",
                "Give a causal language model of transformers: Llama, Qwen2, Qwen3 or GPT-2.",
            )
        if attention != "causal" and (kind := _limited(config)):
            raise InputError(
                f"The attention of this {config.model_type} decoder is limited: {kind}.",
                f"It cannot be read with {attention} attention: some positions would not see what they should.",
                "Use a decoder without it, or switch it off in the config before the weights are loaded.",
            )
        self.decoder, self.tokenizer = decoder, tokenizer
        self.attention, self.shift = attention, shift
        self._block = block_length(attention)
        if tokenizer is not None and len(tokenizer) > self.vocab_size:
            raise InputError(
                f"The tokenizer has {len(tokenizer)} tokens, the decoder {self.vocab_size} rows.",
                "They do not belong together: some tokens would have no embedding.",
                "Load tokenizer and decoder from the same checkpoint.",
            )

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding: every token id is below it."""
        return self.decoder.get_input_embeddings().weight.shape[0]

    @property
    def max_length(self) -> int:
        """The longest sequence, in tokens, that the decoder has positions for."""
        return self.decoder.config.max_position_embeddings

    @property
    def device(self) -> torch.device:
        return self.decoder.device

    def encode(self, text: str) -> Int[Tensor, "1 pos"]:
        """Text as token ids, a batch of one. Raises InputError for words that the tokenizer does not know."""
        return torch.tensor([self._ids(text)], dtype=torch.long, device=self.device)

    def _ids(self, text: str, *, begin: bool = True) -> list[int]:
        """Token ids of a text, or with ``begin=False`` of one that goes on, which gets no token for the beginning."""
        encoded = self._need_tokenizer()(text, add_special_tokens=begin, return_offsets_mapping=True)
        unknown = self.tokenizer.unk_token_id
        places = zip(encoded.input_ids, encoded.offset_mapping, strict=True)
        words = [text[start:end] for token, (start, end) in places if token == unknown]
        if words and self.tokenizer.unk_token not in words:
            raise InputError(
                f"The tokenizer does not know {', '.join(map(repr, words[:5]))}.",
                "A toy model knows only the words of its tasks.",
                "Write the text with words from model.tokenizer.get_vocab().",
            )
        return list(encoded.input_ids)

    def decode(self, tokens: Int[Tensor, " pos"]) -> str:
        """One sequence of token ids as text."""
        return self._need_tokenizer().decode(tokens.tolist())

    def _need_tokenizer(self) -> Any:
        if self.tokenizer is None:
            raise InputError(
                "This model has no tokenizer.",
                "Text cannot be turned into tokens.",
                "Give one: ARM(decoder, tokenizer) or MDM(decoder, tokenizer, mask_id=...).",
            )
        return self.tokenizer

    def inputs(
        self,
        tokens: Int[Tensor, "batch pos"],
        attention_mask: Bool[Tensor, "batch pos"] | None = None,
        visible: Bool[Tensor, "pos pos"] | None = None,
    ) -> dict[str, Any]:
        """The keyword arguments with which the decoder has to be called for this way of reading.

        `attention_mask` is True at real tokens and False at padding, on either side. `visible[i, j]` (may position i
        see position j) replaces the model's own attention: post-training uses it to open attention little by little.
        """
        self._check(tokens, attention_mask)
        inputs: dict[str, Any] = {"input_ids": tokens, "is_causal": self.attention == "causal"}
        positions = None
        if attention_mask is not None:
            positions = (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)
            inputs |= {"attention_mask": attention_mask.long(), "position_ids": positions}
        if visible is None and self._block is not None:
            if positions is None:
                positions = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape)
            seen = block_visible(positions, self._block)
        elif visible is not None:
            seen = visible.expand(tokens.shape[0], -1, -1)
        else:
            return inputs
        inputs |= {"is_causal": False, "attention_mask": additive_mask(seen, attention_mask, self.decoder.dtype)}
        return inputs

    def predicts(
        self, tokens: Int[Tensor, "batch pos"], attention_mask: Bool[Tensor, "batch pos"] | None = None
    ) -> Bool[Tensor, "batch pos"]:
        """Where the model has a prediction: not at padding, and with a shift not at the first real token."""
        real = torch.ones_like(tokens, dtype=torch.bool) if attention_mask is None else attention_mask.clone()
        if self.shift:
            real[:, 1:] &= real[:, :-1].clone()
            real[:, 0] = False
        return real

    def logits(
        self,
        tokens: Int[Tensor, "batch pos"],
        attention_mask: Bool[Tensor, "batch pos"] | None = None,
        visible: Bool[Tensor, "pos pos"] | None = None,
    ) -> Float[Tensor, "batch pos vocab"]:
        """Aligned logits: row i scores token i.

        A row without a prediction is NaN, so that nobody uses it by accident: padding and, if the model is shifted
        (every ARM is), the first real token, for which the decoder has nothing to go by. `predicts` says which.
        """
        raw = self.decoder(**self.inputs(tokens, attention_mask, visible), use_cache=False).logits
        aligned = torch.empty_like(raw)
        if self.shift:
            aligned[:, 1:] = raw[:, :-1]
        else:
            aligned[:] = raw
        self._forbid(aligned)
        if self.shift:
            aligned[:, 0] = torch.nan
        if attention_mask is not None:
            aligned[~self.predicts(tokens, attention_mask)] = torch.nan
        return aligned

    def logits_at(
        self,
        tokens: Int[Tensor, "batch pos"],
        where: Bool[Tensor, "batch pos"],
        attention_mask: Bool[Tensor, "batch pos"] | None = None,
        visible: Bool[Tensor, "pos pos"] | None = None,
    ) -> Float[Tensor, "n vocab"]:
        """``logits(...)[where]``, but the head is computed at those positions only: with a vocabulary of 49,152 that
        is most of the work and the memory. Raises InputError if `where` asks for a row that has no prediction.
        """
        inputs = self.inputs(tokens, attention_mask, visible)
        if (where > self.predicts(tokens, attention_mask)).any():
            raise InputError(
                "A prediction was asked for at padding, or at the first token of a shifted model.",
                "The decoder scores a token at the position before it; there is none.",
                "Begin the sequence with a token that is never masked (toy tokenizers put <bos> there).",
            )
        hidden = self.decoder.base_model(**inputs, use_cache=False).last_hidden_state
        rows = hidden[:, :-1][where[:, 1:]] if self.shift else hidden[where]
        return self._forbid(self.decoder.get_output_embeddings()(rows))

    def _forbid(self, logits: Tensor) -> Tensor:
        """Change logits, in place, of tokens that can never be an answer."""
        return logits

    def _check(self, tokens: Tensor, attention_mask: Tensor | None, seen: int = 0) -> None:
        """Raise InputError if the decoder cannot read this; `seen` tokens are in a cache before it."""
        if not isinstance(tokens, Tensor):
            raise InputError(
                f"tokens is of type {type(tokens).__name__}.",
                "Models read token ids, a tensor of integers [batch, pos].",
                "Encode a text first: model.encode(text).",
            )
        if tokens.ndim != 2 or tokens.dtype not in (torch.long, torch.int) or 0 in tokens.shape:
            raise InputError(
                f"tokens has shape {tuple(tokens.shape)} and type {tokens.dtype}.",
                "A batch of token ids is a matrix of integers, [batch, pos], with at least one of each.",
                "For one sequence use tokens[None].",
            )
        if seen + tokens.shape[1] > self.max_length:
            raise InputError(
                f"The sequence has {seen + tokens.shape[1]} tokens; this decoder has {self.max_length} positions.",
                "Later tokens would have no position, and nothing is cut off in silence.",
                "Shorten the text, or use a model with a longer context.",
            )
        low, high = torch.stack(tokens.aminmax()).tolist()
        if low < 0 or high >= self.vocab_size:
            raise InputError(
                f"tokens holds ids from {low} to {high}; the decoder knows 0 to {self.vocab_size - 1}.",
                "Such ids have no embedding: the tokens were made with another tokenizer.",
                "Encode the text with this model's own tokenizer.",
            )
        if attention_mask is None:
            return
        if attention_mask.shape != tokens.shape or attention_mask.dtype != torch.bool:
            raise InputError(
                f"attention_mask has shape {tuple(attention_mask.shape)} and type {attention_mask.dtype}, "
                f"tokens have shape {tuple(tokens.shape)}.",
                "It must say for every token whether it is real (True) or padding (False).",
                "Give both the same shape; turn a tokenizer's mask of ones and zeros into one with .bool().",
            )

    def __repr__(self) -> str:
        config = self.decoder.config
        millions = sum(parameter.numel() for parameter in self.decoder.parameters()) / 1e6
        size = f"{millions:.2f}" if millions < 10 else f"{millions:,.0f}"
        return (
            f"{type(self).__name__}({config.model_type}, {config.num_hidden_layers} layers, "
            f"{config.num_attention_heads} heads, {size} M parameters, {self.attention} attention"
            f"{', shifted' if self.shift else ''})"
        )


def _limited(config: Any) -> str | None:
    """What keeps a decoder's layers from seeing every position, if anything does."""
    if "local" in (getattr(config, "attention_layers", None) or []):
        return "some layers see a neighbourhood only"
    window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
    if kinds is not None:
        return f"a sliding window of {window} tokens" if "sliding_attention" in kinds else None
    return f"a sliding window of {window} tokens" if window and getattr(config, "use_sliding_window", True) else None


class ARM(LanguageModel):
    """An autoregressive model: a decoder read from left to right.

    `decoder` is a Hugging Face causal language model, used as it is: neither copied nor changed.
    """

    def __init__(self, decoder: Any, tokenizer: Any = None) -> None:
        super().__init__(decoder, tokenizer, attention="causal", shift=True)

    def next_token_logits(
        self, tokens: Int[Tensor, "batch pos"], cache: Any = None
    ) -> tuple[Float[Tensor, "batch vocab"], Any]:
        """Logits of the token after the last, and the key-value cache with which the next call needs only new tokens.

        `tokens` holds the tokens that `cache` has not seen yet. Sequences have no padding.
        """
        self._check(tokens, None, seen=0 if cache is None else cache.get_seq_length())
        output = self.decoder(tokens, past_key_values=cache, use_cache=True, is_causal=True, logits_to_keep=1)
        return output.logits[:, -1], output.past_key_values


class MDM(LanguageModel):
    """A masked diffusion model: a decoder that predicts every masked token from all the others at once.

    Parameters
    ----------
    decoder: a Hugging Face causal language model, used as it is: neither copied nor changed.
    tokenizer: its tokenizer, or None.
    mask_id: the token id that stands for "masked".
    shift: True if the decoder scores token i+1 at position i, as the ARM that it came from does.
    attention: "full", or "block:B" for block-causal attention.

    The mask token itself is never an answer: its logit is the lowest number that the type has ("SUBS" in Sahoo et
    al., arXiv 2406.07524).
    """

    def __init__(
        self, decoder: Any, tokenizer: Any = None, *, mask_id: int, shift: bool = True, attention: str = "full"
    ) -> None:
        super().__init__(decoder, tokenizer, attention, shift)
        self.mask_id = mask_id
        if not 0 <= mask_id < self.vocab_size:
            raise InputError(
                f"mask_id={mask_id} is outside the vocabulary: the decoder has rows 0 to {self.vocab_size - 1}.",
                "The mask token would have no embedding.",
                "Use the id that the model was trained with, or a special token that the vocabulary has to spare.",
            )
        of_tokenizer = getattr(tokenizer, "mask_token_id", None)
        if of_tokenizer is not None and of_tokenizer != mask_id:
            raise InputError(
                f"mask_id={mask_id}, but the tokenizer's mask token has id {of_tokenizer}.",
                "The model would see a mask where the text has a word, or the other way round.",
                "Leave one of them out, or load both from the same checkpoint.",
            )

    @classmethod
    def from_arm(
        cls,
        arm: ARM,
        *,
        weights: Literal["copy", "share"],
        mask_id: int | None = None,
        shift: bool = True,
        attention: str = "full",
    ) -> MDM:
        """An MDM with an ARM's weights: where post-training starts, and the control "attention switched, no training".

        ``weights="copy"`` leaves the ARM as it is when the MDM is trained; ``"share"`` uses the very same decoder, so
        that training the one trains the other. `mask_id` defaults to the tokenizer's mask token.
        """
        if weights not in ("copy", "share"):
            raise InputError(
                f"weights={weights!r}.",
                "It has to be clear whether training the MDM changes the ARM.",
                'Use weights="copy" (the ARM stays as it is) or weights="share" (one decoder, two readings).',
            )
        if mask_id is None:
            mask_id = getattr(arm.tokenizer, "mask_token_id", None)
        if mask_id is None:
            raise InputError(
                "The ARM's tokenizer has no mask token.",
                "Something has to stand for a masked position.",
                "Give mask_id=, for instance the id of a special token that the vocabulary has to spare.",
            )
        decoder = arm.decoder if weights == "share" else copy.deepcopy(arm.decoder)
        return cls(decoder, arm.tokenizer, mask_id=mask_id, shift=shift, attention=attention)

    def encode_blanks(self, text: str) -> Int[Tensor, "1 pos"]:
        """Text with blanks as token ids, a batch of one: every ``▒`` is a mask, a single token that is to be filled in.

        >>> sample_mdm(mdm, mdm.encode_blanks("They swam in the ▒▒▒ until the sun went down."))

        A space before a blank is left out: most tokenizers count it to the token that follows, here to the one that is
        filled in. Raises InputError for words that the tokenizer does not know.
        """
        pieces = text.split(BLANK)
        ids = self._ids(pieces[0].removesuffix(" ") if len(pieces) > 1 else text)
        for number, piece in enumerate(pieces[1:], start=2):
            ids.append(self.mask_id)
            piece = piece.removesuffix(" ") if number < len(pieces) else piece
            ids += self._ids(piece, begin=False) if piece else []
        return torch.tensor([ids], dtype=torch.long, device=self.device)

    def append_masks(self, tokens: Int[Tensor, "batch pos"], count: int) -> Int[Tensor, "batch longer"]:
        """The tokens followed by `count` masks: where an answer is to be written."""
        if count < 0:
            raise InputError(
                f"count={count} masks.", "Tokens would be cut off.", "Give the number of tokens that are to be written."
            )
        return torch.nn.functional.pad(tokens, (0, count), value=self.mask_id)

    def _forbid(self, logits: Tensor) -> Tensor:
        logits[..., self.mask_id] = torch.finfo(logits.dtype).min
        return logits


def need_repeatable(model: LanguageModel) -> None:
    """Raise InputError for a model that gives other numbers in every run: one in training mode, with dropout."""
    decoder = model.decoder
    if not decoder.training:
        return
    rates = ("attention_dropout", "attn_pdrop")
    drops = any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in decoder.modules())
    if drops or any(getattr(decoder.config, rate, 0) for rate in rates):
        raise InputError(
            "The decoder is in training mode, and has dropout.",
            "Some of its numbers are left out at random: every run would give something else.",
            "Call model.decoder.eval() first.",
        )


def need_model(given: object) -> None:
    """Raise InputError for what is neither an ARM nor an MDM: a bare decoder, for instance."""
    if not isinstance(given, LanguageModel):
        raise InputError(
            f"A {type(given).__name__} was given for the model.",
            "Whether its attention is causal, and which logits score which token, only an ARM or an MDM says.",
            "Wrap it: ARM(decoder.eval(), tokenizer), or MDM(decoder.eval(), tokenizer, mask_id=...).",
        )
