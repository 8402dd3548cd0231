"""Write what the studies found into the book (a page for each study that has been run) and into README.md.

.venv/bin/python book/make_study.py
"""

from __future__ import annotations

from pathlib import Path

from mdmcourse.paths import data_dir
from mdmcourse.storage import write_text
from mdmcourse.study.plan import StudyPlan, load_plan
from mdmcourse.study.report import as_markdown, criteria_figure, overlap_figure, verdict_table
from mdmcourse.study.run import load_results, results_file
from mdmcourse.study.verdicts import verdicts

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- verdicts: written by book/make_study.py -->", "<!-- end of verdicts -->"
FIGURES = {
    "overlaps": (
        overlap_figure,
        "For each task the overlap with the ARM's circuit, a dot for each ARM, of what the plan holds against it: the "
        "ARM itself on other prompts, the ARM trained on, the MDMs, attention switched without training; where there "
        "are several ARMs or tasks, another ARM and the circuit for the other task.",
    ),
    "criteria": (
        criteria_figure,
        "Every criterion of the plan with its interval over ARMs beside the number that it is held against: met, "
        "contradicted or open.",
    ),
}

# What has to be said of a plan that can no longer be changed: results name its checksum.
ERRATA = {
    "toys-at-target": "The plan leaves out two pairs of [the study of toys](study_toys.md), and of one of them its "
    "comment gives a wrong reason. The ARM that never saw Countdown could be trained to the target on IOI, and the "
    "models that come from it on both tasks. It was left out for want of time, before anything of it was measured.",
}


def plans() -> list[StudyPlan]:
    """Those that have been run, those with most findings first."""
    known = map(load_plan, sorted(file.stem for file in (data_dir() / "studies").glob("*.toml")))
    return sorted((plan for plan in known if results_file(plan.name).exists()), key=lambda plan: -len(plan.findings))


def page(plan: StudyPlan) -> str:
    """The report, with its figures, and what has to be said of its plan, before the first group."""
    text = as_markdown(plan, load_results(plan))
    pictures = "\n\n".join(f"![{alt}](images/study-{plan.name}-{name}.png)" for name, (_, alt) in FIGURES.items())
    head, rest = text.split("\n## ", 1)
    notes = f"*Erratum.* {ERRATA[plan.name]}\n\n" if plan.name in ERRATA else ""
    return f"{head}\n{notes}{pictures}\n\n## {rest}"


def readme(text: str) -> str:
    """README.md with the verdicts between its two marks."""
    tables = []
    for plan in plans():
        tables += ["", f"**{plan.title}** ([all figures](book/study_{plan.name}.md)):", ""]
        tables += verdict_table(plan, verdicts(plan, load_results(plan)))
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return before + BEGIN + "\n" + "\n".join(tables) + "\n\n" + END + after


def main() -> None:
    for plan in plans():
        write_text(HERE / f"study_{plan.name}.md", page(plan))
        for name, (draw, _) in FIGURES.items():
            draw(plan, load_results(plan)).savefig(HERE / "images" / f"study-{plan.name}-{name}.png", dpi=90)
    write_text(README, readme(README.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
