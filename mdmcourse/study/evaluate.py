"""How often a model is right: at the analysed token, and with a whole answer that it writes itself."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from mdmcourse.diffusion.sampling import Order, sample_arm, sample_mdm
from mdmcourse.models.dtype import faster_dtype
from mdmcourse.models.pairs import load_pair
from mdmcourse.models.reading import ARM, MDM, LanguageModel, need_repeatable
from mdmcourse.models.registry import entry
from mdmcourse.paths import data_dir
from mdmcourse.sequences import Sequences
from mdmcourse.study.by_bayes import one_blank_within, scores_by_bayes
from mdmcourse.study.infilling import infilling, windows
from mdmcourse.study.text import read_text
from mdmcourse.tasks import get_task, readable
from mdmcourse.tasks.task import Example, Prompts, Task, encode_examples


@dataclass(frozen=True)
class Accuracy:
    """A model on a task, shares of `prompts` held-out prompts; of fewer, where not all of them can be analysed, in
    `first_token` and `preferred`.

    Attributes
    ----------
    first_token: the answer has the highest logit at the analysed token, everything of the answer from there on masked.
        That is the first token of the answer that is not given: y1 in chain, the first operator in Countdown.
    preferred: the answer has a higher logit there than the distractor: the sign of the logit difference, which circuits
        are found for. `preferred_interval`: 95 %, over prompts (Wilson's).
    whole_answer: the answer that the model writes, greedily, passes the task's checker: an ARM from left to right, an
        MDM one token a step in the order of confidence.
    interval: of whole_answer: 95 %, over prompts (Wilson's).
    each_token: for each token of the answer, right in one forward pass: an ARM with the right tokens before it in
        view (as in training), an MDM with the whole answer masked. Empty if answers differ in length.
    prompts: how many.
    """

    first_token: float
    preferred: float
    preferred_interval: tuple[float, float]
    whole_answer: float
    interval: tuple[float, float]
    each_token: list[float]
    prompts: int


@torch.no_grad()
def at_target(model: LanguageModel, prompts: Prompts, batch_size: int = 256) -> tuple[float, float]:
    """Shares of prompts at whose target the answer has the highest logit, and a higher one than the distractor."""
    highest, higher = at_each_target(model, prompts, batch_size)
    return float(highest.double().mean()), float(higher.double().mean())


@torch.no_grad()
def at_each_target(
    model: LanguageModel, prompts: Prompts, batch_size: int = 256
) -> tuple[Bool[Tensor, " prompt"], Bool[Tensor, " prompt"]]:
    """Has the answer the highest logit at the target of each prompt, and has it a higher one than the distractor?"""
    highest, higher = [], []
    prompts = readable(model, prompts)
    prompts.need_answers(model)
    need_repeatable(model)
    for start in range(0, len(prompts), batch_size):
        part = slice(start, start + batch_size)
        clean, target = prompts.clean[part], prompts.target[part]
        where = torch.zeros_like(clean, dtype=torch.bool).scatter_(1, target[:, None], True)
        logits = model.logits_at(clean.to(model.device), where.to(model.device)).cpu()
        answer, distractor = (logits.gather(1, ids[part, None]) for ids in (prompts.answer, prompts.distractor))
        highest.append(logits.argmax(dim=-1) == prompts.answer[part])
        higher.append((answer > distractor).squeeze(1))
    return torch.cat(highest), torch.cat(higher)


@torch.no_grad()
def token_accuracy(model: LanguageModel, sequences: Sequences) -> list[float]:
    """Accuracy of each token of the answer in one forward pass; empty if answers differ in length (see Accuracy)."""
    lengths = sequences.answer.sum(dim=1)
    if (lengths != lengths[0]).any():
        return []
    tokens, where = sequences.tokens.to(model.device), sequences.answer.to(model.device)
    seen = tokens.masked_fill(where, model.mask_id) if isinstance(model, MDM) else tokens
    logits = model.logits_at(seen, where, sequences.attention_mask.to(model.device))
    right = logits.argmax(dim=-1) == tokens[where]
    return right.view(len(sequences), -1).double().mean(dim=0).tolist()


def write_answers(
    model: LanguageModel, sequences: Sequences, *, order: Order = "confidence", batch_size: int = 256
) -> list[str]:
    """The answer that the model writes for each sequence, greedily, as text. What stands at `answer` is not shown."""
    written: dict[int, str] = {}
    for index in _same_shape(sequences, batch_size):
        part = sequences.select(index)
        where: Bool[Tensor, "batch pos"] = part.answer
        if isinstance(model, MDM):
            masked = part.tokens.masked_fill(where, model.mask_id)
            trace = sample_mdm(model, masked, order=order, attention_mask=part.attention_mask, top=0)
        else:
            assert isinstance(model, ARM)
            start, count = int(where[0].int().argmax()), int(where[0].sum())
            trace = sample_arm(model, part.tokens[:, :start], count, top=0)
        written |= dict(zip(index.tolist(), trace.answers(model.tokenizer), strict=True))
    return [written[i] for i in range(len(sequences))]


@dataclass(frozen=True)
class Questions:
    """Held-out examples of a task, drawn and encoded once for all models that share a tokenizer and a mask token."""

    task: Task
    examples: list[Example]
    sequences: Sequences
    prompts: Prompts

    @classmethod
    def draw(cls, task: Task, tokenizer: Any, n: int, *, seed: int = 0, mask_id: int | None = None) -> Questions:
        """`n` examples, or all that there are if they are fewer; of those that can be analysed, as many prompts."""
        examples = task.for_tokenizer(tokenizer)._up_to(n, "test", seed)
        prompts = task.prompts(tokenizer, n, seed=seed, mask_id=mask_id, or_fewer=True)
        return cls(task, examples, encode_examples(examples, tokenizer), prompts)


def accuracy(model: LanguageModel, task: Task, n: int = 500, *, seed: int = 0, mask_id: int | None = None) -> Accuracy:
    """Measure a model on `n` held-out prompts of a task, or on all that there are if they are fewer; the first token on
    those that can be analysed.

    mask_id: what stands at the answer for an ARM whose tokenizer has no mask token. It is after all that an ARM sees.
    """
    return accuracy_on(model, Questions.draw(task, model.tokenizer, n, seed=seed, mask_id=_mask_of(model, mask_id)))


def accuracy_on(model: LanguageModel, questions: Questions) -> Accuracy:
    """Measure a model on questions that were drawn for its tokenizer and its mask token."""
    examples, prompts = questions.examples, questions.prompts
    first_token, preferred = at_target(model, prompts)
    written = write_answers(model, questions.sequences)
    right = sum(questions.task.check(example, answer) for example, answer in zip(examples, written, strict=True))
    return Accuracy(
        first_token,
        preferred,
        wilson(round(preferred * len(prompts)), len(prompts)),
        right / len(examples),
        wilson(right, len(examples)),
        token_accuracy(model, questions.sequences),
        len(examples),
    )


def _accuracy_by_bayes(arm: ARM, prompts: Prompts, candidates: int) -> Accuracy:
    """The ARM's answers of one token by Bayes' rule: which the whole answer then is."""
    scores, rows = scores_by_bayes(arm, prompts, candidates), torch.arange(len(prompts))
    right = int((scores.argmax(dim=1) == prompts.answer).sum())
    preferred = int((scores[rows, prompts.answer] > scores[rows, prompts.distractor]).sum())
    n = len(prompts)
    return Accuracy(right / n, preferred / n, wilson(preferred, n), right / n, wilson(right, n), [], n)


def _mask_of(model: LanguageModel, otherwise: int | None) -> int | None:
    return model.mask_id if isinstance(model, MDM) else otherwise


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927): it stays within 0 and 1, and is no point when all are right."""
    share, spread = right / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def evaluate_pair(
    name: str,
    seed: int = 0,
    *,
    n: int = 500,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    by_bayes: int = 0,
) -> dict[str, Any]:
    """Accuracy of every member of a pair on each of its tasks, as plain data.

    {"pair", "seed", "dtype", "members": {member: {task: the fields of Accuracy}}}; for a pair that was post-trained on
    text also "infilling": {member: {"share", "interval", "tokens"}}, of held-out text (`mdmcourse.study.infilling`).
    by_bayes: ask the ARM by Bayes' rule too, with so many candidates (`mdmcourse.study.by_bayes`), as a member of the
        name "arm-by-bayes", in tasks with one blank and text after it. That takes as many texts a prompt.

    Without a `dtype`, on a CPU, a real pair is loaded in whichever of float32 and bfloat16 this machine is faster with;
    single prompts come out otherwise in the other.
    """
    if dtype is None and "base" in entry("pairs", name) and device in (None, "cpu"):
        dtype = getattr(torch, faster_dtype())
    pair = load_pair(name, seed, device=device, dtype=dtype)
    mask_id = pair.mdm.mask_id  # at the answer for an ARM too, which does not see it
    members: dict[str, dict[str, Any]] = {member: {} for member in pair.members}
    for name_of_task in pair.tasks:
        drawn: dict[tuple[str, int | None], Questions] = {}  # by tokenizer and mask: mostly one for all members
        for member, model in pair.members.items():
            key = (model.tokenizer.backend_tokenizer.to_str(), _mask_of(model, mask_id))
            if key not in drawn:
                drawn[key] = Questions.draw(get_task(name_of_task), model.tokenizer, n, mask_id=key[1])
            members[member][name_of_task] = asdict(accuracy_on(model, drawn[key]))
            if member == "arm" and by_bayes and isinstance(model, ARM) and one_blank_within(drawn[key].prompts):
                found = _accuracy_by_bayes(model, drawn[key].prompts, by_bayes)
                members.setdefault("arm-by-bayes", {})[name_of_task] = asdict(found)
    result: dict[str, Any] = {
        "pair": name,
        "seed": seed,
        "dtype": str(pair.arm.decoder.dtype).removeprefix("torch."),
        "members": members,
    }
    if files := entry("pairs", name).get("text"):
        texts = [text for file in files for text in read_text("test", data_dir() / file)]
        held_out = windows(texts, pair.arm.tokenizer, 56)
        chosen = torch.randperm(len(held_out), generator=torch.Generator().manual_seed(seed))[:n]
        held_out = held_out.select(chosen)
        result["infilling"] = {member: _infilled(model, held_out, mask_id) for member, model in pair.members.items()}
    return result


LEGEND = """\
first token: the first that is asked for (in countdown the first operator), it and all after it masked
preferred: there, the answer scores higher than the distractor: the logit difference is positive
whole answer: written by the model itself
each token, one pass: an ARM sees the right ones before it, an MDM none"""
OF_TEXT = "30 % of text: masked tokens of held-out text; an ARM sees all before each, an MDM all that is not masked"
OF_BAYES = "arm-by-bayes: the candidate with which the ARM finds the whole text, after the blank too, most probable"


def as_text(results: list[dict[str, Any]]) -> str:
    """What `evaluate_pair` found, as tables for a terminal: one a seed, and what their columns mean."""
    lines = []
    for result in results:
        head = f"{'task':<14} {'first token':>11} {'preferred':>22}  {'whole answer':<20} each token, one pass"
        lines.append(f"seed {result['seed']}, {result['dtype']:<16} {head}")
        for member, tasks in result["members"].items():
            for task, row in tasks.items():
                each = " ".join(f"{value:.3f}" for value in row["each_token"])
                preferred = share(row["preferred"], row["preferred_interval"])
                whole = share(row["whole_answer"], row["interval"])
                lines.append(
                    f"  {member:<22} {task:<14} {row['first_token']:>11.3f} {preferred:>22}  {whole:<20} {each}"
                )
        for member, row in result.get("infilling", {}).items():
            found = share(row["share"], row["interval"])
            lines.append(f"  {member:<22} {'30 % of text':<14} {'':>34}  {found:<20} {row['tokens']:,} tokens")
    legend = [LEGEND]
    if any("infilling" in result for result in results):
        legend.append(OF_TEXT)
    if any("arm-by-bayes" in result["members"] for result in results):
        legend.append(OF_BAYES)
    return "\n".join([*lines, *legend])


def share(value: float, interval: tuple[float, float]) -> str:
    """A share and its interval, as in every table."""
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _infilled(model: LanguageModel, held_out: Sequences, mask_id: int) -> dict[str, Any]:
    """Share of right tokens, with a 95 % interval from drawing windows of text anew."""
    right, window = infilling(model, held_out, mask_id=mask_id)
    count = torch.zeros(len(held_out)).index_add_(0, window, torch.ones(len(window)))
    hits = torch.zeros(len(held_out)).index_add_(0, window, right.float())
    drawn = torch.randint(len(held_out), (2000, len(held_out)), generator=torch.Generator().manual_seed(0))
    low, high = (hits[drawn].sum(dim=1) / count[drawn].sum(dim=1)).quantile(torch.tensor([0.025, 0.975])).tolist()
    return {"share": right.float().mean().item(), "interval": (low, high), "tokens": len(right)}


def _same_shape(sequences: Sequences, batch_size: int) -> list[Tensor]:
    """Indices in batches whose answers begin and end at the same positions (an ARM's batch has one prompt length)."""
    groups: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    starts, counts = sequences.answer.int().argmax(dim=1).tolist(), sequences.answer.sum(dim=1).tolist()
    for i, shape in enumerate(zip(starts, counts, strict=True)):
        groups[shape].append(i)
    return [
        torch.tensor(group[i : i + batch_size]) for group in groups.values() for i in range(0, len(group), batch_size)
    ]
