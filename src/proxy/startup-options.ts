// The startup parameter `options`: command-line switches for the server process
// (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS). Only settings can be honoured by a router.

import { ProxyError } from "../core/errors.ts";

/** Settings named by `-c name=value`, `-cname=value` and `--name=value`. Throws ProxyError for any other switch. */
export function parseStartupOptions(options: string): Map<string, string> {
  const settings = new Map<string, string>();
  const words = splitWords(options);
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? "";
    let assignment: string;
    if (word === "-c") assignment = words[++index] ?? "";
    else if (word.startsWith("--")) assignment = word.slice(2);
    else if (word.startsWith("-c")) assignment = word.slice(2);
    else throw invalid(word);
    const at = assignment.indexOf("=");
    if (at <= 0) throw invalid(assignment);
    settings.set(assignment.slice(0, at).replaceAll("-", "_"), assignment.slice(at + 1));
  }
  return settings;
}

/** What C's isspace() says of bytes: no letter of another encoding is cut. */
const SPACE = " \t\n\v\f\r";

/** Words are separated by spaces; a backslash takes the next character as it is. */
function splitWords(options: string): string[] {
  const words: string[] = [];
  let word: string | null = null;
  for (let index = 0; index < options.length; index++) {
    const character = options.charAt(index);
    if (SPACE.includes(character)) {
      if (word !== null) words.push(word);
      word = null;
    } else {
      word = (word ?? "") + (character === "\\" ? options.charAt(++index) : character);
    }
  }
  if (word !== null) words.push(word);
  return words;
}

function invalid(argument: string): ProxyError {
  return new ProxyError("invalid_parameter", `invalid command-line argument for server process: ${argument}`, {
    sqlstate: "42601",
    hint: 'Only settings are accepted: "-c name=value" or "--name=value".',
  });
}
