// What would give an attacker on this machine more than he should have: secrets that every user may read, and pgsteer run as root. Said
// as warnings by `pgsteer check` and at the start: it works all the same.

import { statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { parseConfigDocument } from "../config/document.ts";

/** Settings whose files hold a secret, and those that are one. */
const secretFiles: ReadonlySet<string> = new Set(["password_file", "key_file", "token_file"]);
const secrets: ReadonlySet<string> = new Set(["password", "token"]);
/** Bits of a file's mode: all users but its owner and its group. */
const OTHERS = 0o007;

/** Files of this configuration that hold secrets, itself among them, each once. */
function filesWithSecrets(file: string, text: string): readonly string[] {
  const found = new Set<string>();
  const walk = (value: unknown, path: readonly string[]): void => {
    if (typeof value !== "object" || value === null) return;
    for (const [key, inner] of Object.entries(value)) {
      const isUserlist = key === "file" && path.length === 1 && path[0] === "auth";
      if (typeof inner !== "string") walk(inner, [...path, key]);
      else if (isUserlist || secretFiles.has(key)) found.add(resolve(dirname(file), inner));
      else if (secrets.has(key)) found.add(resolve(file));
    }
  };
  walk(parseConfigDocument(text).root, []);
  return [...found];
}

function mode(file: string): number | null {
  try {
    return statSync(file).mode;
  } catch {
    // That it is not there is said where it is read.
    return null;
  }
}

/** One line for each thing that could be less. `uid`: of this process; undefined where there is no such thing. */
export function privilegeWarnings(file: string, text: string, uid: number | undefined): readonly string[] {
  const warnings: string[] = [];
  for (const each of filesWithSecrets(file, text)) {
    const bits = mode(each);
    if (bits === null || (bits & OTHERS) === 0) continue;
    const octal = (bits & 0o777).toString(8).padStart(4, "0");
    warnings.push(
      `${each} holds secrets, and every user of this machine has access to it (${octal}); chmod o= ${each}`,
    );
  }
  if (uid === 0) {
    warnings.push(
      "pgsteer runs as root, which it needs for nothing; give it a user of its own, and CAP_NET_BIND_SERVICE for ports below 1024",
    );
  }
  return warnings;
}
