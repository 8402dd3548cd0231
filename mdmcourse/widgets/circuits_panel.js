// Beside the graph: how the overlap grows with K, and what there is to know of one node.

const percent = (share) => `${(100 * share).toFixed(1)} %`;
const signed = (score) => (score > 0 ? "+" : "") + String(Number(score.toPrecision(3))).replace("-", "−");

function nameOf(graph, node) {
  const name = graph.nodes[node];
  const [, kind, layer, head] = /^([am])(\d+)(?:\.h(\d+))?$/.exec(name) ?? [];
  if (kind === "a") return `${name}: head ${head} of layer ${layer}`;
  if (kind === "m") return `${name}: MLP of layer ${layer}`;
  return name === "input" ? "input: the embedding" : name;
}

// The nearest of some sizes, on the slider's logarithmic scale. Returns its place.
function nearest(sizes, k) {
  const distance = (size) => Math.abs(Math.log(Math.max(size, 0.5) / k));
  return sizes.reduce((best, size, place) => (distance(size) < distance(sizes[best]) ? place : best), 0);
}

// What was measured at or near K edges: two sentences, each only if there is something to say.
function measuredNear(task, models, k) {
  const lines = [];
  const found = task.comparison;
  if (found) {
    const at = nearest(found.ks, k);
    const range = found.low[at] === null ? "" : ` [${found.low[at].toFixed(2)}, ${found.high[at].toFixed(2)}]`;
    const ceilings = models.map((model, one) => `${found.ceilings[one][at].toFixed(2)} (${model})`).join(" and ");
    lines.push(`Measured at K = ${found.ks[at]}: overlap ${found.overlap[at].toFixed(2)}${range}; between halves of the `
      + `prompts ${found.halves[at].toFixed(2)}, ceilings ${ceilings}; chance ${found.chance[at].toFixed(2)}.`);
  }
  const curves = task.faithfulness.map((curve, one) => {
    if (!curve) return null;
    const at = nearest(curve.asked, k);
    return `${models[one]} ${curve.values[at]?.toFixed(2) ?? "not a number"} (at ${curve.asked[at]} edges)`;
  }).filter(Boolean);
  if (curves.length) lines.push(`Faithfulness, nearest size measured: ${curves.join(", ")}.`);
  return lines;
}

// Overlap over K, its ceilings and chance; a line moves with K. Returns how to move it.
function overlapChart(parent, scene, models, sizes) {
  const [left, right, top, bottom] = [30, 232, 8, 104];
  const chart = shape("svg", { viewBox: "0 0 240 138", class: "mdm-chart", role: "img" }, parent);
  const most = sizes[sizes.length - 1];
  const x = (k) => left + (right - left) * (most > 1 ? Math.log(k) / Math.log(most) : 0);
  const y = (share) => bottom - (bottom - top) * share;
  const line = (ks, shares, className) => shape("polyline", {
    points: ks.map((k, at) => `${x(k).toFixed(1)},${y(shares[at]).toFixed(1)}`).join(" "), class: className,
  }, chart);
  for (const share of [0, 0.5, 1]) {
    shape("line", { x1: left, x2: right, y1: y(share), y2: y(share), class: "mdm-grid" }, chart);
    shape("text", { x: left - 5, y: y(share) + 4, "text-anchor": "end" }, chart, share);
  }
  for (let k = 1; k <= most; k *= 10) {
    shape("text", { x: x(k), y: bottom + 14, "text-anchor": "middle" }, chart, k);
  }
  shape("text", { x: (left + right) / 2, y: bottom + 27, "text-anchor": "middle" }, chart, "K edges");
  const found = scene.task.comparison;
  if (found) {
    const within = found.ks.map((_, at) => at).filter((at) => found.ks[at] <= most);
    const ks = within.map((at) => found.ks[at]);
    const pick = (values) => within.map((at) => values[at]);
    line(ks, pick(found.chance), "mdm-chance");
    found.ceilings.forEach((ceiling, one) => line(ks, pick(ceiling), one ? "mdm-second" : "mdm-first"));
    line(ks, pick(found.halves), "mdm-halves");
  }
  line(sizes, sizes.map((k) => scene.count(k).jaccard), "mdm-overlap");
  const cursor = shape("line", { y1: top, y2: bottom, class: "mdm-cursor" }, chart);
  const dot = shape("circle", { r: 4, class: "mdm-dot" }, chart);
  const keys = element("div", "mdm-keys", parent);
  const key = (className, text) => element("span", `mdm-key ${className}`, keys, text);
  key("mdm-overlap", "overlap");
  if (found) {
    key("mdm-halves", "between halves");
    key("mdm-first", `ceiling ${models[0]}`);
    key("mdm-second", `ceiling ${models[1]}`);
    key("mdm-chance", "chance");
  }
  return (k) => {
    const { jaccard } = scene.count(k);
    setAll(cursor, { x1: x(k), x2: x(k) });
    setAll(dot, { cx: x(k), cy: y(jaccard) });
    chart.setAttribute("aria-label", `Overlap of the two circuits over K: ${jaccard.toFixed(2)} at ${k} edges.`);
  };
}

function table(parent, header, rows) {
  const made = element("table", null, parent);
  const head = element("tr", null, element("thead", null, made));
  for (const cell of header) element("th", null, head, cell).scope = "col";
  const body = element("tbody", null, made);
  for (const [name, ...cells] of rows) {
    const row = element("tr", null, body);
    element("th", null, row, name).scope = "row";
    for (const cell of cells) element("td", null, row, cell);
  }
}

// One node: what it takes in and sends out in both models, and its strongest edges with their scores in both.
function describeNode(parent, graph, scene, models, node, k) {
  parent.replaceChildren();
  if (node === null) {
    element("p", "mdm-soft", parent, "Point at a node, or move over them with the arrow keys, to see its role, edges and scores.");
    return;
  }
  const { task } = scene;
  element("div", "mdm-name", parent, nameOf(graph, node));
  for (const [model, text] of scene.roles[node]) {
    const line = element("p", "mdm-role", parent);
    element("strong", null, line, `${model}: `);
    element("span", null, line, text).dir = "auto";
  }
  const rows = readersOf(graph, node)
    .map((reader) => [`${graph.part[reader]} in`, ...models.map((_, one) => percent(task.arrives[one][reader]))]);
  if (node < task.leaves[0].length) rows.push(["out", ...models.map((_, one) => percent(task.leaves[one][node]))]);
  table(parent, ["of all |score|", ...models], rows);

  const words = ["kept", "lost", "new"];
  const edges = scene.weakestFirst.filter((edge) => touches(graph, scene, edge, node)).reverse().slice(0, 7);
  table(parent, ["strongest edges", ...models, `K = ${k}`], edges.map((edge) => [
    `${graph.nodes[scene.sources[edge]]}→${graph.readers[scene.readers[edge]]}`,
    ...task.scores.map((scores) => signed(scores[edge])),
    words[scene.kind(edge, k)] ?? "–",
  ]));
}
