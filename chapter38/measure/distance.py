"""How far apart two sets of pictures are: Fréchet distance, its bias at small N, and diversity."""

import numpy as np

from chapter38.measure.estimate import Estimate


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance between Gaussians fitted to two sets of features, (N, D) and (M, D).

    |μa − μb|² + tr(Σa + Σb − 2 (Σa Σb)^½): Heusel et al. 2017, arXiv:1706.08500, eq. 6. Biased upwards at
    small N (see `frechet_unbiased`). Raises ValueError for fewer than two samples or unlike widths.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"expected features (N, D) and (M, D) with N, M ≥ 2, got {a.shape} and {b.shape}")
    mean = a.mean(0) - b.mean(0)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    cov_a, cov_b = np.atleast_2d(cov_a), np.atleast_2d(cov_b)
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    # tr (Σa Σb)^½ = Σ √eigenvalues of Rᵀ Σb R with Σa = R Rᵀ: symmetric, so no complex root to discard.
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root.T @ cov_b @ root), 0, None)).sum()
    return float(mean @ mean + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def frechet_unbiased(a: np.ndarray, b: np.ndarray, seed: int = 0, draws: int = 20) -> Estimate:
    """Fréchet distance extrapolated to infinitely many samples of `a` and `b`: a line in 1/N, read at 0.

    The distance of N samples grows like a constant over N (Chong & Forsyth 2020, arXiv:1911.07023). The
    interval is that of the intercept over `draws` repetitions with other subsets.
    """
    n = min(len(a), len(b))
    if n < 32:
        raise ValueError(f"extrapolation needs at least 32 samples of each, got {n}")
    rng = np.random.default_rng(seed)
    sizes = np.unique(np.linspace(n / 2, n, 6).astype(int))
    intercepts = []
    for _ in range(draws):
        values = [frechet(_some(a, k, rng), _some(b, k, rng)) for k in sizes]
        intercepts.append(np.polyfit(1 / sizes, values, 1)[1])
    low, high = np.percentile(intercepts, [2.5, 97.5])
    return Estimate(float(np.mean(intercepts)), float(low), float(high), n)


def diversity(features: np.ndarray) -> float:
    """Mean Euclidean distance between two different samples of (N, D) features; 0 where all are the same."""
    square = (features**2).sum(1)
    between = np.sqrt(np.clip(square[:, None] + square[None] - 2 * features @ features.T, 0, None))
    n = len(features)
    return float(between.sum() / (n * (n - 1)))


def _some(x: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    return x[rng.permutation(len(x))[:count]]
