// Two circuits on one graph: edges on a canvas, nodes above them as things that can be focused.

const WORDS = ["kept", "lost", "new"];

// Circuit sizes of the slider's stops: evenly on a logarithmic scale, and those at which something was measured.
function sizesOf(graph, tasks) {
  const most = Math.min(graph.edges, ...tasks.map((task) => Math.min(...task.order.map((order) => order.length))));
  const stops = Array.from({ length: 161 }, (_, at) => Math.round(most ** (at / 160)));
  const measured = tasks.flatMap((task) => task.comparison?.ks ?? []);
  return [...new Set([...stops, ...measured])].filter((k) => k <= most).sort((a, b) => a - b);
}

function render({ model, el }) {
  const graph = unpacked(model.get("graph")), tasks = model.get("tasks").map(unpacked), models = model.get("models");
  const sizes = sizesOf(graph, tasks);
  const scenes = tasks.map((task) => prepare(graph, task, models));
  const root = element("div", "mdm-widget mdm-circuits", el);
  setAll(root, { role: "group", "aria-label": `Circuits of ${models.join(" and ")}` });

  const showTab = tasks.length < 2 ? () => {} : tabList(root, "Task", tasks.map((task) => task.title), (index) => save(model, { task: tasks[index].title }));
  const page = element("div", null, root);
  if (tasks.length > 1) page.setAttribute("role", "tabpanel");

  const controls = element("div", "mdm-controls", page);
  const slider = rangeInput(controls, "Edges in each circuit", sizes.length - 1);
  const counter = element("output", "mdm-counter", controls);
  const shown = [true, true, true];
  const choices = element("div", "mdm-choices", page);
  setAll(choices, { role: "group", "aria-label": "Edges to show" });
  const toggles = WORDS.map((word, kind) => {
    const button = element("button", `mdm-toggle mdm-${word}`, choices);
    button.type = "button";
    keepKeys(button);
    const sample = shape("svg", { viewBox: "0 0 34 10", "aria-hidden": "true" }, button);
    shape("line", { x1: 1, x2: 33, y1: 5, y2: 5, "stroke-dasharray": DASHES[kind].join(" ") || "none" }, sample);
    const text = element("span", null, button);
    button.addEventListener("click", () => { shown[kind] = !shown[kind]; redraw(); });
    return { button, text, sample };
  });
  const facts = element("div", "mdm-facts", page);
  const announce = announcer(page);

  const body = element("div", "mdm-body", page);
  const frame = element("div", "mdm-frame", body);
  const stage = element("div", "mdm-stage", frame);
  const canvas = element("canvas", null, stage);
  canvas.setAttribute("aria-hidden", "true");
  const side = element("div", "mdm-side", body);
  const chart = element("div", null, side);
  const about = keepsHeight(element("div", "mdm-about", side));
  for (const line of [
    `Left half of a node: ${models[0]}, right half: ${models[1]}. Its size, and the bars beside the layers: the share of `
      + "|score| that is sent and read, over all edges.",
    `Width of an edge: its rank. ⊖ marks a negative score, up to K = ${MARKED} and at a chosen node.`,
  ]) element("p", "mdm-soft", page, line); // below: else the picture grows and shrinks under the pointer

  let scene, place, coordinates, nodes, moveCursor, focused = 0, pinned = null, hovered = null;
  const chosen = () => hovered ?? pinned;

  function layOut() {
    place = geometry(graph, frame.clientWidth || 640);
    const ratio = window.devicePixelRatio || 1;
    Object.assign(stage.style, { width: `${place.width}px`, height: `${place.height}px` });
    Object.assign(canvas, { width: Math.round(place.width * ratio), height: Math.round(place.height * ratio) });
    canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
    root.classList.toggle("mdm-narrow", place.narrow); // what is said of a node then stands right below the nodes
    coordinates = curves(graph, scene, place);
    const hadFocus = stage.contains(document.activeElement);
    stage.querySelectorAll("svg").forEach((old) => old.remove());
    drawBackdrop(stage, graph, scene, models, place);
    nodes = drawNodes(stage, graph, scene, models, place);
    nodes.forEach(({ group }, node) => {
      group.addEventListener("pointerenter", () => { hovered = node; redraw(); });
      group.addEventListener("pointerleave", () => { hovered = null; redraw(); });
      group.addEventListener("focus", () => { focused = pinned = node; redraw(); });
      group.addEventListener("click", () => { group.focus(); pinned = node; redraw(); });
      group.addEventListener("keydown", move);
    });
    if (hadFocus) nodes[focused].group.focus();
    redraw();
  }

  function move(event) {
    if (event.key === "Escape") pinned = null;
    if (event.key === "Enter" || event.key === " ") { pinned = focused; event.preventDefault(); redraw(); }
    const goal = event.key === "Escape" ? focused : neighbour(graph, focused, event.key);
    if (goal === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    if (goal !== focused) nodes[goal].group.focus();
    redraw();
  }

  function draw() {
    const k = clampedK();
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, place.width, place.height);
    const colours = toggles.map(({ sample }) => getComputedStyle(sample).stroke);
    const ground = getComputedStyle(root).backgroundColor;
    const view = { k, node: chosen(), shown, colours, ground };
    drawEdges(context, graph, scene, coordinates, view);
    updateNodes(graph, scene, models, nodes, view, focused);
    describeNode(about, graph, scene, models, chosen(), k);
    moveCursor(k);
    tell(k);
  }
  const redraw = oncePerFrame(draw);

  function tell(k) {
    const { kept, lost, new: fresh } = scene.count(k);
    slider.value = nearest(sizes, k);
    slider.setAttribute("aria-valuetext", `${k} edges`);
    counter.textContent = `K = ${k}`;
    [`kept ${kept}`, `lost ${lost}: only ${models[0]}`, `new ${fresh}: only ${models[1]}`].forEach((text, kind) => {
      toggles[kind].text.textContent = text;
      toggles[kind].button.setAttribute("aria-pressed", shown[kind]);
    });
    facts.replaceChildren();
    element("strong", null, facts, inWords(k));
    for (const line of measuredNear(scene.task, models, k)) element("div", null, facts, line);
  }

  function inWords(k) {
    const { kept, lost, new: fresh, jaccard } = scene.count(k);
    return `${kept} of ${k} edges are kept, ${lost} lost, ${fresh} new: overlap ${jaccard.toFixed(2)}.`;
  }

  function clampedK() {
    return Math.max(1, Math.min(model.get("k"), sizes[sizes.length - 1]));
  }

  function chooseTask() {
    const index = Math.max(0, tasks.findIndex((task) => task.title === model.get("task")));
    scene = scenes[index];
    showTab(index);
    page.setAttribute("aria-label", tasks[index].title);
    chart.replaceChildren();
    moveCursor = overlapChart(chart, scene, models, sizes);
    layOut();
  }

  slider.addEventListener("input", () => model.set("k", sizes[slider.value]));
  slider.addEventListener("change", () => model.save_changes()); // once a drag, not at every step of it
  frame.addEventListener("click", (event) => { if (!event.target.closest(".mdm-node")) { pinned = null; redraw(); } });
  const changed = () => { redraw(); announce(inWords(clampedK())); }; // not at first: nobody wants to hear a page load
  const changedTask = () => { chooseTask(); announce(`${scene.task.title}: ${inWords(clampedK())}`); };
  model.on("change:k", changed);
  model.on("change:task", changedTask);
  const stopWatching = whenThemeChanges(redraw);
  chooseTask();
  const resized = oncePerFrame(() => { if (place.asked !== frame.clientWidth) layOut(); });
  const watcher = new ResizeObserver(resized);
  watcher.observe(frame);
  return () => {
    watcher.disconnect();
    stopWatching();
    model.off("change:k", changed);
    model.off("change:task", changedTask);
  };
}

export default { render };
