// A transcript with what the rules of now believe in the place of what was believed: for hand-written ones, and after a change of rules.

import { beliefsOf } from "../../src/discovery/replay.ts";
import { readTranscript } from "../../src/discovery/transcript.ts";

/** The same evidence, line by line, with new lines of belief. */
export function rewritten(text: string): string {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  const evidence = lines.filter((line) => !line.startsWith('{"kind":"believed"'));
  const at = (line: string): number => Number(/"at":(-?[\d.]+)/.exec(line)?.[1] ?? Number.NEGATIVE_INFINITY);
  const beliefs = [...beliefsOf(readTranscript(text))];
  const written: string[] = [];
  for (const [index, line] of evidence.entries()) {
    written.push(line);
    // A belief follows the last line of its moment.
    const next = evidence[index + 1];
    while (beliefs[0] !== undefined && (next === undefined || beliefs[0].at < at(next))) {
      written.push(JSON.stringify({ kind: "believed", ...beliefs.shift() }));
    }
  }
  return `${written.join("\n")}\n`;
}
