"""The table of samplers and spacings: Diffusers' own numbers, ComfyUI's formulas, and our own solvers' order."""

import inspect
import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chapter38.code import samplers
from chapter38.code.spacings import sigmas, trained
from chapter38.errors import CannotExpress
from chapter38.recipe import SAMPLERS, SPACINGS

CONFIG = {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
}  # fmt: skip
FLOW = {"num_train_timesteps": 1000, "shift": 3.0}
SCHEDULE = trained(CONFIG)


def config(sampler):
    return FLOW if samplers.TABLE[sampler].scale == "flow" else CONFIG


def test_the_table_holds_every_name_of_a_recipe():
    assert tuple(samplers.TABLE) == SAMPLERS
    for row in samplers.TABLE.values():
        assert (row.comfy is None) == (row.differs is not None)
        assert set(row.native) | set(row.joined) <= set(SPACINGS)


@pytest.mark.parametrize("spacing", SPACINGS)
@given(steps=st.integers(1, 60), flow=st.booleans())
def test_a_spacing_descends_to_zero(spacing, steps, flow):
    found = sigmas(spacing, trained(FLOW) if flow else SCHEDULE, steps)
    assert found[-1] == 0 and (found[:-1] > 0).all()
    assert (found.diff() < 0).all()
    if spacing not in ("ddim_uniform", "beta"):
        assert len(found) == steps + 1


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("steps", [1, 7, 20])
def test_diffusers_spacings_are_diffusers_numbers(spacing, steps):
    theirs = samplers.scheduler("euler", spacing, CONFIG, steps).sigmas
    assert torch.allclose(sigmas(spacing, SCHEDULE, steps), theirs, rtol=1e-4)  # float64 against float32 betas


@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
def test_flow_spacings_are_diffusers_numbers(spacing):
    theirs = samplers.scheduler("flow_euler", spacing, FLOW, 9).sigmas
    assert torch.allclose(sigmas(spacing, trained(FLOW), 9), theirs, atol=1e-6)


def test_karras_is_diffusers_numbers_over_the_whole_range():
    theirs = samplers.scheduler("dpmpp_2m", "karras", CONFIG, 12).sigmas
    assert torch.allclose(sigmas("karras", SCHEDULE, 12), theirs, rtol=1e-4)


@given(steps=st.integers(1, 40))
def test_comfyui_spacings_by_their_definitions(steps):
    """Recomputed from the words of their definition, with plain Python floats."""
    betas = [(math.sqrt(0.00085) + (math.sqrt(0.012) - math.sqrt(0.00085)) * i / 999) ** 2 for i in range(1000)]
    level, bar = [], 1.0
    for beta in betas:
        bar *= 1 - beta
        level.append(math.sqrt((1 - bar) / bar))
    simple = [level[999 - int(i * (1000 / steps))] for i in range(steps)]
    assert torch.allclose(sigmas("simple", SCHEDULE, steps)[:-1], torch.tensor(simple), rtol=1e-5)
    uniform = level[1 :: max(1000 // steps, 1)][::-1]
    assert torch.allclose(sigmas("ddim_uniform", SCHEDULE, steps)[:-1], torch.tensor(uniform), rtol=1e-5)

    def at(t):
        low, part = int(t), t - int(t)
        return math.exp((1 - part) * math.log(level[low]) + part * math.log(level[min(low + 1, 999)]))

    sgm = [at(999 * (1 - i / steps)) for i in range(steps)]
    assert torch.allclose(sigmas("sgm_uniform", SCHEDULE, steps)[:-1], torch.tensor(sgm), rtol=1e-4)
    share = torch.linspace(0, 1, steps).double()
    ratio = (share * math.log(level[0]) + (1 - share) * math.log(level[-1])).exp()
    assert torch.allclose(sigmas("exponential", SCHEDULE, steps)[:-1].double(), ratio, rtol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_joined_schedulers_keep_their_list_when_a_pipeline_asks_for_another(sampler):
    row = samplers.TABLE[sampler]
    spacing = next((s for s in row.joined if s not in row.native), None)
    if spacing is None:
        assert row.joined == ()  # PNDM walks only its own lists
        return
    solver = samplers.scheduler(sampler, spacing, config(sampler), 6)
    before = solver.timesteps.clone()
    solver.set_timesteps(50)
    assert torch.equal(solver.timesteps, before)


@pytest.mark.parametrize("sampler", [n for n, r in samplers.TABLE.items() if r.scale == "noise"])
def test_joined_noise_has_unit_variance_at_the_top(sampler):
    solver = samplers.scheduler(sampler, "simple", CONFIG, 6)
    assert float(solver.init_noise_sigma) == pytest.approx(math.sqrt(1 + float(SCHEDULE.sigmas[-1]) ** 2), rel=1e-6)
    lower = samplers.scheduler(sampler, "ddim_uniform", CONFIG, 6)  # starts below the top: plain sigma
    assert float(lower.init_noise_sigma) == pytest.approx(float(lower.sigmas[0]), rel=1e-6)


@pytest.mark.parametrize("spacing", ["simple", "beta", "normal"])
def test_ddim_over_comfyui_spacings_is_euler_in_sigma_space(spacing):
    ddim, euler = (samplers.scheduler(s, spacing, CONFIG, 5) for s in ("ddim", "euler"))
    assert torch.equal(ddim.sigmas, euler.sigmas) and torch.equal(ddim.timesteps, euler.timesteps)


def test_ddim_in_its_own_scale_is_euler_in_sigma_space():
    """The same step, once by DDIM's formula and once by Euler's, on a denoiser that depends on its input."""
    ends = []
    for sampler, spacing in (("ddim", "trailing"), ("ddim", "simple")):
        solver = samplers.scheduler(sampler, spacing, CONFIG, 10)
        x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)) * solver.init_noise_sigma
        for t in solver.timesteps:
            x = solver.step(torch.tanh(solver.scale_model_input(x, t)), t, x, return_dict=False)[0]
        ends.append(x)
    assert torch.allclose(*ends, atol=1e-4)


def visited(sampler: str, found: torch.Tensor) -> list[float]:
    """The noise levels at which the denoiser is asked, by each method's definition, on the list `found` that ends in 0."""
    stops = found[:-1].tolist()
    if sampler in ("heun", "flow_heun"):  # asked again at the end of every step but the last, which is Euler's
        return [stops[0], *(level for level in stops[1:] for _ in range(2))]
    if sampler == "dpm_2":  # asked halfway to the next level, in the logarithm; the last step is Euler's
        halves = [math.sqrt(a * b) for a, b in itertools.pairwise(stops)]
        return [stops[0], *itertools.chain.from_iterable(zip(halves, stops[1:], strict=True))]
    return stops


@pytest.mark.parametrize("sampler", [name for name, row in samplers.TABLE.items() if row.joined])
def test_the_loop_asks_at_the_levels_that_the_method_says(sampler):
    found = samplers.levels(sampler, "simple", trained(config(sampler)), 6)
    solver = samplers.following(sampler, config(sampler), found, trained(config(sampler)))
    x = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(38))
    seen, told = [], []
    for t in solver.timesteps:
        getattr(solver, "scale_model_input", lambda sample, t: sample)(x, t)
        seen.append(samplers.sigma(solver, t))
        told.append(float(t))
        noise = {"generator": torch.Generator()} if "generator" in inspect.signature(solver.step).parameters else {}
        x = solver.step(torch.zeros_like(x), t, x, **noise, return_dict=False)[0]
    assert seen == pytest.approx(visited(sampler, found), rel=1e-3)
    schedule = trained(config(sampler))
    assert told == pytest.approx(schedule.timestep(torch.tensor(visited(sampler, found))).tolist(), abs=1.01)


@pytest.mark.parametrize("spacing", [None, "simple"])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_x0_is_what_the_prediction_amounts_to(sampler, kind, spacing):
    """From a clean picture, noise and a level: the sample in the class's own scale, the right prediction, and back."""
    row, x = samplers.TABLE[sampler], torch.Generator().manual_seed(1)
    spacing = spacing if spacing in row.joined else (row.native or row.joined)[-1]
    solver = samplers.scheduler(sampler, spacing, {**config(sampler), "prediction_type": kind}, 6)
    if row.follower and spacing not in row.native:
        row = samplers.TABLE[row.follower]
    clean, noise = torch.randn(2, 1, 4, 3, 3, generator=x).double()
    for sigma in (0.05, 0.6, 0.9, 7.0):
        if row.scale == "flow":
            sample, prediction = (1 - sigma) * clean + sigma * noise, noise - clean
        else:
            bar = 1 / (1 + sigma**2)  # what the literature calls alpha-bar
            unit = math.sqrt(bar) * clean + math.sqrt(1 - bar) * noise
            sample = clean + sigma * noise if row.scale == "noise" else unit
            prediction = noise if kind == "epsilon" else math.sqrt(bar) * noise - math.sqrt(1 - bar) * clean
        assert torch.allclose(samplers.x0(solver, prediction, sample, sigma), clean, atol=1e-6)


@pytest.mark.parametrize("sampler", [n for n, r in samplers.TABLE.items() if r.scale == "unit" and r.joined])
def test_first_noise_in_unit_variance_is_as_large_as_its_level_says(sampler):
    """1 at the last trained level; lower down, where ComfyUI starts from sigma times noise, that much of the whole."""
    schedule = trained(CONFIG)
    for top in (-1, -100):
        level = schedule.sigmas[top]
        found = torch.stack([level, level / 4, level / 9, torch.tensor(0.0)])
        solver = samplers.following(sampler, CONFIG, found, schedule)
        whole = 1.0 if top == -1 or samplers.TABLE[sampler].follower else float(level / (1 + level**2) ** 0.5)
        if samplers.TABLE[sampler].follower:  # it walks as Euler, in the other scale
            whole = float((1 + level**2) ** 0.5 if top == -1 else level)
        assert float(solver.init_noise_sigma) == pytest.approx(whole, rel=1e-5)


def test_a_schedulers_own_level_is_that_of_its_timestep():
    """Classes that keep no list (PNDM): noise over signal from the trained schedule."""
    solver = samplers.scheduler("pndm", "leading", CONFIG, 10)
    for t in solver.timesteps:
        assert samplers.sigma(solver, t) == pytest.approx(float(SCHEDULE.sigmas[int(t)]), rel=1e-3)


@pytest.mark.parametrize("steps", [7, 8])
@pytest.mark.parametrize("sampler", ["dpm_2", "uni_pc"])
def test_a_sampler_that_drops_a_level_asks_for_one_more(sampler, steps):
    found, more = samplers.levels(sampler, "normal", SCHEDULE, steps), sigmas("normal", SCHEDULE, steps + 1)
    assert torch.equal(found, torch.cat([more[:steps], more[steps + 1 :]])) and len(found) == steps + 1
    assert torch.equal(samplers.levels("euler", "normal", SCHEDULE, steps), sigmas("normal", SCHEDULE, steps))
    assert torch.equal(samplers.levels("dpm_2", "trailing", SCHEDULE, steps), sigmas("trailing", SCHEDULE, steps))


def test_uni_pc_is_of_third_order_as_comfyuis():
    made = samplers.scheduler("uni_pc", "simple", CONFIG, 8).config
    assert (made.solver_order, made.solver_type) == (3, "bh1")  # comfy/extra_samplers/uni_pc.py: order min(3, steps - 1), bh1


@pytest.mark.parametrize("sampler", ["uni_pc", "deis"])
def test_a_list_ends_where_the_logarithm_still_exists(sampler):
    solver = samplers.scheduler(sampler, "karras", CONFIG, 6)
    assert float(solver.sigmas[-1]) == pytest.approx(0.001) and (solver.sigmas[:-1] > 0.02).all()


def test_a_schedule_of_training_goes_to_the_class_unless_it_is_flow():
    config = {**CONFIG, "num_train_timesteps": 500, "beta_end": 0.02}
    made = samplers.scheduler("euler", "trailing", config, 5).config
    assert (made.num_train_timesteps, made.beta_end, made.beta_schedule) == (500, 0.02, "scaled_linear")
    row = samplers.TABLE["flow_euler"]
    assert samplers._training(row, {**FLOW, "num_train_timesteps": 500}) == {}


# --- against exact solutions ---------------------------------------------------------------------------------------


def gaussian_error(sampler: str, steps: int, spread: float = 0.5) -> float:
    """Distance from the exact end of the flow, where the data are Gaussian with deviation `spread` around 0.

    The denoiser is exact: x0(x, s) = x * v / (v + s²), v = spread²; the flow keeps x / sqrt(v + s²).
    """
    solver = samplers.scheduler(sampler, "exponential", CONFIG, steps)
    v, x = spread**2, torch.ones(1, 1, 1, 1, dtype=torch.float64) * solver.init_noise_sigma
    start, top = x.clone(), float(solver.sigmas[0])
    for i, t in enumerate(solver.timesteps[:-1]):
        s = float(solver.sigmas[i])
        solver.scale_model_input(x, t)
        x0 = x * v / (v + s * s)
        x = solver.step((x - x0) / s, t, x, return_dict=False)[0].double()
    last = float(solver.sigmas[len(solver.timesteps) - 1])
    return abs(float(x / start) - math.sqrt((v + last**2) / (v + top**2)))


@pytest.mark.parametrize(("sampler", "order"), [("euler", 1), ("res_multistep", 2)])
def test_order_of_convergence(sampler, order):
    coarse, fine = gaussian_error(sampler, 20), gaussian_error(sampler, 40)
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.35)


def test_er_sde_draws_the_data_it_should():
    """From Gaussian data of deviation 0.5 many draws must come out with that deviation, noise and all."""
    solver, v = samplers.scheduler("er_sde", "karras", CONFIG, 40), 0.25
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1, 100, 100, generator=generator) * float(solver.sigmas[0])
    for i, t in enumerate(solver.timesteps):
        s = float(solver.sigmas[i])
        solver.scale_model_input(x, t)
        x = solver.step((x - x * v / (v + s * s)) / s, t, x, generator=generator, return_dict=False)[0]
    assert float(x.std()) == pytest.approx(0.5, rel=0.05)


def test_one_brownian_path_is_refined_and_not_redrawn():
    """The increments over two half steps add up to the increment over the whole step."""
    x = torch.zeros(1, 1, 4, 4)
    solver = samplers.scheduler("dpmpp_2m_sde", "karras", CONFIG, 4)
    solver.timesteps  # noqa: B018
    solver._init_step_index(solver.timesteps[0])
    solver.paths = solver._grow(torch.Generator().manual_seed(39), x)
    high, middle, low = solver.sigmas[:3]
    whole = solver._between(high, low) * (high - low).sqrt()
    halves = solver._between(high, middle) * (high - middle).sqrt() + solver._between(middle, low) * (middle - low).sqrt()
    assert torch.allclose(whole, halves, atol=1e-5)


# --- names -----------------------------------------------------------------------------------------------------------


def test_comfyui_names():
    assert samplers.twin("euler", "karras", 20) == samplers.Twin("euler", "karras")
    assert samplers.twin("ddim", "trailing", 20) == samplers.Twin("euler", "simple")
    assert samplers.twin("ddim", "trailing", 7).why and samplers.twin("ddim", "trailing", 15).scheduler is None
    assert samplers.twin("ddim", "leading", 20).scheduler == "ddim_uniform" and samplers.twin("ddim", "leading", 20).why
    assert samplers.twin("dpmpp_2m", "trailing", 20) == samplers.Twin("dpmpp_2m", None)
    assert samplers.twin("flow_euler", "trailing", 4) == samplers.Twin("euler", None)
    assert "simple" in (samplers.twin("euler", "trailing", 7).why or "")
    assert samplers.twin("lms", "karras", 20).sampler is None
    assert samplers.twin("flow_euler", "simple", 4) == samplers.Twin("euler", "simple")


@pytest.mark.parametrize(
    ("sampler", "spacing", "config", "says"),
    [
        ("euler", "simple", FLOW, "by flow matching.*try flow_euler, flow_heun$"),
        ("flow_euler", "simple", CONFIG, "noise schedule.*; try euler, .*dpmpp_2m, .*res_multistep$"),
        ("pndm", "karras", CONFIG, "trailing"),
        ("ddpm", "karras", CONFIG, "simple"),
        ("euler", "simple", {**CONFIG, "rescale_betas_zero_snr": True}, "zero terminal SNR"),
    ],
)
def test_pairs_that_make_no_sense_say_what_does(sampler, spacing, config, says):
    with pytest.raises(CannotExpress, match=says):
        samplers.scheduler(sampler, spacing, config, 5)
