// The law of a mixture at time t of the forward process, and its score.
function draw(data, { t }) {
  const alphaBar = data.alpha_bar[t];
  const law = noisy(data, alphaBar);
  const rest = noisy({ weights: [1], means: [0], variances: [1] }, 0);
  const xs = range(161, -4, 4);
  const heights = xs.map((x) => [x, law.density(x)]);
  const upper = panel({ left: 62, top: 10, width: 560, height: 190, x: [-4, 4], y: [0, data.highest] });
  const lower = panel({ left: 62, top: 270, width: 560, height: 110, x: [-4, 4], y: [-8, 8] });
  const picture =
    upper.area(heights, data.colours.noise) +
    upper.line(heights, data.colours.exact) +
    upper.line(xs.map((x) => [x, rest.density(x)]), "currentColor", 'stroke-dasharray="4 5" stroke-opacity="0.7"') +
    upper.axes({ xticks: ticks([-4, -2, 0, 2, 4]), yticks: ticks([0, data.highest]), xlabel: "x", ylabel: "density" }) +
    lower.line(xs.map((x) => [x, law.score(x)]), data.colours.exact) +
    lower.line([[-4, 4], [4, -4]], "currentColor", 'stroke-dasharray="4 5" stroke-opacity="0.7"') +
    lower.axes({ xticks: ticks([-4, -2, 0, 2, 4]), yticks: ticks([-8, 0, 8]), xlabel: "x", ylabel: "score" });
  let modes = 0;
  for (let i = 1; i + 1 < heights.length; i++) modes += heights[i][1] > heights[i - 1][1] && heights[i][1] >= heights[i + 1][1];
  const label = `t = ${t}, ᾱ = ${short(alphaBar)}, KL to N(0, 1) = ${short(data.kl[t], 2)} nats`;
  const alt =
    `At ${label}: the density has ${modes} peak${modes === 1 ? "" : "s"}, the highest ` +
    `${short(Math.max(...heights.map((h) => h[1])), 2)}; the standard normal density is dashed. Below, the score crosses ` +
    `zero at each peak and approaches the line of slope minus one as t grows.`;
  return { picture, label, alt, height: 430 };
}
