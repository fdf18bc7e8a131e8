"""A measured value with its 95 % interval, and the two ways this package gets one."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest


@dataclass(frozen=True)
class Estimate:
    """`value` with a 95 % interval from `low` to `high`, over `n` samples."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}], n={self.n}"


def share(right: ArrayLike) -> Estimate:
    """The share of True, with Wilson's interval (Wilson 1927).

    >>> share([True] * 9 + [False]).value
    0.9
    """
    flags = np.asarray(right, bool)
    if flags.size == 0:
        raise ValueError("a share needs at least one sample")
    test = binomtest(int(flags.sum()), flags.size)
    interval = test.proportion_ci(method="wilson")
    return Estimate(test.statistic, interval.low, interval.high, flags.size)


def bootstrap(
    samples: ArrayLike, statistic: Callable[[np.ndarray], float] = np.mean, draws: int = 1000, seed: int = 0
) -> Estimate:
    """A statistic of samples along axis 0, with the percentile bootstrap's interval (Efron 1979); seeded."""
    x = np.asarray(samples)
    if len(x) == 0:
        raise ValueError("a bootstrap needs at least one sample")
    rng = np.random.default_rng(seed)
    values = [float(statistic(x[rng.integers(0, len(x), len(x))])) for _ in range(draws)]
    low, high = np.percentile(values, [2.5, 97.5])
    return Estimate(float(statistic(x)), float(low), float(high), len(x))
