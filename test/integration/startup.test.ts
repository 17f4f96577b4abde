// The door: what a client can ask for at its login, and where it can come from. Everything against real servers.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { type Pgsteer, startPgsteer } from "../support/pgsteer.ts";
import { int32, message, outline, RawClient, type RawMessage, startup } from "../support/raw-client.ts";
import { sleep } from "../support/time.ts";

let cluster: Cluster;
let pgsteer: Pgsteer;
const opened: RawClient[] = [];

beforeAll(async () => {
  cluster = await startCluster({ members: 1 });
  pgsteer = await startPgsteer(cluster, { ready: "sql" });
});

afterEach(() => {
  for (const client of opened.splice(0)) client.destroy();
});

afterAll(async () => {
  await cluster?.remove();
});

async function open(): Promise<RawClient> {
  const client = await RawClient.open(pgsteer.ports.write);
  opened.push(client);
  return client;
}

/** Logs in as the application, and returns everything that was said. */
async function enter(
  minor: number,
  parameters: Readonly<Record<string, string>> = {},
): Promise<{ client: RawClient; seen: (RawMessage | null)[] }> {
  const client = await open();
  client.send(startup({ user: APPLICATION.user, database: APPLICATION.database, ...parameters }, minor));
  return { client, seen: await client.authenticate(APPLICATION.user, APPLICATION.password) };
}

describe("a client that asks for protocol", () => {
  test.each([
    ["3.0", 0, 4, null],
    ["3.2", 2, 32, null],
    ["3.1, which there never was,", 1, 4, 0],
    ["3.9999", 9999, 32, 2],
  ])("%s is let in, and its statement can be cancelled with the key it got", async (_name, minor, length, offered) => {
    const { client, seen } = await enter(minor);
    const offer = seen.find((each) => each?.type === "v")?.body ?? null;
    expect(offer?.readInt32BE(0) ?? null).toBe(offered === null ? null : 0x0003_0000 + offered);
    const key = seen.find((each) => each?.type === "K")?.body ?? Buffer.alloc(0);
    expect(key).toHaveLength(4 + length);
    const cancelled = client.simple("SELECT pg_sleep(30)");
    await sleep(100);
    const guess = await open();
    guess.send(message("", int32(80_877_102), key.subarray(0, -1), Buffer.from([(key.at(-1) ?? 0) ^ 1])));
    expect(await guess.untilEnd()).toEqual([null]);
    const request = await open();
    request.send(message("", int32(80_877_102), key));
    expect(await request.untilEnd()).toEqual([null]);
    expect(await cancelled).toEqual(["T", "E ERROR 57014", "Z I"]);
    expect(await client.simple("SELECT 2")).toEqual(["T", "D 2", "C SELECT 1", "Z I"]);
  });

  test("extensions that nobody knows is told which, and let in", async () => {
    const { client, seen } = await enter(2, { "_pq_.report": "on", TimeZone: "Asia/Tokyo", "_pq_.x": "" });
    const offer = seen.find((each) => each?.type === "v")?.body ?? Buffer.alloc(8);
    expect([offer.readInt32BE(0), offer.readInt32BE(4)]).toEqual([0x0003_0002, 2]);
    expect(offer.toString("latin1", 8)).toBe("_pq_.report\0_pq_.x\0");
    expect(outline(seen).at(-1)).toBe("Z I");
    expect(await client.value("SHOW TimeZone")).toBe("Asia/Tokyo");
  });
});
