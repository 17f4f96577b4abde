// Real etcd for tests: one node or a quorum, and a small reader over its JSON gateway
// (https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/) that is deliberately not the code under test.

import { join } from "node:path";
import { z } from "zod";
import { type Host, LOCAL_HOST } from "./host.ts";
import { freePort, preferredPort } from "./ports.ts";
import { makeServerDirectory, type ProcessGroup, type RunningProcess } from "./processes.ts";
import { now, waitFor } from "./time.ts";

const keyValue = z.object({ key: z.string(), value: z.string().default(""), mod_revision: z.string().default("0") });
const rangeAnswer = z.object({ kvs: z.array(keyValue).default([]) });
const watchAnswer = z.object({
  result: z.object({
    created: z.boolean().optional(),
    events: z.array(z.object({ type: z.string().default("PUT"), kv: keyValue })).default([]),
  }),
});

const encode = (text: string): string => Buffer.from(text).toString("base64");
const decode = (text: string): string => Buffer.from(text, "base64").toString();

/** The key that ends the range of all keys with `prefix`. */
function rangeEnd(prefix: string): string {
  const bytes = Buffer.from(prefix);
  const last = bytes.length - 1;
  bytes.writeUInt8(bytes.readUInt8(last) + 1, last);
  return bytes.toString("base64");
}

/** A key as etcd has it. */
export interface EtcdValue {
  readonly value: string;
  readonly revision: bigint;
}

/** A change of a key as a watch saw it; `at` is the moment of its arrival. */
export interface EtcdEvent {
  readonly key: string;
  /** Null when the key was deleted. */
  readonly value: string | null;
  readonly revision: bigint;
  readonly at: number;
}

interface EtcdNode {
  readonly name: string;
  readonly client: string;
  readonly peer: string;
  readonly directory: string;
  readonly namespaceOf: number | null;
}

/** The etcd nodes of a cluster, by index. */
export class Etcd {
  readonly nodes: readonly EtcdNode[];
  readonly endpoints: readonly string[];
  readonly #group: ProcessGroup;
  readonly #running = new Map<number, RunningProcess>();

  private constructor(group: ProcessGroup, nodes: readonly EtcdNode[]) {
    this.#group = group;
    this.nodes = nodes;
    this.endpoints = nodes.map((node) => node.client);
  }

  /** `firstPort` is where the first node serves clients, if that port is free. */
  static async start(
    group: ProcessGroup,
    count: number,
    firstPort?: number,
    hosts: (name: string) => Host = () => LOCAL_HOST,
  ): Promise<Etcd> {
    const nodes: EtcdNode[] = [];
    for (let index = 0; index < count; index += 1) {
      const name = `etcd${index + 1}`;
      const { address, namespaceOf } = hosts(name);
      nodes.push({
        name,
        namespaceOf,
        client: `http://${address}:${await preferredPort(firstPort && firstPort + 2 * index)}`,
        peer: `http://${address}:${await freePort()}`,
        directory: makeServerDirectory(join(group.directory, name)),
      });
    }
    const etcd = new Etcd(group, nodes);
    await Promise.all(nodes.map((_, index) => etcd.#launch(index)));
    await etcd.ready();
    return etcd;
  }

  /** Waits until a linearizable read is answered, that is, until there is a quorum. */
  async ready(timeoutMs = 60_000): Promise<void> {
    const answers = async () => (await this.list("/ready")).size >= 0;
    await waitFor(answers, { timeoutMs, what: "etcd answers reads" });
  }

  /** Starts one node again, or all of them, on their old data. */
  async launch(index?: number): Promise<void> {
    await Promise.all(this.#chosen(index).map((node) => this.#launch(node)));
  }

  async stop(index?: number): Promise<void> {
    await Promise.all(this.#chosen(index).map((node) => this.#running.get(node)?.stop(3000)));
  }

  async kill(index?: number): Promise<void> {
    await Promise.all(this.#chosen(index).map((node) => this.#running.get(node)?.kill()));
  }

  /** SIGSTOP: connections stay open, nothing answers. */
  freeze(index?: number): void {
    for (const node of this.#chosen(index)) this.#running.get(node)?.signal("SIGSTOP");
  }

  thaw(index?: number): void {
    for (const node of this.#chosen(index)) this.#running.get(node)?.signal("SIGCONT");
  }

  /** Null when there is no such key. */
  async get(key: string): Promise<EtcdValue | null> {
    const [found] = await this.#range({ key: encode(key) });
    return found === undefined ? null : { value: found.value, revision: found.revision };
  }

  /** All keys that begin with `prefix`. */
  async list(prefix: string): Promise<Map<string, EtcdValue>> {
    const found = await this.#range({ key: encode(prefix), range_end: rangeEnd(prefix) });
    return new Map(found.map(({ key, value, revision }) => [key, { value, revision }]));
  }

  async put(key: string, value: string): Promise<void> {
    await this.#post("/v3/kv/put", { key: encode(key), value: encode(value) });
  }

  async delete(key: string): Promise<void> {
    await this.#post("/v3/kv/deleterange", { key: encode(key) });
  }

  /**
   * Watches the keys that begin with `prefix` through the first endpoint. Resolves when the watch stands, to the way to end
   * it; a watch that breaks later (etcd stopped) just ends.
   */
  async watch(prefix: string, sink: (event: EtcdEvent) => void): Promise<() => void> {
    const control = new AbortController();
    const body = { create_request: { key: encode(prefix), range_end: rangeEnd(prefix) } };
    const response = await fetch(`${this.endpoints[0]}/v3/watch`, {
      method: "POST",
      body: JSON.stringify(body),
      signal: control.signal,
    });
    const stream = response.body;
    if (stream === null) throw new Error("etcd's watch has no body");
    await new Promise<void>((created, failed) => {
      readLines(stream, (line) => {
        const { result } = watchAnswer.parse(JSON.parse(line));
        if (result.created === true) created();
        const at = now();
        for (const { type, kv } of result.events) {
          const value = type === "DELETE" ? null : decode(kv.value);
          sink({ key: decode(kv.key), value, revision: BigInt(kv.mod_revision), at });
        }
      }).then(() => failed(new Error("etcd ended the watch")), failed);
    });
    return () => control.abort();
  }

  async #range(request: object): Promise<{ key: string; value: string; revision: bigint }[]> {
    const { kvs } = rangeAnswer.parse(await this.#post("/v3/kv/range", request));
    return kvs.map((kv) => ({ key: decode(kv.key), value: decode(kv.value), revision: BigInt(kv.mod_revision) }));
  }

  async #post(path: string, request: object): Promise<unknown> {
    let failure: unknown;
    for (const endpoint of this.endpoints) {
      try {
        const signal = AbortSignal.timeout(2000);
        const response = await fetch(endpoint + path, { method: "POST", body: JSON.stringify(request), signal });
        if (!response.ok) throw new Error(`etcd answered ${response.status}: ${await response.text()}`);
        return await response.json();
      } catch (error) {
        failure = error;
      }
    }
    throw new Error("no etcd endpoint answers", { cause: failure });
  }

  #chosen(index: number | undefined): number[] {
    return index === undefined ? [...this.nodes.keys()] : [index];
  }

  async #launch(index: number): Promise<void> {
    const node = this.nodes[index];
    if (node === undefined) throw new Error(`there is no etcd node ${index}`);
    if (this.#running.get(index)?.alive() === true) return;
    const args = ["--name", node.name, "--data-dir", join(node.directory, "data"), "--logger", "zap"];
    args.push("--listen-client-urls", node.client, "--advertise-client-urls", node.client);
    args.push("--listen-peer-urls", node.peer, "--initial-advertise-peer-urls", node.peer);
    args.push("--initial-cluster", this.nodes.map(({ name, peer }) => `${name}=${peer}`).join(","));
    const { namespaceOf } = node;
    const options = { name: node.name, cwd: node.directory, asPostgres: true, namespaceOf };
    this.#running.set(index, await this.#group.start("etcd", args, options));
  }
}

async function readLines(stream: ReadableStream<Uint8Array>, sink: (line: string) => void): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) if (line !== "") sink(line);
  }
}
