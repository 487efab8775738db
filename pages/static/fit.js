// A display equation that is wider than its box, as on a phone, is set in smaller letters, as long as they stay
// readable. One that is wider still scrolls in its box.
(() => {
  const SMALLEST = 0.62; // of the letters of the text

  function fit() {
    const text = parseFloat(getComputedStyle(document.body).fontSize);
    for (const box of document.querySelectorAll(".bd-article div.math")) {
      box.style.fontSize = "";
      const share = box.clientWidth / box.scrollWidth; // not a number in a closed fold
      if (share < 1) {
        const size = parseFloat(getComputedStyle(box).fontSize) * share * 0.99;
        box.style.fontSize = `${Math.max(size, SMALLEST * text)}px`;
      }
    }
  }

  window.addEventListener("load", () => window.MathJax?.startup?.promise?.then(fit));
  window.addEventListener("resize", fit);
  document.addEventListener("toggle", fit, true);
})();
