// Short names out of messages, again and again the same few: a table of the last ones spares a new string for most.

/** Places in the table, a power of two; each name has one. */
const PLACES = 256;

/** Longer ones are read, not kept. */
const LENGTH_MAX = 63;

export class NameTable {
  readonly #names: string[] = new Array<string>(PLACES).fill("");

  /** The name in `buffer[start, end)`, byte for byte (latin1). */
  read(buffer: Buffer, start: number, end: number): string {
    const length = end - start;
    if (length === 0) return "";
    if (length > LENGTH_MAX) return buffer.toString("latin1", start, end);
    const first = buffer[start] as number;
    const last = buffer[end - 1] as number;
    const place = (length + 7 * first + 31 * last) & (PLACES - 1);
    const known = this.#names[place] as string;
    if (known.length === length && stands(known, buffer, start)) return known;
    const name = buffer.toString("latin1", start, end);
    this.#names[place] = name;
    return name;
  }
}

function stands(name: string, buffer: Buffer, start: number): boolean {
  for (let at = 0; at < name.length; at++) if (buffer[start + at] !== name.charCodeAt(at)) return false;
  return true;
}
