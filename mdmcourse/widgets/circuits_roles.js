// What a node is for: as it was given, or else what its strongest edges say.

// For each model and node the edge that it reads most from and the one by which it is read most. Only edges that were
// sent are known, from the strongest: a node without any has none among them.
function strongestEdges(graph, scene) {
  return scene.task.order.map((order) => {
    const into = [], outOf = [];
    for (const edge of order) {
      outOf[scene.sources[edge]] ??= edge;
      const reader = scene.readers[edge], first = graph.owner[reader];
      for (let node = first; node < first + graph.owners[reader]; node++) into[node] ??= edge;
    }
    return { into, outOf };
  });
}

// For each node its roles in words: [which model, text], one for both models where they are the same.
function rolesOf(graph, scene, models) {
  const { task } = scene;
  const strongest = strongestEdges(graph, scene);
  const inner = graph.nodes.length - 2; // heads and MLPs; the input and the logits are as large as all of them
  return graph.nodes.map((name, node) => {
    const given = models.map((_, one) => task.roles[one][name]);
    if (given[0] && given[0] === given[1]) return [["Role", given[0]]];
    return models.map((model, one) => [model, given[one] ?? derived(node, one)]);
  });

  function derived(node, one) {
    const { into, outOf } = strongest[one];
    const all = task.total[one];
    const parts = [];
    if (node > 0 && node <= inner) {
      const larger = scene.size.slice(1, -1).filter((size) => size[one] > scene.size[node][one]).length;
      parts.push(`${ordinal(larger + 1)} of ${inner} heads and MLPs in size`);
    }
    if (node > 0) {
      const read = readersOf(graph, node).reduce((sum, reader) => sum + task.arrives[one][reader], 0);
      const edge = into[node], part = graph.part[scene.readers[edge]];
      const through = part?.length === 1 ? ` through ${part}` : "";
      parts.push(edge === undefined ? "reads through none of the strongest edges"
        : `reads most from ${graph.nodes[scene.sources[edge]]}${through} (${share(edge, one, read)})`);
    }
    if (node <= inner) {
      const edge = outOf[node];
      parts.push(edge === undefined ? "is read through none of the strongest edges"
        : `is read most by ${graph.readers[scene.readers[edge]]} (${share(edge, one, task.leaves[one][node])})`);
    }
    return parts.join("; ");

    // Of all |score| that the node reads, or sends, what this edge carries.
    function share(strong, model, whole) {
      return `${Math.round(100 * Math.abs(task.scores[model][strong]) / (all * whole))} %`;
    }
  }
}

// 1st, 2nd, 3rd, 4th, 11th, 21st.
function ordinal(number) {
  const last = Math.floor(number / 10) % 10 === 1 ? 0 : number % 10;
  return `${number}${["th", "st", "nd", "rd"][last] ?? "th"}`;
}
