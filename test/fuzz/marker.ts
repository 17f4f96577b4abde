// Marks that say whose statement an answer belongs to: client, sequence and a check word, so that a mark in which a byte was
// changed is no mark at all, and never somebody else's.

const OPENING = "~m:";
const pattern = /~m:([0-9a-z]+):([0-9a-z]+):([0-9a-z]{4})~/g;

function check(client: number, sequence: number): string {
  const mixed = Math.imul(client + 0x51ed, 0x9e37_79b1) ^ Math.imul(sequence + 0x2c1b, 0xc2b2_ae35);
  return ((mixed ^ (mixed >>> 13)) >>> 0).toString(36).padStart(4, "0").slice(-4);
}

/** One mark: letters that need no quoting in SQL, in COPY data or in an identifier. */
export function mark(client: number, sequence: number): string {
  return `${OPENING}${client.toString(36)}:${sequence.toString(36)}:${check(client, sequence)}~`;
}

export interface Mark {
  readonly client: number;
  readonly sequence: number;
}

/** The marks in `buffer[start, end)`, those left out whose check word is wrong. */
export function marksIn(buffer: Buffer, start: number, end: number): Mark[] {
  const first = buffer.indexOf(OPENING, start, "latin1");
  if (first < 0 || first >= end) return [];
  const found: Mark[] = [];
  for (const match of buffer.toString("latin1", first, end).matchAll(pattern)) {
    const client = Number.parseInt(match[1] ?? "", 36);
    const sequence = Number.parseInt(match[2] ?? "", 36);
    if (check(client, sequence) === match[3]) found.push({ client, sequence });
  }
  return found;
}
