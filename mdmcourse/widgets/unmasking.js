// Several texts being written, one slider. All text enters the page through textContent: a token is never HTML.

const HIDDEN = "▒";

// What can be seen of one panel at a step: the words, and for each the step that wrote it and the confidence then.
function stateOf(panel, step) {
  const at = Math.min(step, panel.words.length - 1);
  return panel.words[at].map((word, position) => {
    let writtenAt = 0;
    for (let s = 1; s <= at; s++) {
      if (panel.words[s][position] !== HIDDEN && panel.words[s - 1][position] === HIDDEN) writtenAt = s;
    }
    const confidence = writtenAt ? panel.confidence[writtenAt - 1][position] : null;
    const next = word === HIDDEN && at < panel.guesses.length ? panel.guesses[at][position] : [];
    return { word, writtenAt, confidence, fresh: at > 0 && writtenAt === at, next };
  });
}

function describe(token) {
  if (token.word === HIDDEN) {
    const guesses = token.next.map(([word, p]) => `${word} ${Math.round(100 * p)} %`).join(", ");
    return guesses ? `masked; the model now leans to ${guesses}` : "not written yet";
  }
  if (!token.writtenAt) return "given";
  return `written in step ${token.writtenAt}, probability ${token.confidence.toFixed(2)}`;
}

function render({ model, el }) {
  const panels = model.get("panels");
  const last = Math.max(...panels.map((panel) => panel.words.length - 1));
  const root = element("div", "mdm-widget mdm-player", el);

  const rows = panels.map((panel) => {
    const figure = element("div", "mdm-run", root);
    const title = element("div", "mdm-title", figure);
    const line = element("div", "mdm-line", figure);
    line.setAttribute("role", "group");
    const tokens = panel.words[0].map((_, position) => {
      const box = element("span", "mdm-token", line);
      box.tabIndex = -1;
      const word = element("span", "mdm-word", box);
      const order = element("span", "mdm-order", box);
      const show = () => { hint.textContent = `${panel.title}, token ${position}: ${box.dataset.about}`; };
      box.addEventListener("mouseenter", show);
      box.addEventListener("click", show);
      return { box, word, order };
    });
    return { panel, title, line, tokens };
  });

  const controls = element("div", "mdm-controls", root);
  const play = element("button", "mdm-play", controls);
  play.type = "button";
  const slider = rangeInput(controls, "Step ", last);
  const counter = element("output", "mdm-counter", controls);
  const hint = element("div", "mdm-hint", root);
  hint.setAttribute("aria-live", "polite");
  hint.textContent = "Point at a token to see how sure the model was, or what it leans to.";

  function draw() {
    const step = Math.max(0, Math.min(model.get("step"), last));
    slider.value = step;
    counter.textContent = `${step} of ${last}`;
    slider.setAttribute("aria-valuetext", `step ${step} of ${last}`);
    for (const { panel, title, line, tokens } of rows) {
      const state = stateOf(panel, step);
      const steps = panel.words.length - 1;
      const done = Math.min(step, steps);
      title.textContent = `${panel.title}: ${done} of ${steps} ${steps === 1 ? "pass" : "passes"}`;
      line.setAttribute("aria-label", `${panel.title}: ${state.map((t) => (t.word === HIDDEN ? "masked" : t.word)).join(" ")}`);
      state.forEach((token, position) => {
        const { box, word, order } = tokens[position];
        word.textContent = token.word === HIDDEN ? "?" : token.word.trim() || "␣";
        order.textContent = token.writtenAt || "";
        box.dataset.about = describe(token);
        box.title = box.dataset.about;
        box.classList.toggle("mdm-masked", token.word === HIDDEN);
        box.classList.toggle("mdm-fresh", token.fresh);
        box.classList.toggle("mdm-written", token.writtenAt > 0);
        box.classList.toggle("mdm-unsure", token.confidence !== null && token.confidence < 0.6);
      });
    }
  }

  let timer = null;
  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "▶ Play";
  }
  function setStep(step) {
    model.set("step", step);
    model.save_changes();
    draw(); // a static page has no kernel to echo the change
  }
  play.addEventListener("click", () => {
    if (timer) return stop();
    if (model.get("step") >= last) setStep(0);
    play.textContent = "❚❚ Pause";
    timer = setInterval(() => {
      if (model.get("step") >= last) return stop();
      setStep(model.get("step") + 1);
    }, 900);
  });
  slider.addEventListener("input", () => { stop(); setStep(Number(slider.value)); });
  model.on("change:step", draw);

  stop();
  draw();
  return () => { stop(); model.off("change:step", draw); };
}

export default { render };
