// Whether a member takes connections: what counts as yes, what as no, and that no answer is older than its question.

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type Server as NetServer, type Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ScramDerivations } from "../../../src/auth/scram.ts";
import { LIFE_SIGN_TIMEOUT_MS } from "../../../src/core/limits.ts";
import { LifeSigns } from "../../../src/proxy/life-signs.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { cstring, int32, message } from "../../support/raw-client.ts";
import { waitFor } from "../../support/time.ts";

let listener: NetServer;
let clock: FakeClock;
let signs: LifeSigns;
/** Logins that have said who they are. */
let logins: Socket[];

beforeEach(async () => {
  clock = new FakeClock();
  signs = new LifeSigns(clock);
  logins = [];
  listener = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => logins.push(socket));
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
});

afterEach(() => {
  for (const socket of logins) socket.destroy();
  listener.close();
});

/** Asks, and collects the answer under `name`. */
function ask(answers: string[], name: string): void {
  const address = listener.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const login = {
    endpoint: { member: "node1", host: "127.0.0.1", port: address.port },
    user: "app",
    database: "app",
    secret: null,
    tls: { kind: "off" },
    random: randomBytes,
    derivations: new ScramDerivations(),
  } as const;
  signs.ask(login, (alive) => answers.push(`${name} ${alive}`));
}

const come = (count: number): Promise<true> =>
  waitFor(() => logins.length === count, { timeoutMs: 10_000, intervalMs: 2, what: `${count} logins` });
const answered = (answers: readonly string[], count: number): Promise<true> =>
  waitFor(() => answers.length === count, { timeoutMs: 10_000, intervalMs: 2, what: `${count} answers` });

const refusal = (sqlstate: string): Buffer =>
  message("E", cstring("SFATAL"), cstring("VFATAL"), cstring(`C${sqlstate}`), cstring("Mno"), Buffer.alloc(1));
const welcome = Buffer.concat([message("R", int32(0)), message("Z", Buffer.from("I"))]);

test.each<[string, Buffer | null, boolean]>([
  ["lets us in", welcome, true],
  ["has too many connections", refusal("53300"), true],
  ["does not know the role", refusal("28000"), true],
  ["shuts down", refusal("57P01"), false],
  ["is shut down, or starts up", refusal("57P03"), false],
  ["hangs up", null, false],
])("a member that %s", async (_what, answer, alive) => {
  const answers: string[] = [];
  ask(answers, "one");
  await come(1);
  if (answer === null) logins[0]?.destroy();
  else logins[0]?.write(answer);
  await answered(answers, 1);
  expect(answers).toEqual([`one ${alive}`]);
});

test("a member that says nothing counts as going after LIFE_SIGN_TIMEOUT_MS", async () => {
  const answers: string[] = [];
  ask(answers, "one");
  await come(1);
  await clock.advance(LIFE_SIGN_TIMEOUT_MS - 1);
  expect(answers).toEqual([]);
  await clock.advance(1);
  expect(answers).toEqual(["one false"]);
});

test("those who ask while a question is under way share the next one: an answer may be older than their loss", async () => {
  const answers: string[] = [];
  ask(answers, "one");
  await come(1);
  ask(answers, "two");
  ask(answers, "three");
  logins[0]?.write(welcome);
  await come(2);
  expect(answers).toEqual(["one true"]);
  logins[1]?.write(refusal("57P03"));
  await answered(answers, 3);
  expect(answers.slice(1)).toEqual(["two false", "three false"]);
  expect(logins.length).toBe(2);
});
