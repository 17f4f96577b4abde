// Branded numbers: what would be silently confused if it were a bare number or bigint.

/** A duration, or a point on the monotonic clock, in milliseconds. */
export type Millis = number & { readonly __unit: "ms" };
/** An amount of bytes. */
export type Bytes = number & { readonly __unit: "bytes" };
/** A write-ahead log position as 64-bit integer (PostgreSQL writes it as two hexadecimal halves, `16/B374D848`). */
export type Lsn = bigint & { readonly __unit: "lsn" };

export const millis = (value: number): Millis => value as Millis;
export const bytes = (value: number): Bytes => value as Bytes;
export const lsn = (value: bigint | number): Lsn => BigInt(value) as Lsn;

/** Parses PostgreSQL's text form of a position. Null when it is not one. */
export function parseLsn(text: string): Lsn | null {
  const match = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text);
  if (match?.[1] === undefined || match[2] === undefined) return null;
  return ((BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`)) as Lsn;
}

/** PostgreSQL's text form of a position. */
export function formatLsn(position: Lsn): string {
  return `${(position >> 32n).toString(16).toUpperCase()}/${(position & 0xffff_ffffn).toString(16).toUpperCase()}`;
}
