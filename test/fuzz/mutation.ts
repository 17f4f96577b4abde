// Harm done to a row of good messages, by either side: to their lengths, types, order and bytes. What is harmed, and how, the random
// choices say.

import type { Random } from "./random.ts";

/** A message that was changed beyond its own meaning stands here as bytes. */
type Harm = (messages: Buffer[], at: number, random: Random) => void;

/** Changes `messages[at]`, as a copy. */
function change(messages: Buffer[], at: number, edit: (bytes: Buffer) => Buffer): void {
  const found = messages[at];
  if (found !== undefined) messages[at] = edit(Buffer.from(found));
}

const withLength =
  (length: (now: number) => number): Harm =>
  (messages, at) =>
    change(messages, at, (bytes) => {
      if (bytes.length >= 5) bytes.writeInt32BE(length(bytes.readInt32BE(1)) | 0, 1);
      return bytes;
    });

const typeLetters = "QPBDEHSCXdcfFpTZIKRNAGWVnst123!\0\xff";

const harms: Readonly<Record<string, Harm>> = {
  length_plus_one: withLength((now) => now + 1),
  length_minus_one: withLength((now) => now - 1),
  length_huge: withLength(() => 0x7fff_ffff),
  length_at_limit: withLength(() => 0x3fff_fffe),
  length_beyond_limit: withLength(() => 0x3fff_ffff),
  length_negative: withLength((now) => -now),
  length_too_small: withLength(() => 3),
  length_of_nothing: withLength(() => 4),
  length_longer: (messages, at, random) => withLength((now) => now + random.between(2, 5000))(messages, at, random),
  type_swapped: (messages, at, random) =>
    change(messages, at, (bytes) => {
      bytes[0] = typeLetters.charCodeAt(random.below(typeLetters.length));
      return bytes;
    }),
  dropped: (messages, at) => {
    messages.splice(at, 1);
  },
  doubled: (messages, at) => {
    messages.splice(at, 0, ...messages.slice(at, at + 1));
  },
  reordered: (messages, at, random) => {
    const [moved] = messages.splice(at, 1);
    if (moved !== undefined) messages.splice(random.below(messages.length + 1), 0, moved);
  },
  truncated: (messages, at, random) => change(messages, at, (bytes) => bytes.subarray(0, random.below(bytes.length))),
  shortened: (messages, at, random) =>
    change(messages, at, (bytes) => {
      if (bytes.length <= 5) return bytes;
      const kept = bytes.subarray(0, random.between(5, bytes.length - 1));
      kept.writeInt32BE(kept.length - 1, 1);
      return kept;
    }),
  without_zeros: (messages, at) =>
    change(messages, at, (bytes) => {
      for (let index = 5; index < bytes.length; index += 1) if (bytes[index] === 0) bytes[index] = 0x78;
      return bytes;
    }),
  bytes_flipped: (messages, at, random) =>
    change(messages, at, (bytes) => {
      for (let count = random.between(1, 4); count > 0 && bytes.length > 0; count -= 1) {
        const index = random.below(bytes.length);
        bytes[index] = (bytes[index] ?? 0) ^ (1 << random.below(8));
      }
      return bytes;
    }),
  body_flipped: (messages, at, random) =>
    change(messages, at, (bytes) => {
      if (bytes.length > 5) {
        const index = random.between(5, bytes.length - 1);
        bytes[index] = random.below(256);
      }
      return bytes;
    }),
  garbage: (messages, at, random) => {
    messages.splice(at, 0, Buffer.from(Array.from({ length: random.between(1, 30) }, () => random.below(256))));
  },
};

const kinds = Object.entries(harms);

/** Does one to three harms, and says which. */
export function harm(messages: readonly Buffer[], random: Random): { messages: Buffer[]; kinds: string[] } {
  const harmed = [...messages];
  const done: string[] = [];
  for (let count = random.pick([1, 1, 1, 2, 3]); count > 0; count -= 1) {
    const [kind, apply] = random.pick(kinds);
    apply(harmed, random.below(harmed.length), random);
    done.push(kind);
  }
  return { messages: harmed, kinds: done };
}
