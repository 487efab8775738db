"""Faults in what judges and shows: the schedule doctor, the museum's statistics, the figures that compute themselves."""

from __future__ import annotations

# module: (what is wrong, function, before, after)
FAULTS = {
    "diffutils.doctor": [
        ("the square of the data's mean left out of L_T", "diagnose", "variance + moments.mean_square / dim", "variance"),
        ("a signal called dead where it lives", "diagnose", "(explained < dead_below)", "(explained > dead_below)"),
        ("information without its half", "_gaussian_tables", "0.5 * torch.log1p(signal)", "torch.log1p(signal)"),
        ("the axes averaged before the error", "_gaussian_tables", "(moments.spread / (1 + signal)).mean(1)",
         "moments.spread.mean() / (1 + signal).mean(1)"),
        ("the mean shrinks by the root of alpha_bar", "_gaussian_tables", "0.5 * schedule.alpha_bar * moments",
         "0.5 * schedule.sqrt_alpha_bar * moments"),
        ("the coarse grid for unequal components, too", "_line_tables", "< 1.5 else 1", "< 1.5 else 10"),
        ("thinned weights that sum to a tenth", "_line_tables", "weights[::stride] / weights[::stride].sum()", "weights[::stride]"),
        ("a density without its width", "_line_part", " - scale.log() - 0.5 * LOG_2PI", " - 0.5 * LOG_2PI"),
        ("the price of the best step without its floor", "_step_prices", "terms[1:-1] - floors[1:]", "terms[1:-1]"),
        ("idle steps by nats, not by their share", "_idle", "share * work.sum()", "share"),
        ("twice the samples go unnoticed", "Diagnosis.unnoticed_below", "1 / (2 * self.start)", "1 / self.start"),
        ("betas that stay called falling", "Diagnosis.betas_rise", ">= 0", "> 0"),
        ("negative variances by rounding let in", "Moments.of", ".clamp(min=0.0)", ""),
    ],
    "diffbook.museum.statistics": [
        ("a variance as certain as a mean", "z_of_variance", "math.sqrt(x.numel() / 2)", "math.sqrt(x.numel())"),
        ("the standard error of a hundred draws", "mean_of_noise", "* 100", "* 10"),
        ("the variance without the bias of the step", "spread_of_langevin", "1 / (1 - 0.5 / 4)", "1"),
        ("the identity for one dimension", "stein", "products.mean() + 2", "products.mean() + 1"),
        ("the variance at another time", "marginal_of_ddim", "float(schedule.sigma2[300])", "float(schedule.sigma2[310])"),
    ],
    "diffbook.interactive.exact": [
        ("numbers that end the script", "ExactFigure._script", '.replace("</", "<\\\\/")', ""),
        ("two figures of one drawing share their place", "ExactFigure.to_html", "self.name + content", "self.name"),
        ("quotes that end the description", "ExactFigure.to_html", "html.escape(self._alt)", "self._alt"),
        ("a control that starts on the left", "exact", "(start or {}).get(control, 0)", "0"),
        ("a start beyond the last value let in", "exact", "range(most + 1)", "range(most + 2)"),
    ],
    "diffbook.interactive.closed_forms": [
        ("the slider never comes to T", "forward_process", "schedule.T / (positions - 1)", "schedule.T / positions"),
        ("the price of the start at the root of alpha_bar", "forward_process", "mixture.kl_to_standard_normal(float(schedule.alpha_bar[t]))",
         "mixture.kl_to_standard_normal(float(schedule.sqrt_alpha_bar[t]))"),
        ("quantiles of the law at the end, not at the start", "quantile_path", "float(alpha_bar[0])", "float(alpha_bar[-1])"),
        ("too few halvings", "_quantile", "range(80)", "range(20)"),
        ("paths in the signal-to-noise ratio's own logarithm", "probability_flow", "torch.sigmoid(2 * lambdas)", "torch.sigmoid(lambdas)"),
        ("quantiles that begin at none", "probability_flow", "dtype=torch.float64) + 0.5)", "dtype=torch.float64) + 0.0)"),
    ],
}
