"""What the product's model says of itself."""

from __future__ import annotations

from models.training.parameters import Parameters
from models.training.quality.product import ProductModel


def test_parameters_are_those_of_every_seed() -> None:
    first, second = (ProductModel(Parameters(width=32), seed) for seed in (0, 1))
    assert first.parameters == second.parameters
    assert first.parameters["width"] == 32
    assert "seed" not in first.parameters
    # Nothing is chosen before the first lesson.
    assert first.chosen == {"rules_shares": [], "seconds": [], "cpu_seconds": []}
