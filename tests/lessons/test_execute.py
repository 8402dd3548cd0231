"""How the outputs of lessons are stored."""

from __future__ import annotations

import sys
from pathlib import Path

from nbformat.v4 import new_code_cell, new_output

sys.path.insert(0, str(Path(__file__).parents[2] / "lessons"))
import execute


def test_what_is_printed_around_a_picture_stays_around_it():
    def printed(text: str, name: str = "stdout"):
        return new_output("stream", name=name, text=text)

    picture = new_output("display_data", {"text/plain": "a picture"})
    bar = [printed("10 %\r50", "stderr"), printed(" %\r100 %\nthe end", "stderr")]
    cell = new_code_cell(outputs=[printed("one "), printed("line\n"), picture, printed("below\n"), *bar])
    execute.join_streams(cell)
    assert cell.outputs == [printed("one line\n"), picture, printed("below\n"), printed("100 %\nthe end", "stderr")]
    again = new_code_cell(outputs=cell.outputs)
    execute.join_streams(again)
    assert again.outputs == cell.outputs
