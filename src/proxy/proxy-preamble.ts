// Where a listener demands the PROXY protocol: reads the header that comes before everything else, in whatever pieces, and hands
// the connection on with the client's true address. Nothing is said to whoever sends something else: it may be no client at all.

import { ownBytes } from "../protocol/own-bytes.ts";
import { readProxyHeader } from "../protocol/proxy-header.ts";
import type { TransportSink } from "../protocol/transport.ts";

export interface PreambleSink {
  /** The header was read. `address` is null where the connection is the balancer's own; `rest` came behind the header. */
  introduced(address: string | null, rest: Buffer): void;
  /** There is no header to believe. */
  notIntroduced(reason: string): void;
  ended(): void;
  closed(): void;
}

export class ProxyPreamble implements TransportSink {
  readonly #sink: PreambleSink;
  readonly #trusted: boolean;
  #received: Buffer = Buffer.alloc(0);
  #over = false;

  /** `trusted`: whether a header from this peer is believed. */
  constructor(trusted: boolean, sink: PreambleSink) {
    this.#trusted = trusted;
    this.#sink = sink;
  }

  bytes(buffer: Buffer, start: number, end: number): void {
    if (this.#over) return;
    if (!this.#trusted) return this.#refuse("the peer is in none of the networks in proxy_protocol_from");
    const piece = buffer.subarray(start, end);
    this.#received = this.#received.length === 0 ? piece : Buffer.concat([this.#received, piece]);
    const header = readProxyHeader(this.#received);
    if (header.kind === "incomplete") {
      this.#received = ownBytes(this.#received);
      return;
    }
    if (header.kind === "malformed") return this.#refuse(header.reason);
    this.#over = true;
    this.#sink.introduced(header.address, this.#received.subarray(header.length));
  }

  #refuse(reason: string): void {
    this.#over = true;
    this.#sink.notIntroduced(reason);
  }

  drained(): void {}

  /** A connection that says nothing at all is a balancer that looks whether somebody listens. */
  ended(): void {
    if (this.#over) return;
    if (this.#received.length > 0) this.#refuse("the header is cut short");
    else this.#sink.ended();
  }

  closed(): void {
    this.#sink.closed();
  }
}
