"""The course's plots: drawn from plain data, and matplotlib's settings left alone."""

from __future__ import annotations

from types import SimpleNamespace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from mdmcourse.figures import STYLE, accuracy_bars, course_style, influence_maps, live, training_curves


def test_the_style_ends_with_the_block():
    before = dict(mpl.rcParams)
    with course_style():
        assert mpl.rcParams["axes.spines.top"] is False
    assert dict(mpl.rcParams) == before


def test_importing_changes_no_setting():
    import importlib

    import mdmcourse.figures

    before = dict(mpl.rcParams)
    importlib.reload(mdmcourse.figures)
    assert dict(mpl.rcParams) == before


def test_bars_are_as_high_as_the_values():
    figure = accuracy_bars({"ARM": [0.1, 1.0], "MDM": [0.9, 0.8]}, ["y1", "y2"], chance=0.1)
    bars = [patch.get_height() for patch in figure.axes[0].patches]
    assert bars == [0.1, 1.0, 0.9, 0.8]
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["ARM", "MDM"]


def test_influence_is_dark_where_it_is_above_zero():
    values = np.array([[np.nan, np.nan], [0.5, 0.0]])
    figure = influence_maps({"ARM": values}, ["a", "b"])
    drawn = figure.axes[0].images[0].get_array()
    assert drawn.tolist() == [[False, False], [True, False]]


def test_figures_are_not_left_open():
    before = plt.get_fignums()
    accuracy_bars({"ARM": [1.0]}, ["y"])
    assert plt.get_fignums() == before


def test_training_curves_show_what_was_logged():
    rows = [
        {"step": 10, "loss": 2.0, "seconds": 1.0, "ioi": 0.5},
        {"step": 20, "loss": 1.0, "seconds": 2.0, "ioi": 0.9},
    ]
    left, right = training_curves(rows, goal=0.6).axes
    assert left.lines[0].get_xydata().tolist() == [[10, 2], [20, 1]]
    assert right.lines[0].get_xydata().tolist() == [[10, 0.5], [20, 0.9]]
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["ioi"]


def test_a_live_figure_takes_the_place_of_the_last(monkeypatch):
    shown, updated = [], []

    def display(figure, display_id):
        shown.append(figure)
        return SimpleNamespace(update=updated.append)

    monkeypatch.setattr("IPython.display.display", display)
    show = live(lambda given: given)
    for figure in ("first", "second", "third"):
        show(figure)
    assert (shown, updated) == (["first"], ["second", "third"])


def test_only_fonts_that_are_installed_are_named(caplog):
    with course_style():
        figure, axis = plt.subplots()
        axis.set_title("plain")
        figure.canvas.draw()
    assert caplog.text == ""
    assert STYLE["font.family"][0] == "sans-serif"
