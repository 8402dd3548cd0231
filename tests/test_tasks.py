"""Tasks: every answer is right, every distractor wrong, nothing held out is trained on."""

import itertools
import random
import re
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from helpers import assert_three_parts, without_shape_checks

from mdmcourse.errors import InputError, UnknownNameError
from mdmcourse.models import word_tokenizer
from mdmcourse.sequences import Sequences
from mdmcourse.tasks import (
    IOI,
    SLOT,
    TASKS,
    Chain,
    Countdown,
    CountdownFour,
    CountdownMini,
    CountdownRestated,
    CountdownText,
    Example,
    GreaterThan,
    Prompts,
    ReversedIOI,
    StarPath,
    get_task,
)
from mdmcourse.tasks.chain import chain_answer
from mdmcourse.tasks.countdown import evaluate
from mdmcourse.tasks.countdown_text import check_steps
from mdmcourse.tasks.ioi import REVERSED_TEMPLATES, TEMPLATES

ALL = pytest.mark.parametrize("name", TASKS)
TOYS = (
    "ioi",
    "ioi-reversed",
    "countdown",
    "countdown-four",
    "countdown-restated",
    "chain",
    "path",
)  # a word-level tokenizer can write them
BY_DIGITS = r"\d| ?[A-Za-z]+|."  # a token a digit, as SmolLM2 and Qwen have it
BY_PAIRS = r" ?\d{1,2}| ?[A-Za-z]+|."  # up to two digits a token, as GPT-2 often has it
BY_YEARS = r" ?\d{1,4}| ?[A-Za-z]+|."  # a whole year may be one token


class PatternTokenizer:
    """Cuts text with a regular expression; a new piece gets the next number."""

    unk_token_id = pad_token_id = mask_token_id = None

    def __init__(self, pattern):
        self.pattern, self.pieces = re.compile(pattern), []

    def _ids(self, text):
        pieces = self.pattern.findall(text)
        self.pieces += [piece for piece in dict.fromkeys(pieces) if piece not in self.pieces]
        return [self.pieces.index(piece) for piece in pieces]

    def __call__(self, text, add_special_tokens=True):
        return SimpleNamespace(input_ids=self._ids(text) if isinstance(text, str) else list(map(self._ids, text)))

    def decode(self, ids):
        return "".join("▒" if i == MASK else self.pieces[i] for i in ids)


MASK = 10_000  # for pattern tokenizers


@cache
def examples(name):
    return get_task(name).examples(24)


def prompts_of(name, tokenizer, n, **options):
    """Prompts, with a tokenizer that fits: the toys' for toy tasks, one with a token a digit for the others."""
    if name in TOYS:
        return get_task(name).prompts(tokenizer, n, **options), tokenizer, tokenizer.mask_token_id
    by_digits = PatternTokenizer(BY_DIGITS)
    return get_task(name).prompts(by_digits, n, mask_id=MASK, **options), by_digits, MASK


def filled(example, corrupted=False):
    if corrupted:
        return example.corrupted.replace(SLOT, example.distractor)
    return example.clean.replace(SLOT, example.answer)


def of_corrupted(example):
    return Example(example.corrupted, example.distractor, example.clean, example.answer, example.given)


# What the docstrings say

IOI_TEXT = "When Mary and John went to the store, {} gave a drink to{{}}"
REVERSED_TEXT = "Then {} gave a drink to{{}} when Mary and John went to the store."
GRAPH = "3 > 7 , 5 > 1 , 7 > 2 , 3 > 5 ; 3 to "
DOCUMENTED = {
    "ioi": (IOI(), Example(IOI_TEXT.format("John"), " Mary", IOI_TEXT.format("Paul"), " John")),
    "ioi-reversed": (
        ReversedIOI(),
        Example(REVERSED_TEXT.format("John"), " Mary", REVERSED_TEXT.format("Paul"), " John"),
    ),
    "greater-than": (
        GreaterThan(),
        Example(
            "The war lasted from the year 1732 to the year 17{}", "58",
            "The war lasted from the year 1701 to the year 17{}", "21",
        ),
    ),
    "countdown": (Countdown(), Example("7 4 2 : 5 ={}", " 7 - 4 + 2", "7 4 2 : 13 ={}", " 7 + 4 + 2", " 7")),
    "countdown-four": (
        CountdownFour(), Example("7 4 2 9 : 14 ={}", " 7 - 4 + 2 + 9", "7 4 2 9 : 22 ={}", " 7 + 4 + 2 + 9", " 7")
    ),
    "countdown-restated": (
        CountdownRestated(),
        Example("7 4 2 : 5 ={}", " 7 - 4 + 2 = 5", "7 4 2 : 13 ={}", " 7 + 4 + 2 = 13", " 7"),
    ),
    "chain": (Chain(), Example("4 7 1 9 3 ={}", " 4 0 3 2 3", "4 7 6 9 3 ={}", " 9 5 8 2 3")),
    "path": (StarPath(steps=2), Example(GRAPH + "2 ={}", " 7 2", GRAPH + "1 ={}", " 5 1")),
}  # fmt: skip
# Where the answer's words are, <bos> being number 0; the first is analysed, but in countdown.
POSITIONS = {
    "ioi": [15], "ioi-reversed": [7], "countdown": range(7, 12), "countdown-four": range(8, 15),
    "countdown-restated": range(7, 14), "chain": range(7, 12), "path": [21, 22],
}  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_documented_example_is_right(name):
    task, example = DOCUMENTED[name]
    assert task.check(example, example.answer)
    assert not task.check(example, example.distractor)
    for text in (example.clean, example.corrupted):
        assert text.replace(" ", "").replace(SLOT, "") in task.__doc__.replace(" ", "").replace(SLOT, "")
    assert f"``{example.answer.strip()}``" in task.__doc__
    assert example.distractor.strip() in task.__doc__


@pytest.mark.parametrize("name", POSITIONS)
def test_the_documented_positions_are_right(name, tokenizer):
    _, example = DOCUMENTED[name]
    whole = tokenizer(filled(example)).input_ids
    assert tokenizer.decode([whole[0]]) == "<bos>"
    assert [tokenizer.decode([whole[i]]) for i in POSITIONS[name]] == example.answer.split()
    assert tokenizer.unk_token_id not in whole


@pytest.mark.parametrize("name", TOYS)
def test_examples_are_encoded_as_documented(name, tokenizer):
    task = DOCUMENTED[name][0]
    sequences = task.sequences(tokenizer, 10)
    assert (sequences.tokens != tokenizer.unk_token_id).all()
    for answer in sequences.answer:
        assert answer.nonzero()[:, 0].tolist() == list(POSITIONS[name])
    analysed = {"countdown": 8, "countdown-four": 9, "countdown-restated": 8}.get(name, POSITIONS[name][0])
    assert (task.prompts(tokenizer, 10).target == analysed).all()


def test_templates_have_as_many_words_as_each_other(tokenizer):
    for templates in (TEMPLATES, REVERSED_TEMPLATES):
        assert len({len(tokenizer(template).input_ids) for template in templates}) == 1


# Answers

WITH_CHECKS = [
    "countdown", "countdown-four", "countdown-restated", "countdown-mini", "countdown-text", "chain", "path",
]  # fmt: skip


def contrasted(example: Example) -> bool:
    """Has it a corrupted text? Some of Countdown with three numbers are to be trained on only."""
    return example.clean != example.corrupted


@ALL
def test_answers_are_right_and_distractors_wrong(name):
    task = get_task(name)
    for example in examples(name):
        assert example.clean.count(SLOT) == example.corrupted.count(SLOT) == 1
        assert task.check(example, example.answer)
        if contrasted(example):
            assert not task.check(example, example.distractor)
        assert example.answer.startswith(example.given)
        assert example.distractor.startswith(example.given)


@pytest.mark.parametrize("name", WITH_CHECKS)
def test_the_change_makes_the_distractor_right(name):
    task = get_task(name)
    for example in map(of_corrupted, filter(contrasted, examples(name))):
        assert task.check(example, example.answer)
        assert not task.check(example, example.distractor)


@ALL
def test_malformed_answers_are_wrong(name):
    task = get_task(name)
    for example in examples(name)[:5]:
        for answer in ("", " ", "=", " banana", "7 + banana", "1-", ",", "0/0=0", "x" + example.answer.strip()):
            assert task.check(example, answer) is False


@pytest.mark.parametrize("name", WITH_CHECKS)
def test_an_answer_that_is_too_short_or_too_long_is_wrong(name):
    task = get_task(name)
    for example in examples(name)[:5]:
        assert not task.check(example, example.answer + " 1")
        assert not task.check(example, example.answer + ",1+1=2")
        assert not task.check(example, example.answer[:-2])


def test_ioi_names_the_one_who_does_not_give():
    for example in examples("ioi"):
        first, second, giver = (word for word in re.findall(r"\w+", example.clean) if word in IOI().names)
        assert {example.answer.strip(), example.distractor.strip()} == {first, second}
        assert example.distractor.strip() == giver
        other = [word for word in re.findall(r"\w+", example.corrupted) if word in IOI().names]
        assert other[:2] == [first, second]
        assert other[2] not in other[:2]
    for example in examples("ioi-reversed"):
        giver, first, second = (word for word in re.findall(r"\w+", example.clean) if word in IOI().names)
        assert {example.answer.strip(), giver} == {first, second}


def test_a_later_year_is_later():
    task, (_, example) = GreaterThan(), DOCUMENTED["greater-than"]
    for ending in range(100):
        assert task.check(example, f"{ending:02}") == (ending > 32)
    assert not task.check(example, "5")
    assert not task.check(example, "5x")
    for example in examples("greater-than"):
        start = int(re.search(r"(\d\d) to", example.clean)[1])
        assert int(example.answer) // 10 > start // 10 > int(example.distractor) // 10


def test_a_chain_is_summed_from_the_right():
    rng = random.Random(0)
    for _ in range(50):
        x = tuple(rng.randrange(10) for _ in range(5))
        assert chain_answer(x) == tuple(sum(x[i:]) % 10 for i in range(5))


@pytest.mark.parametrize("task", [Countdown(), CountdownFour()])
def test_countdown_has_one_solution(task):
    for example in task.examples(200):
        a, *others, target = (int(word) for word in re.findall(r"-?\d+", example.clean))
        solutions = [
            f" {a}" + "".join(f" {sign} {number}" for sign, number in zip(signs, others, strict=True))
            for signs in itertools.product("+-", repeat=len(others))
            if a + sum(int(sign + str(number)) for sign, number in zip(signs, others, strict=True)) == target
        ]
        assert solutions == [example.answer]


def test_countdown_evaluates_from_left_to_right():
    assert evaluate("7 - 4 + 2") == 5
    assert evaluate("1 - 15 - 14") == -28


def test_a_path_walks_along_edges():
    for example in examples("path"):
        graph, question = example.clean.split(" ; ")
        edges = {tuple(edge.split(" > ")) for edge in graph.split(" , ")}
        start, _, goal, _ = question.replace(SLOT, "").split()
        way = [start, *example.answer.split()]
        assert way[-1] == goal
        assert all(step in edges for step in itertools.pairwise(way))
        assert len(edges) == 6
        assert sum(source == start for source, _ in edges) == 2  # two arms leave the start, and no other node
        assert len({source for source, _ in edges}) == 5


# Countdown as text


def test_the_documented_steps_are_right():
    example = Example("86,28,13,31,96:{}", "86+28=114,31-13=18,114-18=96", "", "")
    assert "``86,28,13,31,96:{}`` -> ``86+28=114,31-13=18,114-18=96``" in CountdownText.__doc__
    assert CountdownText().check(example, example.answer)


@pytest.mark.parametrize(
    ("steps", "right"),
    [
        ("86+28=114,31-13=18,114-18=96", True),
        ("31-13=18,28+86=114,114-18=96", True),  # in another order
        (" 86+28=114,31-13=18,114-18=96 ", True),
        ("86+28=115,31-13=18,115-18=97", False),  # arithmetic
        ("86+28=114,31-13=18,114+18=132", False),  # the target
        ("86+28=114,114-18=96", False),  # 18 is not there yet, and two numbers are left
        ("86+28=114,31-13=18,18-114=-96", False),
        ("86+86=172,31-13=18,172-18=154", False),  # a number twice
        ("86+28=114,31-13=18,114-18=96,96+1=97", False),
        ("86+28=114;31-13=18;114-18=96", False),
        ("86 + 28 = 114,31-13=18,114-18=96", False),
    ],
)
def test_steps_are_checked(steps, right):
    assert check_steps((86, 28, 13, 31), 96, steps) is right


def test_every_number_is_used_once():
    assert check_steps((6, 3, 3), 6, "3/3=1,6*1=6")
    assert not check_steps((6, 3, 3), 2, "6/3=2")  # a number is left
    assert not check_steps((6, 3), 9, "6+3=9,6+3=9")
    assert not check_steps((7, 2), 3, "7/2=3")  # no whole number
    assert not check_steps((7, 0), 0, "7/0=0")


def first_operators(numbers, target, first):
    """By brute force: the operators that come after `first` at the beginning of any way to the target."""
    found = set()
    for a, b in itertools.permutations(range(len(numbers)), 2):
        if numbers[a] == first:
            rest = [n for i, n in enumerate(numbers) if i not in (a, b)]
            for operator, result in results(numbers[a], numbers[b]):
                if target in ends([*rest, result]):
                    found.add(operator)
    return found


def results(a, b):
    yield "+", a + b
    yield "*", a * b
    if a >= b:
        yield "-", a - b
    if b and a % b == 0:
        yield "/", a // b


def ends(numbers):
    if len(numbers) == 1:
        return {numbers[0]}
    found = set()
    for a, b in itertools.permutations(range(len(numbers)), 2):
        rest = [n for i, n in enumerate(numbers) if i not in (a, b)]
        for _, result in results(numbers[a], numbers[b]):
            found |= ends([*rest, result])
    return found


def test_the_brute_force_knows_a_case():
    assert first_operators([6, 3, 2], 4, 6) == {"/", "*"}  # 6 / 3 * 2 and 6 * 2 / 3


def test_the_first_operator_is_forced():
    for example in examples("countdown-text"):
        for one in (example, of_corrupted(example)):
            *numbers, target = map(int, one.clean.replace(":{}", "").split(","))
            operator = one.answer.removeprefix(one.given)[0]
            assert first_operators(numbers, target, int(one.given)) == {operator}
            assert all(2 <= number <= 50 for number in numbers)
            assert 1 <= target <= 99


def test_countdown_as_text_has_a_token_for_each_character():
    tokenizer = PatternTokenizer(r".")
    for example in examples("countdown-text"):
        assert len(filled(example)) == len(filled(example, corrupted=True))
    lengths = CountdownText().sequences(tokenizer, 5).attention_mask.sum(dim=1)
    assert lengths.tolist() == [len(filled(example)) for example in CountdownText().examples(5, split="train")]


# Splits


def keys(name, example):
    """What must not be both in the train and in the test split: of the clean and of the corrupted prompt."""
    texts = (example.clean, example.corrupted)
    if name in ("countdown", "countdown-four", "countdown-restated", "countdown-text"):  # the numbers, in any order
        return {tuple(sorted(map(int, re.findall(r"\d+", re.split(" :|,[^,]*$", text)[0])))) for text in texts}
    if name == "path":  # the graph, whatever the order of its edges
        return {frozenset(text.partition(" ;")[0].split(" , ")) for text in texts}
    return set(texts) if name == "chain" else {example.clean}


@ALL
def test_train_and_test_split_share_nothing(name):
    task = get_task(name)
    train = {key for example in task.examples(200, split="train") for key in keys(name, example)}
    test = {key for example in examples(name) for key in keys(name, example)}
    assert train
    assert test
    assert not train & test


@pytest.mark.parametrize(
    ("task", "train", "test"),
    [(Countdown(largest=6), 300, 20), (Chain(length=3), 300, 20), (StarPath(steps=1, nodes=7), 200, 15)],
    ids=str,
)
def test_splits_share_nothing_where_examples_are_few(task, train, test):
    trained = {key for example in task.examples(train, split="train") for key in keys(task.name, example)}
    tested = {key for example in task.examples(test) for key in keys(task.name, example)}
    assert not trained & tested


@ALL
def test_a_seed_decides_the_examples(name):
    task = get_task(name)
    assert task.examples(3) == examples(name)[:3]
    assert task.examples(3, seed=1) != task.examples(3)
    assert len({example.clean for example in examples(name)}) == 24


def test_too_many_examples_are_refused():
    with pytest.raises(InputError, match="different examples in its test split"):
        Chain(length=2).examples(50)
    with pytest.raises(InputError, match="n=-1 examples"):
        Chain().examples(-1)
    with without_shape_checks(), pytest.raises(InputError, match="split='all'"):
        IOI().examples(1, split="all")


# Sequences and prompts


@ALL
def test_sequences_are_texts_with_their_answers(name, tokenizer):
    task = get_task(name)
    by = tokenizer if name in TOYS else PatternTokenizer(BY_DIGITS)
    sequences = task.sequences(by, 10)
    for row, example in enumerate(task.examples(10, split="train")):
        whole = by(filled(example)).input_ids
        assert sequences.tokens[row][sequences.attention_mask[row]].tolist() == whole
        answer = by.decode(sequences.tokens[row][sequences.answer[row]].tolist())
        assert answer.split() == example.answer.split()


@ALL
def test_prompts_show_everything_but_the_answer(name, tokenizer):
    prompts, by, mask_id = prompts_of(name, tokenizer, 3)
    clean = {tuple(by(filled(example)).input_ids): example for example in examples(name)}
    assert prompts.task == name
    assert len(prompts) == 3
    for row in range(3):
        target = int(prompts.target[row])
        ids, answer = prompts.clean[row], int(prompts.answer[row])
        masked = (ids == mask_id).nonzero()[:, 0].tolist()
        assert masked == list(range(target, target + len(masked)))
        # It is the prompt of one of the examples: filling the answer in gives back its text.
        whole = next(
            whole
            for whole in clean
            if len(whole) == len(ids) and whole[target] == answer
            and all(a == b for a, b in zip(whole, ids.tolist(), strict=True) if b != mask_id)
        )  # fmt: skip
        example = clean[whole]
        shown = example.answer.removeprefix(example.given)
        assert by.decode(list(whole[target : target + len(masked)])).split() == shown.split()
        # The corrupted prompt has its masks at the same places, and another right token.
        assert torch.equal(prompts.corrupted[row] == mask_id, ids == mask_id)
        corrupted = by(filled(example, corrupted=True)).input_ids
        assert int(prompts.distractor[row]) == corrupted[target] != answer
        assert all(a == b for a, b in zip(corrupted, prompts.corrupted[row].tolist(), strict=True) if b != mask_id)


@pytest.mark.parametrize("name", TOYS)
def test_clean_and_corrupted_prompts_differ_in_one_token(name, tokenizer):
    prompts = get_task(name).prompts(tokenizer, 20)
    assert ((prompts.clean != prompts.corrupted).sum(dim=1) == 1).all()


def test_prompts_are_held_out(tokenizer):
    for name in TOYS:
        task = get_task(name)
        trained = {tokenizer.decode(row) for row in task.prompts(tokenizer, 60, split="train").clean.tolist()}
        assert trained.isdisjoint(tokenizer.decode(row) for row in task.prompts(tokenizer, 20).clean.tolist())


@pytest.mark.parametrize("pattern", [BY_DIGITS, BY_PAIRS])
def test_years_and_sums_are_analysed_whatever_the_size_of_a_token(pattern):
    by = PatternTokenizer(pattern)
    years = GreaterThan().prompts(by, 20, mask_id=MASK)
    digits = 1 if pattern == BY_DIGITS else 2
    for row in range(20):
        text = by.decode(years.clean[row].tolist())
        start = re.search(r"(\d\d) to", text)[1][:digits]
        assert text.endswith("▒" * (2 // digits))
        answer, distractor = by.decode([years.answer[row]]), by.decode([years.distractor[row]])
        assert int(answer) > int(start) > int(distractor)
        assert len(answer) == len(distractor) == digits
    sums = CountdownText().prompts(by, 2, mask_id=MASK)
    for row in range(2):
        assert by.decode([sums.answer[row]]) in "+-*/"
        assert by.decode([sums.distractor[row]]) in "+-*/"
        assert re.fullmatch(r"(\d+,){4}\d+:\d+▒+", by.decode(sums.clean[row].tolist()))


def test_a_tokenizer_that_joins_the_answer_with_the_prompt_is_refused():
    by = PatternTokenizer(BY_YEARS)
    with pytest.raises(InputError, match="fit this tokenizer"):
        GreaterThan().prompts(by, 5, mask_id=MASK)
    with pytest.raises(InputError, match="joins the answer"):
        GreaterThan().sequences(by, 5)


def test_examples_that_the_tokenizer_joins_are_left_out_of_prompts():
    by = PatternTokenizer(r" 19\d\d| ?\d{1,2}| ?[A-Za-z]+|.")  # GPT-2 has a token for many a year of that century
    prompts = GreaterThan().prompts(by, 20, mask_id=MASK)
    assert not any(" 19" in by.decode(row) for row in prompts.clean.tolist())


def test_as_many_prompts_as_there_are_examples_can_be_asked_for(tokenizer):
    task, n = Chain(length=2), 9
    assert len(task.examples(n)) == len(task.prompts(tokenizer, n)) == n
    with pytest.raises(InputError, match=f"gave only {n} different"):
        task.examples(n + 1)
    with pytest.raises(InputError, match=f"{n + 1} were asked for"):
        task.prompts(tokenizer, n + 1)


def test_no_prompts_and_prompts_in_unknown_words_are_refused(tokenizer):
    with pytest.raises(InputError, match="nothing to measure"):
        Chain().prompts(tokenizer, 0)
    with pytest.raises(InputError, match="does not know 'The'"):
        GreaterThan().prompts(tokenizer, 4)


def test_a_mask_token_is_needed(tokenizer):
    with pytest.raises(InputError, match="no mask token"):
        GreaterThan().prompts(PatternTokenizer(BY_DIGITS), 5)
    assert (Chain().prompts(tokenizer, 5, mask_id=3).clean == 3).any()


def test_names_that_are_not_one_token_are_left_out(tokenizer):
    known = ("Mary", "John", "Tom", "Anna")
    task = IOI(names=(*known, "Bartholomew")).for_tokenizer(tokenizer)
    assert task.names == known
    with pytest.raises(InputError, match="only 2 of 3 names"):
        IOI(names=("Mary", "John", "Bartholomew")).for_tokenizer(tokenizer)
    with pytest.raises(InputError, match="only 0 of"):
        IOI().prompts(word_tokenizer(["a", "b"]), 5)


def test_prompts_survive_saving(tokenizer, tmp_path):
    prompts = Chain().prompts(tokenizer, 5)
    prompts.save(tmp_path / "prompts.safetensors")
    again = Prompts.load(tmp_path / "prompts.safetensors")
    assert again.task == "chain"
    for name in ("clean", "corrupted", "answer", "distractor", "target"):
        assert torch.equal(getattr(again, name), getattr(prompts, name))


def test_an_unknown_task_is_refused_with_a_near_name():
    with pytest.raises(UnknownNameError, match="countdown"):
        get_task("countdwn")


# Sequences


@pytest.fixture
def sequences():
    return Sequences.from_lists([[1, 5, 6, 7], [1, 8], [1, 9, 4]], [(2, 4), (1, 2), (1, 3)], pad_id=3)


def test_lists_are_padded_on_the_right(sequences):
    assert sequences.tokens.tolist() == [[1, 5, 6, 7], [1, 8, 3, 3], [1, 9, 4, 3]]
    assert sequences.attention_mask.sum(dim=1).tolist() == [4, 2, 3]
    assert sequences.answer.int().tolist() == [[0, 0, 1, 1], [0, 1, 0, 0], [0, 1, 1, 0]]
    assert len(sequences) == 3


def test_a_selection_keeps_its_order_and_drops_empty_columns(sequences):
    part = sequences.select(torch.tensor([2, 1, 2]))
    assert part.tokens.tolist() == [[1, 9, 4], [1, 8, 3], [1, 9, 4]]
    assert part.attention_mask.int().tolist() == [[1, 1, 1], [1, 1, 0], [1, 1, 1]]
    assert part.answer.int().tolist() == [[0, 1, 1], [0, 1, 0], [0, 1, 1]]


def test_parts_are_joined_at_the_length_of_the_longest(sequences):
    short = Sequences.from_lists([[1, 2]], [(1, 2)], pad_id=3)
    both = Sequences.cat(part for part in (short, sequences))
    assert both.tokens.shape == both.attention_mask.shape == both.answer.shape == (4, 4)
    assert both.tokens[both.attention_mask].tolist() == [1, 2, 1, 5, 6, 7, 1, 8, 1, 9, 4]
    assert both.tokens[both.answer].tolist() == [2, 6, 7, 8, 9, 4]
    assert torch.equal(both.select(torch.tensor([1, 2, 3])).tokens, sequences.tokens)


# --- Countdown with three numbers ---------------------------------------------------------------------------


def every_way(numbers: list[str]) -> dict[str, int]:
    """All expressions of three numbers and what Python makes of them."""
    ways = itertools.product(itertools.permutations(numbers), "+-*", "+-*")
    return {(text := f"{a}{o}{b}{p}{c}"): eval(text) for (a, b, c), o, p in ways}


def test_three_numbers_are_forced_and_plain() -> None:
    """Against all 54 expressions, as Python computes them."""
    task, forced = CountdownMini(), 0
    for example in task.examples(300):
        numbers, _, rest = example.clean.removesuffix(f":{SLOT}.").partition("=")
        ways = every_way(numbers.split(","))
        right = {text for text, result in ways.items() if result == int(rest)}
        assert example.answer in right
        assert {text for text in ways if task.check(example, text)} == right
        if contrasted(example):
            forced += 1
            of_corrupted = int(example.corrupted.partition("=")[2].partition(":")[0])
            other = {text for text, result in ways.items() if result == of_corrupted}
            for texts, shown in ((right, example.answer), (other, example.distractor)):
                starts = {re.match(r"(\d+)(\D)", text).groups() for text in texts}
                forced_operator = {operator for number, operator in starts if number == example.given}
                assert forced_operator == {shown.removeprefix(example.given)[0]}
    assert forced > 100


def test_three_numbers_are_held_out_with_their_target_in_any_order() -> None:
    def keys(split: str) -> set:
        parts = [example.clean.partition("=") for example in CountdownMini().examples(400, split=split)]
        return {(tuple(sorted(numbers.split(","))), rest) for numbers, _, rest in parts}

    assert not keys("train") & keys("test")


# --- prompts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"corrupted": torch.zeros(3, 5, dtype=torch.long)}, "corrupted (3, 5)"),
        ({"corrupted": torch.zeros(2, 4, dtype=torch.long)}, "corrupted (2, 4)"),
        ({"answer": torch.zeros(2, dtype=torch.long)}, "are 2, 3 and 3"),
        ({"target": torch.tensor([0, 1, 4])}, "from 0 to 4"),
        ({"target": torch.tensor([0, -1, 2])}, "from -1 to 2"),
    ],
)
def test_prompts_that_do_not_fit_together_are_refused(change: dict, seen: str) -> None:
    row, column = torch.zeros(3, 4, dtype=torch.long), torch.zeros(3, dtype=torch.long)
    right = {"clean": row, "corrupted": row, "answer": column, "distractor": column, "target": column}
    Prompts(**right)
    with without_shape_checks(), pytest.raises(InputError) as caught:
        Prompts(**right | change)
    assert_three_parts(caught.value, seen)
