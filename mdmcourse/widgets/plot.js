// Small charts in SVG: a frame with ticks, lines and dots in it.

// `x` and `y` are { low, high, ticks, title, log }. Returns where values lie, and how to add to the chart.
function plot(parent, { label, x, y, width = 260, height = 168, left = 34 }) {
  const box = { left, right: width - 10, top: 22, bottom: height - 34 };
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, class: "mdm-plot", role: "img", "aria-label": label }, parent);
  const along = ({ low, high, log }, value) => (log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low));
  const at = {
    x: (value) => box.left + (box.right - box.left) * along(x, value),
    y: (value) => box.bottom - (box.bottom - box.top) * along(y, value),
  };
  for (const tick of y.ticks) {
    shape("line", { x1: box.left, x2: box.right, y1: at.y(tick), y2: at.y(tick), class: "mdm-grid" }, svg);
    shape("text", { x: box.left - 5, y: at.y(tick) + 4, "text-anchor": "end" }, svg, tick);
  }
  for (const tick of x.ticks) shape("text", { x: at.x(tick), y: box.bottom + 15, "text-anchor": "middle" }, svg, tick);
  shape("text", { x: (box.left + box.right) / 2, y: height - 4, "text-anchor": "middle" }, svg, x.title);
  shape("text", { x: 2, y: 12, class: "mdm-strong" }, svg, y.title);
  const place = ([px, py]) => `${at.x(px).toFixed(1)},${at.y(py).toFixed(1)}`;
  return {
    svg, at, box,
    line: (points, className) => shape("polyline", { points: points.map(place).join(" "), class: className }, svg),
    band: (lower, upper, className) => shape("polygon", { points: [...lower, ...[...upper].reverse()].map(place).join(" "), class: className }, svg),
    dot: (className, r = 4.5) => shape("circle", { r, class: className }, svg),
    put: (dot, px, py) => setAll(dot, { cx: at.x(px), cy: at.y(py) }),
    say: (text) => svg.setAttribute("aria-label", text),
  };
}
