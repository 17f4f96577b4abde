// An HBA or ident file as a list of what its lines say, every mistake told, and no more lines than anybody writes.

import { ACCESS_LINES_MAX } from "../core/limits.ts";
import type { Read } from "./hba-names.ts";
import { type AccessFiles, type FieldLine, type FileProblem, readFieldFile } from "./hba-tokens.ts";

/** What the lines are called, and how there could be fewer. */
interface LineTerms {
  readonly called: string;
  readonly remedy: string;
}

/** Reads `file`, absolute, and what it includes, line by line. Every problem of every line. */
export function readLines<T>(
  file: string,
  files: AccessFiles,
  { called, remedy }: LineTerms,
  read: (line: FieldLine) => Read<T>,
): { readonly values: readonly T[]; readonly problems: readonly FileProblem[] } {
  const { lines, problems: unread } = readFieldFile(file, files);
  const problems = [...unread];
  const values: T[] = [];
  for (const line of lines) {
    const place = { file: line.file, line: line.line };
    if (values.length >= ACCESS_LINES_MAX) {
      problems.push({ ...place, message: `is beyond the limit of ${ACCESS_LINES_MAX} ${called}`, remedy });
      break;
    }
    const said = read(line);
    if (said.ok) values.push(said.value);
    else problems.push({ ...place, message: said.message, remedy: said.remedy });
  }
  return { values, problems };
}
