// The nodes, above the canvas of edges; the names of layers and heads and the layer profiles, below it. All is SVG.

const PARTS = [["sent", "sourceProfile"], ["read", "readerProfile"]];

function drawNodes(stage, graph, scene, models, place) {
  const svg = shape("svg", { width: place.width, height: place.height }, stage);
  setAll(svg, { role: "group", "aria-label": "Nodes, from the input below to the logits above. Arrow keys move." });
  const last = graph.nodes.length - 1;
  return graph.nodes.map((name, node) => {
    const group = shape("g", { class: "mdm-node", role: "button", tabindex: -1 }, svg);
    keepKeys(group);
    const x = place.x(graph.columns[node]), y = place.y(graph.rows[node]);
    if (node === 0 || node === last) {
      const half = place.pitch * (graph.heads + 0.6) / 2, middle = place.x(graph.heads / 2);
      shape("rect", { x: middle - half, y: y - 9, width: 2 * half, height: 18, rx: 9, class: "mdm-bar mdm-ring" }, group);
      shape("text", { x: middle, y: y + 4, "text-anchor": "middle" }, group, name);
      return { group, halves: [] };
    }
    shape("circle", { cx: x, cy: y, r: Math.min(place.pitch, place.row) / 2, class: "mdm-reach" }, group);
    const radii = [0, 1].map((model) => Math.max(3, place.radius * Math.sqrt(scene.size[node][model] / scene.largest)));
    shape("circle", { cx: x, cy: y, r: Math.max(...radii) + 4, class: "mdm-ring" }, group);
    shape("circle", { cx: x, cy: y, r: Math.min(3, place.pitch / 8), class: "mdm-idle" }, group);
    const halves = radii.map((r, model) => shape("path", {
      d: `M ${x} ${y - r} A ${r} ${r} 0 0 ${model} ${x} ${y + r} Z`, class: model ? "mdm-half-second" : "mdm-half-first",
    }, group));
    return { group, halves };
  });
}

function drawBackdrop(stage, graph, scene, models, place) {
  const svg = shape("svg", { width: place.width, height: place.height }, stage);
  stage.prepend(svg);
  nameLayers(svg, graph, place);
  drawProfiles(svg, graph, scene.task, models, place);
}

function nameLayers(svg, graph, place) {
  for (let layer = 0; layer < graph.layers; layer++) {
    const y = place.y(1 + layer);
    shape("line", { x1: place.left, x2: place.width - place.profile, y1: y, y2: y, class: "mdm-rule" }, svg);
    shape("text", { x: 0, y: y + 4 }, svg, place.narrow ? `L${layer}` : `layer ${layer}`);
  }
  const y = place.height - 6;
  const every = Math.ceil(22 / place.pitch);
  for (let head = 0; head < graph.heads; head += every) {
    shape("text", { x: place.x(head), y, "text-anchor": "middle" }, svg, place.pitch < 50 ? `h${head}` : `head ${head}`);
  }
  shape("text", { x: place.x(graph.heads), y, "text-anchor": "middle" }, svg, "MLP");
}

// For every layer and model a bar: the share of |score| that leaves the layer, and that arrives at it.
function drawProfiles(svg, graph, task, models, place) {
  const room = place.profile / 2;
  PARTS.forEach(([word, key], part) => {
    const most = Math.max(...task[key].flat());
    const x = place.width - place.profile + part * room + (place.narrow ? 6 : 10);
    const names = task[key][0].map((_, at) => (part ? (at < graph.layers ? `layer ${at}` : "logits") : at ? `layer ${at - 1}` : "input"));
    const said = models.map((model, one) => `${model}: ${task[key][one].map((share, at) => `${names[at]} ${percent(share)}`).join(", ")}`);
    const bars = shape("g", { role: "img", "aria-label": `Share of |score| ${word} by each layer. ${said.join(". ")}` }, svg);
    shape("text", { x, y: place.height - 6 }, bars, word);
    task[key].forEach((shares, one) => shares.forEach((share, at) => {
      const y = place.y(at + part); // what is sent begins with the input, what is read with layer 0
      const thick = Math.min(7, place.row / 4);
      const bar = shape("rect", {
        x, y: y + (one ? 1 : -thick - 1), width: Math.max(1, (room - 14) * share / most), height: thick,
        class: one ? "mdm-half-second" : "mdm-half-first",
      }, bars);
      shape("title", {}, bar, `${models[one]}: ${percent(share)} ${word} by ${names[at]}`);
    }));
  });
}

// Which nodes the circuits use at K edges, and what a screen reader says of each.
function updateNodes(graph, scene, models, nodes, { k, shown, node: chosen }, focused) {
  const used = graph.nodes.map(() => [false, false]);
  const near = new Set([chosen]);
  for (const edge of scene.weakestFirst) {
    const kind = scene.kind(edge, k);
    if (kind === NEITHER || !shown[kind]) continue;
    const first = graph.owner[scene.readers[edge]];
    const ends = [scene.sources[edge]];
    for (let each = 0; each < graph.owners[scene.readers[edge]]; each++) ends.push(first + each);
    for (const end of ends) {
      if (kind !== NEW) used[end][0] = true;
      if (kind !== LOST) used[end][1] = true;
    }
    if (chosen !== null && touches(graph, scene, edge, chosen)) ends.forEach((end) => near.add(end));
  }
  nodes.forEach(({ group, halves }, node) => {
    halves.forEach((half, model) => half.classList.toggle("mdm-off", !used[node][model]));
    group.classList.toggle("mdm-unused", !used[node].some(Boolean));
    group.classList.toggle("mdm-dim", chosen !== null && !near.has(node));
    group.classList.toggle("mdm-chosen", node === chosen);
    group.setAttribute("tabindex", node === focused ? 0 : -1);
    const users = models.filter((_, model) => used[node][model]).join(" and ");
    const roles = scene.roles[node].map((role) => role.join(": ")).join(". ");
    const label = `${nameOf(graph, node)}, ${users ? `used by ${users}` : "not used"}. ${roles}`;
    if (group.getAttribute("aria-label") !== label) group.setAttribute("aria-label", label);
  });
}

// The node that an arrow key leads to: left and right within a layer, up and down to the nearest column of the next.
function neighbour(graph, node, key) {
  const layer = (one) => Math.floor(graph.rows[one]);
  const inLayer = (wanted) => graph.nodes.map((_, one) => one).filter((one) => layer(one) === wanted);
  const here = inLayer(layer(node));
  const at = here.indexOf(node);
  if (key === "ArrowLeft" || key === "ArrowRight") return here[at + (key === "ArrowLeft" ? -1 : 1)] ?? node;
  if (key === "Home") return here[0];
  if (key === "End") return here[here.length - 1];
  if (key !== "ArrowUp" && key !== "ArrowDown") return undefined;
  const there = inLayer(layer(node) + (key === "ArrowUp" ? 1 : -1));
  const aside = (one) => Math.abs(graph.columns[one] - graph.columns[node]);
  return there.sort((one, other) => aside(one) - aside(other))[0] ?? node;
}
