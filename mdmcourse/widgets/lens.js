// A map of layers and positions for each model; one cell is chosen in all of them.

const MEASURES = ["probability", "rank"];

function render({ model, el }) {
  const models = model.get("models"), names = model.get("names"), size = model.get("vocab_size");
  const width = models[0].tokens.length;
  const cells = (lines, read) => lines.map((line) => line.split(" ").map((cell) => (cell === "-" ? null : read(cell.split(",").map(Number)))));
  const tops = models.map((one) => cells(one.top, (numbers) => numbers.flatMap((word, at) => (at % 2 ? [] : [[one.vocab[word], numbers[at + 1] / 1000]]))));
  const follows = models.map((one) => one.follow.map(({ lines }) => cells(lines, ([chance, rank]) => ({ chance: chance / 1000, rank }))));
  const options = ["", ...models[0].follow.map(({ name }) => name)];
  const root = element("div", "mdm-widget mdm-lens", el);
  setAll(root, { role: "group", "aria-label": `Logit lens of ${models.map((one) => one.title).join(" and ")}` });

  const controls = element("div", "mdm-controls", root);
  let pick = null, showMeasure = () => {}, measures = null;
  if (options.length > 1) {
    pick = selectInput(controls, "Show", ["the most probable token", ...options.slice(1)], (index) => save(model, { followed: options[index] }));
    measures = element("span", null, controls);
    showMeasure = radioList(measures, "Measure", MEASURES, (index) => save(model, { measure: MEASURES[index] }));
  }
  const announce = announcer(root);
  const maps = element("div", "mdm-maps", root);
  const foot = element("div", "mdm-scales", root);
  let colours = null, hovered = null;

  const parts = models.map((one, each) => {
    const column = element("div", "mdm-map", maps);
    column.style.flexBasis = `${100 + 42 * width}px`; // side by side if there is room for the words
    element("div", "mdm-maptitle", column, one.title).dir = "auto";
    const map = cellMap(column, {
      rows: names, columns: one.tokens, up: true, label: `Logit lens of ${one.title}, layers upwards, positions across`,
      columnsAre: "the token that is scored", cell: { least: 40, most: 62, height: 23 },
      choose: (layer, pos) => save(model, { layer, pos }),
      hover: (layer, pos) => { hovered = layer === undefined ? null : [layer, pos]; describe(); },
    });
    return { map };
  });
  const abouts = element("div", "mdm-maps", root);
  parts.forEach((part) => { part.about = keepsHeight(element("div", "mdm-about mdm-map", abouts)); });

  const index = () => Math.max(0, options.indexOf(model.get("followed")));
  const byRank = () => index() > 0 && model.get("measure") === "rank";
  const cell = () => [clamp(model.get("layer"), 0, names.length - 1), clamp(model.get("pos"), 0, width - 1)];
  const inNumbers = (chance) => (chance < 0.001 ? "under 0.001" : chance.toFixed(3));
  const number = (chance) => (chance >= 0.995 ? "1.0" : chance.toFixed(2).replace(/^0/, ""));

  function look(each, layer, pos) {
    const top = tops[each][layer][pos];
    if (!top) return { void: true };
    if (!index()) return { share: top[0][1], text: top[0][0] };
    const { chance, rank } = follows[each][index() - 1][layer][pos];
    if (byRank()) return { share: 1 - Math.log(rank) / Math.log(size), text: rank < 10000 ? String(rank) : `${Math.round(rank / 1000)}k` };
    return { share: chance, text: number(chance) };
  }

  function inWords(each, layer, pos) {
    const top = tops[each][layer][pos];
    const where = `${names[layer]}, position ${pos}, ${spoken(models[each].tokens[pos])}`;
    if (!top) return `${where}: no prediction`;
    const first = `${spoken(top[0][0])} with probability ${top[0][1].toFixed(2)}`;
    if (!index()) return `${where}: ${first}`;
    const { chance, rank } = follows[each][index() - 1][layer][pos];
    return `${where}: ${spoken(models[each].follow[index() - 1].words[pos])} has probability ${chance.toFixed(2)}, rank ${rank}; first is ${first}`;
  }

  function layOut() {
    parts.forEach(({ map }) => map.lay());
    draw();
  }

  function draw() {
    colours = palette(root);
    if (pick) {
      pick.selectedIndex = index();
      measures.hidden = !index();
      showMeasure(Math.max(0, MEASURES.indexOf(model.get("measure"))));
    }
    foot.replaceChildren();
    if (byRank()) scale(foot, `rank ${size}`, "rank 1");
    else scale(foot, "probability 0", "1");
    const [layer, pos] = cell();
    parts.forEach(({ map }, each) => {
      map.paint(colours, (...where) => look(each, ...where));
      map.show(layer, pos, inWords(each, layer, pos));
    });
    describe();
  }

  function describe() {
    const [layer, pos] = hovered ?? cell();
    parts.forEach(({ about }, each) => {
      about.replaceChildren();
      const head = element("div", "mdm-head", about);
      element("strong", null, head, models[each].title).dir = "auto";
      const where = element("span", "mdm-soft", head, `${names[layer]}, position ${pos}: `);
      element("span", "mdm-word", where, models[each].tokens[pos]);
      const top = tops[each][layer][pos];
      if (!top) return element("div", null, about, "Nothing stands before it: no prediction.");
      bars(about, "most probable", top.map(([word, chance]) => [word, chance, inNumbers(chance)]));
      models[each].follow.forEach(({ name, words }, at) => {
        const { chance, rank } = follows[each][at][layer][pos];
        const line = element("div", null, about, `${name} `);
        element("strong", "mdm-word", line, words[pos]);
        element("span", null, line, `: ${inNumbers(chance)}, rank ${rank}`);
      });
      return about;
    });
  }

  const redraw = oncePerFrame(draw);
  const changed = () => {
    if (colours) redraw();
    const by = index() ? `By ${model.get("measure")}: ` : "";
    announce(by + models.map((one, each) => `${one.title}, ${inWords(each, ...cell())}`).join(". "));
  };
  const events = "change:layer change:pos change:followed change:measure";
  model.on(events, changed);
  const stopWatching = keepLaid(root, layOut, redraw);
  return () => { stopWatching(); model.off(events, changed); };
}

export default { render };
