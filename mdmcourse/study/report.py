"""What a study found, to read: a table of verdicts, the criteria behind them, and figures."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mdmcourse.study.plan import StudyPlan
from mdmcourse.study.verdicts import Judged, Verdict, verdicts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REACH = 1.15  # of the picture of criteria, to both sides, in units of a row
MINUS = "\u2212"
CONTROLS = {
    "arm": "the ARM itself, other prompts",
    "arm-trained-on": "ARM trained on",
    "mdm": "MDM",
    "mdm-second-seed": "MDM, second seed",
    "attention-switched": "attention switched, no training",
    "other-arm": "another ARM",
    "other-task": "the ARM's circuit for the other task",
}


def as_markdown(plan: StudyPlan, results: Mapping[str, Any]) -> str:
    """The whole report."""
    found = verdicts(plan, results)
    lines = [f"# {plan.title}", "", *verdict_table(plan, found), ""]
    for group in plan.groups:
        lines += [f"## {group.title}", ""]
        for verdict in (each for each in found if each.group == group.title):
            lines += [f"**{verdict.finding.name}: {verdict.finding.claim}** {_capital(_said(verdict))}.", ""]
            lines += ["| criterion | measured | needed | each ARM | |", "|---|---|---|---|---|"]
            lines += [_row(judged) for judged in verdict.criteria]
            lines.append("")
        lines += [*_tables(plan, results, group.title), ""]
    seconds = sum(unit["seconds"] for unit in results["units"])
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    lines += [
        f"Made by `{results['command']}` and `{results['command'].replace(' study ', ' report ')}`: "
        f"{len(results['units'])} units, {seconds / 60:.0f} minutes; {versions}. {_when_planned(plan, results)}",
        "",
        HOW_TO_READ,
    ]
    return "\n".join(lines) + "\n"


def _when_planned(plan: StudyPlan, results: Mapping[str, Any]) -> str:
    """Whether the criteria are those that stood in the plan when its units were measured."""
    file = f"`{plan.name}.toml`, SHA-256 {plan.sha256[:12]}"
    recorded = [unit.get("sha256_of_plan") for unit in results["units"]]
    if None in recorded:
        return f"The plan: {file}. These results are older than the record of which version of it a unit was under."
    earlier = [each for each in recorded if each != plan.sha256]
    if not earlier:
        return f"The plan ({file}) was written before."
    return (
        f"**{len(earlier)} of the units were measured under another version of the plan than this one ({file}): its "
        "criteria may have been written after results were known.**"
    )


HOW_TO_READ = """\
*measured*: mean over ARMs that were trained independently, with Student's 95 % interval over them; with one ARM the
interval is over prompts, which says nothing about another training. A criterion is *met* if the whole interval lies on
the right side of the number, *contradicted* if it lies on the wrong side, and otherwise *open*; then the smallest
distance from the number is given that so many ARMs would have shown four times in five. A finding *reproduces* if all
its criteria are met, *partly* if some are, *does not reproduce* if none is and one is contradicted; else it is *not
settled*. What the statistics are, `mdmcourse/study/unit.py` says."""


def verdict_table(plan: StudyPlan, found: Sequence[Verdict]) -> list[str]:
    """Findings by groups."""
    titles = [group.title for group in plan.groups]
    lines = [f"| | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    for finding in plan.findings:
        cells = [_said(each) for title in titles for each in found if (each.group, each.finding) == (title, finding)]
        lines.append(f"| **{finding.name}** {finding.claim} | {' | '.join(cells)} |")
    return lines


def _said(verdict: Verdict) -> str:
    return (
        verdict.verdict if verdict.over_models or verdict.verdict == "not measured" else f"{verdict.verdict} (one ARM)"
    )


def _row(judged: Judged) -> str:
    criterion = judged.criterion
    needed = f"at least {criterion.at_least:g}" if criterion.at_least is not None else f"at most {criterion.at_most:g}"
    what = f"{criterion.task}: `{criterion.value}`: {criterion.why}"
    if judged.state == "not measured":
        return f"| {what} | | {needed} | | not measured |"
    interval = "[no interval]" if math.isnan(judged.low) else f"[{judged.low:+.3f}, {judged.high:+.3f}]"
    measured = f"{judged.mean:+.3f} {interval}"
    each = " ".join(f"{value:+.2f}" for value in judged.each.values())
    state = judged.state
    if state == "open" and math.isfinite(judged.detectable):
        state += f"; {judged.detectable:.2f} would have shown"
    return f"| {what} | {measured} | {needed} | {each} | {state} |"


def _tables(plan: StudyPlan, results: Mapping[str, Any], group: str) -> list[str]:
    """For each task, every member's numbers: means over ARMs."""
    rows = {
        "accuracy": "accuracy", "overlap": "overlap with the ARM", "cross": "ARM's circuit in it",
        "own": "its own circuit", "lost": "without lost edges", "source_centre": "centre", "log_edges": "log edges",
        "log_direct": "log direct", "selectivity": "selectivity", "settled": "settled", "distance": "distance",
        "skip": "skip", "cka_revealed": "CKA revealed", "cka_masked": "CKA masked",
    }  # fmt: skip
    lines = []
    for task in dict.fromkeys(unit["task"] for unit in results["units"] if unit["group"] == group):
        units = [unit for unit in results["units"] if unit["group"] == group and unit["task"] == task]
        means = {
            member: {what: _mean([unit["statistics"].get(f"{what}/{member}") for unit in units]) for what in rows}
            for member in CONTROLS
        }
        shown = {member: CONTROLS[member] for member, cells in means.items() if any(cells.values())}
        lines += [f"*{task}*, means over {len(units)} ARM{'s' if len(units) > 1 else ''}", ""]
        lines += [f"| | {' | '.join(shown.values())} |", "|---" * (len(shown) + 1) + "|"]
        for what, label in rows.items():
            cells = [means[member][what] for member in shown]
            if any(cells):
                lines.append(f"| {label} | {' | '.join(cells)} |")
        off = _integral(units)
        known = f"is off by {off:.0%} at most" if math.isfinite(off) else "cannot be checked: there are none"
        lines += ["", f"EAP-IG's sum {known}, in members that do the task.", ""]
    return lines


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.2f}" if known else ""


def _integral(units: Sequence[Mapping[str, Any]]) -> float:
    """The largest relative error of the integral, where there is anything to integrate."""
    return max(
        (
            abs(error)
            for unit in units
            for member, error in unit["integration_error"].items()
            if error is not None and abs(unit["statistics"].get(f"effect/{member}", 0.0)) > 0.1
        ),
        default=float("nan"),
    )


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def overlap_figure(plan: StudyPlan, results: Mapping[str, Any]) -> Figure:
    """The overlap with the ARM of everything that it is held against, a dot for each ARM; a row for each group."""
    import matplotlib.pyplot as plt

    from mdmcourse.figures import ARM_COLOUR, CONTROL_COLOUR, MDM_COLOUR, course_style, shown_once

    rows = {
        group.title: list(dict.fromkeys(unit["task"] for unit in results["units"] if unit["group"] == group.title))
        for group in plan.groups
    }
    wide = max(map(len, rows.values()))
    members = [name for name in CONTROLS if any(f"overlap/{name}" in unit["statistics"] for unit in results["units"])]
    with course_style():
        figure, axes = plt.subplots(
            len(rows), wide, figsize=(2.4 + 3.2 * wide, 0.4 + 2.3 * len(rows)), sharex=True, sharey=True, squeeze=False,
            layout="constrained",
        )  # fmt: skip
        for axis in axes.flat:
            axis.set_visible(False)
        panels = [
            (group, task, row[at]) for row, group in zip(axes, rows, strict=True) for at, task in enumerate(rows[group])
        ]
        for group, task, axis in panels:
            axis.set_visible(True)
            units = [unit for unit in results["units"] if (unit["group"], unit["task"]) == (group, task)]
            for place, member in enumerate(members):
                found = [unit["statistics"].get(f"overlap/{member}") for unit in units]
                values = [value for value in found if value is not None]
                if not values:
                    continue
                colour = MDM_COLOUR if member.startswith("mdm") else ARM_COLOUR if member == "arm" else CONTROL_COLOUR
                axis.plot(values, [place] * len(values), "o", color=colour, alpha=0.6, markersize=6)
                axis.plot([sum(values) / len(values)], [place], "|", color=colour, markersize=18, markeredgewidth=2)
            axis.axvline(units[0]["statistics"]["chance/edges"], color=CONTROL_COLOUR, linestyle=":", linewidth=1)
            axis.set(xlim=(0, 1), ylim=(len(members) - 0.5, -0.5))
            axis.set_title(_in_lines(f"{group}: {task}", 44), fontsize=10)
            axis.set_yticks(range(len(members)), [CONTROLS[member] for member in members])
        for column in axes.T:  # below the last panel of each column, which need not be in the last row
            lowest = [axis for axis in column if axis.get_visible()][-1]
            lowest.set_xlabel("overlap with the ARM")
            lowest.tick_params(labelbottom=True)
        return shown_once(figure)


def criteria_figure(plan: StudyPlan, results: Mapping[str, Any], findings: Sequence[str] | None = None) -> Figure:
    """Every criterion's interval beside the number that it is held against, a column for each group.

    Each row has a scale of its own, that of what it holds. `findings` chooses some of the plan's findings by name.
    """
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    from mdmcourse.figures import CONTROL_COLOUR, course_style, shown_once

    found = [each for each in verdicts(plan, results) if findings is None or each.finding.name in findings]
    chosen = [finding for finding in plan.findings if findings is None or finding.name in findings]
    looks = {"met": ("#009E73", "o"), "contradicted": ("#CC79A7", "X"), "open": (CONTROL_COLOUR, "d")}
    by_group = {
        group.title: [each for verdict in found if verdict.group == group.title for each in verdict.criteria]
        for group in plan.groups
    }
    rows = [(finding, criterion) for finding in chosen for criterion in finding.criteria]
    scales = [_scale([of_group[place] for of_group in by_group.values()]) for place in range(len(rows))]
    labels = [
        f"{finding.name}  {criterion.task.replace('-', MINUS)}: {_measured(criterion.value)}  (\u00b1{scale:.2g})"
        for (finding, criterion), scale in zip(rows, scales, strict=True)
    ]
    with course_style():
        figure, axes = plt.subplots(
            1, len(plan.groups), figsize=(2.9 + 1.9 * len(plan.groups), 1.6 + 0.34 * len(rows)),
            sharey=True, squeeze=False, layout="constrained",
        )  # fmt: skip
        for axis, (title, judged) in zip(axes[0], by_group.items(), strict=True):
            axis.axvline(0, color=CONTROL_COLOUR, linewidth=0.5)
            for place, (each, scale) in enumerate(zip(judged, scales, strict=True)):
                if each.state == "not measured":
                    axis.text(0, place, "not measured", fontsize=8, color=CONTROL_COLOUR, va="center", ha="center",
                              bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
                else:
                    _draw(axis, place, each, scale, *looks[each.state])
            axis.set(
                xlim=(-REACH, REACH), ylim=(len(rows) - 0.5, -0.5), xticks=[-1, 0, 1], xticklabels=[MINUS, "0", "+"]
            )
            axis.set_title(_in_lines(title, 20), fontsize=10)
            axis.set_yticks(range(len(rows)), labels, fontsize=8)
        shown = [Line2D([], [], color=colour, marker=marker, label=state) for state, (colour, marker) in looks.items()]
        shown.append(Line2D([], [], color="black", marker="|", linestyle="", markersize=12, label="needed"))
        own_scales = f"each row has its own scale: {MINUS} and + stand for the number in brackets"
        figure.legend(handles=shown, loc="outside lower center", ncols=4, title=own_scales, title_fontsize=8)
        return shown_once(figure)


def _in_lines(title: str, width: int) -> str:
    """A title in as few lines as the width allows, all about as long: no word alone on the last."""
    count = len(textwrap.wrap(title, width))
    longest = min(width, max(map(len, title.split()), default=1))  # narrower than this, words would be broken
    return "\n".join(
        next(lines for each in range(longest, width + 1) if len(lines := textwrap.wrap(title, each)) <= count)
    )


def _measured(value: str) -> str:
    """What a criterion's value is of, without whom it compares."""
    what = value.split("/")[0].replace("_", " ")
    return f"{what} {MINUS} other task" if "other-task" in value else what


def _needed(each: Judged) -> float:
    needed = each.criterion.at_least if each.criterion.at_least is not None else each.criterion.at_most
    assert needed is not None
    return needed


def _scale(row: Sequence[Judged]) -> float:
    """What the ends of a row stand for: its largest number, but not so large that all others vanish."""
    measured = [each for each in row if each.state != "not measured"]
    ends = [abs(end) for each in measured for end in (each.low, each.high, each.mean) if math.isfinite(end)]
    typical = 3 * max((abs(each.mean) for each in measured), default=0.0)
    return max(abs(_needed(row[0])) * 1.5, min(max(ends, default=0.0), typical), 1e-9)


def _draw(axis: Axes, place: int, each: Judged, scale: float, colour: str, marker: str) -> None:
    """One interval, cut off at the edge of the picture, where a mean outside becomes an arrow."""
    axis.plot([_needed(each) / scale] * 2, [place - 0.4, place + 0.4], color="black", linewidth=1.5)
    edge, mean = 0.97 * REACH, each.mean / scale
    ends = [min(max(value / scale, -edge), edge) for value in (each.low, each.high)]
    axis.plot(ends, [place, place], color=colour, linewidth=2)
    arrow = "<" if mean < -edge else ">" if mean > edge else marker
    axis.plot([min(max(mean, -edge), edge)], [place], arrow, color=colour)
