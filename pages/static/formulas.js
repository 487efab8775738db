// Sets the formulas: first those a reader has before the eyes, then all others. A display equation that is wider than
// its box, as on a phone, is set in smaller letters, as long as they stay readable. One that is wider still scrolls in
// its box. Two marks in the browser's timeline tell when the first formulas and when all of them stand.
(() => {
  const SMALLEST = 0.6; // of the letters of the text
  const found = (selector) => [...document.querySelectorAll(selector)];

  function isInView(element) {
    const box = element.getBoundingClientRect();
    return box.height > 0 && box.bottom > 0 && box.top < window.innerHeight;
  }

  // Reads every size before it changes one: each change in between would lay the page out again.
  function fit(equations) {
    const text = parseFloat(getComputedStyle(document.body).fontSize);
    equations.forEach((box) => { box.style.fontSize = ""; });
    // Twice, for not all of an equation shrinks with its letters.
    for (let pass = 0; pass < 2; pass++) {
      const sizes = equations.map((box) => {
        const share = box.clientWidth / box.scrollWidth; // not a number in a closed fold
        return share < 1 ? Math.max(parseFloat(getComputedStyle(box).fontSize) * share * 0.99, SMALLEST * text) : null;
      });
      equations.forEach((box, i) => { if (sizes[i]) box.style.fontSize = `${sizes[i]}px`; });
    }
  }

  async function setAndFit(formulas) {
    await MathJax.typesetPromise(formulas);
    fit(formulas.filter((formula) => formula.matches("div")));
  }

  async function setAll() {
    if (!window.MathJax?.startup) return; // a page without formulas
    await MathJax.startup.promise;
    const all = found(".math"); // those in the contents on the right, too
    const first = new Set(all.filter(isInView));
    await setAndFit([...first]);
    performance.mark("formulas in view");
    await new Promise((painted) => setTimeout(painted));
    await setAndFit(all.filter((formula) => !first.has(formula)));
    performance.mark("formulas");
  }

  const fitAll = () => fit(found(".bd-article div.math"));
  // All icons stand in the page from the start: they need not be looked for in each formula, which would take a
  // fifth of a second.
  window.FontAwesomeConfig = { observeMutations: false };
  window.addEventListener("DOMContentLoaded", setAll);
  window.addEventListener("resize", fitAll);
  document.addEventListener("toggle", fitAll, true);
})();
