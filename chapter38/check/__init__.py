"""The exercises' checks: each tells a right answer from a wrong one, says why, and keeps the solution to itself."""

from chapter38.check.verdict import Verdict, exercise, guess

__all__ = ["Verdict", "exercise", "guess"]
