"""Circuits: which edges of a decoder do the work. The graph, attribution, interventions, comparison."""

from mdmcourse.circuits.attribute import attribute
from mdmcourse.circuits.attribution import Settings
from mdmcourse.circuits.circuit import Circuit
from mdmcourse.circuits.comparison import Comparison, compare
from mdmcourse.circuits.faithfulness import FRACTIONS, Faithfulness, faithfulness_curve, run_circuit, run_circuits
from mdmcourse.circuits.graph import Graph
from mdmcourse.circuits.patching import Patching, activation_patching
from mdmcourse.circuits.plan import MACHINES, Machine, plan
from mdmcourse.circuits.scores import Scores

__all__ = [
    "FRACTIONS", "MACHINES", "Circuit", "Comparison", "Faithfulness", "Graph", "Machine", "Patching", "Scores",
    "Settings", "activation_patching", "attribute", "compare", "faithfulness_curve", "plan", "run_circuit",
    "run_circuits",
]  # fmt: skip
