// Several pictures as one archive: a tar, whose headers are text and whose contents need not be read.

const BLOCK = 512;
const NAME_BYTES = 100;
const encoder = new TextEncoder();

export function tar(files) {
  const parts = [];
  const taken = new Set();
  for (const file of files) {
    parts.push(header(unused(file.name, taken), file.size), file);
    const rest = file.size % BLOCK;
    if (rest) parts.push(new Uint8Array(BLOCK - rest));
  }
  parts.push(new Uint8Array(2 * BLOCK));
  return new Blob(parts, { type: "application/x-tar" });
}

// Two pictures from two folders may bear the same name.
function unused(name, taken) {
  const dot = name.lastIndexOf(".");
  const [stem, end] = dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, ""];
  for (let number = 1; ; number += 1) {
    const suffix = (number > 1 ? `-${number}` : "") + end;
    const found = shortened(stem, NAME_BYTES - encoder.encode(suffix).length) + suffix;
    if (!taken.has(found)) {
      taken.add(found);
      return found;
    }
  }
}

function shortened(text, most) {
  const characters = [...text.replaceAll("/", "_")];
  while (encoder.encode(characters.join("")).length > most) characters.pop();
  return characters.join("");
}

// Source: POSIX.1-1988 (ustar). The checksum counts its own field as spaces.
function header(name, size) {
  const block = new Uint8Array(BLOCK);
  const put = (at, text) => block.set(encoder.encode(text), at);
  const octal = (value, width) => value.toString(8).padStart(width - 1, "0");
  put(0, name);
  put(100, octal(0o644, 8));
  put(108, octal(0, 8));
  put(116, octal(0, 8));
  put(124, octal(size, 12));
  put(136, octal(0, 12));
  put(148, "        ");
  put(156, "0");
  put(257, "ustar\0" + "00");
  const sum = block.reduce((total, byte) => total + byte, 0);
  put(148, `${octal(sum, 7)}\0 `);
  return block;
}
