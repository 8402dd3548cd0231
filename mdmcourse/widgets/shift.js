// For each task a row of charts: overlaps between chance and ceiling, who sends, who reads, how concentrated.

// A mark that tells the controls apart without colour.
function point(parent, number, x, y, className, size = 3.2) {
  const s = size, sides = [
    null, `M ${x - s} ${y + s} L ${x + s} ${y + s} L ${x} ${y - s} Z`, `M ${x - s} ${y - s} h ${2 * s} v ${2 * s} h ${-2 * s} Z`,
    `M ${x} ${y - s - 1} L ${x + s + 1} ${y} L ${x} ${y + s + 1} L ${x - s - 1} ${y} Z`,
    `M ${x - s} ${y - s} L ${x + s} ${y - s} L ${x} ${y + s} Z`, `M ${x - s} ${y} H ${x + s} M ${x} ${y - s} V ${y + s}`,
  ];
  const path = sides[number % sides.length];
  return path ? shape("path", { d: path, class: className }, parent) : shape("circle", { cx: x, cy: y, r: s, class: className }, parent);
}

const nearestK = (ks, k) => ks.reduce((best, each, at) => (Math.abs(Math.log(each / k)) < Math.abs(Math.log(ks[best] / k)) ? at : best), 0);

function overlapPlot(parent, task, models) {
  const ks = task.pairs.flatMap((pair) => pair.ks);
  const low = Math.min(...ks), high = Math.max(...ks, low + 1);
  const round = [0, 1, 2, 3, 4, 5, 6].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power)).filter((tick) => tick >= low && tick <= high);
  const ticks = round.filter((tick, at) => round.length < 6 || at % 3 === round.length % 3);
  const chart = plot(parent, {
    label: "", x: { low, high, ticks: ticks.length ? ticks : [low, high], title: "K edges", log: true },
    y: { low: 0, high: 1, ticks: [0, 0.5, 1], title: "overlap of halves" }, width: 240, height: 190, left: 28,
  });
  const [main, ...controls] = task.pairs;
  const line = (pair, values, className) => chart.line(pair.ks.map((k, at) => [k, values[at]]), className);
  line(main, main.chance, "mdm-chance");
  main.ceilings.forEach((ceiling, one) => line(main, ceiling, `mdm-dashed ${one ? "mdm-second" : "mdm-first"}`));
  controls.forEach((pair, number) => {
    line(pair, pair.halves, "mdm-control");
    pair.ks.forEach((k, at) => point(chart.svg, number, chart.at.x(k), chart.at.y(pair.halves[at]), "mdm-point"));
  });
  line(main, main.halves, "mdm-pair");
  const cursor = shape("line", { y1: chart.box.top, y2: chart.box.bottom, class: "mdm-cursor" }, chart.svg);
  const dot = chart.dot("mdm-dot");
  return (k) => {
    const at = nearestK(main.ks, k);
    chart.put(dot, main.ks[at], main.halves[at]);
    setAll(cursor, { x1: chart.at.x(main.ks[at]), x2: chart.at.x(main.ks[at]) });
    chart.say(`Overlap over K: ${inNumbers(task, models, k)}`);
  };
}

function profilePlot(parent, title, shares, models, names) {
  const most = Math.max(...shares.flat());
  const top = Math.ceil(10 * most) / 10;
  const every = Math.ceil(names.length / 6);
  const chart = plot(parent, {
    label: `${title}. ${models.map((model, one) => `${model}: ${shares[one].map((share, at) => `${names[at]} ${share.toFixed(2)}`).join(", ")}`).join(". ")}`,
    x: { low: 0, high: names.length - 1, ticks: [], title: "layer" }, y: { low: 0, high: top, ticks: [0, top / 2, top].map((tick) => Number(tick.toFixed(2))), title },
    width: 240, height: 190,
  });
  names.forEach((name, at) => {
    if (at % every && at !== names.length - 1) return;
    if (at !== names.length - 1 && names.length - 1 - at < every) return;
    shape("text", { x: chart.at.x(at), y: chart.box.bottom + 15, "text-anchor": at === names.length - 1 ? "end" : at ? "middle" : "start" }, chart.svg, name);
  });
  shares.forEach((row, one) => {
    chart.line(row.map((share, at) => [at, share]), one ? "mdm-second" : "mdm-first");
    row.forEach((share, at) => point(chart.svg, one ? 2 : 0, chart.at.x(at), chart.at.y(share), one ? "mdm-seconddot" : "mdm-firstdot", 2.8));
  });
}

// Gini coefficients: a dot for each model, with its interval.
function concentrationPlot(parent, task, models) {
  const rows = ["Gini of edges", "Gini of nodes"].filter((name) => task.measures[name]);
  if (!rows.length) return;
  const said = rows.map((name) => `${name}: ${models.map((model, one) => `${model} ${task.measures[name][one ? "two" : "one"][0]?.toFixed(2)}`).join(", ")}`);
  const values = rows.flatMap((name) => ["one", "two"].flatMap((key) => task.measures[name][key])).filter((value) => value !== null);
  const low = Math.max(0, Math.floor(10 * Math.min(...values) - 0.5) / 10);
  const chart = plot(parent, {
    label: `Concentration. ${said.join(". ")}`, x: { low, high: 1, ticks: [low, Number(((low + 1) / 2).toFixed(2)), 1], title: "1: one has everything" },
    y: { low: 0, high: 1, ticks: [], title: "concentration (Gini)" }, width: 240, height: 190, left: 12,
  });
  rows.forEach((name, row) => {
    const middle = chart.box.top + (chart.box.bottom - chart.box.top) * (row + 0.5) / rows.length;
    shape("text", { x: chart.box.left, y: middle - 20 }, chart.svg, name.replace("Gini of ", ""));
    models.forEach((_, one) => {
      const [value, from, to] = task.measures[name][one ? "two" : "one"];
      if (value === null) return;
      const y = middle + (one ? 9 : -6);
      if (from !== null) shape("line", { x1: chart.at.x(from), x2: chart.at.x(to), y1: y, y2: y, class: `mdm-whisker ${one ? "mdm-second" : "mdm-first"}` }, chart.svg);
      point(chart.svg, one ? 2 : 0, chart.at.x(value), y, one ? "mdm-seconddot" : "mdm-firstdot", 4.5);
      const right = chart.at.x(value) > chart.box.right - 50;
      const edge = right ? Math.min(chart.at.x(from ?? value), chart.at.x(value)) - 9 : Math.max(chart.at.x(to ?? value), chart.at.x(value)) + 9;
      shape("text", { x: edge, y: y + 4, "text-anchor": right ? "end" : "start" }, chart.svg, value.toFixed(2));
    });
  });
}

// What the curves say at a size, in a sentence.
function inNumbers(task, models, k) {
  const [main, ...controls] = task.pairs;
  const at = nearestK(main.ks, k);
  const range = main.low[at] === null ? "" : ` [${main.low[at].toFixed(2)}, ${main.high[at].toFixed(2)}]`;
  const ceilings = models.map((model, one) => `${main.ceilings[one][at].toFixed(2)} (${model})`).join(" and ");
  const others = controls.map((pair) => `${pair.label} ${pair.halves[nearestK(pair.ks, k)].toFixed(2)}`);
  return `Overlap ${main.halves[at].toFixed(2)} at K = ${main.ks[at]}; ceilings ${ceilings}; chance ${main.chance[at].toFixed(2)}; all prompts `
    + `${main.overlap[at].toFixed(2)}${range}${others.length ? `; ${others.join("; ")}` : ""}.`;
}

function numbersTable(parent, task, models) {
  const details = element("details", null, parent);
  element("summary", null, details, "Measures of the pair, with intervals");
  const frame = element("div", "mdm-numbers", details);
  const made = element("table", null, frame);
  const head = element("tr", null, element("thead", null, made));
  for (const cell of ["", ...models, "difference"]) element("th", null, head, cell).scope = "col";
  const body = element("tbody", null, made);
  const text = ([value, low, high]) => `${value?.toPrecision(3) ?? "–"}${low === null ? "" : ` [${low.toPrecision(3)}, ${high.toPrecision(3)}]`}`.replaceAll("-", "−");
  for (const [name, row] of Object.entries(task.measures)) {
    const line = element("tr", null, body);
    element("th", null, line, name).scope = "row";
    for (const key of ["one", "two", "difference"]) element("td", null, line, text(row[key]));
  }
}

function render({ model, el }) {
  const tasks = model.get("tasks"), models = model.get("models"), verdicts = model.get("verdicts");
  const sizes = [...new Set(tasks.flatMap((task) => task.pairs[0].ks))].sort((a, b) => a - b);
  const root = element("div", "mdm-widget mdm-shift", el);
  setAll(root, { role: "group", "aria-label": `What became of the circuits: ${models.join(" and ")}` });
  const controls = element("div", "mdm-controls", root);
  const slider = rangeInput(controls, "Size of the circuits", sizes.length - 1);
  const counter = element("output", "mdm-counter", controls);
  const announce = announcer(root);

  const rows = tasks.map((task) => {
    const section = element("div", "mdm-task", root);
    element("strong", null, section, task.title).dir = "auto";
    const facts = element("span", null, section);
    const charts = element("div", "mdm-charts", section);
    const move = overlapPlot(element("div", null, charts), task, models);
    const layers = task.sent[0].length - 1;
    const numbers = Array.from({ length: layers }, (_, layer) => String(layer));
    profilePlot(element("div", null, charts), "sent, share of |score|", task.sent, models, ["input", ...numbers]);
    profilePlot(element("div", null, charts), "read, share of |score|", task.read, models, [...numbers, "logits"]);
    concentrationPlot(element("div", null, charts), task, models);
    numbersTable(section, task, models);
    return { task, facts, move };
  });

  const keys = element("div", "mdm-keys", root);
  const key = (text, className, mark) => {
    const span = element("span", null, keys);
    const svg = shape("svg", { viewBox: "0 0 30 12", "aria-hidden": "true" }, span);
    shape("line", { x1: 0, x2: 30, y1: 6, y2: 6, class: className }, svg);
    if (mark) point(svg, mark[0], 15, 6, mark[1], 3.4);
    element("span", null, span, text);
  };
  key("the pair", "mdm-pair");
  tasks[0].pairs.slice(1).forEach((pair, number) => key(pair.label, "mdm-control", [number, "mdm-point"]));
  models.forEach((name, one) => key(`${name}, and its ceiling (dashed)`, one ? "mdm-second" : "mdm-first", [one ? 2 : 0, one ? "mdm-seconddot" : "mdm-firstdot"]));
  key("chance", "mdm-chance");

  if (verdicts.length) {
    const list = element("dl", null, root);
    for (const [finding, text] of verdicts) {
      element("dt", null, list, finding).dir = "auto";
      element("dd", null, list, text).dir = "auto";
    }
  }

  function draw() {
    const at = nearestK(sizes, Math.max(1, model.get("k"))), k = sizes[at];
    slider.value = at;
    slider.setAttribute("aria-valuetext", `${k} edges`);
    counter.textContent = `K = ${k}`;
    rows.forEach(({ task, facts, move }) => {
      move(k);
      facts.textContent = inNumbers(task, models, k);
    });
  }
  const tell = () => announce(rows.map(({ task }) => `${task.title}: ${inNumbers(task, models, model.get("k"))}`).join(" "));
  const redraw = oncePerFrame(draw);
  const changed = () => { redraw(); tell(); };
  slider.addEventListener("input", () => model.set("k", sizes[slider.value]));
  slider.addEventListener("change", () => model.save_changes());
  model.on("change:k", changed);
  draw();
  return () => model.off("change:k", changed);
}

export default { render };
