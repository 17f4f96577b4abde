// Attackers, and what they get: nothing that another one would not get, and nobody else's place. Beside PostgreSQL itself where it has
// an answer of its own. Attackers come from other addresses of this machine than honest clients do.

import { chownSync, mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { ConnectionOptions, connect as connectTls } from "node:tls";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { endPointBinding } from "../../src/auth/channel-binding.ts";
import { type Attack, startAttack, strangers } from "../support/attack.ts";
import { makeCertificates } from "../support/certificates.ts";
import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { clientHello, lastWords, overTls, type ScramTalk, scramTalk, sslRequest } from "../support/hostile-client.ts";
import { type Pgsteer, startPgsteer } from "../support/pgsteer.ts";
import { temporaryServerDirectory } from "../support/processes.ts";
import { int32, message, RawClient, startup } from "../support/raw-client.ts";
import { codeOf, queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

const MAX_HALF_OPEN = 100;
const FAILURES = 12;
let cluster: Cluster;
let pgsteer: Pgsteer;
let ca: string;
const opened: RawClient[] = [];
const attacks: Attack[] = [];

beforeAll(async () => {
  const directory = temporaryServerDirectory("hostile");
  const certificates = join(directory, "certificates");
  mkdirSync(certificates);
  ca = (await makeCertificates(certificates)).server.ca;
  const [cert, key] = [join(certificates, "server.crt"), join(certificates, "server.key")];
  // PostgreSQL wants its key for itself.
  const { uid, gid } = statSync(directory);
  chownSync(key, uid, gid);
  const parameters = { ssl: "on", ssl_cert_file: cert, ssl_key_file: key };
  cluster = await startCluster({ directory, members: 1, postgres: { parameters } });
  pgsteer = await startPgsteer(cluster, {
    ready: "sql",
    configure: (configuration) => {
      configuration["client_tls"] = { mode: "allow", cert_file: cert, key_file: key };
      configuration["limits"] = {
        max_half_open: MAX_HALF_OPEN,
        auth_failures_per_minute: FAILURES,
        cancels_per_second: 1,
      };
      configuration.pool["client_login_timeout"] = "3s";
    },
  });
});

afterEach(async () => {
  for (const client of opened.splice(0)) client.destroy();
  for (const attack of attacks.splice(0)) await attack.stop();
});

afterAll(async () => {
  await cluster?.remove();
});

const port = (): number => pgsteer.ports.write;
const honest = () => queryOnce(pgsteer.login("write"), "SELECT 1 AS n");
const hello = (user: string = APPLICATION.user): Buffer => startup({ user, database: APPLICATION.database });

async function open(from?: string, where = port()): Promise<RawClient> {
  const client = await RawClient.open(where, "127.0.0.1", from);
  opened.push(client);
  return client;
}

/** A connection inside TLS. */
async function secure(where = port(), options: ConnectionOptions = {}): Promise<RawClient> {
  const raw = await open(undefined, where);
  raw.send(sslRequest);
  expect((await raw.bytes(1)).toString()).toBe("S");
  const client = await overTls(raw, { ca, ...options });
  opened.push(client);
  return client;
}

/** A metric's value, of all listeners together. */
async function metric(name: string, label = ""): Promise<number> {
  const text = await (await fetch(`${pgsteer.httpUrl}/metrics`)).text();
  const lines = text.split("\n").filter((line) => line.startsWith(`${name}{`) && line.includes(label));
  return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}

const halfOpen = () => metric("pgsteer_clients", 'state="login"');
const refusals = (code: string) => metric("pgsteer_errors_total", `code="${code}"`);
const logged = (): string => readFileSync(pgsteer.log, "utf8");

describe("half-open logins", () => {
  test.each(["silent", "drip", "startup", "sslrequest", "handshake"] as const)(
    "by the hundreds (%s) take no place from who comes from elsewhere",
    async (kind) => {
      const count = 5 * MAX_HALF_OPEN;
      const attack = startAttack({ port: port(), count, kind, from: ["127.0.9.2"], abreast: 50, insist: true });
      attacks.push(attack);
      const before = await refusals("too_many_logins");
      await attack.until("it has tried them all", ({ opened: tried }) => tried >= count);
      for (let round = 0; round < 10; round += 1) expect((await honest()).rows).toEqual([{ n: 1 }]);
      expect(await halfOpen()).toBeLessThanOrEqual(MAX_HALF_OPEN);
      expect(await refusals("too_many_logins")).toBeGreaterThan(before);
      await attack.stop();
      await waitFor(async () => (await halfOpen()) === 0, { timeoutMs: 20_000, what: "nothing is left of them" });
    },
  );

  test("are ended by client_login_timeout, however slowly they speak", async () => {
    const attack = startAttack({
      port: port(),
      count: 20,
      kind: "drip",
      from: strangers(4),
      abreast: 20,
      insist: false,
    });
    attacks.push(attack);
    const before = await refusals("login_timeout");
    await attack.until("all are ended", ({ closed }) => closed === 20, 30_000);
    expect(attack.state().said).toEqual({ "57014": 20 });
    expect(await refusals("login_timeout")).toBe(before + 20);
  });
});

describe("guessing", () => {
  test("passwords is answered later, then no more, alike for users who exist and who do not; nobody else feels it", async () => {
    const from = "127.0.8.3";
    const guess = async (user: string): Promise<string> => {
      const client = await open(from);
      client.send(hello(user));
      return lastWords(await client.authenticate(user, "a-guess")).error;
    };
    const words = (user: string) => `28P01 password authentication failed for user "${user}"`;
    const users = Array.from({ length: FAILURES }, (_, index) => (index % 2 === 0 ? APPLICATION.user : "no\u001bbody"));
    const heard = await Promise.all(users.map(guess));
    expect(heard).toEqual(users.map(words));
    const refused: { error: string; bytes: string }[] = [];
    for (const user of [APPLICATION.user, "nobody"]) {
      const client = await open(from);
      client.send(hello(user));
      refused.push(lastWords(await client.untilEnd()));
    }
    expect(refused[0]).toEqual(refused[1]);
    expect(refused[0]?.error).toBe("53300 too many failed logins from this address");
    expect((await honest()).rows).toEqual([{ n: 1 }]);
    const neighbour = await open("127.0.8.4");
    neighbour.send(hello());
    expect((await neighbour.authenticate(APPLICATION.user, APPLICATION.password)).at(-1)?.type).toBe("Z");
    expect(await refusals("password_failed")).toBe(FAILURES);
    expect(await refusals("too_many_failures")).toBe(2);
    const lines = logged()
      .split("\n")
      .filter((line) => line.includes("login failed") && line.includes(from));
    expect(lines).toHaveLength(1);
    expect(JSON.parse(lines[0] ?? "")).toMatchObject({ code: "password_failed", user: expect.any(String) });
    expect(logged()).not.toContain("a-guess");
    expect(logged()).not.toContain("\\u001b");
  });

  test("cancel keys is not heard beyond the limit, and never answered", async () => {
    const victim = await open();
    victim.send(hello());
    const seen = await victim.authenticate(APPLICATION.user, APPLICATION.password);
    const key = seen.find((each) => each?.type === "K")?.body ?? Buffer.alloc(8);
    const before = await metric("pgsteer_cancels_limited_total");
    const running = victim.simple("SELECT pg_sleep(2)");
    const guesses = Array.from({ length: 30 }, async (_, index) => {
      const stranger = await open("127.0.8.5");
      stranger.send(message("", int32(80_877_102), key.subarray(0, 4), int32(index)));
      return stranger.untilEnd();
    });
    expect(new Set((await Promise.all(guesses)).map((each) => JSON.stringify(each)))).toEqual(new Set(["[null]"]));
    expect((await metric("pgsteer_cancels_limited_total")) - before).toBeGreaterThanOrEqual(18);
    // Even the right key is not heard from there any more.
    const late = await open("127.0.8.5");
    late.send(message("", int32(80_877_102), key));
    expect(await late.untilEnd()).toEqual([null]);
    expect(await running).toEqual(["T", "D ", "C SELECT 1", "Z I"]);
  });
});

const scram = (client: RawClient, talk: ScramTalk) => scramTalk(client, APPLICATION, talk);

describe("inside TLS", () => {
  const header = "p=tls-server-end-point,,";
  const bound = async (where: number): Promise<Buffer> => {
    const client = await secure(where);
    const { socket } = client;
    const raw =
      "getPeerX509Certificate" in socket
        ? (socket as ReturnType<typeof connectTls>).getPeerX509Certificate()?.raw
        : undefined;
    return Buffer.concat([Buffer.from(header), endPointBinding(raw ?? Buffer.alloc(0)) ?? Buffer.alloc(0)]);
  };
  const plus = "SCRAM-SHA-256-PLUS";
  const plain = "SCRAM-SHA-256";

  test.each<[string, (where: number) => Promise<ScramTalk>, string]>([
    ["a client that binds", async (where) => ({ mechanism: plus, header, binding: await bound(where) }), "Z"],
    ["a client that cannot bind", async () => ({ mechanism: plain, header: "n,," }), "Z"],
    ["a client that was told that there is no binding", async () => ({ mechanism: plain, header: "y,," }), "28000"],
    [
      "a client that binds to another certificate",
      async () => ({ mechanism: plus, header, binding: Buffer.from(`${header}${"x".repeat(32)}`) }),
      "28000",
    ],
    ["a binding of no data", async () => ({ mechanism: plus, header }), "28000"],
    ["the name without the binding", async () => ({ mechanism: plus, header: "n,," }), "08P01"],
    ["the binding without the name", async () => ({ mechanism: plain, header }), "08P01"],
    ["another kind of binding", async () => ({ mechanism: plus, header: "p=tls-unique,," }), "08P01"],
    ["a mechanism that nobody offered", async () => ({ mechanism: "SCRAM-SHA-1", header: "n,," }), "08P01"],
    [
      "a flag changed on its way",
      async () => ({ mechanism: plain, header: "n,,", final: (right) => right.replace("c=biws", "c=eSws") }),
      "08P01",
    ],
    ["an extension that may be left alone", async () => ({ mechanism: plain, header: "n,,", nonce: "x,m=must" }), "Z"],
  ])("%s is answered as by PostgreSQL", async (_what, talkTo, code) => {
    const outcome: string[] = [];
    for (const where of [cluster.member("node1").port, port()]) {
      const seen = await scram(await secure(where), await talkTo(where));
      outcome.push(seen.at(-1)?.type === "Z" ? "Z" : lastWords(seen).error);
    }
    expect(outcome[1]?.slice(0, 5)).toBe(code);
    expect(outcome[1]).toBe(outcome[0]);
  });
});

describe("a request for encryption", () => {
  test.each([80_877_103, 80_877_104])("inside TLS ends the connection as in PostgreSQL (%i)", async (code) => {
    const heard: string[] = [];
    for (const where of [cluster.member("node1").port, port()]) {
      const client = await secure(where);
      client.send(message("", int32(code)));
      heard.push(lastWords(await client.untilEnd()).error.replace(/: server.*/, ""));
    }
    expect(heard[1]).toMatch(/^0A000 unsupported frontend protocol 1234\.56/);
    expect(heard[1]).toBe(heard[0]);
  });
});

describe("a SCRAM message", () => {
  const honestTalk = { mechanism: "SCRAM-SHA-256", header: "n,," };

  test("of another login proves nothing, nor do keys or nonces that are sent back", async () => {
    let recorded = "";
    const record = (right: string): string => {
      recorded = right;
      return right;
    };
    expect((await scram(await open(), { ...honestTalk, final: record })).at(-1)?.type).toBe("Z");
    const nonceOf = (text: string): string => /r=([^,]+)/.exec(text)?.[1] ?? "";
    const cases: Record<string, (right: string, serverFirst: string) => string> = {
      replayed: () => recorded,
      "replayed with the new nonce": (_right, first) => recorded.replace(nonceOf(recorded), nonceOf(first)),
      "its own nonce alone": (right) => right.replace(nonceOf(right), "fyko+d2lbbFgONRv9qkxdawL"),
      "no proof": (right) => right.replace(/p=.*/, `p=${Buffer.alloc(32).toString("base64")}`),
      "the salt for a proof": (right, first) =>
        right.replace(
          /p=.*/,
          `p=${Buffer.concat([Buffer.from(/s=([^,]+)/.exec(first)?.[1] ?? "", "base64"), Buffer.alloc(16)]).toString("base64")}`,
        ),
      "a short proof": (right) => right.replace(/p=.*/, "p=AAAA"),
    };
    const heard: Record<string, string> = {};
    const wanted: Record<string, string> = {};
    for (const [name, final] of Object.entries(cases)) {
      heard[name] = lastWords(await scram(await open(), { ...honestTalk, final })).error;
      wanted[name] = lastWords(
        await scram(await open(undefined, cluster.member("node1").port), { ...honestTalk, final }),
      ).error;
    }
    expect(heard).toEqual(wanted);
    expect(Object.values(heard).map((each) => each.slice(0, 5))).toEqual([
      "08P01",
      "28P01",
      "08P01",
      "28P01",
      "28P01",
      "08P01",
    ]);
    // Two logins with one nonce of the client's get two of the server's.
    const nonces = new Set<string>();
    for (let count = 0; count < 3; count += 1) {
      const final = (right: string): string => {
        nonces.add(nonceOf(right));
        return right;
      };
      await scram(await open(), { ...honestTalk, final });
    }
    expect(nonces.size).toBe(3);
  });
});

describe("TLS that is cut", () => {
  test("at any byte of its beginning, with an end or a reset, leaves nothing behind", async () => {
    const bytes = await clientHello();
    expect(bytes[0]).toBe(0x16);
    const cuts = Array.from({ length: 60 }, (_, index) => Math.floor((index * bytes.length) / 60));
    for (const direct of [false, true]) {
      await Promise.all(
        cuts.map(async (cut) => {
          const client = await open();
          if (!direct) {
            client.send(sslRequest);
            await client.bytes(1);
          }
          client.socket.write(bytes.subarray(0, cut));
          if (cut % 2 === 0) client.socket.end();
          else client.socket.resetAndDestroy();
        }),
      );
    }
    expect((await honest()).rows).toEqual([{ n: 1 }]);
    await waitFor(async () => (await halfOpen()) === 0, { timeoutMs: 20_000, what: "nothing is left of them" });
  });

  test("in the middle of a record, or closed without a goodbye, ends that session alone, and its transaction", async () => {
    const works = async (): Promise<RawClient> => {
      const client = await secure();
      expect((await scram(client, { mechanism: "SCRAM-SHA-256", header: "n,," })).at(-1)?.type).toBe("Z");
      expect(await client.simple("BEGIN")).toEqual(["C BEGIN", "Z T"]);
      return client;
    };
    const below = (client: RawClient) => opened[opened.indexOf(client) - 1]?.socket;
    const half = await works();
    // A record of 200 bytes that never comes.
    below(half)?.write(Buffer.from([0x17, 0x03, 0x03, 0x00, 0xc8, 1, 2, 3]));
    below(half)?.end();
    const reset = await works();
    below(reset)?.resetAndDestroy();
    const forged = await works();
    below(forged)?.write(Buffer.concat([Buffer.from([0x17, 0x03, 0x03, 0x00, 0x20]), Buffer.alloc(32, 7)]));
    expect((await forged.untilEnd()).at(-1)).toBe(null);
    const busy = () => metric("pgsteer_clients", 'state="active"');
    await waitFor(async () => (await busy()) === 0, { timeoutMs: 20_000, what: "their transactions are over" });
    expect((await honest()).rows).toEqual([{ n: 1 }]);
  });

  test("is not what clear text behind an SSLRequest can be", async () => {
    const client = await open();
    client.send(sslRequest, hello());
    const { error } = lastWords(await client.untilEnd());
    expect(error).toBe("08P01 received unencrypted data after SSLRequest");
    expect(await queryOnce({ ...pgsteer.login("write"), password: "wrong" }, "SELECT 1").catch(codeOf)).toBe("28P01");
  });
});
