// Maps of patched cells, a tab for each kind of activation, a map for each model; one cell is chosen in all of a tab.

function render({ model, el }) {
  const tabs = model.get("tabs"), prompt = model.get("prompt");
  const shares = tabs.map((tab) => tab.panels.map((panel) => panel.shares.map((line) => line.split(" ").map((cell) => cell.split(",").map(Number)))));
  const root = element("div", "mdm-widget mdm-patching", el);
  setAll(root, { role: "group", "aria-label": "Activation patching" });
  const showTab = tabs.length < 2 ? () => {} : tabList(root, "Activations", tabs.map((tab) => tab.title), (index) => save(model, { tab: tabs[index].title }));
  const page = element("div", null, root);
  if (tabs.length > 1) page.setAttribute("role", "tabpanel");
  const controls = element("div", "mdm-controls", page);
  const slider = rangeInput(controls, "Position", prompt.clean.length - 1);
  const counter = element("output", null, controls);
  const announce = announcer(page);
  const maps = element("div", "mdm-maps", page);
  const legend = element("div", null, page);
  const pointAt = promptPair(page, prompt);
  const abouts = keepsHeight(element("div", "mdm-maps", page));
  let colours = null, hovered = null, parts = [], index = 0;

  // As many digits as there is room for; nothing where nothing happens.
  function number(share, room) {
    const digits = room < 30 ? 1 : 2;
    if (Math.abs(share) < 0.5 / 10 ** digits) return "";
    return share.toFixed(digits).replace(/^(-?)0\./, "$1.").replace(/^(-?1)\.0$/, "$1").replace("-", "−");
  }
  const chosen = () => {
    const across = tabs[index].across === "position" ? prompt.clean.length : tabs[index].columns.length;
    return [
      clamp(model.get("row"), 0, tabs[index].rows.length - 1), clamp(model.get("column"), 0, across - 1),
      clamp(model.get("pos"), 0, prompt.clean.length - 1),
    ];
  };
  const shareAt = (each, row, column, pos) => shares[index][each][row][column][tabs[index].positions > 1 ? pos : 0];

  function chooseTab() {
    index = Math.max(0, tabs.findIndex((tab) => tab.title === model.get("tab")));
    const tab = tabs[index];
    showTab(index);
    page.setAttribute("aria-label", tab.title);
    controls.hidden = tab.positions < 2;
    maps.replaceChildren();
    legend.replaceChildren();
    const done = [...new Set(tab.panels.map((panel) => (panel.direction === "denoise" ? "restores" : "destroys")))].join(" or ");
    scale(legend, "−1: moves it as far the other way", `1: ${done} all`, true);
    const columns = tab.across === "position" ? prompt.clean.map((word, at) => (word === prompt.corrupted[at] ? word : `${word}→${prompt.corrupted[at]}`)) : tab.columns;
    const width = { position: 34, head: 46, nothing: 90 }[tab.across];
    parts = tab.panels.map((panel) => {
      const column = element("div", "mdm-map", maps);
      column.style.flexBasis = `${110 + width * columns.length}px`;
      element("div", "mdm-maptitle", column, panel.title).dir = "auto";
      return cellMap(column, {
        rows: tab.rows, columns, up: true, label: `Patched ${tab.what} of ${panel.title}, layers upwards`,
        cell: { least: 20, most: tab.across === "position" ? 56 : 72, height: 24 }, choose: (row, at) => save(model, { row, column: at }),
        hover: (row, at) => { hovered = row === undefined ? null : [row, at, chosen()[2]]; describe(); },
      });
    });
    if (root.clientWidth) layOut();
  }

  function layOut() {
    parts.forEach((map) => map.lay());
    draw();
  }

  function draw() {
    colours = palette(root);
    const tab = tabs[index], cell = chosen(), { name, where } = placeOf(tab, prompt, ...cell);
    slider.value = cell[2];
    counter.textContent = `${cell[2]}: ${prompt.clean[cell[2]]}`;
    slider.setAttribute("aria-valuetext", `position ${cell[2]}, ${spoken(prompt.clean[cell[2]])}`);
    parts.forEach((map, each) => {
      map.paint(colours, (row, column, room) => {
        const share = shareAt(each, row, column, cell[2]);
        return { share, text: number(share, room), whole: true };
      });
      map.show(cell[0], cell[1], `${name} ${where}: ${inWords(tab.panels[each], shareAt(each, ...cell))}`);
    });
    describe();
  }

  function describe() {
    const tab = tabs[index], cell = hovered ?? chosen(), { name, at, where } = placeOf(tab, prompt, ...cell);
    pointAt(at);
    abouts.replaceChildren();
    tab.panels.forEach((panel, each) => {
      const about = element("div", "mdm-about", abouts);
      const head = element("div", "mdm-head", about);
      element("strong", null, head, panel.title).dir = "auto";
      element("span", "mdm-soft", head, panel.prompts ? `mean over ${panel.prompts} prompts` : "");
      const share = shareAt(each, ...cell);
      element("p", null, about, `${name} ${where} ${inWords(panel, share)}.`);
      numberLine(about, panel, share);
    });
  }

  const redraw = oncePerFrame(draw);
  const changed = () => {
    if (colours) redraw();
    const cell = chosen(), { name, where } = placeOf(tabs[index], prompt, ...cell);
    announce(`${name} ${where}. ${tabs[index].panels.map((panel, each) => `${panel.title} ${inWords(panel, shareAt(each, ...cell))}`).join(". ")}.`);
  };
  slider.addEventListener("input", () => model.set("pos", Number(slider.value)));
  slider.addEventListener("change", () => model.save_changes());
  model.on("change:row change:column change:pos", changed);
  const changedTab = () => { chooseTab(); changed(); };
  model.on("change:tab", changedTab);
  chooseTab();
  const stopWatching = keepLaid(root, layOut, redraw);
  return () => {
    stopWatching();
    model.off("change:row change:column change:pos", changed);
    model.off("change:tab", changedTab);
  };
}

export default { render };
