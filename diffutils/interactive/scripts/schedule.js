// A schedule by its name, its length and its last beta: the signal it leaves, and what it leaves at the end.
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
  const nats = -0.5 * Math.log1p(-left);
  const view = panel({ left: 62, top: 10, width: 560, height: 260, x: [0, 1], y: [0, 1] });
  const picture =
    view.area(points, data.colours.noise) +
    view.line(points, data.colours.data) +
    view.dots([points.at(-1)], data.colours.model, 5) +
    view.axes({ xticks: [[0, "0"], [0.5, "T/2"], [1, "T"]], yticks: ticks([0, 0.5, 1]), xlabel: "t", ylabel: "ᾱ" });
  const verdict = nats < data.honest ? "honest" : "not honest";
  const kind = curve === "cosine" ? `cosine, T = ${T}` : `${curve}, T = ${T}, last β = ${end}`;
  const label = `${kind}: ᾱ at T is ${short(left)}, L at T is ${short(nats)} nats per dimension; a start from N(0, 1) is ${verdict}`;
  const alt =
    `The share of the signal's variance that is left at each t. It falls from 1 to ${short(left)}, marked by a dot. ` +
    `${label}.`;
  return { picture, label, alt, height: 320 };
}
