// Attacks by number: thousands of connections that never log in, one byte at a time, TLS handshakes, passwords and cancel keys guessed by
// the thousand. Attackers come from other addresses than the honest client does.

import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { median } from "../../bench/statistics.ts";
import { type Attack, startAttack } from "../support/attack.ts";
import type { AttackPlan } from "../support/attacker.ts";
import { int32, message, startup } from "../support/raw-client.ts";
import { sleep } from "../support/time.ts";
import { refused } from "./probe.ts";
import type { Victim } from "./victim.ts";

const HALF_OPEN = 10_000;
/** Resident memory may grow by that much for each; it was 13 to 20. What the heap has grown by, Node.js keeps for the next. */
const HALF_OPEN_KIBIBYTES_MAX = 64;
const SLOW = 500;
const HANDSHAKES = 2_000;
const GUESSES = 1_000;
const CANCELS = 5_000;
const HEALTH_CHECKS = 20;
const KIBIBYTE = 1024;
/** Has a rule and no secret. */
const NOBODY = "app";
const kinds = ["silent", "byte", "startup", "sslrequest"] as const;

/** 127.0.`first`.2 and so on, `count` of them. */
const addresses = (first: number, count: number): string[] =>
  Array.from({ length: count }, (_, index) => `127.0.${first + index}.2`);

/** Has attacks going while `look` does, and none behind it. */
async function whileAttacked<T>(plans: readonly AttackPlan[], look: (attacks: readonly Attack[]) => Promise<T>) {
  const attacks = plans.map(startAttack);
  try {
    return await look(attacks);
  } finally {
    await Promise.all(attacks.map((attack) => attack.stop()));
  }
}

const total = (attacks: readonly Attack[], figure: "open" | "opened" | "closed" | "failed"): number =>
  attacks.reduce((sum, attack) => sum + attack.state()[figure], 0);

function saidBy(attacks: readonly Attack[]): string {
  const sums = new Map<string, number>();
  for (const attack of attacks) {
    for (const [what, count] of Object.entries(attack.state().said)) sums.set(what, (sums.get(what) ?? 0) + count);
  }
  return [...sums].map(([what, count]) => `${count} × ${what}`).join(", ") || "nothing said";
}

/** Thousands that never log in, in four ways; `most`: how many the door lets stand there. */
export async function halfOpen(victim: Victim, from: readonly string[], most: number): Promise<string> {
  const { book, honest } = victim;
  const count = HALF_OPEN / kinds.length;
  const plans = kinds.map(
    (kind): AttackPlan => ({ port: victim.port, count, kind, from: [...from], abreast: 50, insist: false }),
  );
  const before = victim.memory();
  const connected = honest.connected;
  return whileAttacked(plans, async (attacks) => {
    for (const attack of attacks) await attack.until("it has tried them all", ({ opened }) => opened >= count, 60_000);
    await sleep(1_000);
    const held = await victim.metric("pgsteer_clients", 'state="login"');
    book.holds(`half-open logins stay within ${most}: ${held}`, held <= most);
    if (most > HALF_OPEN) book.holds(`all ${HALF_OPEN} are held at once: ${held}`, held >= HALF_OPEN);
    else book.holds("the others were refused", (await victim.refusals("too_many_logins")) >= HALF_OPEN - most);
    book.holds("honest logins meanwhile", honest.connected > connected);
    const each = (victim.memory() - before) / held / KIBIBYTE;
    book.holds(`memory of one that is half-open: ${each.toFixed(1)} kB`, each <= HALF_OPEN_KIBIBYTES_MAX);
    return `${held} held at once, ${each.toFixed(1)} kB each; ${total(attacks, "closed")} closed`;
  });
}

export const fromMany = (): string[] => addresses(1, 40);
export const fromOne = (): string[] => addresses(50, 1);

/** A byte a second, until their time is over. */
export async function slowLogins(victim: Victim): Promise<string> {
  const plan = {
    port: victim.port,
    count: SLOW,
    kind: "drip",
    from: addresses(51, 1),
    abreast: 50,
    insist: false,
  } as const;
  return whileAttacked([plan], async (attacks) => {
    for (const attack of attacks) await attack.until("all are ended", ({ closed }) => closed === SLOW, 60_000);
    victim.book.equal("ended by client_login_timeout", saidBy(attacks), `${SLOW} × 57014`);
    return `all ended by client_login_timeout: ${saidBy(attacks)}`;
  });
}

/** A header that never ends, while a balancer asks for health. */
export async function slowHeaders(victim: Victim): Promise<string> {
  const { httpUrl, ports } = victim.pgsteer;
  const plan = {
    port: ports.http,
    count: SLOW,
    kind: "http",
    from: addresses(52, 1),
    abreast: 50,
    insist: true,
  } as const;
  return whileAttacked([plan], async (attacks) => {
    for (const attack of attacks) await attack.until("all have come", ({ opened }) => opened >= SLOW, 60_000);
    let healthy = 0;
    for (let count = 0; count < HEALTH_CHECKS; count += 1) {
      if ((await fetch(`${httpUrl}/livez`)).status === 200) healthy += 1;
    }
    victim.book.equal("health checks answered meanwhile", healthy, HEALTH_CHECKS);
    const closed = total(attacks, "closed");
    victim.book.holds("slow requests are closed", closed > 0);
    return `${healthy} of ${HEALTH_CHECKS} health checks answered; of ${total(attacks, "opened")}, ${closed} closed`;
  });
}

/** As many TLS handshakes as can be, at once. */
export async function handshakes(victim: Victim): Promise<string> {
  const plan = {
    port: victim.port,
    count: HANDSHAKES,
    kind: "handshake",
    from: addresses(53, 1),
    abreast: HANDSHAKES,
    insist: false,
  } as const;
  const connected = victim.honest.connected;
  return whileAttacked([plan], async (attacks) => {
    const over = (each: Attack): boolean => {
      const { said, closed } = each.state();
      return (said["secure"] ?? 0) >= HANDSHAKES || closed >= HANDSHAKES;
    };
    for (const attack of attacks) await attack.until("each is done or refused", () => over(attack), 60_000);
    victim.book.holds("honest logins meanwhile", victim.honest.connected > connected);
    return saidBy(attacks);
  });
}

/** Calls `act` for 0, 1, … `count - 1`, so many at a time. */
async function abreast(count: number, atOnce: number, act: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < count) await act(next++);
  };
  await Promise.all(Array.from({ length: atOnce }, work));
}

/** Wrong passwords, of users who exist and who do not. */
export async function guessedPasswords(victim: Victim): Promise<string> {
  const from = "127.0.54.2";
  const answered: number[] = [];
  const counts = { "28P01": 0, "53300": 0, closed: 0 };
  await abreast(GUESSES, 100, async (index) => {
    const user = index % 2 === 0 ? victim.login.user : NOBODY;
    const refusal = await refused(victim.port, user, victim.login.database, from).catch(() => null);
    if (refusal?.sqlstate === "28P01") answered.push(refusal.ms);
    if (refusal?.sqlstate === "28P01" || refusal?.sqlstate === "53300") counts[refusal.sqlstate] += 1;
    else counts.closed += 1;
  });
  const lines = readFileSync(victim.pgsteer.log, "utf8")
    .split("\n")
    .filter((line) => line.includes("login failed") && line.includes(from)).length;
  const { book } = victim;
  book.equal("guesses that were refused", counts["28P01"] + counts["53300"] + counts.closed, GUESSES);
  book.holds(`guesses are answered no more beyond the limit: ${counts["28P01"]}`, counts["28P01"] <= GUESSES / 2);
  book.holds(`lines written of them: ${lines}`, lines >= 1 && lines <= 2);
  const late = `${median(answered).toFixed(0)} ms late, ${Math.max(...answered).toFixed(0)} at most`;
  return `${counts["28P01"]} answered (${late}), ${counts["53300"]} × 53300, ${counts.closed} closed; ${lines} log line`;
}

/** Cancel requests for a pid that exists, with keys that are not its own. */
export async function guessedKeys(victim: Victim): Promise<string> {
  const { book, login } = victim;
  const worker = await victim.open("127.0.56.2");
  worker.send(startup({ user: login.user, database: login.database }));
  const seen = await worker.authenticate(login.user, login.password);
  const key = seen.find((each) => each?.type === "K")?.body ?? Buffer.alloc(8);
  const [requests, limited] = ["pgsteer_cancels_total", "pgsteer_cancels_limited_total"] as const;
  const before = [await victim.metric(requests), await victim.metric(limited)] as const;
  let going = true;
  const statements: string[] = [];
  const works = (async () => {
    while (going) statements.push((await worker.simple("SELECT pg_sleep(0.05)")).join());
  })();
  let answered = 0;
  await abreast(CANCELS, 50, async () => {
    const client = await victim.open("127.0.55.2");
    client.send(
      message(
        "",
        int32(80_877_102),
        key.subarray(0, 4),
        Buffer.concat([randomBytes(3), Buffer.of((key.at(-1) ?? 0) ^ 1)]),
      ),
    );
    answered += (await client.untilEnd()).filter((each) => each !== null).length;
    client.destroy();
  });
  going = false;
  await works;
  worker.destroy();
  const heard = (await victim.metric(requests)) - before[0];
  const cut = (await victim.metric(limited)) - before[1];
  book.equal("cancel requests that were answered", answered, 0);
  book.equal("cancel requests counted", heard, CANCELS);
  book.holds(`cancel requests beyond the limit are counted: ${cut}`, cut > 0 && cut < CANCELS);
  book.equal("statements hit", statements.filter((each) => each !== "T,D ,C SELECT 1,Z I").length, 0);
  return `all closed without a word, ${cut} unheard; ${statements.length} statements, none hit`;
}
