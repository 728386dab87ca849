from __future__ import annotations

import pytest


def test_the_rate_rises_then_falls() -> None:
    from models.training.pace import Pace

    pace = Pace()
    for begin in (0, 500):
        pace.restart(begin, 100, 0.01)
        rates = [float(pace(begin + step)) for step in range(100)]
        # A tenth of the steps rises: the first one has 1/10 of the way from 2 % to the highest.
        assert rates[0] == pytest.approx(0.01 * (0.02 + 0.98 * 0.1))
        assert rates[9] == pytest.approx(0.01)
        assert max(rates) == rates[9]
        # Half-way down the cosine: 10 + 50 steps.
        assert rates[60] == pytest.approx(0.01 * (0.02 + 0.98 * 0.5))
        assert rates == [*sorted(rates[:9]), *sorted(rates[9:], reverse=True)]
