// libpq by a small program that stays: its errors name their SQLSTATE, also while it connects. What it is told is libpq's own parameters
// (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS).

import { type ChildProcessByStdio, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { z } from "zod";
import { type Outcome, plain, QUESTION, type Target } from "./target.ts";

const NO_FILE = "/nonexistent";

const answerSchema = z.object({
  id: z.int(),
  value: z.string().optional(),
  encrypted: z.boolean().default(false),
  message: z.string().default(""),
});

type Answer = z.output<typeof answerSchema>;

/** One program for all logins of the process; it ends with our end of its standard input. */
class Libpq {
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #program: ChildProcessByStdio<Writable, Readable, null> | null = null;
  #last = 0;

  ask(parameters: Readonly<Record<string, string>>): Promise<Answer> {
    this.#program ??= this.#start();
    const id = ++this.#last;
    this.#program.stdin.write(`${JSON.stringify({ id, parameters, question: QUESTION })}\n`);
    return new Promise((resolve) => this.#waiting.set(id, resolve));
  }

  #start(): ChildProcessByStdio<Writable, Readable, null> {
    const program = spawn("python3", [join(import.meta.dirname, "libpq.py")], { stdio: ["pipe", "pipe", "inherit"] });
    createInterface({ input: program.stdout }).on("line", (line) => {
      const answer = answerSchema.parse(JSON.parse(line));
      this.#waiting.get(answer.id)?.(answer);
      this.#waiting.delete(answer.id);
    });
    const gone = (why: string): void => {
      this.#program = null;
      for (const [id, resolve] of this.#waiting) resolve({ id, encrypted: false, message: `no libpq: ${why}` });
      this.#waiting.clear();
    };
    program.once("error", (error) => gone(error.message));
    program.once("exit", (code) => gone(`python3 has ended with ${code}`));
    // It shall not keep this process alive.
    program.unref();
    for (const stream of [program.stdin, program.stdout]) {
      if ("unref" in stream && typeof stream.unref === "function") stream.unref();
    }
    return program;
  }
}

const libpq = new Libpq();

/** A login by libpq, with the SQLSTATE of what refused it. */
export async function byLibpq(target: Target): Promise<Outcome> {
  const { value, encrypted, message } = await libpq.ask({
    host: target.host,
    port: String(target.port),
    user: target.user,
    password: target.password,
    dbname: target.database,
    sslmode: target.sslmode,
    sslrootcert: /^verify/.test(target.sslmode) ? target.ca : NO_FILE,
    sslcert: target.certificate?.cert ?? NO_FILE,
    sslkey: target.certificate?.key ?? NO_FILE,
    channel_binding: target.bound ? "require" : "prefer",
    gssencmode: "disable",
    passfile: NO_FILE,
  });
  if (value !== undefined) return { kind: "in", as: value, encrypted };
  const said = message.replaceAll(/^LOCATION: .*$/gm, "");
  const code = /(?:FATAL|ERROR): {2}([0-9A-Z]{5}): /.exec(said)?.[1] ?? null;
  return { kind: "out", code, message: plain(said) };
}
