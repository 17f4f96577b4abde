// A way between pgsteer and etcd that a test can close: a TCP forwarder, whose connections it can cut, or let hang without a word.

import { connect, createServer, type Server, type Socket } from "node:net";
import { freePort } from "../support/ports.ts";

type Way = "open" | "cut" | "silent";

export class Forwarder {
  readonly port: number;
  readonly #target: { readonly host: string; readonly port: number };
  readonly #server: Server;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  #way: Way = "open";

  private constructor(port: number, target: { readonly host: string; readonly port: number }) {
    this.port = port;
    this.#target = target;
    this.#server = createServer((client) => this.#accept(client));
  }

  /** `endpoint`: `http://host:port`. */
  static async start(endpoint: string): Promise<Forwarder> {
    const { hostname, port } = new URL(endpoint);
    const forwarder = new Forwarder(await freePort(), { host: hostname, port: Number(port) });
    await new Promise<void>((resolve, reject) => {
      forwarder.#server.once("error", reject);
      forwarder.#server.listen(forwarder.port, "127.0.0.1", resolve);
    });
    return forwarder;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Ends all connections, and each new one at once. */
  cut(): void {
    this.#way = "cut";
    this.#endAll();
  }

  /** Connections stay, and are accepted; nothing passes any more. */
  silence(): void {
    this.#way = "silent";
    for (const pair of this.#pairs) for (const socket of pair) socket.pause();
  }

  /** As before; what hung is ended, as a network does that has forgotten it. */
  open(): void {
    if (this.#way === "silent") this.#endAll();
    this.#way = "open";
  }

  async close(): Promise<void> {
    this.#endAll();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #accept(client: Socket): void {
    client.on("error", () => client.destroy());
    if (this.#way === "cut") {
      client.destroy();
      return;
    }
    const server = connect(this.#target);
    server.on("error", () => client.destroy());
    const pair = [client, server] as const;
    this.#pairs.add(pair);
    const end = (): void => {
      this.#pairs.delete(pair);
      for (const socket of pair) socket.destroy();
    };
    client.on("close", end);
    server.on("close", end);
    client.pipe(server);
    server.pipe(client);
    if (this.#way === "silent") for (const socket of pair) socket.pause();
  }

  #endAll(): void {
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
  }
}
