"""Text to post-train a real model on, written by the model itself: `mdmcourse sample-text`.

What a model is post-trained on must be free to pass on, and should not teach it anything but to read masks. Text that
the model wrote itself is both. It is drawn from answers to plain requests, FORMS x TOPICS: none of them is a template
of a task of this course.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Generator, Tensor
from tqdm.auto import tqdm

from mdmcourse.errors import CheckpointError, InputError
from mdmcourse.models.reading import ARM
from mdmcourse.storage import replacing, write_text
from mdmcourse.tasks.task import held_out

FORMS = (
    "Write a short story about {}.",
    "Write a conversation about {}.",
    "Write a page of a diary about {}.",
    "Explain to a child: {}.",
    "Write a letter to a friend about {}.",
    "Write a short report for a newspaper about {}.",
    "Tell me something about {}.",
    "Describe {} in detail.",
)
THINGS = (
    "a lost dog", "the sea in winter", "how bread is made", "the history of a bridge", "planting a tree", "the moon",
    "a football match", "learning to swim", "a storm at night", "the first snow", "rivers", "a quarrel", "bees",
    "how a plane flies", "moving to another city", "a lighthouse", "the price of coffee", "a stolen bicycle",
    "the desert", "the invention of paper", "the weather", "a locked door", "earthquakes", "the work of a nurse",
    "a lost key", "old maps", "a library", "a mountain village", "the stars", "saving money", "a visit to the farm",
    "a new job",
)  # fmt: skip
# What an MDM has to read from both sides is, more than anything, who is who. The names are not those of the tasks.
PEOPLE = (
    "Oliver and Grace at the market", "Henry, Lucy and their uncle", "a birthday of Daniel and Ruth",
    "George, who writes to Helen", "Michael and Clara on a train", "the wedding of Frank and Julia",
    "Martin, Nora and the broken clock", "Philip and Susan in the forest", "a dinner that Walter cooks for Amy",
    "Ben, Carol and a secret", "Eric and Fiona on an island", "a present from Hugh to Irene", "Jack, Karen and the dog",
    "Leo and Maria at the football match", "Nick, who teaches Olga to swim", "Robert, Stella and an old map",
    "Tim and Vera in the museum", "William, Zoe and the stolen bicycle", "Grace and Henry as neighbours",
    "Lucy and Daniel in a small shop", "Ruth, George and the storm", "Helen and Michael at the hospital",
    "Clara, Frank and a promise", "Julia and Martin at school", "Nora, Philip and the piano",
    "Susan and Walter at the harbour", "Amy, Ben and a letter that came late", "Carol and Eric at a picnic",
    "Fiona, Hugh and the captain", "Irene and Jack in the library", "Karen, Leo and their grandmother",
    "Maria and Nick on a farm",
)  # fmt: skip
TOPICS = THINGS + PEOPLE
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


@torch.no_grad()
def draw_text(
    arm: ARM,
    prompts: Int[Tensor, "batch pos"],
    new_tokens: int,
    generator: Generator,
    *,
    temperature: float = 0.7,
    top_k: int = 50,
) -> Int[Tensor, "batch new"]:
    """Tokens drawn from left to right, each from the `top_k` most probable ones.

    `sample_arm` does the same and records every step; this one is for long text, of which only the result is wanted.
    """
    written = []
    fresh, cache = prompts, None
    for _ in range(new_tokens):
        logits, cache = arm.next_token_logits(fresh, cache)
        best = logits.float().topk(top_k, dim=-1)
        probabilities = (best.values / temperature).softmax(dim=-1)
        fresh = best.indices.gather(1, torch.multinomial(probabilities, 1, generator=generator))
        written.append(fresh)
    return torch.cat(written, dim=1)


def sample_text(
    arm: ARM, out: Path, *, each: int = 8, new_tokens: int = 104, seed: int = 0, batch_size: int = 128
) -> None:
    """Write `each` answers to every request to `out`, a .jsonl.gz file with a request and its text a line.

    Beside `out`, finished batches are kept while the work goes on: run again, with the same arguments, after an
    interruption.
    """
    tokenizer = arm.tokenizer
    by_length: defaultdict[int, list[tuple[str, list[int]]]] = defaultdict(list)
    for request in (form.format(topic) for topic in TOPICS for form in FORMS):
        ids = tokenizer(CHAT.format(request)).input_ids
        by_length[len(ids)] += [(request, ids)] * each
    batches = [
        rows[start : start + batch_size] for rows in by_length.values() for start in range(0, len(rows), batch_size)
    ]
    unfinished = out.with_name(f".{out.name}.{seed}-{each}-{new_tokens}-{batch_size}.partial")
    unfinished.mkdir(parents=True, exist_ok=True)
    for index, rows in enumerate(tqdm(batches, desc="text", unit="batch")):
        part = unfinished / f"{index}.json"
        if part.exists():
            continue
        generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
        tokens = draw_text(arm, torch.tensor([ids for _, ids in rows]), new_tokens, generator)
        texts = [_until_end(row, tokenizer) for row in tokens.tolist()]
        found = [{"request": request, "text": text} for (request, _), text in zip(rows, texts, strict=True)]
        write_text(part, json.dumps(found))
    documents = [row for index in range(len(batches)) for row in json.loads((unfinished / f"{index}.json").read_text())]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in documents if row["text"])
    with replacing(out) as temporary:
        temporary.write_bytes(gzip.compress(lines.encode(), mtime=0))  # the same text gives the same file
    for part in unfinished.glob("*.json"):
        part.unlink()
    unfinished.rmdir()


def _until_end(ids: list[int], tokenizer: object) -> str:
    """The text up to where the model ended it."""
    end = tokenizer.eos_token_id  # type: ignore[attr-defined]
    ids = ids[: ids.index(end)] if end in ids else ids
    return tokenizer.decode(ids, skip_special_tokens=True).strip()  # type: ignore[attr-defined]


def read_text(split: str, path: Path) -> list[str]:
    """The documents of the "train" or "test" split of a file that `sample_text` wrote.

    Documents are held out by the request that they answer, so that no two splits hold answers to the same request.
    """
    if split not in ("train", "test"):
        raise InputError(
            f"split={split!r}.", "There are two, and they share no document.", 'Use split="train" or "test".'
        )
    try:
        rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
        return [row["text"] for row in rows if held_out(row["request"]) == (split == "test")]
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} could not be read: {type(error).__name__} ({error}).",
            "There is no text to train on.",
            "Make it anew: mdmcourse sample-text smollm2-135m.",
        ) from error
