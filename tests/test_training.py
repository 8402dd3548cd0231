"""Training survives whatever happens to it, and says so when it cannot go on."""

import random
import subprocess
import sys
from dataclasses import replace
from subprocess import PIPE

import pytest
import torch
from helpers import tiny_decoder

from mdmcourse import storage
from mdmcourse.diffusion import TrainConfig, masked_objective, next_token_objective, post_train, train
from mdmcourse.errors import CheckpointError, InputError
from mdmcourse.models import MDM, ToyConfig, toy_arm, word_tokenizer
from mdmcourse.sequences import Sequences

SHAPE = ToyConfig(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, intermediate_size=32
)
CONFIG = TrainConfig(steps=240, batch_size=8, learning_rate=1e-2, warmup=10, log_every=5, save_every=10)
SHORT = replace(CONFIG, steps=40)


def new_model():
    arm = toy_arm(word_tokenizer("abcde"), SHAPE)
    return MDM.from_arm(arm, weights="share")


def task():
    """An easy task: a letter, and the same letter twice."""
    rows = [[1, 4 + letter, 4 + letter, 4 + letter] for letter in range(5)]
    return Sequences.from_lists(rows, [(2, 4)] * 5, pad_id=0)


def run(model, config=SHORT, objective=None, **options):
    return train(model, task(), objective or masked_objective(), config, progress=False, **options)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.decoder.state_dict().items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def rows_without_seconds(log):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in log.rows]


@pytest.fixture(scope="module")
def uninterrupted():
    """Log and weights of SHORT, run from beginning to end."""
    model = new_model()
    log = run(model)
    return rows_without_seconds(log), weights(model)


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_weights(tmp_path):
    checkpoint = tmp_path / "run.safetensors"
    chance = random.Random(0)
    # Each child imports what it needs, waits for a line, and trains.
    command = [sys.executable, __file__, str(checkpoint)]
    children = [subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) for _ in range(2)]
    saved = [0]
    for child, stop in zip(children, (60, 140), strict=True):
        child.stdin.write("go\n")
        child.stdin.flush()
        while int(child.stdout.readline()) < stop + chance.randrange(40):
            pass
        # A row of the log was written just now: the child is saving its state, or is in one of the next steps.
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(timeout=chance.uniform(0.0, 0.02))
        child.kill()
        child.communicate()
        saved.append(storage.read_tensors(checkpoint)[1]["step"])
    assert saved == sorted(set(saved))
    assert saved[-1] < CONFIG.steps
    resumed, straight = new_model(), new_model()
    log = run(resumed, CONFIG, checkpoint=checkpoint)
    expected = run(straight, CONFIG)
    assert rows_without_seconds(log) == rows_without_seconds(expected)
    assert_same(weights(resumed), weights(straight))


@pytest.mark.parametrize("where", ["objective", "on_log", "evaluate"])
def test_a_run_that_is_interrupted_goes_on_to_the_same_weights(tmp_path, uninterrupted, where):
    checkpoint = tmp_path / "run.safetensors"
    calls = iter(range(10**6))
    last = {"objective": 27, "on_log": 4, "evaluate": 4}[where]  # all in the middle of the run

    def interrupt():
        if next(calls) == last:
            raise KeyboardInterrupt

    def objective(model, batch, step, generator):
        interrupt()
        return masked_objective()(model, batch, step, generator)

    def evaluate(model):
        interrupt()
        return {}

    options = {
        "objective": {"objective": objective},
        "on_log": {"on_log": lambda log: interrupt()},
        "evaluate": {"evaluate": evaluate},
    }[where]
    model = new_model()
    with pytest.raises(KeyboardInterrupt):
        run(model, checkpoint=checkpoint, **options)
    assert not model.decoder.training
    # The same cell once more, with the same model, and in a new process, with a new one.
    copied = tmp_path / "copy.safetensors"
    copied.write_bytes(checkpoint.read_bytes())
    for again, path in [(model, checkpoint), (new_model(), copied)]:
        log = run(again, checkpoint=path)
        assert rows_without_seconds(log) == uninterrupted[0]
        assert_same(weights(again), uninterrupted[1])


def test_a_run_that_is_interrupted_before_it_saved_a_step_begins_anew(tmp_path, uninterrupted):
    checkpoint = tmp_path / "run.safetensors"

    def objective(model, batch, step, generator):
        if step == 7:
            raise KeyboardInterrupt
        return masked_objective()(model, batch, step, generator)

    model = new_model()
    with pytest.raises(KeyboardInterrupt):
        run(model, objective=objective, checkpoint=checkpoint)
    run(model, checkpoint=checkpoint)  # the same model, with the weights of the seven steps
    assert_same(weights(model), uninterrupted[1])


def test_a_folder_that_cannot_be_written_is_found_before_the_first_step(tmp_path):
    (tmp_path / "file").touch()

    def objective(model, batch, step, generator):
        raise AssertionError("a step was taken")

    with pytest.raises(CheckpointError, match="could not be written"):
        run(new_model(), objective=objective, checkpoint=tmp_path / "file" / "run.safetensors")


def test_a_run_that_is_finished_is_not_run_again(tmp_path, uninterrupted):
    checkpoint = tmp_path / "run.safetensors"
    run(new_model(), checkpoint=checkpoint)

    def objective(model, batch, step, generator):
        raise AssertionError("a step was taken")

    model = new_model()
    log = run(model, objective=objective, checkpoint=checkpoint)
    assert rows_without_seconds(log) == uninterrupted[0]
    assert_same(weights(model), uninterrupted[1])


def test_a_training_ends_at_its_target(tmp_path, uninterrupted):
    """With the first row that is good enough; where it goes on from a checkpoint too, and not twice."""
    rows, _ = uninterrupted
    log = run(whole := new_model(), until=lambda row: row["step"] >= 17)
    assert rows_without_seconds(log) == rows[:4]  # 5, 10, 15 and 20

    checkpoint = tmp_path / "run.safetensors"

    def interrupt(log):
        if len(log.rows) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(new_model(), on_log=interrupt, checkpoint=checkpoint, until=lambda row: row["step"] >= 17)
    for _ in range(2):
        resumed = run(model := new_model(), checkpoint=checkpoint, until=lambda row: row["step"] >= 17)
        assert rows_without_seconds(resumed) == rows[:4]
        assert_same(weights(model), weights(whole))


def test_a_model_is_ready_for_use_after_training(uninterrupted):
    model = new_model()
    run(model)
    assert not model.decoder.training
    assert_same(weights(model), uninterrupted[1])  # the same seed, the same weights


def test_the_seed_decides_batches_and_noise(uninterrupted):
    model = new_model()
    log = run(model, replace(SHORT, seed=1))
    assert rows_without_seconds(log) != uninterrupted[0]


@pytest.mark.parametrize(
    "change", [{"steps": 41}, {"seed": 1}, {"learning_rate": 2e-2}, {"betas": (0.9, 0.99)}], ids=str
)
def test_a_checkpoint_of_another_configuration_is_refused(tmp_path, change):
    checkpoint = tmp_path / "run.safetensors"
    run(new_model(), checkpoint=checkpoint)
    before = checkpoint.read_bytes()
    model = new_model()
    with pytest.raises(CheckpointError, match="another configuration"):
        run(model, replace(SHORT, **change), checkpoint=checkpoint)
    assert_same(weights(model), weights(new_model()))
    assert checkpoint.read_bytes() == before


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    checkpoint = tmp_path / "run.safetensors"
    run(new_model(), checkpoint=checkpoint)
    wider = toy_arm(word_tokenizer("abcde"), replace(SHAPE, intermediate_size=64))
    with pytest.raises(CheckpointError, match="another model"):
        run(MDM.from_arm(wider, weights="share"), checkpoint=checkpoint)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_checkpoint_that_is_cut_short_is_refused(tmp_path, share):
    checkpoint = tmp_path / "run.safetensors"
    run(new_model(), checkpoint=checkpoint)
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match="could not be read"):
        run(new_model(), checkpoint=checkpoint)


def test_a_full_disk_is_reported_and_the_last_checkpoint_kept(tmp_path, monkeypatch, uninterrupted):
    checkpoint = tmp_path / "run.safetensors"
    save_file, written = storage.save_file, []

    def fills_up(tensors, path, metadata):
        if metadata and '"step": 20' in metadata["mdmcourse"]:
            path.write_bytes(b"half a file")
            raise OSError(28, "No space left on device")
        written.append(path)
        save_file(tensors, path, metadata)

    monkeypatch.setattr(storage, "save_file", fills_up)
    with pytest.raises(CheckpointError, match="No space left on device"):
        run(new_model(), checkpoint=checkpoint)
    assert written
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]
    assert storage.read_tensors(checkpoint)[1]["step"] == 10
    monkeypatch.setattr(storage, "save_file", save_file)
    model = new_model()
    run(model, checkpoint=checkpoint)
    assert_same(weights(model), uninterrupted[1])


def test_a_loss_that_is_no_number_is_refused_and_not_saved(tmp_path):
    checkpoint = tmp_path / "run.safetensors"

    def objective(model, batch, step, generator):
        loss = masked_objective()(model, batch, step, generator)
        return loss * float("nan") if step == 23 else loss

    with pytest.raises(InputError, match="loss was nan at step 25"):
        run(new_model(), objective=objective, checkpoint=checkpoint)
    tensors, about = storage.read_tensors(checkpoint)
    assert about["step"] == 20
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_global_random_state_is_left_alone():
    before = torch.random.get_rng_state()
    run(new_model(), evaluate=lambda model: {"nothing": 0.0})
    assert torch.equal(torch.random.get_rng_state(), before)


def test_post_training_leaves_the_arm_as_it_is():
    arm = toy_arm(word_tokenizer("abcde"), SHAPE)
    before = weights(arm)
    mdm, log = post_train(arm, task(), SHORT, progress=False)
    assert_same(weights(arm), before)
    assert not torch.equal(mdm.decoder.lm_head.weight, arm.decoder.lm_head.weight)
    assert (mdm.shift, mdm.attention, mdm.mask_id) == (True, "full", arm.tokenizer.mask_token_id)
    assert log.rows[-1]["step"] == SHORT.steps


@pytest.mark.parametrize("kind", ["arm", "mdm"])
def test_an_easy_task_is_learnt(kind):
    mdm = new_model()
    arm = toy_arm(word_tokenizer("abcde"), SHAPE)
    model, objective = (arm, next_token_objective()) if kind == "arm" else (mdm, masked_objective())
    log = run(model, replace(CONFIG, steps=150, log_every=15), objective)
    assert log.rows[0]["loss"] > 1
    assert log.rows[-1]["loss"] < 0.2


def test_the_log_reports_the_mean_loss_and_what_is_evaluated():
    losses = []

    def objective(model, batch, step, generator):
        losses.append(masked_objective()(model, batch, step, generator))
        return losses[-1]

    lengths = []
    log = run(
        new_model(),
        replace(SHORT, steps=12),
        objective,
        evaluate=lambda model: {"training": float(model.decoder.training)},
        on_log=lambda log: lengths.append(len(log.rows)),
    )
    assert [row["step"] for row in log.rows] == [5, 10, 12]
    assert lengths == [1, 2, 3]
    means = [torch.stack(losses[a:b]).mean().item() for a, b in [(0, 5), (5, 10), (10, 12)]]
    assert [row["loss"] for row in log.rows] == pytest.approx(means)
    assert [row["training"] for row in log.rows] == [0, 0, 0]


def test_the_learning_rate_rises_falls_and_ends_at_one_percent():
    config = TrainConfig(steps=1000, learning_rate=0.5, warmup=100)
    rate = config.learning_rate_at
    assert rate(0) == pytest.approx(0.005)
    assert rate(99) == rate(100) == pytest.approx(0.5)
    assert rate(550) == pytest.approx(0.5 * 0.505)  # half-way down the cosine
    assert rate(1000) == pytest.approx(0.005)
    assert all(rate(step) < rate(step + 1) for step in range(99))
    assert all(rate(step) > rate(step + 1) for step in range(100, 1000))
    assert replace(config, warmup=0).learning_rate_at(0) == 0.5


if __name__ == "__main__":  # the run that is killed
    torch.set_num_threads(1)
    if sys.stdin.readline():  # nothing comes if the test is gone
        run(new_model(), CONFIG, checkpoint=sys.argv[1], on_log=lambda log: print(log.rows[-1]["step"], flush=True))


@pytest.mark.parametrize("wrong", [{"steps": -1}, {"steps": 5, "batch_size": 0}, {"steps": 5, "log_every": 0}], ids=str)
def test_settings_out_of_range_are_refused(wrong: dict[str, int]):
    with pytest.raises(InputError, match="TrainConfig"):
        TrainConfig(**wrong)


@pytest.mark.parametrize("other", ["texts", "identity", "mask"])
def test_a_checkpoint_of_another_training_is_refused(tmp_path, other):
    """Of the same configuration and shape: it would be taken for one's own."""
    checkpoint = tmp_path / "run.safetensors"
    run(new_model(), checkpoint=checkpoint, identity="masked")
    model, sequences, identity = new_model(), task(), "masked"
    if other == "texts":
        sequences = sequences.select(torch.arange(4))
    elif other == "identity":
        identity = "masked, weight none"
    else:
        model.mask_id -= 1
    before = weights(model)
    with pytest.raises(CheckpointError, match="another training"):
        train(model, sequences, masked_objective(), SHORT, checkpoint=checkpoint, identity=identity, progress=False)
    assert_same(weights(model), before)


def test_an_mdm_is_not_continued_from_an_arm(tmp_path):
    checkpoint = tmp_path / "run.safetensors"
    arm = toy_arm(word_tokenizer("abcde"), SHAPE)
    run(arm, objective=next_token_objective(), checkpoint=checkpoint)
    with pytest.raises(CheckpointError, match="another training"):
        run(new_model(), checkpoint=checkpoint)


def test_dropout_is_part_of_what_the_seed_decides(tmp_path):
    """And PyTorch's own random numbers go on as if nothing had been trained."""

    def dropping():
        model = MDM(tiny_decoder("gpt2", vocabulary=12), mask_id=3)
        for module in model.decoder.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.2
        return model

    torch.manual_seed(0)
    run(whole := dropping())
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1))
    still = dropping()
    for module in still.decoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    run(still)
    assert any(not torch.equal(a, b) for a, b in zip(weights(still).values(), weights(whole).values(), strict=True))

    def interrupt(log):
        if len(log.rows) == 4:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(dropping(), checkpoint=checkpoint, on_log=interrupt)
    torch.manual_seed(5)
    run(resumed := dropping(), checkpoint=checkpoint)
    assert_same(weights(resumed), weights(whole))
