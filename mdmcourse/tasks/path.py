"""Path finding on a star graph (Bachmann and Nagarajan, arXiv 2403.06963): the first step decides everything."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from mdmcourse.tasks.task import SLOT, Example, Task


@dataclass(frozen=True)
class StarPath(Task):
    """Several arms leave one node; walk to the end of the right one.

    Clean      ``3 > 7 , 5 > 1 , 7 > 2 , 3 > 5 ; 3 to 2 = {}`` -> ``7 2``   (two arms of two steps)
    Corrupted  ``3 > 7 , 5 > 1 , 7 > 2 , 3 > 5 ; 3 to 1 = {}`` -> ``5 1``: another goal

    Analysed: the first step (answer 7, distractor 5). Read from the goal backwards there is no choice to make; from the
    start there is one, and it needs the whole way. Encoding with two arms of two steps: <bos> is token 0, each edge is
    three words and a comma (the last one has ``;`` instead), tokens 1 to 16; start, ``to``, goal and ``=`` are tokens
    17 to 20, the answer tokens 21 and 22.

    Held out by the graph, whatever the order of its edges and its goal.
    """

    name: ClassVar[str] = "path"
    arms: int = 2
    steps: int = 3
    nodes: int = 15

    def draw(self, rng: random.Random) -> tuple[Example, str]:
        start, *others = rng.sample(range(1, self.nodes + 1), 1 + self.arms * self.steps)
        arms = [others[i * self.steps : (i + 1) * self.steps] for i in range(self.arms)]
        edges = [edge for arm in arms for edge in zip([start, *arm[:-1]], arm, strict=True)]
        rng.shuffle(edges)
        graph = " , ".join(f"{u} > {v}" for u, v in edges)
        (clean, answer), (corrupted, distractor) = (
            (f"{graph} ; {start} to {arm[-1]} ={SLOT}", " " + " ".join(map(str, arm))) for arm in rng.sample(arms, 2)
        )
        return Example(clean, answer, corrupted, distractor), str(sorted(edges))

    def check(self, example: Example, answer: str) -> bool:
        """Does the answer walk along edges from the start to the goal, without a detour?"""
        graph, _, question = example.clean.partition(";")
        edges = {tuple(edge.split(" > ")) for edge in graph.strip().split(" , ")}
        start, _, goal = question.partition("=")[0].split()
        way = [start, *answer.split()]
        return way[-1] == goal and len(way) == self.steps + 1 and all(edge in edges for edge in pairwise(way))
