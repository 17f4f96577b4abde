// Programs that print passwords, run at once or ahead.

import { describe, expect, test } from "vitest";
import { PasswordCommands } from "../../../src/cli/password-commands.ts";
import type { CommandOutput } from "../../../src/config/files.ts";

/** What each way of running gives. */
async function bothWays(...words: string[]): Promise<readonly [CommandOutput, CommandOutput]> {
  const commands = new PasswordCommands();
  const now = commands.load((run) => run(words));
  await commands.prepare((run) => run(words));
  return [now, commands.load((run) => run(words))];
}

const node = (script: string): [string, string, string] => [process.execPath, "-e", script];

describe("a program that prints a password", () => {
  test("is given its arguments as they are, and nothing to read", async () => {
    const script = "process.stdin.on('data', () => {}).on('end', () => console.log(process.argv[1]))";
    for (const output of await bothWays(...node(script), "$HOME; 'x'")) {
      expect(output).toEqual({ ok: true, text: "$HOME; 'x'\n" });
    }
  });

  test.each([
    ["fails", node("process.exit(3)"), "ended with exit code 3"],
    ["is not there", ["/nonexistent/program"], "does not exist"],
    ["may not be run", ["/etc/passwd"], "may not be run by the user that runs pgsteer"],
    ["has a zero in a word", ["/bin/echo", "a\0b"], "could not be run (ERR_INVALID_ARG_VALUE)"],
    ["has more words than fit", ["/bin/echo", "x".repeat(3_000_000)], "could not be run (E2BIG)"],
    ["prints without end", node("process.stdout.write('x'.repeat(1e6))"), "printed too much for a password"],
  ])("and %s is an error, whose reason tells nothing of what it printed", async (_what, words, reason) => {
    for (const output of await bothWays(...words)) expect(output).toEqual({ ok: false, reason });
  });

  test("is run ahead once for all who want it, and anew the next time", async () => {
    const commands = new PasswordCommands();
    const words = node("console.log(process.hrtime.bigint().toString())");
    await commands.prepare((run) => {
      run(words);
      run(words);
    });
    const [first, second] = commands.load((run) => [run(words), run(words)]);
    expect(second).toEqual(first);
    await commands.prepare((run) => run(words));
    expect(commands.load((run) => run(words))).not.toEqual(first);
  });

  test("says nothing to a load that only looks what is to be run", async () => {
    const seen: CommandOutput[] = [];
    await new PasswordCommands().prepare((run) => seen.push(run(node("console.log('secret')"))));
    expect(seen).toEqual([{ ok: true, text: "not run yet" }]);
  });
});
