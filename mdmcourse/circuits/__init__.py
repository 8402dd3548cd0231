"""Circuits: which edges of a decoder do the work. The graph, attribution, interventions, comparison."""

from mdmcourse.circuits.attribute import attribute
from mdmcourse.circuits.circuit import Circuit
from mdmcourse.circuits.graph import Graph
from mdmcourse.circuits.scores import Scores

__all__ = ["Circuit", "Graph", "Scores", "attribute"]
