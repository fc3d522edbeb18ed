// Shows the figures of the step under the pointer, or the finger.
for (const figure of document.querySelectorAll("figure")) {
  const lines = JSON.parse(figure.dataset.lines);
  const [width, left, right, last] = JSON.parse(figure.dataset.plot);
  const svg = figure.querySelector("svg");
  const cursor = figure.querySelector(".cursor");
  const output = figure.querySelector("output");

  const nearest = (points, step) =>
    points.reduce((best, point) => (Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best));

  const show = (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * width;
    const asked = ((x - left) / (right - left)) * last;
    const step = nearest(lines.flatMap(([, points]) => points), asked)[0];
    const place = left + ((right - left) * step) / last;
    cursor.setAttribute("x1", place);
    cursor.setAttribute("x2", place);
    cursor.setAttribute("visibility", "visible");
    const figures = lines.map(([name, points]) => {
      const [at, value] = nearest(points, step);
      return lines.length > 1 ? `${name} ${value}${at === step ? "" : ` (${at})`}` : value;
    });
    output.textContent = `step ${step}: ${figures.join(", ")}`;
  };

  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", () => {
    cursor.setAttribute("visibility", "hidden");
    output.textContent = "";
  });
}
