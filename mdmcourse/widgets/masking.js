// One sentence, a noise level to drag, and three charts that follow: rate, weight, how many masks.

const TOP = 20; // of the weight's chart: 1/t has no bound
const TICKS = [0, 0.5, 1];

const digits = (value) => value.toFixed(3).replace(/0$/, "");

// Binomial chances of 0 to n masks, each token masked with this rate.
function chances(n, rate) {
  if (rate <= 0 || rate >= 1) return Array.from({ length: n + 1 }, (_, k) => Number(k === (rate <= 0 ? 0 : n)));
  let log = n * Math.log(1 - rate);
  return Array.from({ length: n + 1 }, (_, k) => {
    if (k) log += Math.log((n - k + 1) / k) + Math.log(rate / (1 - rate));
    return Math.exp(log);
  });
}

function render({ model, el }) {
  const tokens = model.get("tokens"), maskable = model.get("maskable"), schedules = model.get("schedules");
  const draws = model.get("draws").map((row) => row.split(" ").map((u) => Number(u) / 1000));
  const stops = schedules[0].rate.length - 1;
  const allowed = maskable.filter(Boolean).length;
  const root = element("div", "mdm-widget mdm-masking", el);
  setAll(root, { role: "group", "aria-label": "A sentence under the forward process" });

  const controls = element("div", "mdm-controls", root);
  const showSchedule = radioList(controls, "Schedule", schedules.map(({ name }) => name), (index) => save(model, { schedule: schedules[index].name }));
  const again = element("button", null, controls, "Draw again");
  again.type = "button";
  const drag = element("div", "mdm-controls", root);
  const slider = rangeInput(drag, "Noise level t", stops);
  const counter = element("output", "mdm-counter", drag);

  const line = element("div", "mdm-line", root);
  setAll(line, { role: "img", dir: writtenFrom(tokens) });
  const boxes = tokens.map((word) => {
    const box = element("span", "mdm-token", line);
    const stack = element("span", "mdm-stack", box); // both take their room, so that nothing moves while one drags
    return { box, word: element("span", "mdm-word", stack, word), mask: element("span", null, stack, "?"), from: element("small", null, box) };
  });
  const facts = element("div", "mdm-facts", root);
  const announce = announcer(root);
  const charts = element("div", "mdm-charts", root);
  element("p", "mdm-soft", root, "Under each token: the t from which this draw masks it. Ring: one of "
    + `${draws.length} draws; the filled one is the draw that is shown; bars: how many of them are expected.`
    + (schedules.length > 1 ? " Grey curves: the schedules that are not chosen." : ""));
  const frames = [0, 1, 2].map(() => element("div", null, charts));

  const current = () => schedules.find(({ name }) => name === model.get("schedule")) ?? schedules[0];
  const masksOf = (u, rate) => u.map((each, position) => maskable[position] && each < rate);
  const t = (stop) => stop / stops;
  let parts, told = "";

  // What changes with the schedule only.
  function layOut() {
    const chosen = current();
    showSchedule(schedules.indexOf(chosen));
    frames.forEach((frame) => frame.replaceChildren());
    const x = { low: 0, high: 1, ticks: TICKS, title: "noise level t" };
    const rate = plot(frames[0], { label: "", x, y: { low: 0, high: 1, ticks: TICKS, title: "rate of masking, 1 − α(t)" } });
    const weight = plot(frames[1], { label: "", x, y: { low: 0, high: TOP, ticks: [0, 5, 10, 15, 20], title: "weight of the loss, −α′(t) / (1 − α(t))" } });
    for (const one of [...schedules.filter((other) => other !== chosen), chosen]) {
      const now = one === chosen ? "mdm-now" : "";
      rate.line(one.rate.map((value, stop) => [t(stop), value]), now);
      weight.line(one.weight.map((value, stop) => [t(stop), value]).filter(([, value]) => value !== null && value <= TOP), now);
    }
    for (const one of schedules) {
      const middle = Math.round(stops * 0.55);
      shape("text", {
        x: rate.at.x(t(middle)), y: rate.at.y(one.rate[middle]) + 4, "text-anchor": "middle",
        class: `mdm-curve ${one === chosen ? "mdm-now" : ""}`,
      }, rate.svg, one.name.slice(0, 14));
    }
    parts = {
      rate, weight,
      drops: [rate, weight].map((chart) => shape("line", { class: "mdm-cursor", y1: chart.box.top, y2: chart.box.bottom }, chart.svg)),
      dots: [rate, weight].map((chart) => chart.dot("mdm-dot")),
      share: rate.dot("mdm-here", 4),
    };
    draw();
  }

  function draw() {
    const stop = clamp(Math.round(model.get("t") * stops), 0, stops);
    const chosen = current(), rate = chosen.rate[stop], weight = chosen.weight[stop];
    const index = clamp(model.get("draw"), 0, draws.length - 1);
    const masked = masksOf(draws[index], rate);
    const count = masked.filter(Boolean).length;
    const level = digits(t(stop));
    slider.value = stop;
    counter.textContent = `t = ${level}`;
    boxes.forEach(({ box, word, mask, from }, position) => {
      word.style.visibility = masked[position] ? "hidden" : "";
      mask.style.visibility = masked[position] ? "" : "hidden";
      box.classList.toggle("mdm-masked", masked[position]);
      box.classList.toggle("mdm-never", !maskable[position]);
      const first = chosen.rate.findIndex((value) => draws[index][position] < value);
      from.textContent = !maskable[position] ? "never" : first < 0 ? "–" : t(first).toFixed(2);
    });
    const said = `${count} of ${allowed} tokens masked, ${(rate * allowed).toFixed(1)} expected`;
    slider.setAttribute("aria-valuetext", `t ${level}: ${said}`);
    line.setAttribute("aria-label", tokens.map((word, position) => (masked[position] ? "masked" : spoken(word))).join(" "));
    facts.replaceChildren();
    const formula = chosen.name === "linear" ? "1/t" : "−α′(t) / (1 − α(t))";
    element("p", null, facts, `Each token is masked with probability ${digits(rate)}: ${said}.`);
    element("p", null, facts, `What the loss then counts for, ${formula}: ${weight === null ? "without bound" : weight.toFixed(2)}.`);
    told = `t ${level}: ${said}. Weight ${weight === null ? "without bound" : weight.toFixed(2)}.`;

    [[parts.rate, rate], [parts.weight, weight === null ? TOP : Math.min(weight, TOP)]].forEach(([chart, value], at) => {
      chart.put(parts.dots[at], t(stop), value);
      setAll(parts.drops[at], { x1: chart.at.x(t(stop)), x2: chart.at.x(t(stop)) });
    });
    parts.rate.put(parts.share, t(stop), count / allowed);
    parts.rate.say(`Rate of masking over t, ${chosen.name}: ${rate.toFixed(2)} at t ${level}; here ${(count / allowed).toFixed(2)}.`);
    parts.weight.say(`Weight of the loss over t, ${chosen.name}: ${weight === null ? "without bound" : weight.toFixed(2)} at t ${level}.`);
    drawCounts(rate, index);
  }

  // How many masks: the chance of each number, one ring a draw, stacked, and the mean.
  function drawCounts(rate, index) {
    frames[2].replaceChildren();
    const likely = chances(allowed, rate);
    const high = Math.max(...likely);
    const ticks = [...new Set([0, Math.round(allowed / 2), allowed])];
    const chart = plot(frames[2], {
      label: `Number of masks in ${draws.length} draws, ${(rate * allowed).toFixed(1)} expected.`,
      x: { low: -0.5, high: allowed + 0.5, ticks, title: "masks in the sentence" }, y: { low: 0, high: 1, ticks: [], title: "how many masks: chance and draws" }, left: 8,
    });
    const wide = (chart.box.right - chart.box.left) / (allowed + 1);
    const counts = draws.map((u) => masksOf(u, rate).filter(Boolean).length);
    const most = Math.max(...counts.map((count) => counts.filter((other) => other === count).length));
    const room = (chart.box.bottom - chart.box.top) / Math.max(most, draws.length * high); // of one draw: bars and rings share it
    likely.forEach((chance, count) => shape("rect", {
      x: chart.at.x(count) - 0.42 * wide, width: 0.84 * wide, y: chart.box.bottom - room * draws.length * chance,
      height: room * draws.length * chance, class: "mdm-chance",
    }, chart.svg));
    const stacked = new Map();
    const order = draws.map((_, at) => at).filter((at) => at !== index);
    for (const at of [index, ...order]) {
      const height = stacked.get(counts[at]) ?? 0;
      stacked.set(counts[at], height + 1);
      shape("circle", {
        cx: chart.at.x(counts[at]), cy: chart.box.bottom - room * (height + 0.5), r: Math.min(3.4, 0.42 * wide, 0.45 * room) * (at === index ? 1.25 : 1),
        class: at === index ? "mdm-here" : "mdm-drawn",
      }, chart.svg);
    }
    const mean = chart.at.x(rate * allowed);
    shape("line", { x1: mean, x2: mean, y1: chart.box.top, y2: chart.box.bottom, class: "mdm-mean" }, chart.svg);
  }

  slider.addEventListener("input", () => model.set("t", t(Number(slider.value))));
  slider.addEventListener("change", () => model.save_changes()); // once a drag, not at every step of it
  again.addEventListener("click", () => save(model, { draw: (model.get("draw") + 1) % draws.length }));
  const changed = oncePerFrame(() => { draw(); announce(told); });
  const changedSchedule = () => { layOut(); announce(`${current().name}. ${told}`); };
  model.on("change:t change:draw", changed);
  model.on("change:schedule", changedSchedule);
  layOut();
  return () => { model.off("change:t change:draw", changed); model.off("change:schedule", changedSchedule); };
}

export default { render };
