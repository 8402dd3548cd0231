// Long lists that packing.py made one string each: "f4:", "u2:" ... and numbers in base64, "words:" and names.

const NUMBERS = { f4: Float32Array, u1: Uint8Array, u2: Uint16Array, u4: Uint32Array };

function numbersOf(text) {
  const [kind, values] = text.split(":");
  return new NUMBERS[kind](Uint8Array.from(atob(values), (letter) => letter.charCodeAt(0)).buffer);
}

// An object with what stands under "packed" beside the rest of it, as plain lists again.
function unpacked({ packed, ...plain }) {
  const list = (text) => (text.startsWith("words:") ? text.slice(6).split(" ") : Array.from(numbersOf(text)));
  const read = ([name, value]) => [name, Array.isArray(value) ? value.map(list) : list(value)];
  return { ...plain, ...Object.fromEntries(Object.entries(packed).map(read)) };
}
