// The clients of the client-sees table, behind one small interface: node-postgres, psql (libpq), psycopg2 (libpq from Python), and raw
// messages for what these cannot do. Each says what its application would learn: rows, or the SQLSTATE, and whether its connection is
// still there.

import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { z } from "zod";
import { libpqEnvironment } from "../support/programs.ts";
import { errorFields, firstColumn, frontend, RawClient } from "../support/raw-client.ts";
import { type Connection, codeOf, connect, type Login } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

/** What a statement came to. */
export type Answer =
  | { readonly ok: true; readonly rows: readonly string[] }
  | { readonly ok: false; readonly code: string };

/** A COPY that has been started and given its first row. */
export interface Copying {
  /** Sends the end of it; the answer is the statement's. */
  finish(): Promise<Answer>;
}

/** A pipeline of which the first statement has been sent, and answered, and the Sync has not. */
export interface Pipeline {
  begin(sql: string): Promise<Answer>;
  /** Sends the rest, with its Sync. */
  finish(): Promise<Answer>;
}

/** The code of an answer that names no SQLSTATE: all that the driver says is that its connection is gone. */
export const LOST = "connection lost";

const codeOrLost = (code: string): string => (/^[0-9A-Z]{5}$/.test(code) ? code : LOST);

/** One connection of one driver. Its statements go out one at a time. */
export interface Talker {
  query(sql: string): Promise<Answer>;
  /** Null where the driver has no COPY. */
  copy(sql: string, row: string): Copying | null;
  /** Where the driver has pipelines. */
  readonly pipeline?: Pipeline;
  /** Whether the driver still has its connection, once what came has been read. */
  alive(): Promise<boolean>;
  end(): void;
}

export interface Driver {
  readonly name: string;
  open(login: Login): Promise<Talker>;
}

const ANSWER_TIMEOUT_MS = 120_000;
/** Enough for psql, which sends rows of a COPY when it has 8 kB of them. */
const COPY_ROWS = 2000;

class NodePostgres implements Talker {
  readonly #connection: Connection;
  /** What came unasked; it is all that later statements say about the loss. */
  #farewell: string | null = null;

  constructor(connection: Connection) {
    this.#connection = connection;
    connection.client.on("error", (error) => {
      this.#farewell ??= codeOf(error);
    });
  }

  async query(sql: string): Promise<Answer> {
    try {
      const { rows } = await this.#connection.client.query<Record<string, unknown>>(sql);
      return { ok: true, rows: rows.map((row) => String(Object.values(row)[0])) };
    } catch (error) {
      const code = codeOf(error);
      return { ok: false, code: /^[0-9A-Z]{5}$/.test(code) ? code : codeOrLost(this.#farewell ?? code) };
    }
  }

  copy(): null {
    return null;
  }

  async alive(): Promise<boolean> {
    return this.#connection.open();
  }

  end(): void {
    this.#connection.destroy();
  }
}

/** A program that is told what to do by lines, and answers by lines. */
class Program {
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  #errors = "";
  #gone = false;

  constructor(command: string, args: readonly string[], login: Login) {
    this.#child = spawn(command, args, { env: { ...process.env, ...libpqEnvironment(login) }, stdio: "pipe" });
    this.#child.on("error", (error) => {
      this.#errors += error.message;
      this.#gone = true;
    });
    this.#child.on("close", () => {
      this.#gone = true;
    });
    this.#child.stdin?.on("error", () => {});
    this.#child.stderr?.on("data", (chunk: Buffer) => {
      this.#errors += chunk.toString();
    });
    if (this.#child.stdout !== null)
      createInterface({ input: this.#child.stdout }).on("line", (line) => this.#lines.push(line));
  }

  get gone(): boolean {
    return this.#gone;
  }

  /** What it has written to its standard error so far. */
  get errors(): string {
    return this.#errors;
  }

  write(text: string): void {
    this.#child.stdin?.write(text);
  }

  /** Lines up to the one that `ends`, that one included; null when the program ended before. */
  async until(ends: (line: string) => boolean): Promise<string[] | null> {
    const find = (): { readonly lines: string[] | null } | null => {
      const at = this.#lines.findIndex(ends);
      if (at >= 0) return { lines: this.#lines.splice(0, at + 1) };
      return this.#gone ? { lines: null } : null;
    };
    const what = `an answer; its errors: ${this.#errors}`;
    return (await waitFor(find, { timeoutMs: ANSWER_TIMEOUT_MS, intervalMs: 5, what })).lines;
  }

  end(): void {
    this.#child.kill("SIGKILL");
  }
}

class Psql implements Talker {
  readonly #program: Program;
  #count = 0;

  constructor(login: Login) {
    const quiet = ["-X", "-A", "-t", "-q", "-v", "VERBOSITY=sqlstate", "-v", "ON_ERROR_STOP=0"];
    this.#program = new Program("psql", quiet, login);
  }

  query(sql: string): Promise<Answer> {
    return this.#say(`${sql};\n`);
  }

  copy(sql: string, row: string): Copying {
    const rows = `${row}\n`.repeat(COPY_ROWS);
    this.#program.write(`${sql};\n${rows}`);
    return { finish: () => this.#say("\\.\n") };
  }

  async #say(text: string): Promise<Answer> {
    this.#count += 1;
    const mark = `--${this.#count}--`;
    const before = this.#program.errors.length;
    // The variable SQLSTATE knows nothing of a COPY that failed: what counts is what psql says of an error.
    this.#program.write(`${text}\\warn ${mark}\n\\echo ${mark}\n`);
    const lines = await this.#program.until((line) => line === mark);
    const said = (): string => this.#program.errors.slice(before);
    const find = () => this.#program.gone || said().includes(mark);
    await waitFor(find, { timeoutMs: ANSWER_TIMEOUT_MS, intervalMs: 5, what: "psql's errors are complete" });
    const code = /(?:FATAL|ERROR): +(\w{5})\b/.exec(said())?.[1];
    // Without a terminal psql ends with its connection.
    if (lines === null) return { ok: false, code: code ?? LOST };
    return code === undefined ? { ok: true, rows: lines.slice(0, -1) } : { ok: false, code };
  }

  async alive(): Promise<boolean> {
    return !this.#program.gone;
  }

  end(): void {
    this.#program.end();
  }
}

const pythonAnswer = z.union([
  z.object({ ok: z.literal(true), rows: z.array(z.string()) }),
  z.object({ ok: z.literal(false), code: z.string() }),
]);

class Psycopg2 implements Talker {
  readonly #program: Program;

  constructor(login: Login) {
    this.#program = new Program("/usr/bin/python3", [join(import.meta.dirname, "psycopg2_talker.py")], login);
  }

  query(sql: string): Promise<Answer> {
    return this.#ask({ do: "query", sql });
  }

  copy(sql: string, row: string): Copying {
    this.#program.write(`${JSON.stringify({ do: "copy", sql, rows: `${row}\n`.repeat(COPY_ROWS) })}\n`);
    return { finish: () => this.#ask({ do: "end of copy" }) };
  }

  async alive(): Promise<boolean> {
    return (await this.#ask({ do: "alive" })).ok;
  }

  end(): void {
    this.#program.end();
  }

  async #ask(request: object): Promise<Answer> {
    this.#program.write(`${JSON.stringify(request)}\n`);
    const lines = await this.#program.until(() => true);
    if (lines === null) throw new Error(`psycopg2's program ended: ${this.#program.errors}`);
    const answer = pythonAnswer.parse(JSON.parse(lines[0] ?? ""));
    return answer.ok ? answer : { ok: false, code: codeOrLost(answer.code) };
  }
}

class Raw implements Talker {
  readonly pipeline: Pipeline = {
    begin: async (sql) => {
      this.#client.send(frontend.parse(sql), frontend.bind(), frontend.execute(), frontend.flush());
      return this.#until("C");
    },
    finish: () => {
      this.#client.send(frontend.parse("SELECT 1"), frontend.bind(), frontend.execute(), frontend.sync());
      return this.#until("Z");
    },
  };
  readonly #client: RawClient;

  constructor(client: RawClient) {
    this.#client = client;
  }

  query(sql: string): Promise<Answer> {
    this.#client.send(frontend.query(sql));
    return this.#until("Z");
  }

  copy(sql: string, row: string): Copying {
    this.#client.send(frontend.query(sql));
    const started = this.#until("G").then((answer) => {
      if (answer.ok) this.#client.send(frontend.copyData(Buffer.from(`${row}\n`)));
      return answer;
    });
    return {
      finish: async () => {
        const answer = await started;
        if (!answer.ok) return answer;
        this.#client.send(frontend.copyDone());
        return this.#until("Z");
      },
    };
  }

  async alive(): Promise<boolean> {
    return (await this.query("SELECT 1")).ok;
  }

  end(): void {
    this.#client.destroy();
  }

  /** Reads up to a message of this type; at the end of the stream the error that came before it is what counts. */
  async #until(type: string): Promise<Answer> {
    let code: string | null = null;
    const rows: string[] = [];
    for (;;) {
      const next = await this.#client.next(ANSWER_TIMEOUT_MS);
      if (next?.type === "E") code ??= errorFields(next.body)["C"] ?? "";
      if (next?.type === "D") rows.push(firstColumn(next.body) ?? "");
      if (next === null) return { ok: false, code: code ?? LOST };
      if (next.type === type) return code === null ? { ok: true, rows } : { ok: false, code };
    }
  }
}

async function greeted(talker: Talker): Promise<Talker> {
  const hello = await talker.query("SELECT 1");
  if (hello.ok) return talker;
  talker.end();
  throw new Error(`cannot connect: ${hello.code}`);
}

/** The drivers of the table, in its order. */
export const drivers: readonly Driver[] = [
  { name: "node-postgres", open: async (login) => new NodePostgres(await connect(login, 30_000)) },
  { name: "psql", open: (login) => greeted(new Psql(login)) },
  { name: "psycopg2", open: (login) => greeted(new Psycopg2(login)) },
  { name: "raw", open: async (login) => new Raw(await RawClient.login(login)) },
];
