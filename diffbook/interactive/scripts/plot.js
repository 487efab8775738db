// A picture as SVG markup. Text and axes take the colour of the page around them, so that both themes show them.

function panel({ left, top, width, height, x, y }) {
  const X = (v) => left + ((v - x[0]) / (x[1] - x[0])) * width;
  const Y = (v) => top + height - ((v - y[0]) / (y[1] - y[0])) * height;
  const at = (v) => v.toFixed(1);
  const place = ([u, v]) => `${at(X(u))},${at(Y(v))}`;
  // An inner SVG cuts off what leaves the panel.
  const cut = (drawing) =>
    `<svg x="${left}" y="${top}" width="${width}" height="${height}" viewBox="${left} ${top} ${width} ${height}">${drawing}</svg>`;
  return {
    line: (points, colour, extra = "") =>
      cut(`<polyline fill="none" stroke="${colour}" stroke-width="2" ${extra} points="${points.map(place).join(" ")}"/>`),
    area: (points, colour) =>
      `<polygon fill="${colour}" fill-opacity="0.25" points="${[[points[0][0], y[0]], ...points, [points.at(-1)[0], y[0]]]
        .map(place)
        .join(" ")}"/>`,
    dots: (points, colour, radius) =>
      points.map(([u, v]) => `<circle cx="${at(X(u))}" cy="${at(Y(v))}" r="${radius}" fill="${colour}"/>`).join(""),
    text: (u, v, words, colour = "currentColor", anchor = "start") =>
      `<text x="${at(X(u))}" y="${at(Y(v))}" fill="${colour}" text-anchor="${anchor}">${words}</text>`,
    axes: ({ xticks, yticks, xlabel, ylabel }) => {
      const base = top + height;
      const frame = `<path d="M${left},${top}V${base}H${left + width}" fill="none" stroke="currentColor"/>`;
      const below = xticks
        .map(([v, words]) => `<path d="M${at(X(v))},${base}v5" stroke="currentColor"/>` +
          `<text x="${at(X(v))}" y="${base + 22}" fill="currentColor" text-anchor="middle">${words}</text>`)
        .join("");
      const beside = yticks
        .map(([v, words]) => `<path d="M${left},${at(Y(v))}h-5" stroke="currentColor"/>` +
          `<text x="${left - 9}" y="${at(Y(v) + 4)}" fill="currentColor" text-anchor="end">${words}</text>`)
        .join("");
      const middle = top + height / 2;
      const titles =
        `<text x="${left + width / 2}" y="${base + 42}" fill="currentColor" text-anchor="middle">${xlabel}</text>` +
        `<text transform="translate(22 ${middle}) rotate(-90)" fill="currentColor" text-anchor="middle">${ylabel}</text>`;
      return frame + below + beside + titles;
    },
  };
}

const range = (n, from, to) => Array.from({ length: n }, (_, i) => from + ((to - from) * i) / (n - 1));
const ticks = (values) => values.map((v) => [v, `${v}`.replace("-", "\u2212")]);
const short = (v, digits = 3) => {
  const text = Number(v).toPrecision(digits);
  return Number(text) !== 0 && (Math.abs(v) < 1e-3 || Math.abs(v) >= 1e5) ? Number(v).toExponential(1) : `${Number(text)}`;
};

// The exact law of a one-dimensional Gaussian mixture after noise: weights, means and variances of its components.
function noisy({ weights, means, variances }, alphaBar) {
  const centre = means.map((m) => Math.sqrt(alphaBar) * m);
  const spread = variances.map((v) => alphaBar * v + 1 - alphaBar);
  const parts = (x) =>
    weights.map((w, k) => (w * Math.exp(-((x - centre[k]) ** 2) / (2 * spread[k]))) / Math.sqrt(2 * Math.PI * spread[k]));
  const density = (x) => parts(x).reduce((a, b) => a + b, 0);
  const score = (x) => {
    // From logarithms, so that far from all components nothing is divided by zero.
    const logs = weights.map((w, k) => Math.log(w) - 0.5 * Math.log(spread[k]) - (x - centre[k]) ** 2 / (2 * spread[k]));
    const top = Math.max(...logs);
    const share = logs.map((l) => Math.exp(l - top));
    const total = share.reduce((a, b) => a + b, 0);
    return share.reduce((sum, p, k) => sum + (p / total) * ((centre[k] - x) / spread[k]), 0);
  };
  return { density, score };
}
