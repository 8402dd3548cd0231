// What stands behind a cell: the two prompts with its position, and how far it moves the metric.

const percentOf = (share) => `${Math.round(100 * share)} %`.replace("-", "−");
const valueOf = (number) => String(Number(number.toPrecision(3))).replace("-", "−");

// A cell in words, and the position that it lies at, if it lies at one.
function placeOf(tab, prompt, row, column, pos) {
  const at = tab.across === "position" ? column : tab.positions > 1 ? pos : null;
  const head = tab.across === "head" ? `, head ${column}` : "";
  const what = { residual: "the residual stream", attention: "attention of", mlps: "the MLP of", heads: "" }[tab.what] ?? tab.what;
  const name = `${what} ${tab.rows[row]}${head}`.trim();
  return { name: name[0].toUpperCase() + name.slice(1), at, where: at === null ? "at all positions" : `at position ${at} (${spoken(prompt.clean[at])})` };
}

// The metric that a share stands for.
function movedTo(panel, share) {
  const way = panel.clean - panel.corrupted;
  return panel.direction === "denoise" ? panel.corrupted + share * way : panel.clean - share * way;
}

function inWords(panel, share) {
  const [from, done] = panel.direction === "denoise" ? [panel.corrupted, "restores"] : [panel.clean, "destroys"];
  return `${done} ${percentOf(share)}: ${panel.metric} ${valueOf(from)} → ${valueOf(movedTo(panel, share))}`;
}

// Both prompts, one above the other, position by position. Returns how to point at a position.
function promptPair(parent, prompt) {
  const box = element("div", "mdm-prompts", parent);
  const line = element("div", null, box);
  element("span", "mdm-soft", line, "One of the prompts, clean above, corrupted below. Answer ");
  element("strong", "mdm-word", line, prompt.answer);
  element("span", "mdm-soft", line, ", distractor ");
  element("strong", "mdm-word", line, prompt.distractor);
  element("span", "mdm-soft", line, `, asked for at position ${prompt.target}.`);
  const pairs = element("div", "mdm-pairs", box);
  const differ = prompt.clean.map((word, at) => word !== prompt.corrupted[at]);
  setAll(pairs, { role: "img", dir: writtenFrom(prompt.clean) });
  const made = prompt.clean.map((word, at) => {
    const pair = element("div", differ[at] ? "mdm-pair mdm-differs" : "mdm-pair", pairs);
    element("span", "mdm-word", pair, word);
    element("span", "mdm-word", pair, prompt.corrupted[at]);
    return pair;
  });
  const changes = prompt.clean.map((word, at) => (differ[at] ? `${spoken(word)} becomes ${spoken(prompt.corrupted[at])} at ${at}` : null));
  return (at) => {
    made.forEach((pair, position) => pair.classList.toggle("mdm-here", position === at || (at === null && differ[position])));
    pairs.setAttribute("aria-label", `${prompt.clean.map(spoken).join(" ")}. Corrupted: ${changes.filter(Boolean).join(", ")}.`
      + (at === null ? "" : ` The cell lies at ${at}, ${spoken(prompt.clean[at])}.`));
  };
}

// From the corrupted run to the clean one, and how far a cell goes.
function numberLine(parent, panel, share) {
  const svg = shape("svg", { viewBox: "0 0 420 58", class: "mdm-numberline", role: "img" }, parent);
  const reached = movedTo(panel, share);
  const ends = [panel.corrupted, panel.clean, reached];
  const low = Math.min(...ends), high = Math.max(...ends);
  const x = (value) => 34 + 352 * (value - low) / (high - low);
  const from = panel.direction === "denoise" ? panel.corrupted : panel.clean;
  svg.setAttribute("aria-label", inWords(panel, share));
  shape("line", { x1: x(low), x2: x(high), y1: 28, y2: 28 }, svg);
  shape("line", { x1: x(from), x2: x(reached), y1: 28, y2: 28, class: "mdm-way" }, svg);
  for (const [value, name] of [[panel.corrupted, "corrupted"], [panel.clean, "clean"]]) {
    shape("line", { x1: x(value), x2: x(value), y1: 21, y2: 35 }, svg);
    const anchor = x(value) < 70 ? "start" : x(value) > 350 ? "end" : "middle";
    shape("text", { x: anchor === "middle" ? x(value) : x(value) + (anchor === "start" ? -20 : 20), y: 51, "text-anchor": anchor }, svg, `${name} ${valueOf(value)}`);
  }
  shape("circle", { cx: x(reached), cy: 28, r: 6 }, svg);
  shape("text", { x: clamp(x(reached), 40, 380), y: 14, "text-anchor": "middle", class: "mdm-strong" }, svg, valueOf(reached));
}
