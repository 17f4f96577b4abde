// The HTTP endpoints for people, load balancers and Prometheus: /livez, /readyz, /metrics, /topology, /events. Read-only, without a body or a
// login; requests are bounded in size, time and number, so that nobody who can reach the port can hold the process up.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Logger } from "../core/logger.ts";
import type { ShownIncident } from "../metrics/incidents.ts";
import { notReady, type Question } from "../metrics/readiness.ts";
import type { Exposition } from "../metrics/registry.ts";
import type { Snapshot } from "../metrics/snapshot.ts";
import { eventsDocument } from "./events-document.ts";
import { topologyDocument } from "./topology-document.ts";

/** Request line and headers. A health check takes less than 1 kB. */
const HEADER_BYTES_MAX = 8_192;
/** A request that has not arrived by then is answered 408. */
const REQUEST_TIMEOUT_MS = 5_000;
/** A connection on which nothing moves for longer is closed. */
const IDLE_TIMEOUT_MS = 10_000;
/** How often the two above are looked at. */
const CHECK_EVERY_MS = 1_000;
/** One more is closed unanswered. */
const CONNECTIONS_MAX = 128;

/** Where the answers come from. */
export interface AdminSources {
  snapshot(): Snapshot;
  scrape(): Promise<Exposition>;
  /** Records of changes of leader, newest first; of all clusters when none is named. */
  events(cluster: string | null): readonly ShownIncident[];
}

interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

const text = (status: number, line: string): Answer => ({
  status,
  contentType: "text/plain; charset=utf-8",
  body: `${line}\n`,
});

export class AdminServer {
  readonly #logger: Logger;
  readonly #sources: AdminSources;
  readonly #where: { readonly address: string; readonly port: number };
  readonly #server: Server;

  constructor(logger: Logger, sources: AdminSources, where: { readonly address: string; readonly port: number }) {
    this.#logger = logger;
    this.#sources = sources;
    this.#where = where;
    this.#server = createServer(
      {
        maxHeaderSize: HEADER_BYTES_MAX,
        requestTimeout: REQUEST_TIMEOUT_MS,
        headersTimeout: REQUEST_TIMEOUT_MS,
        keepAliveTimeout: REQUEST_TIMEOUT_MS,
        connectionsCheckingInterval: CHECK_EVERY_MS,
      },
      (request, response) => this.#serve(request, response),
    );
    this.#server.timeout = IDLE_TIMEOUT_MS;
    this.#server.maxConnections = CONNECTIONS_MAX;
  }

  /** The port that it listens on. */
  get port(): number {
    const address = this.#server.address();
    return address !== null && typeof address === "object" ? address.port : this.#where.port;
  }

  /** Rejects with Node's error when the address cannot be had. */
  open(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen({ host: this.#where.address, port: this.#where.port }, () => {
        this.#server.off("error", reject);
        resolve();
      });
    });
  }

  /** Ends all connections too. */
  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const send = ({ status, contentType, body }: Answer): void => {
      response.writeHead(status, {
        "content-type": contentType,
        "content-length": Buffer.byteLength(body),
        "cache-control": "no-store",
        ...(status === 405 ? { allow: "GET, HEAD" } : {}),
      });
      response.end(body);
    };
    this.#answer(request.method ?? "", request.url ?? "").then(send, (error: unknown) => {
      this.#logger.error({ path: request.url, err: error }, "http request failed");
      send(text(500, "internal error: the log says more"));
    });
  }

  async #answer(method: string, target: string): Promise<Answer> {
    if (method !== "GET" && method !== "HEAD") return text(405, `only GET and HEAD are answered, not ${method}`);
    const url = URL.parse(target, "http://localhost");
    if (url === null) return text(400, "the request names no valid path");
    switch (url.pathname) {
      case "/livez":
        return text(200, "pgsteer is running");
      case "/readyz":
        return this.#ready(url.searchParams);
      case "/metrics": {
        const exposition = await this.#sources.scrape();
        return { status: 200, contentType: exposition.contentType, body: exposition.text };
      }
      case "/topology": {
        const body = `${JSON.stringify(topologyDocument(this.#sources.snapshot()), null, 2)}\n`;
        return { status: 200, contentType: "application/json; charset=utf-8", body };
      }
      case "/events":
        return this.#events(url.searchParams);
      default:
        return text(
          404,
          "there is nothing here; try /livez, /readyz?route=write, /readyz?route=read, /metrics, /topology, /events",
        );
    }
  }

  #events(parameters: URLSearchParams): Answer {
    const stranger = [...parameters.keys()].find((name) => name !== "limit" && name !== "cluster");
    if (stranger !== undefined) return text(400, `there is no parameter "${stranger}": use limit and cluster`);
    const limit = parameters.get("limit");
    if (limit !== null && !/^[1-9]\d{0,5}$/.test(limit)) return text(400, `limit "${limit}" is not a number from 1 on`);
    const all = this.#sources.events(parameters.get("cluster"));
    const events = limit === null ? all : all.slice(0, Number(limit));
    const { version } = this.#sources.snapshot().build;
    const body = `${JSON.stringify(eventsDocument(version, events), null, 2)}\n`;
    return { status: 200, contentType: "application/json; charset=utf-8", body };
  }

  #ready(parameters: URLSearchParams): Answer {
    const question = questionOf(parameters);
    if (typeof question === "string") return text(400, question);
    const obstacle = notReady(this.#sources.snapshot(), question);
    const what = question.route === null ? "pgsteer" : `route "${question.route}"`;
    return obstacle === null ? text(200, `${what} is ready`) : text(503, `${what} is not ready: ${obstacle}`);
  }
}

/** What /readyz was asked, or why that cannot be answered. A misspelt parameter must not look like a healthy service. */
function questionOf(parameters: URLSearchParams): Question | string {
  for (const name of parameters.keys()) {
    if (name !== "route" && name !== "cluster") return `there is no parameter "${name}": use route and cluster`;
  }
  const route = parameters.get("route");
  const cluster = parameters.get("cluster");
  if (route === null || route === "write" || route === "read" || route === "auto") return { route, cluster };
  return `there is no route "${route}": use write, read or auto`;
}
