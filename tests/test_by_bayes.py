"""An ARM asked for a blank in the midst of a text, by Bayes' rule."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from mdmcourse.cli import main
from mdmcourse.diffusion.exact import exact_arm
from mdmcourse.errors import InputError
from mdmcourse.models import load_pair, registry
from mdmcourse.models.pairs import Pair
from mdmcourse.study.by_bayes import scores_by_bayes
from mdmcourse.tasks import get_task
from mdmcourse.tasks.task import Prompts


@pytest.fixture(scope="module")
def pair() -> Pair:
    return load_pair("toy-countdown", 0)


@pytest.fixture(scope="module")
def prompts(pair: Pair) -> Prompts:
    return get_task("ioi-reversed").prompts(pair.arm.tokenizer, 6, mask_id=pair.mdm.mask_id)


@pytest.mark.parametrize("batch_size", [7, 128])
def test_all_words_give_the_joint_of_the_whole_text(pair: Pair, prompts: Prompts, batch_size: int):
    found = scores_by_bayes(pair.arm, prompts, batch_size=batch_size)
    assert found.shape == (len(prompts), pair.arm.vocab_size)
    for text, target, row in zip(prompts.clean, prompts.target.tolist(), found, strict=True):
        for word in (3, 17, pair.arm.vocab_size - 1):
            whole = text.clone()
            whole[target] = word
            # log p(w, after | before) = log p(whole) - log p(before), both from the text's first word on
            log_p = exact_arm(pair.arm, text[None, :target], 1) - exact_arm(pair.arm, whole[None], 1)
            assert abs(float(log_p) - float(row[word])) < 1e-4


def test_a_few_candidates_score_as_they_do_among_all(pair: Pair, prompts: Prompts):
    few, every = scores_by_bayes(pair.arm, prompts, 5), scores_by_bayes(pair.arm, prompts)
    tried = few.isfinite()
    torch.testing.assert_close(few[tried], every[tried])
    assert ((tried.sum(dim=1) >= 5) & (tried.sum(dim=1) <= 7)).all()
    rows = torch.arange(len(prompts))
    assert tried[rows, prompts.answer].all()
    assert tried[rows, prompts.distractor].all()


def test_without_text_after_the_blank_it_is_what_the_arm_says(pair: Pair):
    one = get_task("ioi").prompts(pair.arm.tokenizer, 1, mask_id=pair.mdm.mask_id)
    ends = int(one.target)
    same = replace(one, clean=one.clean[:, : ends + 1], corrupted=one.corrupted[:, : ends + 1])
    where = torch.zeros_like(same.clean, dtype=torch.bool)
    where[:, ends] = True
    torch.testing.assert_close(
        scores_by_bayes(pair.arm, same), pair.arm.logits_at(same.clean, where).log_softmax(dim=-1).detach()
    )


def test_more_than_one_blank_is_refused(pair: Pair):
    prompts = get_task("countdown").prompts(pair.arm.tokenizer, 2, mask_id=pair.mdm.mask_id)
    with pytest.raises(InputError, match="more than one blank"):
        scores_by_bayes(pair.arm, prompts)


def test_no_candidate_is_refused(pair: Pair, prompts: Prompts):
    with pytest.raises(InputError, match="candidates=0"):
        scores_by_bayes(pair.arm, prompts, 0)


def test_evaluate_tells_it_where_text_follows_the_blank(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setitem(registry()["pairs"]["toy-countdown"], "tasks", ["ioi-reversed", "countdown"])
    assert main(["evaluate", "toy-countdown", "--seed", "0", "--prompts", "40", "--by-bayes", "20", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert set(found["members"]["arm-by-bayes"]) == {"ioi-reversed"}
    row = found["members"]["arm-by-bayes"]["ioi-reversed"]
    pair = load_pair("toy-countdown", 0)
    prompts = get_task("ioi-reversed").prompts(pair.arm.tokenizer, 40, mask_id=pair.mdm.mask_id)
    scores = scores_by_bayes(pair.arm, prompts, 20)
    rows = torch.arange(len(prompts))
    assert row["whole_answer"] == (scores.argmax(dim=1) == prompts.answer).double().mean()
    assert row["preferred"] == (scores[rows, prompts.answer] > scores[rows, prompts.distractor]).double().mean()
    assert main(["evaluate", "toy-countdown", "--seed", "0", "--prompts", "40", "--by-bayes", "20"]) == 0
    shown = capsys.readouterr()
    assert "arm-by-bayes:" in shown.out
    assert not shown.err


def test_evaluate_says_so_if_no_task_can_be_asked(capsys: pytest.CaptureFixture):
    assert main(["evaluate", "toy-chain", "--seed", "0", "--prompts", "8", "--by-bayes", "20"]) == 0
    shown = capsys.readouterr()
    assert "no task of toy-chain" in shown.err
    assert "arm-by-bayes" not in shown.out
