"""What a task is: texts with one right answer, a minimal change that alters it, and a checker."""

from __future__ import annotations

import hashlib
import random
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from mdmcourse.errors import InputError
from mdmcourse.sequences import Sequences
from mdmcourse.storage import Saved

SLOT = "{}"  # where the answer goes
Split = Literal["train", "test"]


@dataclass(frozen=True)
class Example:
    """One text of a task, as strings.

    Attributes
    ----------
    clean: the text with SLOT, ``{}``, where the answer goes.
    answer: what belongs there, with its leading space if the text has one.
    corrupted: `clean` after a minimal change that alters the right answer.
    distractor: what the change makes right (or, if nothing becomes right, the wrong answer to compare with).
    given: the beginning of `answer`, the same in `distractor`, that is shown when a model is analysed.
    """

    clean: str
    answer: str
    corrupted: str
    distractor: str
    given: str = ""


@dataclass(frozen=True)
class Prompts(Saved):
    """Prompts ready for analysis: the same tensors for an ARM and for an MDM.

    Everything of the answer from the analysed token on is masked. An ARM does not see those masks; for an MDM they
    are part of the input, and often do some of the work.

    Attributes
    ----------
    clean, corrupted: token ids, of equal lengths.
    answer, distractor: the right token at `target`, and the one to compare it with.
    target: the index of the analysed token: logits[n, target[n]] of an aligned model score it.
    task: the name of the task.
    """

    clean: Int[Tensor, "batch pos"]
    corrupted: Int[Tensor, "batch pos"]
    answer: Int[Tensor, " batch"]
    distractor: Int[Tensor, " batch"]
    target: Int[Tensor, " batch"]
    task: str = ""

    def __post_init__(self) -> None:
        ids = (self.answer, self.distractor, self.target)
        if not all(isinstance(each, Tensor) for each in (self.clean, self.corrupted, *ids)):
            raise InputError(
                "Some columns of the prompts are no tensors.",
                "Token ids are kept in tensors: [batch, pos], and [batch] for answers, distractors and targets.",
                "Make them with torch.tensor(...).",
            )
        if self.clean.ndim != 2 or any(each.ndim != 1 or each.is_floating_point() for each in ids):
            raise InputError(
                f"clean has the shape {tuple(self.clean.shape)}; answer, distractor and target have "
                f"{', '.join(f'{tuple(each.shape)} ({each.dtype})' for each in ids)}.",
                "There is one row of token ids a prompt, and one answer, distractor and target: whole numbers.",
                "Give clean and corrupted as [batch, pos], the others as [batch]; one prompt is a batch of one.",
            )
        rows = {len(column) for column in (self.clean, self.corrupted, self.answer, self.distractor, self.target)}
        if self.clean.shape != self.corrupted.shape or len(rows) > 1:
            raise InputError(
                f"clean is {tuple(self.clean.shape)}, corrupted {tuple(self.corrupted.shape)}; answers, distractors and"
                f" targets are {len(self.answer)}, {len(self.distractor)} and {len(self.target)}.",
                "A prompt and its corrupted version are compared position by position, with one answer each.",
                "Keep prompts whose two versions have as many tokens, one row a prompt in every column.",
            )
        if len(self) and not bool(((self.target >= 0) & (self.target < self.clean.shape[1])).all()):
            raise InputError(
                f"target runs from {int(self.target.min())} to {int(self.target.max())}.",
                f"The prompts have {self.clean.shape[1]} tokens: it is no position of theirs.",
                "Count positions from 0.",
            )

    def __len__(self) -> int:
        return self.clean.shape[0]

    def need_answers(self, model: Any) -> None:
        """Raise InputError if this model cannot be asked for the answers and distractors: an ARM or an MDM."""
        if not len(self):
            return
        both = torch.stack([self.answer, self.distractor])
        mask_id = getattr(model, "mask_id", None)
        if int(both.min()) < 0 or int(both.max()) >= model.vocab_size:
            raise InputError(
                f"Answers and distractors run from {int(both.min())} to {int(both.max())}.",
                f"The model has the tokens 0 to {model.vocab_size - 1}: they have no logit.",
                "Make the prompts with this model's own tokenizer.",
            )
        if mask_id is not None and bool((both == mask_id).any()):
            raise InputError(
                f"The mask token, {mask_id}, is an answer or a distractor.",
                "An MDM never answers with it: its logit is the lowest number there is.",
                "Give the tokens that stand for themselves.",
            )
        if model.shift and int(self.target.min()) == 0:
            raise InputError(
                "A prediction was asked for at the first token of a shifted model.",
                "The decoder scores a token at the position before it; there is none.",
                "Begin the prompts with a token that is never asked for (toy tokenizers put <bos> there).",
            )

    def select(self, index: slice | Int[Tensor, " n"]) -> Prompts:
        """Some of the prompts, in the order of `index`."""
        return self._with(lambda column: column[index])

    def to(self, device: torch.device | str) -> Prompts:
        """The same prompts on another device."""
        return self._with(lambda column: column.to(device))

    def _with(self, change: Callable[[Tensor], Tensor]) -> Prompts:
        return Prompts(
            change(self.clean),
            change(self.corrupted),
            change(self.answer),
            change(self.distractor),
            change(self.target),
            self.task,
        )

    def __repr__(self) -> str:
        return f"Prompts({self.task}: {len(self)} of {self.clean.shape[1]} tokens)"


def held_out(key: str) -> bool:
    """Does everything with this key belong to the test split? A tenth of all keys do, the same ones everywhere."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) % 10 == 0


class Task(ABC):
    """A task: draws examples, encodes them, checks complete answers.

    A subclass gives `draw` (one random example and the key by which examples are held out together) and `check`.
    """

    name: ClassVar[str]

    @abstractmethod
    def draw(self, rng: random.Random) -> tuple[Example, str]:
        """One random example, and its key: examples that share a key fall into the same split."""

    @abstractmethod
    def check(self, example: Example, answer: str) -> bool:
        """Is `answer` a complete right answer to `example`?"""

    def for_tokenizer(self, tokenizer: Any) -> Task:
        """This task, limited to what the tokenizer can write in the way that the task needs."""
        return self

    def examples(self, n: int, *, split: Split = "test", seed: int = 0) -> list[Example]:
        """`n` different examples of a split. The same arguments give the same examples.

        Raises InputError if the task does not have that many.
        """
        if split not in ("train", "test"):
            raise InputError(
                f"split={split!r}.", "There are two, and they share no prompt.", 'Use split="train" or "test".'
            )
        if n < 0:
            raise InputError(f"n={n} examples.", "A number of examples is 0 or more.", "Ask for 0 or more.")
        found = self._up_to(n, split, seed)
        if len(found) < n:
            raise InputError(
                f"Task {self.name} gave only {len(found)} different examples in its {split} split.",
                f"{n} were asked for.",
                "Ask for fewer, or widen the task (more names, larger numbers).",
            )
        return found

    def _up_to(self, n: int, split: Split, seed: int) -> list[Example]:
        """`n` different examples, or as many as could be found."""
        rng = random.Random(f"{self.name} {split} {seed}")
        found: dict[str, Example] = {}
        # A tenth of the draws falls into the test split, and the last ones of a small task come up rarely: it is given
        # up only after long in vain.
        in_vain = 0
        while len(found) < n and in_vain < 20_000:
            in_vain += 1
            example, key = self.draw(rng)
            if SLOT not in example.clean or SLOT not in example.corrupted:
                raise InputError(
                    f"An example of {self.name} has no {SLOT} in {example.clean!r} or {example.corrupted!r}.",
                    "It stands where the answer goes: without it nobody knows what to ask for.",
                    f"Put {SLOT} into both texts, in the place of the answer.",
                )
            if held_out(key) == (split == "test") and example.clean not in found:
                found[example.clean] = example
                in_vain = 0
        return list(found.values())

    def sequences(self, tokenizer: Any, n: int, *, split: Split = "train", seed: int = 0) -> Sequences:
        """`n` examples with their answers filled in, as token ids, padded on the right."""
        return encode_examples(self.for_tokenizer(tokenizer).examples(n, split=split, seed=seed), tokenizer)

    def prompts(
        self,
        tokenizer: Any,
        n: int,
        *,
        split: Split = "test",
        seed: int = 0,
        mask_id: int | None = None,
        or_fewer: bool = False,
    ) -> Prompts:
        """`n` prompts of one length. `mask_id` defaults to the tokenizer's mask token.

        Of the task's examples those are used whose clean and corrupted texts have the same number of tokens and whose
        answer and distractor differ at the analysed token; of the lengths, the most frequent. If the task does not have
        so many, InputError is raised, or with `or_fewer` those that it has are given.
        """
        if n < 1:
            raise InputError(f"{n} prompts were asked for.", "There would be nothing to measure.", "Ask for 1 or more.")
        if mask_id is None:
            mask_id = tokenizer.mask_token_id
        if mask_id is None:
            raise InputError(
                "The tokenizer has no mask token.", "The answer has to be masked.", "Give mask_id=, as for the MDM."
            )
        task = self.for_tokenizer(tokenizer)
        for pool in (n + n // 4, 4 * n, 32 * n):
            by_length: defaultdict[int, list[tuple]] = defaultdict(list)
            examples = task._up_to(pool, split, seed)
            _need_words(examples, tokenizer)
            for example in examples:
                row = _analysed(example, tokenizer, mask_id)
                if row is not None:
                    by_length[len(row[0])].append(row)
            rows = max(by_length.values(), key=len, default=[])[:n]
            exhausted = len(examples) < pool
            if len(rows) == n > 0 or (rows and exhausted and or_fewer):
                clean, corrupted, answer, distractor, target = map(torch.tensor, zip(*rows, strict=True))
                return Prompts(clean, corrupted, answer, distractor, target, self.name)
            if exhausted:
                break
        raise InputError(
            f"Only {len(rows)} of {len(examples)} examples of {self.name} fit this tokenizer and have one length.",
            f"{n} were asked for. An example fits if the answer's tokens can be told from those of the text beside it.",
            "Ask for fewer prompts." if rows else "Use another task, or a tokenizer that knows its words.",
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def encode_examples(examples: list[Example], tokenizer: Any) -> Sequences:
    """Clean texts with their answers filled in, as token ids, padded on the right.

    Raises InputError for words that the tokenizer does not know, and if it joins answers with the text beside them.
    """
    _need_words(examples, tokenizer)
    encoded = [_encode(example.clean, example.answer, ids) for example, ids in _batched(examples, tokenizer)]
    return Sequences.from_lists(
        [ids for ids, _, _ in encoded], [(start, end) for _, start, end in encoded], tokenizer.pad_token_id or 0
    )


def _need_words(examples: list[Example], tokenizer: Any) -> None:
    """Raise InputError for words that the tokenizer does not know."""
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id):
        return  # a tokenizer of pieces, which can write any word
    texts = [
        text.replace(SLOT, answer)
        for example in examples
        for text, answer in ((example.clean, example.answer), (example.corrupted, example.distractor))
    ]
    if not texts:
        return
    for text, ids in zip(texts, tokenizer(texts).input_ids, strict=True):
        if unknown in ids:
            words = [word for word in text.split() if unknown in tokenizer(word, add_special_tokens=False).input_ids]
            raise InputError(
                f"The tokenizer does not know {', '.join(map(repr, words[:5]))}, in {text!r}.",
                "All such words would become one token, and the examples could not be told apart.",
                "Use words of tokenizer.get_vocab(), or a tokenizer that has these: word_tokenizer([...]).",
            )


def _batched(examples: list[Example], tokenizer: Any) -> list[tuple[Example, Any]]:
    """Each example with its three encodings, made in one call of the (fast) tokenizer each."""
    parts = [example.clean.partition(SLOT) for example in examples]
    texts = [
        [before for before, _, _ in parts],
        [before + example.answer for example, (before, _, _) in zip(examples, parts, strict=True)],
        [before + example.answer + after for example, (before, _, after) in zip(examples, parts, strict=True)],
    ]
    encodings = zip(*(tokenizer(batch).input_ids for batch in texts), strict=True)
    return list(zip(examples, encodings, strict=True))


def _encode(text: str, answer: str, ids: Any) -> tuple[list[int], int, int]:
    """Token ids of the text with its answer, and the half-open range of the answer that is not given.

    Raises InputError if the tokenizer merges the answer with what stands beside it.
    """
    before, until, whole = ids
    if until[: len(before)] != before or whole[: len(until)] != until or len(until) == len(before):
        raise InputError(
            f"The tokenizer joins the answer {answer!r} with the text beside it, in {text!r}.",
            "The answer's tokens cannot be told from the prompt's.",
            "Let the answer begin with a space, as the text around it does.",
        )
    return whole, len(before), len(until)


def _analysed(example: Example, tokenizer: Any, mask_id: int) -> tuple | None:
    """Clean ids, corrupted ids, answer, distractor, target: or None if the example does not fit the tokenizer."""
    rows = []
    for text, answer in ((example.clean, example.answer), (example.corrupted, example.distractor)):
        before, _, after = text.partition(SLOT)
        shown = before + example.given
        rest = answer.removeprefix(example.given)
        ids = tuple(tokenizer(part).input_ids for part in (shown, shown + rest, shown + rest + after))
        try:
            rows.append(_encode(text, rest, ids))
        except InputError:
            return None
    (clean, start, end), (corrupted, start_corrupted, end_corrupted) = rows
    answer_id, distractor_id = clean[start], corrupted[start_corrupted]
    if (len(clean), start, end) != (len(corrupted), start_corrupted, end_corrupted) or answer_id == distractor_id:
        return None
    masks = [mask_id] * (end - start)
    return (
        clean[:start] + masks + clean[end:],
        corrupted[:start] + masks + corrupted[end:],
        answer_id,
        distractor_id,
        start,
    )
