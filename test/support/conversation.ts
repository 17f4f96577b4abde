// The same conversation twice: what a client hears through pgsteer beside what PostgreSQL itself says to the same messages, on a
// connection of its own. Compares message for message, types and bodies.

import { errorFields, RawClient, type RawMessage } from "./raw-client.ts";
import type { Login } from "./sql.ts";
import { sleep } from "./time.ts";

/** Long enough for a local server to have said all that it says. */
const QUIET_MS = 15;
const DEADLINE_MS = 4000;
const OF_SERVER = new Set(["in_hot_standby"]);

/** What a client sends in one go. */
export interface Turn {
  readonly bytes: Buffer;
  /** ReadyForQuery messages that answer it at least. */
  readonly ready: number;
  /** Whether more may come than the last of those: only silence shows the end. */
  readonly open: boolean;
  /** Where the bytes are cut. */
  readonly cuts: readonly number[];
}

/**
 * One message in words that both must agree on. Left out: where in its source a server raised an error (F, L, R), and in 08P01 and
 * 26000 the name of the statement, which can be the server's in place of the client's there.
 */
function words({ type, body }: RawMessage): string {
  if (type !== "E" && type !== "N") return `${type} ${body.toString("latin1")}`;
  const fields = Object.entries(errorFields(body)).filter(([letter]) => !"FLR".includes(letter));
  const text = fields.map(([letter, value]) => `${letter}=${value}`).join(" ");
  return `${type} ${/C=(?:08P01|26000)/.test(text) ? text.replace(/prepared statement ".*"/, "prepared statement") : text}`;
}

export class Conversation {
  readonly #direct: RawClient;
  readonly #routed: RawClient;
  /** The last status that PostgreSQL told. */
  status = "I";

  private constructor(direct: RawClient, routed: RawClient) {
    this.#direct = direct;
    this.#routed = routed;
  }

  static async open(direct: Login, routed: Login): Promise<Conversation> {
    return new Conversation(await RawClient.login(direct), await RawClient.login(routed));
  }

  /** What PostgreSQL answers, and what came through pgsteer: as many messages, or as many as there are. */
  async take(turn: Turn): Promise<{ readonly truth: string[]; readonly said: string[] }> {
    this.#direct.send(turn.bytes);
    const truth: string[] = [];
    let ready = 0;
    while (ready < turn.ready || (turn.open && (await this.#more()))) {
      const next = await this.#direct.next();
      if (next === null) throw new Error("PostgreSQL ended the conversation");
      if (next.type === "S") continue;
      truth.push(words(next));
      if (next.type !== "Z") continue;
      ready += 1;
      this.status = next.body.toString("latin1");
    }
    const places = [0, ...turn.cuts.map((cut) => cut % turn.bytes.length), turn.bytes.length].toSorted((a, b) => a - b);
    for (const [index, place] of places.slice(1).entries()) {
      if (index > 0) await sleep(1);
      this.#routed.send(turn.bytes.subarray(places[index], place));
    }
    return { truth, said: await this.#said(truth.length) };
  }

  /** Reported parameters as both were last told, but for those that describe the server or the route. */
  get parameters(): { readonly truth: Record<string, string>; readonly said: Record<string, string> } {
    const told = ({ parameters }: RawClient) =>
      Object.fromEntries([...parameters].filter(([name]) => !OF_SERVER.has(name)).toSorted());
    return { truth: told(this.#direct), said: told(this.#routed) };
  }

  /** Both say goodbye; what each still said. */
  async finish(goodbye: Buffer): Promise<{ readonly truth: string[]; readonly said: string[] }> {
    this.#direct.send(goodbye);
    this.#routed.send(goodbye);
    const rest = async (client: RawClient) =>
      (await client.untilEnd(DEADLINE_MS)).map((each) => (each === null ? "EOF" : words(each)));
    return { truth: await rest(this.#direct), said: await rest(this.#routed) };
  }

  destroy(): void {
    this.#direct.destroy();
    this.#routed.destroy();
  }

  async #more(): Promise<boolean> {
    if (!this.#direct.heard) await sleep(QUIET_MS);
    return this.#direct.heard;
  }

  async #said(count: number): Promise<string[]> {
    const said: string[] = [];
    while (said.length < count) {
      const next = await this.#routed.next(DEADLINE_MS).catch((error: unknown) => String(error));
      if (next === null || typeof next === "string") return [...said, next ?? "EOF"];
      if (next.type !== "S") said.push(words(next));
    }
    return said;
  }
}
