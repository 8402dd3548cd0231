// What all widgets use; it stands before a widget's own script. All text enters the page through textContent.

function element(tag, className, parent, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

function shape(tag, attributes, parent, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  setAll(made, attributes);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

function setAll(target, attributes) {
  for (const [name, value] of Object.entries(attributes)) target.setAttribute(name, value);
}

// Or JupyterLab takes the arrow keys. It looks at the focused element itself, not at what it lies in.
function keepKeys(target) {
  target.dataset.lmSuppressShortcuts = "true";
}

function rangeInput(parent, label, max) {
  const around = element("label", "mdm-label", parent);
  element("span", null, around, label);
  const slider = element("input", "mdm-slider", around);
  setAll(slider, { type: "range", min: 0, max });
  keepKeys(slider);
  return slider;
}

function selectInput(parent, label, titles, choose) {
  const around = element("label", "mdm-pick", parent);
  element("span", null, around, label);
  const select = element("select", null, around);
  titles.forEach((title) => element("option", null, select, title));
  keepKeys(select);
  select.addEventListener("change", () => choose(select.selectedIndex));
  return select;
}

// Tabs and radio buttons as the ARIA patterns describe them: one stop for the tab key, arrow keys choose. Returns how to show a choice.
const tabList = (parent, label, titles, choose) => oneOf(parent, label, titles, choose, ["mdm-tabs", "tablist", "tab", "aria-selected"]);
const radioList = (parent, label, titles, choose) => oneOf(parent, label, titles, choose, ["mdm-radios", "radiogroup", "radio", "aria-checked"]);

function oneOf(parent, label, titles, choose, [className, listRole, role, state]) {
  const list = element("div", className, parent);
  setAll(list, { role: listRole, "aria-label": label });
  const buttons = titles.map((title, index) => {
    const button = element("button", null, list, title);
    setAll(button, { type: "button", role });
    keepKeys(button);
    button.addEventListener("click", () => choose(index));
    button.addEventListener("keydown", (event) => {
      const last = titles.length - 1;
      const goal = {
        ArrowRight: index < last ? index + 1 : 0, ArrowLeft: index ? index - 1 : last, Home: 0, End: last,
      }[event.key];
      if (goal === undefined) return;
      event.preventDefault();
      choose(goal);
      buttons[goal].focus();
    });
    return button;
  });
  return (chosen) => buttons.forEach((button, index) => {
    button.setAttribute(state, index === chosen);
    button.tabIndex = index === chosen ? 0 : -1;
  });
}

// A line for screen readers. It waits until the reader's hand rests: a drag is told once, at its end.
function announcer(parent) {
  const line = element("div", "mdm-heard", parent);
  line.setAttribute("aria-live", "polite");
  let timer = null;
  return (text) => {
    clearTimeout(timer);
    timer = setTimeout(() => { line.textContent = text; }, 400);
  };
}

// However often it is asked for, at most one drawing a frame.
function oncePerFrame(draw) {
  let asked = 0;
  return () => { asked ||= requestAnimationFrame(() => { asked = 0; draw(); }); };
}

// A panel whose text changes stays as tall as it ever was, or all below it would move with the pointer. With another
// width it starts anew. Returns the panel.
function keepsHeight(panel) {
  let width = 0;
  panel.style.boxSizing = "border-box"; // so that its height is what its least height is set to
  new ResizeObserver(() => {
    if (panel.offsetWidth !== width) panel.style.minHeight = "";
    width = panel.offsetWidth;
    panel.style.minHeight = `${panel.offsetHeight}px`;
  }).observe(panel);
  return panel;
}

// A canvas knows nothing of CSS: it has to be told when the page turns dark. Returns how to stop.
function whenThemeChanges(react) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const observer = new MutationObserver(react);
  dark.addEventListener("change", react);
  observer.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  observer.observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
  return () => { dark.removeEventListener("change", react); observer.disconnect(); };
}

// What the reader chose, into the widget's state and to the kernel, if there is one.
function save(model, values) {
  for (const [name, value] of Object.entries(values)) model.set(name, value);
  model.save_changes();
}

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

// A token as a screen reader should say it: spaces are drawn as ␣, which is no word.
function spoken(word) {
  return word.replace(/[␣⍽]/g, " ").trim() || "space";
}

// "rtl" if most letters of these words belong to scripts that run from right to left.
function writtenFrom(words) {
  const count = (letters) => words.join("").match(letters)?.length ?? 0;
  return 2 * count(/[\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}]/gu) > count(/\p{L}/gu) ? "rtl" : "ltr";
}

// Words with a bar each: [word, length from 0 to 1, what is written behind it].
function bars(parent, title, rows) {
  const table = element("table", "mdm-bars", parent);
  element("caption", null, table, title);
  const body = element("tbody", null, table);
  for (const [word, share, text] of rows) {
    const row = element("tr", null, body);
    const name = element("th", "mdm-word", row, word);
    setAll(name, { scope: "row", dir: "auto" });
    const bar = element("i", null, element("td", "mdm-bar", row));
    bar.style.width = `${100 * clamp(share, 0, 1)}%`;
    element("td", null, row, text);
  }
}
