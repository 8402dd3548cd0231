"""The command line: `mdmcourse doctor | fetch | pairs | evaluate | circuits | study | train-toys | ...`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from mdmcourse import __version__
from mdmcourse.errors import MdmcourseError, UnknownNameError
from mdmcourse.naming import suggest


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Errors that this package raises on purpose are printed without a traceback; the exit code is 1."""
    parser = _parser()
    options = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except MdmcourseError as error:
        print(f"mdmcourse: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever was reading, `head` for instance, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        resumes = hasattr(options, "runs") or run is _fetch
        told = "; run the same command again to go on." if resumes else "; nothing was kept."
        print(f"\nmdmcourse: interrupted{told}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mdmcourse", description=__doc__)
    parser.add_argument("--version", action="version", version=f"mdmcourse {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    doctor = commands.add_parser("doctor", help="check this installation; each problem with its cure")
    doctor.add_argument("--json", action="store_true", help="for programs")
    doctor.set_defaults(run=_doctor)

    fetch = commands.add_parser("fetch", help="bring a real model, or both of a pair, to this machine")
    fetch.add_argument("name", help="for example smollm2-135m")
    fetch.set_defaults(run=_fetch)

    pairs = commands.add_parser("pairs", help="all pairs: sizes, licences, whether they are here and fit this machine")
    pairs.add_argument("name", nargs="?", help="only this pair or model: all that is known of it")
    pairs.set_defaults(run=_pairs)

    evaluate = commands.add_parser("evaluate", help="accuracy of every member of a pair on its tasks")
    evaluate.add_argument("pair", help="for example toy-chain")
    evaluate.add_argument("--seed", type=int, action="append", help="of the ARM; may be repeated (default: all)")
    evaluate.add_argument(
        "--prompts", type=_positive, default=500, metavar="N", help="held-out prompts a task (%(default)s)"
    )
    evaluate.add_argument("--device", choices=("cpu", "cuda", "mps"), help="(default: cpu)")
    evaluate.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="of the weights (default: a real pair's, whichever of the two this machine is faster with)",
    )
    evaluate.add_argument(
        "--by-bayes",
        type=int,
        default=0,
        metavar="CANDIDATES",
        help="ask the ARM by Bayes' rule too, with so many words in the blank of each prompt, for instance 20",
    )
    evaluate.add_argument("--json", action="store_true", help="for programs")
    evaluate.set_defaults(run=_evaluate)

    circuits = commands.add_parser("circuits", help="the circuits of a pair's members for a task, and how they compare")
    circuits.add_argument("name", help="a pair, for example toy-countdown, or a model, for example smollm2-135m")
    circuits.add_argument("task", help="for example countdown, ioi, chain")
    circuits.add_argument("--seed", type=int, default=0, help="of the ARM (%(default)s)")
    circuits.add_argument("--prompts", type=_positive, default=128, metavar="N", help="for the scores (%(default)s)")
    circuits.add_argument("--steps", type=_positive, default=5, help="points of the integral (%(default)s)")
    circuits.add_argument("--top", type=_positive, default=10, metavar="N", help="edges to list (%(default)s)")
    circuits.add_argument("--device", choices=("cpu", "cuda", "mps"), help="(default: cpu)")
    circuits.add_argument("--json", action="store_true", help="for programs")
    circuits.set_defaults(run=_circuits)

    study = commands.add_parser("study", help="run a study: pairs, tasks, seeds and controls after a plan; resumes")
    study.add_argument("plan", help="a plan in data/studies/, for example toys, or the path of one")
    study.add_argument("--runs", type=Path, default=Path("runs"), help="folder for unfinished work (%(default)s)")
    study.add_argument(
        "--out", type=Path, help="file for the results (default: data/studies/results/NAME.json; of a path, beside it)"
    )
    study.add_argument("--threads", type=_positive, help="CPU threads (default: all)")
    study.add_argument("--device", choices=("cpu", "cuda", "mps"), help="(default: cpu)")
    study.add_argument("--estimate", action="store_true", help="only say what memory and time it would take")
    study.set_defaults(run=_study)

    report = commands.add_parser("report", help="what a study found: verdicts, criteria, tables")
    report.add_argument("plan", help="as for study")
    report.add_argument("--results", type=Path, help="another file of results")
    report.add_argument("--figures", type=Path, metavar="FOLDER", help="write the figures there too")
    report.set_defaults(run=_report)

    train = commands.add_parser("train-toys", help="train a toy pair; members that are there already are kept")
    train.add_argument("pair", help="for example toy-chain")
    train.add_argument("--seed", type=int, default=0, help="of the ARM (%(default)s)")
    train.add_argument("--member", action="append", help="only this one, for instance mdm; may be repeated")
    train.add_argument("--out", type=Path, help="folder for the models (default: where the course looks for them)")
    train.add_argument("--runs", type=Path, default=Path("runs"), help="folder for unfinished work (%(default)s)")
    train.add_argument(
        "--threads", type=_positive, default=1, help="CPU threads; more than one may change the last bits"
    )
    train.set_defaults(run=_train_toys)

    posttrain = commands.add_parser("posttrain", help="post-train a real pair; members that are there already are kept")
    posttrain.add_argument("name", help="for example smollm2-135m: a recipe in data/recipes/")
    posttrain.add_argument("--config", type=Path, help="another recipe; then `name` names the result")
    posttrain.add_argument("--member", action="append", help="only this one, for instance mdm; may be repeated")
    posttrain.add_argument("--out", type=Path, help="folder for the changes (default: where the course looks for them)")
    posttrain.add_argument("--runs", type=Path, default=Path("runs"), help="folder for unfinished work (%(default)s)")
    posttrain.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "faster"),
        help="of the frozen weights; faster: whichever this machine is faster with (default: the recipe's)",
    )
    posttrain.add_argument("--threads", type=_positive, help="CPU threads (default: all)")
    posttrain.set_defaults(run=_posttrain)

    text = commands.add_parser("sample-text", help="let a model write the text that it is post-trained on")
    text.add_argument("name", help="for example smollm2-135m")
    text.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    text.add_argument("--each", type=_positive, default=8, help="answers to each of 512 requests (%(default)s)")
    text.add_argument("--out", type=Path, help="(default: where the course looks for it)")
    text.set_defaults(run=_sample_text)
    return parser


def _positive(text: str) -> int:
    """For argparse: a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _doctor(options: argparse.Namespace) -> int:
    from mdmcourse.doctor import doctor

    report = doctor()
    print(report.to_json() if options.json else report)
    return 0 if report.ok else 1


def _fetch(options: argparse.Namespace) -> int:
    from mdmcourse.models.fetch import fetch_all

    folders = fetch_all(options.name)
    print("\n".join(map(str, folders)) or f"{options.name} comes with the course: there is nothing to fetch.")
    return 0


def _pairs(options: argparse.Namespace) -> int:
    from mdmcourse.models.cards import describe
    from mdmcourse.models.listing import list_pairs

    print(describe(options.name) if options.name else list_pairs())
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    import torch

    from mdmcourse.models.registry import entry
    from mdmcourse.study.evaluate import as_text, evaluate_pair

    seeds = options.seed or entry("pairs", options.pair).get("seeds") or [0]
    dtype = getattr(torch, options.dtype) if options.dtype else None
    results = [
        evaluate_pair(
            options.pair, seed, n=options.prompts, device=options.device, dtype=dtype, by_bayes=options.by_bayes
        )
        for seed in seeds
    ]
    if options.by_bayes and not any("arm-by-bayes" in result["members"] for result in results):
        print(
            f"By Bayes' rule nothing was asked: no task of {options.pair} has one blank with text after it, as "
            "ioi-reversed has, a task of smollm2-135m.",
            file=sys.stderr,
        )
    if options.json:
        print(json.dumps(results, indent=1))
        return 0
    print(f"{options.pair}: up to {options.prompts} held-out prompts a task; intervals: 95 %, over prompts")
    print(as_text(results))
    return 0


def _circuits(options: argparse.Namespace) -> int:
    from mdmcourse.study.circuits import as_text, circuits_of

    result = circuits_of(
        options.name,
        options.task,
        seed=options.seed,
        n=options.prompts,
        steps=options.steps,
        top=options.top,
        device=options.device,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(json.dumps(result, indent=1) if options.json else as_text(result))
    return 0


def _study(options: argparse.Namespace) -> int:
    import torch

    from mdmcourse.study.plan import load_plan
    from mdmcourse.study.run import results_of, run_study

    if options.threads:
        torch.set_num_threads(options.threads)
    plan = load_plan(options.plan)
    if options.estimate:
        from mdmcourse.study.estimate import estimate

        print(estimate(plan, device=options.device))
        return 0
    out = options.out or results_of(plan)
    print(f"The results will be in {out}.", file=sys.stderr, flush=True)
    file = run_study(
        plan,
        runs=options.runs,
        out=out,
        device=options.device,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(file)
    return 0


def _report(options: argparse.Namespace) -> int:
    from mdmcourse.study.plan import load_plan
    from mdmcourse.study.report import as_markdown, criteria_figure, overlap_figure
    from mdmcourse.study.run import load_results

    plan = load_plan(options.plan)
    results = load_results(plan, options.results)
    print(as_markdown(plan, results))
    if options.figures:
        options.figures.mkdir(parents=True, exist_ok=True)
        for name, draw in (("criteria", criteria_figure), ("overlaps", overlap_figure)):
            file = options.figures / f"{plan.name}-{name}.png"
            draw(plan, results).savefig(file, dpi=120)
            print(file, file=sys.stderr)
    return 0


def _train_toys(options: argparse.Namespace) -> int:
    import torch

    from mdmcourse.models.pairs import toy_members
    from mdmcourse.models.registry import entry
    from mdmcourse.paths import data_dir
    from mdmcourse.study.toys import RECIPES, train_toys

    if options.pair not in RECIPES:
        raise UnknownNameError(*suggest("toy pair", options.pair, RECIPES))
    torch.set_num_threads(options.threads)
    out = options.out or data_dir() / entry("pairs", options.pair)["directory"] / f"seed-{options.seed}"
    known = toy_members(options.pair)
    members = options.member or known
    if unknown := set(members) - set(known):
        raise UnknownNameError(*suggest("member", unknown.pop(), known))
    _tell_kept(train_toys(options.pair, options.seed, out, runs=options.runs, members=members), out)
    return 0


def _posttrain(options: argparse.Namespace) -> int:
    import torch

    from mdmcourse.models.dtype import faster_dtype
    from mdmcourse.paths import data_dir
    from mdmcourse.study.posttrain import Recipe, posttrain, recipe_path

    if options.threads:
        torch.set_num_threads(options.threads)
    recipe = Recipe.read(options.config or recipe_path(options.name))
    out = options.out or data_dir() / "checkpoints" / options.name
    told = f" --config {options.config.name}" if options.config else ""
    command = f"mdmcourse posttrain {options.name}{told}"
    dtype = faster_dtype() if options.dtype == "faster" else options.dtype
    _tell_kept(posttrain(recipe, out, runs=options.runs, members=options.member, dtype=dtype, command=command), out)
    return 0


def _tell_kept(kept: list[str], out: Path) -> None:
    """Where the models are, and which of them were not trained: they were there before."""
    if kept:
        told = f"not trained, since {out} holds them already: {', '.join(kept)}"
        print(f"mdmcourse: {told}.\n  To train them anew: --out ANOTHER-FOLDER, or delete them first.", file=sys.stderr)
    print(out)


def _sample_text(options: argparse.Namespace) -> int:
    import torch

    from mdmcourse.models import ARM, load
    from mdmcourse.paths import data_dir
    from mdmcourse.study.text import sample_text

    model = load(options.name, dtype=torch.bfloat16)
    assert isinstance(model, ARM)
    out = options.out or data_dir() / "text" / f"{options.name}-answers.jsonl.gz"
    sample_text(model, out, each=options.each, seed=options.seed)
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
