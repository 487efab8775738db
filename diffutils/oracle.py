"""The oracle: the exact answer in the place where a network would be asked. Home chapter: overview.

A network in this book predicts one of four things from (x_t, t): the noise eps, the data x_0, the velocity
``v = sqrt(ab) eps - sqrt(1 - ab) x_0`` (Salimans and Ho 2022) or the score. Trained on squared error, the best it can
answer is the conditional expectation, and for a Gaussian mixture that is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from diffutils.process import PREDICTIONS
from diffutils.validation import check_choice

if TYPE_CHECKING:
    from diffutils.distributions import GaussianMixture
    from diffutils.schedule import Schedule


class Oracle:
    """The exact denoiser of a mixture: what a perfect network would answer, in the network's place.

    Args:
        mixture: the data law.
        schedule: the ``Schedule`` whose times t it is asked about; with a respaced schedule a sampler passes the
            parent's times, so give it the parent.
        prediction: "eps", "x0", "v" (Salimans and Ho 2022) or "score".
    """

    variance_output = "free"

    def __init__(self, mixture: GaussianMixture, schedule: Schedule, prediction: str = "eps") -> None:
        self.prediction = check_choice("prediction", prediction, PREDICTIONS)
        self.mixture, self.schedule = mixture, schedule

    def __call__(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        """Return the exact prediction at time t (one int, or (B,)), in the shape of x_t (any shape of d values)."""
        flat = x_t.flatten(1)
        level = self._level("alpha_bar", t, flat)
        noise = {"sigma2": self._level("sigma2", t, flat)}
        if self.prediction == "score":
            answer = self.mixture.score_t(flat, level, **noise)
        elif self.prediction == "x0":
            answer = self.mixture.expected_x0(flat, level, **noise)
        else:
            answer = self.mixture.expected_eps(flat, level, **noise)
        if self.prediction == "v":
            x0 = self.mixture.expected_x0(flat, level, **noise)
            answer = level.sqrt()[:, None] * answer - noise["sigma2"].sqrt()[:, None] * x0
        return answer.view_as(x_t)

    def with_variance(self, x_t: Tensor, t: int | Tensor) -> tuple[Tensor, Tensor]:
        """Return the prediction and log(Var(x_0 | x_t) / (1 - alpha_bar_t)) for each coordinate, in x_t's shape.

        With this "free" variance output (``samplers.denoiser``) a reverse step has the mean and the variances of the
        exact q(x_{t-1} | x_t), which no Gaussian step with a diagonal covariance can better.

        Raises:
            ValueError: if t is outside 1..T: at t = 0 there is no noise to share out.
        """
        flat = x_t.flatten(1)
        level, sigma2 = (self._level(name, t, flat, minimum=1) for name in ("alpha_bar", "sigma2"))
        spread = self.mixture.variance_x0(flat, level, sigma2=sigma2)
        return self(x_t, t), (spread / sigma2[:, None]).log().view_as(x_t)

    def _level(self, name: str, t: int | Tensor, like: Tensor, *, minimum: int = 0) -> Tensor:
        return self.schedule.gather(getattr(self.schedule, name), t, like, minimum=minimum).flatten()
