"""The exhibits: where each bug was reported, what it changes in diffutils, and what gives it away."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from diffbook.faults import Fault
from diffbook.museum import statistics

ROOMS = ("time and indices", "variance", "noise", "signs", "the data's scale", "the last step", "training")


class Measurement(NamedTuple):
    """An exhibit's statistic without its bug and with it."""

    right: float
    wrong: float


@dataclass(frozen=True)
class Exhibit:
    """One bug of the museum.

    Attributes:
        room: one of ``ROOMS``.
        fault: the bug, as an edit to one function of diffutils.
        statistic: seed -> a number that is small without the bug.
        bound: the right code keeps the statistic at most this small, for every seed.
        factor: with the bug it is at least this many times the bound.
        source: where the bug was reported in public.
    """

    room: str
    fault: Fault
    statistic: Callable[[int], float]
    bound: float
    factor: float
    source: str

    def planted(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which all of diffutils runs the bug."""
        return self.fault.planted()

    def diff(self) -> str:
        """Return the bug as a unified diff."""
        return self.fault.diff(1)

    def measure(self, seed: int = 0) -> Measurement:
        """Return the statistic of the right code and of the code with the bug, from the same seed."""
        right = self.statistic(seed)
        with self.planted():
            return Measurement(right, self.statistic(seed))


def _exhibit(
    room: int,
    name: str,
    target: str,
    before: str,
    after: str,
    statistic: Callable[[int], float],
    bound: float,
    factor: float,
    source: str,
) -> Exhibit:
    fault = Fault(name, f"diffutils.{target}", before, after)
    return Exhibit(ROOMS[room], fault, statistic, bound, factor, f"https://github.com/{source}")


exhibits: dict[str, Exhibit] = {
    "padding": _exhibit(
        0, "the table of the time before, padded on the wrong side", "schedule.Schedule._fill_posterior",
        """\
        self.beta_tilde = torch.cat([start, share * self.sigma2[:-1]])
        self.posterior_x0 = torch.cat([start, share * self.sqrt_alpha_bar[:-1]])
        keep = self.sqrt_alpha[1:] * self.sigma2[:-1] / self.sigma2[1:]
""",
        """\
        before = torch.cat([self.alpha_bar[2:], self.alpha_bar[:1]])
        self.beta_tilde = torch.cat([start, share * (1 - before)])
        self.posterior_x0 = torch.cat([start, share * before.sqrt()])
        keep = self.sqrt_alpha[1:] * (1 - before) / self.sigma2[1:]
""",
        statistics.posterior_mean, 1e-12, 1e9, "lucidrains/denoising-diffusion-pytorch/issues/18",
    ),
    "step-number": _exhibit(
        0, "the network is told the number of the step, not the time", "samplers.denoiser.ask",
        "schedule.levels[t].timestep", "t",
        statistics.first_time_asked, 1e-12, 1e9, "lllyasviel/ControlNet/pull/315",
    ),
    "one-off": _exhibit(
        0, "noised to time t, but told t - 1", "objectives.simple.l_simple",
        "schedule.network_times(t)", "schedule.network_times(t - 1)",
        statistics.time_told, 5.0, 5.0, "invoke-ai/InvokeAI/pull/1946",
    ),
    "second-slope": _exhibit(
        0, "Heun's second slope, taken at the old time", "samplers.ode.Heun._step",
        "self._answer(x_s, s), s)", "self._answer(x_s, t), t)",
        statistics.order_of_heun, 0.15, 5.0, "huggingface/diffusers/pull/1512",
    ),
    "no-root": _exhibit(
        1, "the noise multiplied by its variance, not by its standard deviation", "process.forward_step",
        "schedule.sqrt_beta", "schedule.beta",
        statistics.variance_of_the_chain, 5.0, 10.0, "acids-ircam/diffusion_models/issues/1",
    ),
    "lost-bar": _exhibit(
        1, "alpha for alpha_bar in the posterior's variance", "schedule.Schedule._fill_posterior",
        "share * self.sigma2[:-1]]", "self.beta[1:] / (1 - self.alpha[1:]) * self.sigma2[:-1]]",
        statistics.total_variance, 1e-9, 1e6, "varun-ml/diffusion-models-tutorial/pull/1",
    ),
    "skipped-betas": _exhibit(
        1, "steps are skipped and the betas kept", "schedule.Schedule.respaced",
        "-torch.expm1(log_alpha_bar.diff())", "self.beta[kept[1:]]",
        statistics.product_of_alphas, 1e-12, 1e9, "huggingface/diffusers/pull/2076",
    ),
    "eta": _exhibit(
        1, "eta for its square, in one of two places", "samplers.ddim.DDIM._mean",
        "(1 - self.eta**2 * (1 -", "(1 - self.eta * (1 -",
        statistics.marginal_of_ddim, 5.0, 5.0, "inbarhub/DDPM_inversion/issues/12",
    ),
    "uniform": _exhibit(
        2, "uniform noise", "process.draw_noise",
        "torch.randn(", "torch.rand(",
        statistics.mean_of_noise, 5.0, 5.0, "acids-ircam/diffusion_models/issues/8",
    ),
    "langevin": _exhibit(
        2, "the step where its root belongs", "samplers.langevin.move",
        "math.sqrt(step)", "step",
        statistics.spread_of_langevin, 5.0, 5.0, "google-research/ibc/issues/6",
    ),
    "score-sign": _exhibit(
        3, "a score without its minus sign", "process.convert_at",
        'return -convert_at(value, x_t, a, s, source, "eps") / s',
        'return convert_at(value, x_t, a, s, source, "eps") / s',
        statistics.stein, 5.0, 5.0, "soran-ghaderi/torchebm/issues/318",
    ),
    "log-det": _exhibit(
        3, "the sign of a flow's log-determinant", "models.flows.coupling.AffineCoupling.forward",
        "log_scale.flatten(1).sum(dim=1)", "-log_scale.flatten(1).sum(dim=1)",
        statistics.mass_of_the_flow, 1e-4, 100.0, "VincentStimper/normalizing-flows/issues/27",
    ),
    "kl": _exhibit(
        3, "the sign of log sigma in a VAE's KL term", "models.vae.VAE.elbo_terms",
        "(2 * log_std).exp() - 1) - log_std)", "(2 * log_std).exp() - 1) + log_std)",
        statistics.kl_of_the_vae, 1e-5, 1e3, "FluxML/model-zoo/pull/147",
    ),
    "clip": _exhibit(
        4, "x_0 clipped to [-1, 1], whatever the data are", "samplers.base.Sampler.__init__",
        "None if clip is None else _check_clip(clip)", "(-1.0, 1.0)",
        statistics.share_beyond_one, 0.1, 5.0, "Project-MONAI/GenerativeModels/issues/494",
    ),
    "stale-noise": _exhibit(
        4, "x_0 clipped, the noise left as it was", "samplers.ddim.DDIM._mean",
        """\
        return float(self.schedule.sqrt_alpha_bar[s]) * x0_hat + keep * self.noise(x_t, x0_hat, t)
""",
        """\
        unclipped = Sampler(self.denoiser, self.schedule).guess(x_t, t)
        return float(self.schedule.sqrt_alpha_bar[s]) * x0_hat + keep * self.noise(x_t, unclipped, t)
""",
        statistics.parts_of_a_step, 1e-9, 1e6, "lucidrains/denoising-diffusion-pytorch/pull/84",
    ),
    "last-noise": _exhibit(
        5, "noise added in the last step", "samplers.ancestral.Ancestral._step",
        """\
        if s == 0:
            return mean
""",
        "",
        statistics.two_last_steps, 1e-12, 1e9, "Comfy-Org/ComfyUI/pull/8780",
    ),
    "early-end": _exhibit(
        5, "DDIM's last step ends at alpha_bar_1", "samplers.ddim.DDIM._mean",
        """\
        if s == 0:
            return x0_hat
""",
        """\
        if s == 0:
            first = float(self.schedule.sqrt_alpha_bar[1])
            rest = float(self.schedule.sqrt_one_minus_alpha_bar[1])
            return first * x0_hat + rest * self.noise(x_t, x0_hat, t)
""",
        statistics.end_of_ddim, 1e-12, 1e9, "Stability-AI/stablediffusion/pull/345",
    ),
    "ema": _exhibit(
        6, "the average's decay is lost", "training_run.TrainingRun.__init__",
        "get_ema_multi_avg_fn(ema_decay)", "get_ema_multi_avg_fn(min(ema_decay, 0.5))",
        statistics.slow_average, 1e-5, 1e3, "huggingface/diffusers/issues/1864",
    ),
    "time-scale": _exhibit(
        6, "times between 0 and 1, for sines made for 1 to 1000", "networks.time_embedding",
        "t.to(dtype)[:, None] *", "t.to(dtype)[:, None] / 1000 *",
        statistics.directions_of_time, 0.5, 4.0, "willisma/SiT/issues/24",
    ),
    "broadcast": _exhibit(
        6, "weights of shape (B, 1) times losses of shape (B,)", "models.ncsn.NCSN.loss",
        "(level * score + z).square().mean()", "(level.square() * (score + z / level).square().mean(dim=1)).mean()",
        statistics.loss_of_ncsn, 1e-4, 1e3, "bayesflow-org/bayesflow/issues/787",
    ),
}


