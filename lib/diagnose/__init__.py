"""Diagnose a model of your own before paying for its training: two functions, and the report that they give."""

from lib.diagnose.gate import diagnose_gate
from lib.diagnose.learners import learner_parts
from lib.diagnose.perturbation import diagnose_perturbation
from lib.diagnose.report import Advice, Report

__all__ = ["Advice", "Report", "diagnose_gate", "diagnose_perturbation", "learner_parts"]
