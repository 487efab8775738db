// Paths of the probability-flow ODE of a mixture, by N steps of a method, beside the exact paths.
function draw(data, { method, N }) {
  // lambda is half the logarithm of the signal-to-noise ratio.
  const level = (lambda) => 1 / (1 + Math.exp(-2 * lambda));
  // The slope of y = x / sqrt(alphaBar) in the noise level exp(-lambda).
  const eps = (y, lambda) => {
    const ab = level(lambda);
    return -Math.sqrt(1 - ab) * noisy(data, ab).score(y * Math.sqrt(ab));
  };
  const walk = (x, steps, heun) => {
    const lambdas = range(steps + 1, ...data.lambdas);
    const path = [[0, x]];
    let y = x / Math.sqrt(level(lambdas[0]));
    for (let i = 0; i < steps; i++) {
      const [from, to] = [lambdas[i], lambdas[i + 1]];
      const h = Math.exp(-to) - Math.exp(-from);
      const first = eps(y, from);
      y += h * (heun ? (first + eps(y + h * first, to)) / 2 : first);
      path.push([(i + 1) / steps, y * Math.sqrt(level(to))]);
    }
    return path;
  };
  const heun = method.startsWith("Heun");
  const rough = data.starts.map((x) => walk(x, N, heun));
  const errors = rough.map((path, i) => path.at(-1)[1] - data.ends[i]);
  const error = Math.sqrt(errors.reduce((sum, e) => sum + e * e, 0) / errors.length);
  const view = panel({ left: 62, top: 10, width: 560, height: 290, x: [0, 1], y: [-3, 3] });
  const picture =
    data.paths.map((path) => view.line(path, "currentColor", 'stroke-opacity="0.45"')).join("") +
    rough.map((path) => view.line(path, data.colours.model) + view.dots(path, data.colours.model, 2.2)).join("") +
    view.dots(data.ends.map((x) => [1, x]), data.colours.exact, 4) +
    view.axes({
      xticks: [[0, "T"], [1, "0"]],
      yticks: ticks([-3, 0, 3]),
      xlabel: "from noise (left) to data (right)",
      ylabel: "x",
    });
  const calls = heun ? 2 * N : N;
  const label = `${method}, ${N} step${N === 1 ? "" : "s"}, ${calls} call${calls === 1 ? "" : "s"}: error ${short(error, 2)}`;
  const alt =
    `Paths of ${data.starts.length} points from noise on the left to data on the right. ${label}. The exact paths are ` +
    `grey and end at green dots; the orange paths of the method ${error < 0.02 ? "end on them" : "miss them"}.`;
  return { picture, label, alt, height: 350 };
}
