"""Each measurement against a closed form."""

import numpy as np
import pytest
from PIL import Image

from chapter38.measure import distance, estimate, exact, pixels
from chapter38.postcards import Scene


def test_frechet_of_two_gaussians_is_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(4000, 3)) * [1.0, 2.0, 3.0]
    b = rng.normal(size=(4000, 3)) * [2.0, 2.0, 1.0] + [1.0, 0.0, -2.0]
    # Diagonal covariances: |Δμ|² + Σ (σa − σb)².
    assert distance.frechet(a, b) == pytest.approx(5 + 1 + 0 + 4, rel=0.06)
    assert distance.frechet(a, a) == pytest.approx(0, abs=1e-6)
    assert distance.frechet(a, b) == pytest.approx(distance.frechet(b, a))


def test_frechet_agrees_with_a_matrix_square_root_for_correlated_features() -> None:
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(200, 4)) @ rng.normal(size=(4, 4)), rng.normal(size=(200, 4)) @ rng.normal(size=(4, 4))
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    wanted = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real)
    assert distance.frechet(a, b) == pytest.approx(wanted, rel=1e-6)


def test_small_samples_bias_the_distance_upwards_and_the_extrapolation_repairs_it() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(400, 20)), rng.normal(size=(400, 20))
    raw, repaired = distance.frechet(a, b), distance.frechet_unbiased(a, b)
    assert raw > 0.4  # the true distance is 0
    assert abs(repaired.value) < raw / 3
    assert repaired.low <= repaired.value <= repaired.high


@pytest.mark.parametrize("shapes", [((5, 3), (5, 4)), ((1, 3), (5, 3)), ((5,), (5,))])
def test_frechet_refuses_what_it_cannot_compare(shapes) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="expected features"):
        distance.frechet(np.zeros(shapes[0]), np.zeros(shapes[1]))


def test_diversity_is_the_mean_distance_of_pairs() -> None:
    assert distance.diversity(np.array([[0.0, 0.0], [3.0, 4.0]])) == pytest.approx(5)
    assert distance.diversity(np.ones((5, 3))) == pytest.approx(0, abs=1e-6)


def test_wilson_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    covered = [e.low <= 0.9 <= e.high for e in (estimate.share(rng.random(100) < 0.9) for _ in range(400))]
    assert 0.91 <= np.mean(covered) <= 0.99


def test_bootstrap_interval_of_a_mean_is_near_the_normal_one() -> None:
    x = np.random.default_rng(4).normal(size=300)
    made = estimate.bootstrap(x)
    half = 1.96 * x.std(ddof=1) / len(x) ** 0.5
    assert made.high - made.low == pytest.approx(2 * half, rel=0.15)
    with pytest.raises(ValueError, match="at least one"):
        estimate.bootstrap([])


def test_psnr_is_the_closed_form() -> None:
    a, b = Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), (51, 51, 51))
    assert pixels.psnr(a, b) == pytest.approx(20 * np.log10(5))
    assert pixels.psnr(a, a) == float("inf")
    assert pixels.largest_difference(a, b) == 51
    with pytest.raises(ValueError, match="one size"):
        pixels.psnr(a, Image.new("RGB", (9, 8)))


def test_edges_of_a_step_and_their_agreement() -> None:
    def step(at: int) -> Image.Image:
        image = Image.new("RGB", (64, 64))
        image.paste((200, 200, 200), (at, 0, 64, 64))
        return image

    columns = np.flatnonzero(np.asarray(pixels.edges(step(32))).any(0))
    assert set(columns) <= set(range(28, 36)) and len(columns)
    assert pixels.edge_agreement(step(32), pixels.edges(step(32))) == 1
    assert pixels.edge_agreement(step(33), pixels.edges(step(32))) > 0.9  # within the tolerance
    assert pixels.edge_agreement(step(50), pixels.edges(step(32))) == 0


def test_edges_of_a_scene_agree_with_itself_more_than_with_another() -> None:
    boat, cat = Scene("sailboat", size="big").picture(), Scene("cat", size="big", ground="desert").picture()
    hint = pixels.edges(boat)
    assert pixels.edge_agreement(boat, hint) == 1 > pixels.edge_agreement(cat, hint)


GAUSSIAN, MIXTURE = exact.Mixture(), exact.Mixture((-1.0, 1.0), (0.2, 0.4))


@pytest.mark.parametrize("world", [GAUSSIAN, MIXTURE], ids=["gaussian", "mixture"])
def test_the_denoiser_is_the_score_of_the_noised_density(world: exact.Mixture) -> None:
    """Tweedie: E[x0|x] = x + σ² d/dx log p_σ(x), with the derivative taken numerically."""
    x, sigma, h = np.linspace(-3, 3, 13), 0.7, 1e-3
    density = lambda z: (world.distribution(z + h, sigma) - world.distribution(z - h, sigma)) / (2 * h)  # noqa: E731
    score = (np.log(density(x + h)) - np.log(density(x - h))) / (2 * h)
    assert world.denoised(x, sigma) == pytest.approx(x + sigma**2 * score, abs=1e-4)


def test_the_mixtures_solution_is_the_gaussians_where_its_components_are_equal() -> None:
    x = np.linspace(-20, 20, 9)
    doubled = exact.Mixture((0.5, 0.5), (0.5, 0.5))
    assert doubled.solution(x, 14.6) == pytest.approx(GAUSSIAN.solution(x, 14.6), abs=1e-9)


@pytest.mark.parametrize(("sampler", "low", "high"), [("euler", 0.85, 1.25), ("dpmpp_2m", 1.8, 2.3)])
@pytest.mark.parametrize("world", [GAUSSIAN, MIXTURE], ids=["gaussian", "mixture"])
def test_solvers_converge_with_the_order_of_their_papers(
    world: exact.Mixture, sampler: str, low: float, high: float
) -> None:
    steps = (20, 40, 80)
    row = exact.table(world, [(sampler, "karras")], steps)[0]
    assert low <= row["order"] <= high
    assert row["errors"] == sorted(row["errors"], reverse=True)
