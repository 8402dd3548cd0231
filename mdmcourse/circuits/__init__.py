"""Circuits: which edges of a decoder do the work. The graph, attribution, interventions, comparison."""

from mdmcourse.circuits.attribute import attribute
from mdmcourse.circuits.circuit import Circuit
from mdmcourse.circuits.faithfulness import FRACTIONS, Faithfulness, faithfulness_curve, run_circuit, run_circuits
from mdmcourse.circuits.graph import Graph
from mdmcourse.circuits.plan import MACHINES, Machine, plan
from mdmcourse.circuits.scores import Scores

__all__ = [
    "FRACTIONS", "MACHINES", "Circuit", "Faithfulness", "Graph", "Machine", "Scores", "attribute", "faithfulness_curve",
    "plan", "run_circuit", "run_circuits",
]  # fmt: skip
