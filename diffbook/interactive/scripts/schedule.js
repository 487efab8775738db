// A schedule by its kind, its length and its last beta: the signal it leaves, and the price of a start from N(0, 1).
function draw(data, { schedule: curve, T, "last beta": end }) {
  const betas = {
    linear: (t) => data.first + ((end - data.first) * (t - 1)) / Math.max(T - 1, 1),
    quadratic: (t) => (Math.sqrt(data.first) + ((Math.sqrt(end) - Math.sqrt(data.first)) * (t - 1)) / Math.max(T - 1, 1)) ** 2,
    cosine: (t) => {
      const f = (u) => Math.cos(((u / T + 0.008) / 1.008) * (Math.PI / 2)) ** 2;
      return Math.min(1 - f(t) / f(t - 1), 0.999);
    },
  };
  let log = 0;
  const points = [[0, 1]];
  for (let t = 1; t <= T; t++) {
    log += Math.log1p(-betas[curve](t));
    if (t % Math.ceil(T / 200) === 0 || t === T) points.push([t / T, Math.exp(log)]);
  }
  const left = Math.exp(log);
  const law = noisy(data, left);
  const rest = noisy({ weights: [1], means: [0], variances: [1] }, 0);
  const xs = range(2001, -10, 10);
  // KL(q_T || N(0, 1)) by the trapezoidal rule, whose ends are zero.
  const price = xs.reduce((sum, x) => {
    const [q, p] = [law.density(x), rest.density(x)];
    return q > 1e-300 ? sum + q * Math.log(q / p) * 0.01 : sum;
  }, 0);
  const start = Math.max(price, 0);
  const upper = panel({ left: 62, top: 10, width: 560, height: 190, x: [0, 1], y: [0, 1] });
  const lower = panel({ left: 62, top: 270, width: 560, height: 110, x: [-4, 4], y: [0, 0.8] });
  const near = xs.filter((x) => Math.abs(x) <= 4);
  const picture =
    upper.area(points, data.colours.noise) +
    upper.line(points, data.colours.data) +
    upper.dots([points.at(-1)], data.colours.model, 5) +
    upper.axes({ xticks: [[0, "0"], [0.5, "T/2"], [1, "T"]], yticks: ticks([0, 0.5, 1]), xlabel: "t", ylabel: "ᾱ" }) +
    lower.line(near.map((x) => [x, law.density(x)]), data.colours.data) +
    lower.line(near.map((x) => [x, rest.density(x)]), "currentColor", 'stroke-dasharray="4 5" stroke-opacity="0.7"') +
    lower.axes({ xticks: ticks([-4, -2, 0, 2, 4]), yticks: ticks([0, 0.8]), xlabel: "x at time T", ylabel: "density" });
  const kind = curve === "cosine" ? `cosine, T = ${T}` : `${curve}, T = ${T}, last β = ${end}`;
  const cost = start < 1e-12 ? "less than 1e-12" : short(start, 2);
  const label =
    `${kind}: ᾱ at T is ${short(left)}, the start costs ${cost} nats: ${start <= data.honest ? "honest" : "not honest"}`;
  const alt =
    `Above, the share of the signal's variance that is left at each t; it falls from 1 to ${short(left)}, marked by a dot. ` +
    `Below, the density of the data at T beside the dashed standard normal one. ${label}.`;
  return { picture, label, alt, height: 430 };
}
