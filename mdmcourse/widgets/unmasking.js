// Several texts being written, one slider. What is masked is null; a token's text is never HTML.

// Every token of a panel after every step: its word, the step that wrote it, how sure the model was, its history.
function unroll(panel) {
  let now = panel.start.map((word) => ({ word: word < 0 ? null : panel.vocab[word], writtenAt: 0, sure: null, past: [] }));
  const states = [now];
  panel.steps.forEach((step, index) => {
    const number = index + 1;
    now = now.map((token) => ({ ...token, fresh: false, again: false }));
    for (const [position, word, sure] of step.written) {
      const past = [...now[position].past, { word: panel.vocab[word], said: `written in step ${number} with probability ${sure.toFixed(2)}` }];
      now[position] = { word: panel.vocab[word], writtenAt: number, sure, past, fresh: true };
    }
    for (const position of step.hidden) {
      const { word, past } = now[position];
      now[position] = { word: null, writtenAt: 0, sure: null, past: [...past, { word, said: `${spoken(word)} hidden again in step ${number}` }], again: true };
    }
    states.push(now);
  });
  return states;
}

// What the model thought of at a position in a step, counted from 0: [word, per cent] each.
function thoughts(panel, step, position) {
  const found = (panel.guesses[step] ?? "").split(" ").map((guess) => guess.split(",").map(Number));
  const [, ...guess] = found.find(([at]) => at === position) ?? [];
  return guess.flatMap((word, at, rest) => (at % 2 ? [] : [[panel.vocab[word], rest[at + 1]]]));
}

const perCent = (chance) => (chance < 1 ? "under 1 %" : `${chance} %`);

// The words are named where it was not the same one all along.
function history(past) {
  const several = past.some(({ word }) => word !== past[0].word);
  return past.map(({ word, said }) => (several && said.startsWith("written") ? `"${spoken(word)}" ${said}` : said)).join("; ");
}

function sentenceAbout(token, guesses) {
  const past = token.past.length ? `${history(token.past)}.` : token.word === null ? "Masked." : "Given from the start.";
  const now = token.word === null && guesses.length ? ` The model now leans to ${spoken(guesses[0][0])}, ${perCent(guesses[0][1])}.` : "";
  return past[0].toUpperCase() + past.slice(1) + now;
}

function render({ model, el }) {
  const panels = model.get("panels");
  const runs = panels.map(unroll);
  const last = Math.max(...runs.map((states) => states.length - 1));
  const root = element("div", "mdm-widget mdm-player", el);
  setAll(root, { role: "group", "aria-label": `Texts being written: ${panels.map((panel) => panel.title).join("; ")}` });
  let focused = [0, Math.max(0, panels[0].start.findIndex((word) => word < 0))], hovered = null, pinned = false;

  const rows = panels.map((panel, run) => {
    const figure = element("div", "mdm-run", root);
    const title = element("div", "mdm-title", figure);
    element("strong", null, title, panel.title).dir = "auto";
    const passes = element("span", null, title);
    const line = element("div", "mdm-line", figure);
    line.setAttribute("role", "group");
    line.dir = writtenFrom(panel.vocab);
    const tokens = panel.start.map((_, position) => {
      const box = element("button", "mdm-token", line);
      box.type = "button";
      keepKeys(box);
      const word = element("span", "mdm-word", box);
      const order = element("span", "mdm-order", box);
      const sureness = element("span", "mdm-sureness", box);
      element("i", null, sureness);
      const heard = element("span", "mdm-heard", box);
      box.addEventListener("pointerenter", () => { hovered = [run, position]; redraw(); });
      box.addEventListener("pointerleave", () => { hovered = null; redraw(); });
      box.addEventListener("focus", () => { focused = [run, position]; pinned = true; redraw(); });
      box.addEventListener("click", () => { box.focus(); pinned = true; redraw(); }); // Safari focuses no button by itself
      box.addEventListener("keydown", (event) => walk(event, run, position));
      return { box, word, order, sureness, heard };
    });
    return { panel, passes, line, tokens };
  });

  const controls = element("div", "mdm-controls", root);
  const play = element("button", "mdm-play", controls);
  play.type = "button";
  const slider = rangeInput(controls, "Step", last);
  const counter = element("output", "mdm-counter", controls);
  const speeds = [0.5, 1, 2, 4];
  const speed = selectInput(controls, "Speed", speeds.map((times) => `${times}×`), () => { if (timer) start(); });
  speed.selectedIndex = 1;
  const about = keepsHeight(element("div", "mdm-about", root));
  const keys = element("div", "mdm-keys", root);
  for (const [className, text] of [
    ["mdm-given", "given"], ["mdm-masked", "masked"], ["mdm-ramp", "unsure to sure, bar: probability"],
    ["mdm-fresh", "just written"], ["mdm-again", "↺ hidden again"],
  ]) {
    const key = element("span", "mdm-key", keys);
    element("i", className, key);
    element("span", null, key, text);
  }
  element("span", "mdm-key", keys, "number: the step that wrote it");
  const announce = announcer(root);

  // Arrow keys move over the tokens as they are seen: where a line runs from right to left, so do they.
  // Escape lets go of the one that is told about.
  function walk(event, run, position) {
    if (event.key === "Escape") {
      pinned = false;
      redraw();
    }
    const forward = rows[run].line.dir === "rtl" ? -1 : 1;
    const length = rows[run].tokens.length;
    const goal = {
      ArrowRight: [run, position + forward], ArrowLeft: [run, position - forward],
      ArrowDown: [run + 1, position], ArrowUp: [run - 1, position], Home: [run, 0], End: [run, length - 1],
    }[event.key];
    if (!goal) return;
    event.preventDefault();
    event.stopPropagation();
    const [to, at] = goal;
    if (!rows[to] || at < 0 || at >= length) return;
    rows[to].tokens[Math.min(at, rows[to].tokens.length - 1)].box.focus();
  }

  function draw() {
    const step = clamp(model.get("step"), 0, last);
    slider.value = step;
    counter.textContent = `${step} of ${last}`;
    slider.setAttribute("aria-valuetext", `step ${step} of ${last}`);
    rows.forEach(({ panel, passes, line, tokens }, run) => {
      const steps = runs[run].length - 1;
      const state = runs[run][Math.min(step, steps)];
      passes.textContent = `${Math.min(step, steps)} of ${steps} ${steps === 1 ? "step" : "steps"}`;
      line.setAttribute("aria-label", `${panel.title}: ${state.map((token) => spoken(token.word ?? "masked")).join(" ")}`);
      state.forEach((token, position) => {
        const { box, word, order, sureness, heard } = tokens[position];
        const masked = token.word === null, here = step <= steps;
        if (word.textContent !== (token.word ?? "?")) word.textContent = token.word ?? "?";
        order.textContent = token.again && here ? "↺" : token.writtenAt || "";
        box.style.setProperty("--p", token.sure ?? 0);
        heard.textContent = `, position ${position}. ${sentenceAbout(token, [])}`;
        box.tabIndex = focused[0] === run && focused[1] === position ? 0 : -1;
        box.classList.toggle("mdm-masked", masked);
        box.classList.toggle("mdm-written", token.writtenAt > 0);
        box.classList.toggle("mdm-fresh", Boolean(token.fresh) && here);
        box.classList.toggle("mdm-again", Boolean(token.again) && here);
        sureness.style.visibility = token.writtenAt ? "" : "hidden";
      });
    });
    describe(step);
  }
  const redraw = oncePerFrame(draw);

  function describe(step) {
    const chosen = hovered ?? (pinned ? focused : null);
    rows.forEach(({ tokens }, run) => tokens.forEach(({ box }, position) => {
      box.classList.toggle("mdm-chosen", Boolean(chosen) && chosen[0] === run && chosen[1] === position);
    }));
    about.replaceChildren();
    if (!chosen) {
      element("p", "mdm-soft", about, "Point at a token, or move over them with the arrow keys, to see how sure the model was and what else it thought of.");
      return;
    }
    const [run, position] = chosen;
    const at = Math.min(step, runs[run].length - 1);
    const token = runs[run][at][position];
    const guesses = thoughts(panels[run], token.word === null ? at : token.writtenAt - 1, position);
    const head = element("div", "mdm-head", about);
    element("strong", "mdm-word", head, token.word ?? "?").dir = "auto";
    element("span", "mdm-soft", head, `position ${position} · ${panels[run].title}`).dir = "auto";
    element("div", null, about, sentenceAbout(token, []));
    if (guesses.length) bars(about, token.word === null ? "It now leans to" : "It thought of", guesses.map(([word, chance]) => [word, chance / 100, perCent(chance)]));
  }

  // What happened in a step, for those who cannot see it.
  function tell() {
    const step = clamp(model.get("step"), 0, last);
    const said = panels.map((panel) => {
      const happened = panel.steps[step - 1];
      if (!happened) return step ? `${panel.title} is finished` : `${panel.title} is masked`;
      const names = happened.written.map(([position, word]) => `${spoken(panel.vocab[word])} at ${position}`);
      const hidden = happened.hidden.length ? `, hides ${happened.hidden.join(" and ")} again` : "";
      return `${panel.title} writes ${names.join(", ")}${hidden}`;
    });
    announce(`Step ${step}: ${said.join(". ")}.`);
  }

  let timer = null;
  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "▶ Play";
  }
  function start() {
    clearInterval(timer);
    play.textContent = "❚❚ Pause";
    timer = setInterval(() => {
      if (model.get("step") < last) setStep(model.get("step") + 1);
      if (model.get("step") >= last) stop();
    }, 900 / speeds[speed.selectedIndex]);
  }
  function setStep(step) {
    save(model, { step });
  }
  play.addEventListener("click", () => {
    if (timer) return stop();
    if (model.get("step") >= last) setStep(0);
    start();
  });
  slider.addEventListener("input", () => { stop(); setStep(Number(slider.value)); });
  const changed = () => { draw(); tell(); };
  model.on("change:step", changed);

  stop();
  draw();
  return () => { stop(); model.off("change:step", changed); };
}

export default { render };
