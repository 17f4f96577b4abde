// A first look at a text's bytes, before anybody makes a string of it: most texts can do nothing to their session that outlives a
// transaction, nor to its prepared statements, and are known by that at about a nanosecond a byte. In doubt a text may.

/** First words whose statements matter by their insides alone, by their first three letters; nothing that matters begins so. */
const harmless: ReadonlySet<number> = new Set(
  ["sel", "ins", "upd", "del", "wit", "val", "beg", "sta", "com", "rol", "sav", "rel", "fet", "mer"].map((letters) =>
    code(letters),
  ),
);

function code(letters: string): number {
  return (letters.charCodeAt(0) << 16) | (letters.charCodeAt(1) << 8) | letters.charCodeAt(2);
}

/** Letters without their case; other characters may become other ones, and none of them a letter. */
const LOWER = 0x20;

/** The byte that ends each thing that matters, and what has to stand in front of it. */
const endings: readonly (readonly [end: string, before: string])[] = [
  // Another statement, or the end of a comment in front of one.
  [";", ""],
  ["/", "*"],
  ["-", "-"],
  // Words: temp, hold, advisory_, set_config, U&"…", DISCARD, DEALLOCATE.
  ["p", "tem"],
  ["d", "hol"],
  ["_", "advisory"],
  ["_", "set"],
  ["&", "u"],
  ["d", "discar"],
  ["o", "deall"],
];

/** By the last byte: the bytes in front of it, last first. */
const before: (readonly Uint8Array[] | undefined)[] = new Array<readonly Uint8Array[] | undefined>(256).fill(undefined);
const isEnding = new Uint8Array(256);
for (const [end, text] of endings) {
  const bytes = Uint8Array.from(Buffer.from(text, "latin1").reverse());
  for (const letter of new Set([end, end.toUpperCase()])) {
    const at = letter.charCodeAt(0);
    before[at] = [...(before[at] ?? []), bytes];
    isEnding[at] = 1;
  }
}

/** Whether a text in `buffer[start, end)`, which ends there or with a zero byte, may do more than its transaction. */
export function mayMatter(buffer: Uint8Array, start: number, end: number): boolean {
  if (end - start < 4 || !isHarmless(buffer, start)) return true;
  for (let at = start + 3; at < end; at++) {
    const byte = buffer[at] as number;
    if (byte === 0) return false;
    if (isEnding[byte] === 1 && endsThing(buffer, byte, start, at, end)) return true;
  }
  return false;
}

function isHarmless(buffer: Uint8Array, start: number): boolean {
  const first = ((buffer[start] as number) | LOWER) << 16;
  const second = ((buffer[start + 1] as number) | LOWER) << 8;
  return harmless.has(first | second | ((buffer[start + 2] as number) | LOWER));
}

function endsThing(buffer: Uint8Array, byte: number, start: number, at: number, end: number): boolean {
  // A semicolon with nothing behind it ends the text.
  if (byte === SEMICOLON && (at + 1 === end || buffer[at + 1] === 0)) return false;
  for (const bytes of before[byte] ?? []) {
    let index = 0;
    while (index < bytes.length && at - 1 - index >= start && isSame(buffer[at - 1 - index] as number, bytes[index])) {
      index += 1;
    }
    if (index === bytes.length) return true;
  }
  return false;
}

const SEMICOLON = ";".charCodeAt(0);

const isSame = (byte: number, wanted: number | undefined): boolean => byte === wanted || (byte | LOWER) === wanted;
