// For each model a picture of all heads, and below it the chosen head in full. What is chosen is chosen in all models.

function render({ model, el }) {
  const models = model.get("models");
  const weights = models.map((each) => each.weights.map(numbersOf));
  const pos = models.map((each) => each.pos);
  const steps = Math.max(...weights.map((each) => each.length));
  const heads = model.get("heads"), layers = weights[0][0].length / heads / pos[0] ** 2;
  const root = element("div", "mdm-widget mdm-attention", el);
  setAll(root, { role: "group", "aria-label": `Attention of ${models.map((each) => each.title).join(" and ")}` });

  const names = model.get("steps") ?? []; // notebooks that were saved before there were names have none
  const nameOf = (step) => names[step] ?? `${step} of ${steps - 1}`;
  let slider, counter;
  if (steps > 1) {
    const controls = element("div", "mdm-controls", root);
    slider = rangeInput(controls, names.length ? "Step" : "Unmasking step", steps - 1);
    counter = element("output", null, controls);
    slider.addEventListener("input", () => model.set("step", Number(slider.value)));
    slider.addEventListener("change", () => model.save_changes());
  }
  const announce = announcer(root);
  const maps = element("div", "mdm-maps", root);
  const foot = element("div", "mdm-foot", root);
  scale(foot, "0", "1: all of a query's attention");
  const sinkKey = element("span", "mdm-sinkkey", foot);
  element("b", null, sinkKey, "▲");
  element("span", null, sinkKey, "sink: the others give it 0.3 or more on average");
  if (models.some((each) => each.causal)) element("span", "mdm-sinkkey", foot, "grey: not visible");
  let colours, ramp, painted = null, hovered = null;

  // What holds now in a model: models with fewer steps, or shorter texts, wait at their end.
  const at = (list) => list[clamp(model.get("step"), 0, list.length - 1)];
  const chosen = () => [clamp(model.get("layer"), 0, layers - 1), clamp(model.get("head"), 0, heads - 1)];
  const cellOf = (each) => {
    const last = pos[each] - 1, query = model.get("query");
    return [query < 0 ? last : clamp(query, 0, last), clamp(model.get("key"), 0, last)];
  };
  const weight = (each, layer, head, query, key) => at(weights[each])[(((layer * heads) + head) * pos[each] + query) * pos[each] + key] / 255;
  const sinksOf = (each, layer, head) => at(models[each].sinks)[`${layer}.${head}`] ?? [];

  const columns = models.map((one, each) => {
    const column = element("div", "mdm-map", maps);
    const title = element("div", "mdm-maptitle", column);
    element("span", null, title, one.title).dir = "auto";
    const kind = element("span", "mdm-kind", title);
    const pictures = element("div", "mdm-pictures", column); // beside each other where there is room
    const all = cellMap(element("div", null, pictures), {
      rows: Array.from({ length: layers }, (_, layer) => `layer ${layer}`), columns: Array.from({ length: heads }, (_, head) => `h${head}`),
      label: `All heads of ${one.title}`, cell: { least: 22, most: 56 }, up: true,
      choose: (layer, head) => save(model, { layer, head }), picture: (...where) => thumbnail(each, ...where),
    });
    const part = element("div", null, pictures);
    const name = element("div", "mdm-headname", part);
    const box = element("div", null, part);
    return { kind, all, name, box, about: keepsHeight(element("div", "mdm-about", part)), one: null, names: null };
  });

  function thumbnail(each, context, layer, head, x, y, width, height) {
    const size = pos[each];
    const image = new ImageData(size, size);
    const grey = colours.quiet;
    for (let query = 0; query < size; query++) {
      for (let key = 0; key < size; key++) {
        const hidden = models[each].causal && key > query;
        const rgb = hidden ? grey : ramp[Math.round(255 * weight(each, layer, head, query, key))];
        image.data.set([...rgb, 255], 4 * (query * size + key));
      }
    }
    const small = new OffscreenCanvas(size, size);
    small.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, x, y, width, height);
    context.strokeStyle = `rgb(${grey.join(", ")})`;
    context.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
  }

  // The map of one head: made anew when its tokens change from one unmasking step to the next.
  function headMap(each) {
    const part = columns[each], tokens = at(models[each].tokens);
    if (part.names === tokens) return;
    part.names = tokens;
    const hadFocus = part.box.contains(document.activeElement);
    part.box.replaceChildren();
    part.one = cellMap(part.box, {
      rows: tokens, columns: tokens, label: `One head of ${models[each].title}, queries down, keys across`, cell: { least: 9, most: 34 },
      rowsAre: "query", columnsAre: "key", choose: (query, key) => save(model, { query, key }),
      hover: (query, key) => { hovered = query === undefined ? null : [query, key]; describe(...chosen()); },
    });
    part.one.lay();
    if (hadFocus) part.box.querySelector("[role=slider]").focus();
  }

  function layOut() {
    columns.forEach((part) => {
      part.all.lay();
      part.names = null;
    });
    draw();
  }

  function draw() {
    colours = palette(root);
    const now = `${model.get("step")} ${colours.strong} ${root.clientWidth}`; // all that the small pictures depend on
    const repaint = painted !== now;
    painted = now;
    ramp = Array.from({ length: 256 }, (_, value) => shade(colours, value / 255).rgb);
    const [layer, head] = chosen();
    if (slider) {
      slider.value = clamp(model.get("step"), 0, steps - 1);
      counter.textContent = nameOf(Number(slider.value));
      slider.setAttribute("aria-valuetext", names.length ? counter.textContent : `step ${counter.textContent}`);
    }
    columns.forEach((part, each) => {
      headMap(each);
      part.kind.textContent = models[each].causal ? " · causal" : at(models[each].ahead ?? [true]) ? " · looks both ways" : " · looks back only, in this step";
      if (repaint) part.all.paint(colours);
      part.all.mark(Object.keys(at(models[each].sinks)).map((name) => ({ row: Number(name.split(".")[0]), column: Number(name.split(".")[1]) })));
      const tokens = part.names, sinks = sinksOf(each, layer, head);
      const where = sinks.length ? `sink at ${sinks.map((key) => spoken(tokens[key])).join(" and ")}` : "no sink";
      part.all.show(layer, head, `layer ${layer}, head ${head}: ${where}`);
      part.name.textContent = `a${layer}.h${head}, ${where}`;
      part.one.paint(colours, (query, key) => (
        models[each].causal && key > query ? { void: true } : { share: weight(each, layer, head, query, key) }
      ));
      part.one.mark(sinks.map((column) => ({ column })));
      const [query, key] = cellOf(each);
      const share = weight(each, layer, head, query, key).toFixed(2);
      part.one.show(query, key, `${spoken(tokens[query])} at ${query} gives ${spoken(tokens[key])} at ${key}: ${share}`);
    });
    describe(layer, head);
  }

  function describe(layer, head) {
    columns.forEach((part, each) => {
      const [query, key] = hovered ? hovered.map((one) => Math.min(one, pos[each] - 1)) : cellOf(each);
      const tokens = part.names;
      part.about.replaceChildren();
      const share = weight(each, layer, head, query, key);
      const line = element("div", null, part.about);
      element("strong", "mdm-word", line, tokens[query]);
      element("span", null, line, ` (${query}) gives `);
      element("strong", "mdm-word", line, tokens[key]);
      element("span", null, line, ` (${key}) `);
      element("strong", null, line, share.toFixed(2));
      const order = tokens.map((_, other) => other).sort((a, b) => weight(each, layer, head, query, b) - weight(each, layer, head, query, a));
      bars(part.about, "It gives most to", order.slice(0, 4).map((other) => {
        const given = weight(each, layer, head, query, other);
        return [`${tokens[other]} (${other})`, given, given.toFixed(2)];
      }));
    });
  }

  function tell() {
    const [layer, head] = chosen();
    const said = models.map((each, index) => {
      const sinks = sinksOf(index, layer, head);
      const [query, key] = cellOf(index), tokens = at(each.tokens);
      return `${each.title}: ${spoken(tokens[query])} gives ${spoken(tokens[key])} ${weight(index, layer, head, query, key).toFixed(2)}, `
        + (sinks.length ? `sink at ${sinks.map((one) => spoken(tokens[one])).join(" and ")}` : "no sink");
    });
    announce(`Layer ${layer}, head ${head}. ${said.join(". ")}.`);
  }

  const redraw = oncePerFrame(draw);
  const changed = () => { if (colours) redraw(); tell(); };
  const events = "change:layer change:head change:query change:key change:step";
  model.on(events, changed);
  const stopWatching = keepLaid(root, layOut, redraw);
  return () => { stopWatching(); model.off(events, changed); };
}

export default { render };
