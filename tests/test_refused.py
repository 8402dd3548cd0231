"""Questions that have no answer are refused, everywhere alike: answers that a model cannot give, models that give other
numbers in every run, or none."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from circuits_helpers import INSTRUMENTS, MASK, READINGS, random_prompts
from helpers import assert_three_parts, tiny_decoder, without_shape_checks

from mdmcourse.diffusion import exact_arm, exact_mdm, sample_arm, sample_mdm
from mdmcourse.errors import InputError
from mdmcourse.lens import (
    answer_lens,
    attention_patterns,
    component_lens,
    direct_attribution,
    neuron_activations,
    skip_layers,
)
from mdmcourse.models import ARM, MDM, word_tokenizer
from mdmcourse.study.evaluate import at_target
from mdmcourse.tasks import Example, Prompts
from mdmcourse.tasks.task import Task

PROMPTS = random_prompts(4)
ASKING: dict[str, Callable[..., Any]] = {
    **INSTRUMENTS,
    **{each.__name__: each for each in (answer_lens, component_lens, direct_attribution, neuron_activations)},
    "skip_layers": skip_layers,
    "at_target": at_target,
}
asking = pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING)


def model(reading: str = "full") -> Any:
    return READINGS[reading](tiny_decoder("gpt2"))


# Prompts


@asking
@pytest.mark.parametrize("column", ["answer", "distractor"])
@pytest.mark.parametrize("token", [-1, 10_000])
def test_answers_that_are_no_tokens_are_refused(ask: Callable, column: str, token: int) -> None:
    wrong = getattr(PROMPTS, column).clone()
    wrong[2] = token
    with pytest.raises(InputError) as error:
        ask(model(), replace(PROMPTS, **{column: wrong}))
    assert_three_parts(error.value, str(token))


@asking
def test_an_mdm_is_not_asked_for_its_mask(ask: Callable) -> None:
    with pytest.raises(InputError, match="mask token") as error:
        ask(model(), replace(PROMPTS, answer=torch.full_like(PROMPTS.answer, MASK)))
    assert_three_parts(error.value, str(MASK))


@asking
@pytest.mark.parametrize("reading", ["arm", "full"])
def test_nothing_scores_the_first_token(ask: Callable, reading: str) -> None:
    with pytest.raises(InputError, match="first token"):
        ask(model(reading), replace(PROMPTS, target=torch.zeros_like(PROMPTS.target)))


@pytest.mark.parametrize(
    "change",
    [
        {"answer": [1, 2, 3, 4]},
        {"answer": torch.ones(4)},
        {"target": torch.ones(4, 1, dtype=torch.long)},
        {"clean": torch.ones(4, dtype=torch.long)},
    ],
    ids=["list", "float", "matrix", "row"],
)
def test_columns_of_another_shape_or_type_are_refused(change: dict) -> None:
    columns = {name: getattr(PROMPTS, name) for name in ("clean", "corrupted", "answer", "distractor", "target")}
    with without_shape_checks(), pytest.raises(InputError) as error:
        Prompts(**columns | change)
    assert_three_parts(error.value)


# Models


@pytest.mark.parametrize(
    "run",
    [
        lambda arm, mdm: sample_arm(arm, PROMPTS.clean, 2),
        lambda arm, mdm: sample_mdm(mdm, PROMPTS.clean),
        lambda arm, mdm: exact_arm(arm, PROMPTS.clean, 3),
        lambda arm, mdm: exact_mdm(mdm, PROMPTS.clean, PROMPTS.clean.shape[1] - 2),
        lambda arm, mdm: attention_patterns(arm, PROMPTS.clean),
        lambda arm, mdm: at_target(arm, PROMPTS),
    ],
    ids=["sample_arm", "sample_mdm", "exact_arm", "exact_mdm", "attention_patterns", "at_target"],
)
def test_a_model_with_dropout_is_refused_in_training_mode(run: Callable) -> None:
    decoder = tiny_decoder("gpt2")
    arm, mdm = ARM(decoder), MDM(decoder, mask_id=MASK)
    run(arm, mdm)
    decoder.train()
    for module in decoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    decoder.config.attn_pdrop = 0.0
    run(arm, mdm)  # nothing is left out: every run gives the same
    decoder.config.attn_pdrop = 0.1
    with pytest.raises(InputError, match="training mode") as error:
        run(arm, mdm)
    assert_three_parts(error.value, "training mode")


@pytest.mark.parametrize(
    "run",
    [
        lambda arm, mdm: sample_arm(arm, PROMPTS.clean, 2),
        lambda arm, mdm: sample_mdm(mdm, PROMPTS.clean, temperature=1.0),
        lambda arm, mdm: answer_lens(arm, PROMPTS),
    ],
    ids=["sample_arm", "sample_mdm", "answer_lens"],
)
def test_weights_that_are_no_numbers_are_found(run: Callable) -> None:
    decoder = tiny_decoder("llama")
    with torch.no_grad():
        decoder.model.layers[1].mlp.up_proj.weight[0, 0] = torch.nan
    with pytest.raises(InputError, match="not a number") as error:
        run(ARM(decoder), MDM(decoder, mask_id=MASK))
    assert_three_parts(error.value)


def test_attribution_says_what_inference_mode_means_for_it() -> None:
    with torch.inference_mode(), pytest.raises(InputError, match="inference_mode") as error:
        ASKING["attribute"](model(), PROMPTS)
    assert_three_parts(error.value)
    with torch.no_grad():
        ASKING["attribute"](model(), PROMPTS)


# Tasks


class Odd(Task):
    """With words that a tokenizer may not know, or without a place for the answer."""

    name = "odd"

    def __init__(self, text: str = "of {} is") -> None:
        self.text = text

    def draw(self, rng: random.Random) -> tuple[Example, str]:
        word = f"w{rng.randrange(40)}"
        return Example(f"{word} {self.text}", " one", f"other {self.text}", " two"), word

    def check(self, example: Example, answer: str) -> bool:
        return answer == example.answer


def test_words_that_the_tokenizer_does_not_know_are_named() -> None:
    known = word_tokenizer(["of", "is", "one", "two", "other", *(f"w{n}" for n in range(40))])
    assert len(Odd().prompts(known, 3)) == 3
    assert len(Odd().sequences(known, 5)) == 5
    for some in ([], [f"w{n}" for n in range(20)]):  # none of them, or half
        unknown = word_tokenizer(["of", "is", "one", "two", "other", *some])
        for encode in (Odd().prompts, Odd().sequences):
            with pytest.raises(InputError, match="does not know 'w") as error:
                encode(unknown, 3)
            assert_three_parts(error.value, "'w")


def test_a_text_without_a_place_for_the_answer_is_told() -> None:
    with pytest.raises(InputError, match=r"has no \{\}") as error:
        Odd("of it is").examples(3)
    assert_three_parts(error.value, "w")
