// The HTTP endpoints for people, load balancers and Prometheus: /livez, /readyz, /metrics, /topology, /events to look, /reload to change
// something. Requests are bounded in size, time and number, so that nobody who can reach the port can hold the process up. Health checks
// need no login; all else does where one is configured, and what changes something always does.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer, type Server as TlsServer } from "node:https";
import { TLSSocket } from "node:tls";
import { plainAddress } from "../core/addresses.ts";
import type { Clock } from "../core/clock.ts";
import type { Logger } from "../core/logger.ts";
import { printable } from "../core/printable.ts";
import { Seldom } from "../core/seldom.ts";
import { millis } from "../core/units.ts";
import type { ShownIncident } from "../metrics/incidents.ts";
import { notReady, type Question } from "../metrics/readiness.ts";
import type { Exposition } from "../metrics/registry.ts";
import type { Snapshot } from "../metrics/snapshot.ts";
import { eventsDocument } from "./events-document.ts";
import type { HttpAccess, Judgement, Right } from "./http-access.ts";
import { HttpConnections } from "./http-connections.ts";
import type { ReloadReport } from "./reload-report.ts";
import { topologyDocument } from "./topology-document.ts";

/** Request line and headers. A health check takes less than 1 kB. */
const HEADER_BYTES_MAX = 8_192;
/** A request that has not arrived by then is answered 408. */
const REQUEST_TIMEOUT_MS = 5_000;
/** A connection on which nothing moves for longer is closed. */
const IDLE_TIMEOUT_MS = 10_000;
/** How often the two above are looked at. */
const CHECK_EVERY_MS = 1_000;
/** As long as a request may take. */
const HANDSHAKE_TIMEOUT_MS = REQUEST_TIMEOUT_MS;
const FAILURES_LOGGED_EVERY_MS = 10_000;

/** Where the answers come from. */
export interface AdminSources {
  snapshot(): Snapshot;
  scrape(): Promise<Exposition>;
  /** Records of changes of leader, newest first; of all clusters when none is named. */
  events(cluster: string | null): readonly ShownIncident[];
  /** Reads the configuration anew. */
  reload(): Promise<ReloadReport>;
}

/** Where it listens, and as whom. */
export interface AdminAddress {
  readonly address: string;
  readonly port: number;
  /** PEM texts; null: HTTP in clear. `ca`: of the client certificates that are demanded. */
  readonly tls: { readonly cert: string; readonly key: string; readonly ca: string | null } | null;
}

interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

const text = (status: number, line: string): Answer => ({
  status,
  contentType: "text/plain; charset=utf-8",
  body: `${line}\n`,
});

const json = (status: number, document: unknown): Answer => ({
  status,
  contentType: "application/json; charset=utf-8",
  body: `${JSON.stringify(document, null, 2)}\n`,
});

/** What anybody may ask, for the answers are for machines that decide by them whether this one is alive. */
const healthChecks: ReadonlySet<string> = new Set(["/livez", "/readyz"]);
const RELOAD = "/reload";

const tlsOptions = ({ cert, key, ca }: NonNullable<AdminAddress["tls"]>) => ({
  cert,
  key,
  minVersion: "TLSv1.2" as const,
  // Health checks are answered without; the rest looks at what was shown.
  ...(ca === null ? {} : { ca, requestCert: true, rejectUnauthorized: false }),
});

export class AdminServer {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #sources: AdminSources;
  readonly #access: HttpAccess;
  #where: AdminAddress;
  readonly #server: Server | TlsServer;
  readonly #failures: Seldom;
  readonly #unaccepted: Seldom;

  constructor(clock: Clock, logger: Logger, sources: AdminSources, access: HttpAccess, where: AdminAddress) {
    this.#clock = clock;
    this.#logger = logger;
    this.#sources = sources;
    this.#access = access;
    this.#where = where;
    this.#failures = new Seldom(clock, millis(FAILURES_LOGGED_EVERY_MS));
    this.#unaccepted = new Seldom(clock, millis(FAILURES_LOGGED_EVERY_MS));
    const bounds = {
      maxHeaderSize: HEADER_BYTES_MAX,
      requestTimeout: REQUEST_TIMEOUT_MS,
      headersTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: REQUEST_TIMEOUT_MS,
      connectionsCheckingInterval: CHECK_EVERY_MS,
    };
    const serve = (request: IncomingMessage, response: ServerResponse): void => this.#serve(request, response);
    this.#server =
      where.tls === null
        ? createServer(bounds, serve)
        : createTlsServer({ ...bounds, ...tlsOptions(where.tls), handshakeTimeout: HANDSHAKE_TIMEOUT_MS }, serve);
    this.#server.timeout = IDLE_TIMEOUT_MS;
    const connections = new HttpConnections();
    this.#server.on("connection", (socket) => connections.enter(socket));
  }

  /** Takes new certificates. */
  reconfigure(where: AdminAddress): void {
    this.#where = where;
    if (where.tls !== null && "setSecureContext" in this.#server) this.#server.setSecureContext(tlsOptions(where.tls));
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
        // One that could not be accepted; without anybody to hear of it the process would end.
        this.#server.on("error", ({ message }) => {
          const count = this.#unaccepted.due();
          if (count !== null) this.#logger.error({ reason: message, count }, "cannot accept http connections");
        });
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
    const send = ({ status, contentType, body, headers }: Answer): void => {
      // Nothing that is asked here has a body: one that comes all the same is not waited for.
      const hasBody =
        request.headers["content-length"] !== undefined || request.headers["transfer-encoding"] !== undefined;
      response.writeHead(status, {
        "content-type": contentType,
        "content-length": Buffer.byteLength(body),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        ...(hasBody ? { connection: "close" } : {}),
        ...headers,
      });
      response.end(body);
    };
    this.#admit(request).then(send, (error: unknown) => {
      this.#logger.error({ path: printable(request.url ?? ""), err: error }, "http request failed");
      send(text(500, "internal error: the log says more"));
    });
  }

  /** The answer, or why there is none for whoever asks. */
  async #admit(request: IncomingMessage): Promise<Answer> {
    const method = request.method ?? "";
    const url = URL.parse(request.url ?? "", "http://localhost");
    if (url === null) return text(400, "the request names no valid path");
    const administers = url.pathname === RELOAD;
    const methods = administers ? "POST" : "GET, HEAD";
    const refusal = healthChecks.has(url.pathname)
      ? null
      : await this.#refusal(request, administers ? "administer" : "read");
    if (refusal !== null) return refusal;
    if (!methods.split(", ").includes(method)) {
      const line = administers
        ? `only POST is answered there, not ${method}`
        : `only GET and HEAD are answered, not ${method}`;
      return { ...text(405, line), headers: { allow: methods } };
    }
    return administers ? this.#reload() : this.#answer(url);
  }

  async #refusal(request: IncomingMessage, right: Right): Promise<Answer | null> {
    const { socket, headers } = request;
    const ca = this.#where.tls?.ca ?? null;
    if (ca !== null && !(socket instanceof TLSSocket && socket.authorized)) {
      return text(403, "show a client certificate that http.ca_file knows");
    }
    // A page of another site, in a browser whose user has logged in here.
    const { origin, host } = headers;
    if (right === "administer" && origin !== undefined && URL.parse(origin)?.host !== host) {
      return text(403, "this is not for pages of other sites");
    }
    const address = plainAddress(socket.remoteAddress ?? "");
    const judgement = this.#access.judge(right, headers.authorization, address);
    if (judgement.kind === "granted") {
      if (right === "administer") this.#logger.info({ address, who: judgement.who, path: request.url }, "http request");
      return null;
    }
    return this.#denial(judgement, address);
  }

  async #denial(judgement: Exclude<Judgement, { kind: "granted" }>, address: string): Promise<Answer> {
    switch (judgement.kind) {
      case "blocked":
        return { ...text(429, "too many failed logins from this address"), headers: { "retry-after": "60" } };
      case "forbidden":
        return text(403, "this is for administrators: http.token_file, auth.admin_users");
      case "unknown": {
        const { delay, user } = judgement;
        const count = this.#failures.due();
        const named = user === null ? {} : { user: printable(user) };
        if (count !== null) this.#logger.info({ address, ...named, count }, "http login failed");
        if (delay > 0) await new Promise<void>((resolve) => this.#clock.after(delay, resolve));
        return { ...text(401, "log in first"), headers: { "www-authenticate": this.#access.challenge } };
      }
    }
  }

  async #reload(): Promise<Answer> {
    const report = await this.#sources.reload();
    return json(report.reloaded ? 200 : 409, report);
  }

  async #answer(url: URL): Promise<Answer> {
    switch (url.pathname) {
      case "/livez":
        return text(200, "pgsteer is running");
      case "/readyz":
        return this.#ready(url.searchParams);
      case "/metrics": {
        const exposition = await this.#sources.scrape();
        return { status: 200, contentType: exposition.contentType, body: exposition.text };
      }
      case "/topology":
        return json(200, topologyDocument(this.#sources.snapshot()));
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
    return json(200, eventsDocument(version, events));
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
