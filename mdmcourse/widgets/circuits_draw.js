// The edges of two circuits: which of them are in which circuit at K edges, where they run, how they are drawn.

const KEPT = 0, LOST = 1, NEW = 2, NEITHER = -1;
const FAR = 1e9; // the rank of an edge beyond those that were sent
const WIDTHS = 6;
const NEAR = 3 * WIDTHS; // edges of the chosen node are drawn after all others
const MARKED = 100; // in larger circuits only a chosen node's edges are marked as negative: the rest would be freckles
const HAIRS = 500; // in larger circuits the weak edges are a pixel wide: twice as fast to paint, and there are hundreds
const DASHES = [[], [9, 5], [2.5, 4]]; // kept, lost, new: also told apart without colours

// What does not depend on K: ends, ranks in both models, and how many edges are shared at every K.
function prepare(graph, task, models) {
  const width = graph.readers.length;
  const ranks = task.order.map((order) => {
    const rank = new Float64Array(task.edges.length).fill(FAR);
    order.forEach((edge, place) => { rank[edge] = place; });
    return rank;
  });
  const best = task.edges.map((_, edge) => Math.min(ranks[0][edge], ranks[1][edge]));
  const worse = task.edges.map((_, edge) => Math.max(ranks[0][edge], ranks[1][edge])).sort((a, b) => a - b);
  const size = graph.nodes.map((_, node) => [0, 1].map((model) => shareOf(graph, task, node, model)));
  const scene = {
    task, ranks, best, size,
    largest: Math.max(...size.slice(1, -1).flat()),
    sources: task.edges.map((flat) => Math.floor(flat / width)),
    readers: task.edges.map((flat) => flat % width),
    weakestFirst: best.map((_, edge) => edge).sort((a, b) => best[b] - best[a]),
    kind(edge, k) {
      if (ranks[0][edge] < k) return ranks[1][edge] < k ? KEPT : LOST;
      return ranks[1][edge] < k ? NEW : NEITHER;
    },
    count(k) {
      let kept = 0;
      while (kept < worse.length && worse[kept] < k) kept++;
      return { kept, lost: k - kept, new: k - kept, jaccard: kept / (2 * k - kept) };
    },
  };
  scene.roles = rolesOf(graph, scene, models);
  return scene;
}

// The readers that belong to a node, by part: "q", "k", "v" of a head, "MLP" or "logits". The input has none.
function readersOf(graph, node) {
  return graph.readers.map((_, reader) => reader)
    .filter((reader) => node >= graph.owner[reader] && node < graph.owner[reader] + graph.owners[reader]);
}

// The share of |score| that a node takes in and sends out, of all edges of one model.
function shareOf(graph, task, node, model) {
  const sent = task.leaves[model][node] ?? 0; // the logits send nothing
  return readersOf(graph, node).reduce((sum, reader) => sum + task.arrives[model][reader], sent);
}

function touches(graph, scene, edge, node) {
  const reader = scene.readers[edge];
  return scene.sources[edge] === node
    || (node >= graph.owner[reader] && node < graph.owner[reader] + graph.owners[reader]);
}

// Where things are, in pixels: a margin for the layers' names on the left, the layer profile on the right.
function geometry(graph, width) {
  const narrow = width < 480;
  const left = narrow ? 24 : 62;
  const profile = narrow ? 72 : 150;
  const columns = graph.heads + 1;
  const pitch = Math.max(15, (width - left - profile) / (columns + 0.5));
  const row = Math.max(24, Math.min(56, 480 / (graph.layers + 1)));
  const top = 34;
  const bottom = top + row * (graph.layers + 1);
  return {
    asked: width, narrow, left, profile, pitch, row, top, bottom, columns,
    width: left + pitch * (columns + 0.5) + profile,
    height: bottom + 40,
    x: (column) => left + pitch * (column + 0.75),
    y: (level) => bottom - row * level,
    radius: Math.min(0.42 * pitch, 0.4 * row, 17),
  };
}

// A curve for every edge, as eight numbers: start, two handles, end. Edges along one column bow out to its side, or they
// would hide behind the nodes in between; the input and the logits are as wide as the graph.
function curves(graph, scene, place) {
  const coordinates = new Float32Array(scene.task.edges.length * 8);
  const last = graph.nodes.length - 1;
  scene.sources.forEach((source, edge) => {
    const reader = scene.readers[edge];
    const fromInput = source === 0, toLogits = graph.owner[reader] === last;
    const from = fromInput ? (toLogits ? -0.6 : graph.readerColumns[reader]) : graph.columns[source];
    const to = toLogits ? from : graph.readerColumns[reader];
    const rise = graph.readerRows[reader] - graph.rows[source];
    const along = Math.abs(to - from) < 0.5;
    const bow = along && rise > 1 ? (from < graph.heads / 2 ? -1 : 1) * Math.min(0.75, 0.26 + 0.06 * rise) : 0;
    const start = place.y(graph.rows[source]) - (fromInput ? 7 : 3);
    const end = place.y(graph.readerRows[reader]) + (toLogits ? 8 : 5);
    coordinates.set([
      place.x(from), start,
      place.x(from + (bow || 0.15 * (to - from))), start + (end - start) * 0.4,
      place.x(to + (bow || 0.15 * (from - to))), start + (end - start) * 0.6,
      place.x(to), end,
    ], edge * 8);
  });
  return coordinates;
}

// All edges of the two circuits, grouped by how they are drawn: the strongest, and those of the chosen node, on top.
function drawEdges(context, graph, scene, coordinates, { k, node, shown, colours, ground }) {
  const groups = new Map();
  for (const edge of scene.weakestFirst) {
    const kind = scene.kind(edge, k);
    if (kind === NEITHER || !shown[kind]) continue;
    const level = Math.min(WIDTHS - 1, Math.floor(WIDTHS * (1 - Math.log1p(scene.best[edge]) / Math.log1p(k))));
    const near = node === null || touches(graph, scene, edge, node);
    const key = (near ? NEAR : 0) + level * 3 + kind;
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(edge);
  }
  const plenty = Math.min(1, 60 / k);
  for (const key of [...groups.keys()].sort((a, b) => a - b)) {
    const near = key >= NEAR, kind = key % 3, level = Math.floor((key % NEAR) / 3);
    context.strokeStyle = colours[kind];
    const hair = k > HAIRS && level < 2 && (node === null || !near);
    context.lineWidth = hair ? 0.99 / devicePixelRatio : 0.9 + 0.4 * plenty + 0.5 * level + (kind === NEW ? 0.5 : 0);
    const least = kind === KEPT ? 0.2 : 0.45; // the weak edges of large circuits: kept ones are the background
    const full = node === null ? least + (0.92 - least) * Math.max(plenty, level / (WIDTHS - 1)) : 0.95;
    context.globalAlpha = near ? full : 0.07;
    context.setLineDash(DASHES[kind]);
    for (const edge of groups.get(key)) { // each a path of its own: one long path is drawn more slowly
      const [ax, ay, bx, by, cx, cy, dx, dy] = coordinates.subarray(edge * 8, edge * 8 + 8);
      context.beginPath();
      context.moveTo(ax, ay);
      context.bezierCurveTo(bx, by, cx, cy, dx, dy);
      context.stroke();
    }
    context.setLineDash([]);
    if (near && (node !== null || k <= MARKED)) markNegative(context, scene, coordinates, groups.get(key), kind, ground);
  }
}

// A minus in a small disc half-way along every edge with a negative score in a model that has it.
function markNegative(context, scene, coordinates, edges, kind, ground) {
  for (const edge of edges) {
    const [one, two] = scene.task.scores.map((scores) => scores[edge] < 0);
    if (!(kind === LOST ? one : kind === NEW ? two : one || two)) continue;
    const at = coordinates.subarray(edge * 8, edge * 8 + 8);
    const x = (at[0] + 3 * at[2] + 3 * at[4] + at[6]) / 8, y = (at[1] + 3 * at[3] + 3 * at[5] + at[7]) / 8;
    const colour = context.strokeStyle, width = context.lineWidth;
    context.fillStyle = ground;
    context.lineWidth = 1.2;
    context.beginPath();
    context.arc(x, y, 3.6, 0, 2 * Math.PI);
    context.fill();
    context.moveTo(x - 2, y);
    context.lineTo(x + 2, y);
    context.stroke();
    context.lineWidth = width;
    context.strokeStyle = colour;
  }
}
