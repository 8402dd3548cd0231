// A map of coloured cells with names at its edges. One stop for the tab key; arrow keys, mouse and finger choose a cell.

// Colours as numbers, read off the page: they change with its theme. `strong` stands for 1, `other` for -1.
function palette(root) {
  const probe = element("span", null, root);
  const read = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
  };
  const found = { ground: read("--ground"), quiet: read("--quiet"), strong: read("--strong"), other: read("--other") };
  probe.remove();
  return found;
}

// The colour of a share from -1 to 1, and the ink that can be read on it.
function shade(colours, share) {
  const end = share < 0 ? colours.other : colours.strong, part = Math.min(1, Math.abs(share));
  const rgb = colours.ground.map((from, at) => Math.round(from + part * (end[at] - from)));
  const light = rgb.map((one) => (one / 255 <= 0.04045 ? one / 255 / 12.92 : ((one / 255 + 0.055) / 1.055) ** 2.4));
  const luminance = 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2];
  return { fill: `rgb(${rgb.join(", ")})`, rgb, ink: luminance > 0.179 ? "#000000" : "#ffffff" };
}

// How wide a text is in a map, in pixels, whatever its script.
const ruler = document.createElement("canvas").getContext("2d");
ruler.font = "11px system-ui, sans-serif";
const widthOf = (text) => ruler.measureText(text).width;

function cut(text, room) {
  const letters = [...text];
  if (widthOf(text) <= room) return text;
  while (letters.length > 1 && widthOf(`${letters.join("")}…`) > room) letters.pop();
  return `${letters.join("")}…`;
}

// `rows` and `columns` are names, the first row at the top. `up`: the first row at the bottom.
//   label                what the map is, for screen readers
//   cell                 { least, most, height } of a cell, in pixels; without height cells are square
//   choose, hover        called with (row, column); hover with nothing when the pointer leaves
//   picture              instead of one colour a cell: (context, row, column, x, y, width, height) draws it
// Returns { lay, show, mark }: `lay()` again after a change of width or theme, `show(row, column, words)` the chosen cell.
function cellMap(parent, { rows, columns, label, cell, up = false, rowsAre, columnsAre, choose, hover = () => {}, picture = null }) {
  if (columnsAre) element("div", "mdm-axisname", parent, columnsAre); // outside of what scrolls
  const frame = element("div", "mdm-cells", parent);
  const stage = element("div", "mdm-stage", frame);
  const canvas = picture && element("canvas", null, stage);
  const svg = shape("svg", {
    role: "slider", tabindex: 0, "aria-label": label, "aria-roledescription": "map", "aria-valuemin": 0,
    "aria-valuemax": rows.length * columns.length - 1,
  }, stage);
  keepKeys(svg);
  const side = shape("svg", { class: "mdm-rownames", "aria-hidden": "true" }, stage); // stays while the cells scroll
  let place, boxes, texts, ring, chosen = [0, 0];

  function lay() {
    const available = (frame.clientWidth || 326) - 6; // its padding, for the ring of focus, is no room for cells
    const left = Math.min(96, Math.max(...rows.map(widthOf), widthOf(rowsAre ?? "")) + 12, 0.3 * available);
    const right = 14;
    const width = clamp((available - left - right) / columns.length, cell.least, cell.most);
    const height = cell.height ?? width;
    const names = columns.map((name) => cut(name, 78));
    const upright = names.some((name) => widthOf(name) > width - 2);
    const every = upright ? Math.ceil(13 / width) : 1; // names that would cover each other are left out
    const top = (upright ? Math.max(...names.map(widthOf)) + 6 : 12) + 10;
    const y = (row) => top + height * (up ? rows.length - 1 - row : row);
    place = { left, top, width, height, x: (column) => left + width * column, y };
    const size = { width: left + width * columns.length + right, height: top + height * rows.length + 12 };
    Object.assign(stage.style, { width: `${size.width}px`, height: `${size.height}px` });
    setAll(svg, { width: size.width, height: size.height });
    svg.replaceChildren();
    setAll(side, { width: left - 2, height: size.height });
    side.replaceChildren();
    if (rowsAre) shape("text", { x: 0, y: top - 6, class: "mdm-axis" }, side, rowsAre);
    rows.forEach((name, row) => {
      if (row % Math.ceil(12 / height)) return;
      shape("text", { x: left - 5, y: y(row) + height / 2 + 4, "text-anchor": "end" }, side, cut(name, left - 8));
    });
    names.forEach((name, column) => {
      if (column % every) return;
      const x = place.x(column) + width / 2;
      if (upright) shape("text", { x: 0, y: 0, transform: `translate(${x + 4} ${top - 5}) rotate(-90)` }, svg, name);
      else shape("text", { x, y: top - 6, "text-anchor": "middle" }, svg, name);
    });
    boxes = picture ? [] : rows.map((_, row) => columns.map((__, column) => shape("rect", {
      x: place.x(column) + 0.5, y: y(row) + 0.5, width: width - 1, height: height - 1, class: "mdm-cell",
    }, svg)));
    texts = rows.map(() => columns.map(() => null));
    if (picture) {
      const ratio = window.devicePixelRatio || 1;
      Object.assign(canvas, { width: Math.round(size.width * ratio), height: Math.round(size.height * ratio) });
      canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    ring = shape("rect", { width: width + 2, height: height + 2, rx: 2, class: "mdm-chosen-cell" }, svg);
    ringAt();
  }

  // Colour every cell. `look(row, column, room)` gives { share, text, whole, void }: void cells have no value, whole texts are not cut.
  function paint(colours, look) {
    if (picture) {
      const context = canvas.getContext("2d");
      context.clearRect(0, 0, stage.clientWidth, stage.clientHeight);
      rows.forEach((_, row) => columns.forEach((__, column) => {
        picture(context, row, column, place.x(column) + 1, place.y(row) + 1, place.width - 2, place.height - 2);
      }));
      return;
    }
    rows.forEach((_, row) => columns.forEach((__, column) => {
      const { share = 0, text = "", void: empty = false, whole = false } = look(row, column, place.width - 2);
      const fits = whole && widthOf(text) > place.width - 2 ? "" : text; // half a number would be another one
      const { fill, ink } = shade(colours, share);
      boxes[row][column].classList.toggle("mdm-void", empty);
      boxes[row][column].style.fill = empty ? "" : fill;
      if (!fits && !texts[row][column]) return;
      texts[row][column] ??= shape("text", {
        x: place.x(column) + place.width / 2, y: place.y(row) + place.height / 2 + 4, "text-anchor": "middle", class: "mdm-in",
      }, svg);
      texts[row][column].textContent = cut(fits, place.width - (whole ? 2 : 4));
      texts[row][column].style.fill = empty ? "" : ink;
    }));
    svg.append(ring);
  }

  const ringAt = () => setAll(ring, { x: place.x(chosen[1]) - 1, y: place.y(chosen[0]) - 1 });

  function show(row, column, words) {
    chosen = [row, column];
    ringAt();
    setAll(svg, { "aria-valuenow": row * columns.length + column, "aria-valuetext": words });
    const from = place.x(column), seen = frame.scrollLeft;
    if (from < seen || from + place.width > seen + frame.clientWidth) frame.scrollLeft = from - frame.clientWidth / 2;
  }

  // Marks outside of cells: {column} above its column, {row, column} in the cell's corner.
  function mark(marks) {
    svg.querySelectorAll(".mdm-mark").forEach((old) => old.remove());
    for (const { row, column } of marks) {
      const x = place.x(column) + (row === undefined ? place.width / 2 : place.width - 5);
      const y = row === undefined ? place.top + place.height * rows.length + 3 : place.y(row) + 5;
      const path = row === undefined ? `M ${x - 5} ${y + 6} L ${x + 5} ${y + 6} L ${x} ${y - 1} Z` : `M ${x - 4} ${y - 4} h 8 v 8 Z`;
      shape("path", { d: path, class: "mdm-mark" }, svg);
    }
  }

  function cellAt(event) {
    const box = svg.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left - place.left) / place.width);
    const line = Math.floor((event.clientY - box.top - place.top) / place.height);
    const row = up ? rows.length - 1 - line : line;
    return rows[row] !== undefined && columns[column] !== undefined ? [row, column] : null;
  }
  let under = null;
  svg.addEventListener("pointermove", (event) => {
    const found = event.pointerType === "touch" ? null : cellAt(event);
    if (String(found) === String(under)) return;
    under = found;
    hover(...(found ?? []));
  });
  svg.addEventListener("pointerleave", () => { under = null; hover(); });
  svg.addEventListener("click", (event) => {
    const found = cellAt(event);
    if (found) choose(...found);
  });
  svg.addEventListener("keydown", (event) => {
    const [row, column] = chosen, rise = up ? -1 : 1;
    const goal = {
      ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1], ArrowUp: [row - rise, column], ArrowDown: [row + rise, column],
      Home: [row, 0], End: [row, columns.length - 1], PageUp: [up ? rows.length - 1 : 0, column], PageDown: [up ? 0 : rows.length - 1, column],
    }[event.key];
    if (!goal) return;
    event.preventDefault();
    event.stopPropagation();
    hover();
    chosen = [clamp(goal[0], 0, rows.length - 1), clamp(goal[1], 0, columns.length - 1)]; // another key may come before it is drawn
    choose(...chosen);
  });
  return { lay, paint, show, mark, frame };
}

// Lay maps out once they are on the page, and again when their room changes; draw again when the theme does. Before they
// are on the page nothing has a size or a colour. Returns how to stop.
function keepLaid(root, layOut, redraw) {
  let width = null;
  const watcher = new ResizeObserver(oncePerFrame(() => {
    if (root.clientWidth === width || !root.clientWidth) return;
    width = root.clientWidth;
    layOut();
  }));
  watcher.observe(root);
  const stopWatching = whenThemeChanges(() => { if (width) redraw(); });
  return () => { watcher.disconnect(); stopWatching(); };
}

// The scale under a map: what its palest and its strongest colour stand for.
function scale(parent, low, high, both = false) {
  const line = element("div", "mdm-scale", parent);
  element("span", null, line, low);
  element("i", both ? "mdm-both" : null, line);
  element("span", null, line, high);
}
