// SQL in tests, over npm's `pg` and straight to a port: the harness's own connections never go through pgsteer.

import { Socket } from "node:net";
import { Client, type QueryResult } from "pg";
import { sleep } from "./time.ts";

/** Where and as whom to connect. */
export interface Login {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
}

/** A connected client that survives the loss of its server without ending the process. */
export interface Connection {
  readonly client: Client;
  /** Closes the socket at once, whatever the server does: a frozen one would never answer a Terminate. */
  destroy(): void;
  /** Whether the socket is still open. */
  open(): boolean;
}

/** Rejects when there is no connection within `timeoutMs`, login included. */
export async function connect(login: Login, timeoutMs = 5000): Promise<Connection> {
  const socket = new Socket();
  const client = new Client({
    ...login,
    stream: () => socket,
    connectionTimeoutMillis: timeoutMs,
    application_name: "pgsteer-test",
  });
  client.on("error", () => {});
  try {
    await client.connect();
  } catch (error) {
    socket.destroy();
    throw error;
  }
  return { client, destroy: () => socket.destroy(), open: () => !socket.destroyed && socket.writable };
}

type Row = Record<string, unknown>;

/** Runs one statement on `connection`; after `timeoutMs` without an answer the connection is destroyed. */
export async function query(
  connection: Connection,
  text: string,
  values: readonly unknown[] = [],
  timeoutMs = 5000,
): Promise<QueryResult<Row>> {
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    connection.destroy();
  }, timeoutMs);
  try {
    // Without values pg takes the simple protocol, which allows several statements at once.
    if (values.length === 0) return await connection.client.query<Row>(text);
    return await connection.client.query<Row>(text, [...values]);
  } catch (cause) {
    throw late ? new Error(`no answer within ${timeoutMs.toFixed(0)} ms`, { cause }) : cause;
  } finally {
    clearTimeout(timer);
  }
}

/** Connects, runs one statement, disconnects. */
export async function queryOnce(
  login: Login,
  text: string,
  values: readonly unknown[] = [],
  timeoutMs = 5000,
): Promise<QueryResult<Row>> {
  const connection = await connect(login, timeoutMs);
  try {
    return await query(connection, text, values, timeoutMs);
  } finally {
    await Promise.race([connection.client.end().catch(() => {}), sleep(200)]);
    connection.destroy();
  }
}

/** SQLSTATE or system error code (`ECONNREFUSED`) of a failure; its message when it has neither. */
export function codeOf(error: unknown): string {
  if (typeof error === "object" && error !== null && "code" in error && typeof error.code === "string") {
    return error.code;
  }
  return error instanceof Error ? error.message : String(error);
}
