// What a server says that speaks PostgreSQL's language without having a database: answers to one connection's messages, each with
// the marks of the statement that it answers.

import { cstring, int32, message } from "../support/raw-client.ts";
import { mark, marksIn } from "./marker.ts";

const int16 = (value: number): Buffer => {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(value);
  return bytes;
};

const field = (text: string | null): Buffer =>
  text === null ? int32(-1) : Buffer.concat([int32(Buffer.byteLength(text)), Buffer.from(text)]);

export const reply = {
  row: (...values: readonly (string | null)[]): Buffer => message("D", int16(values.length), ...values.map(field)),
  rowDescription: (): Buffer =>
    message("T", int16(1), cstring("c"), int32(0), int16(0), int32(25), int16(-1), int32(-1), int16(0)),
  complete: (tag: string): Buffer => message("C", cstring(tag)),
  ready: (status: string): Buffer => message("Z", Buffer.from(status)),
  parameter: (name: string, value: string): Buffer => message("S", cstring(name), cstring(value)),
  error: (severity: string, code: string, text: string): Buffer =>
    message(
      "E",
      cstring(`S${severity}`),
      cstring(`V${severity}`),
      cstring(`C${code}`),
      cstring(`M${text}`),
      Buffer.alloc(1),
    ),
  notice: (text: string): Buffer =>
    message("N", cstring("SNOTICE"), cstring("VNOTICE"), cstring("C00000"), cstring(`M${text}`), Buffer.alloc(1)),
  notification: (channel: string, payload: string): Buffer =>
    message("A", int32(1), cstring(channel), cstring(payload)),
} as const;

const cut = (body: Buffer, from: number): { text: string; next: number } => {
  const end = body.indexOf(0, from);
  return end < 0 ? { text: "", next: body.length } : { text: body.toString("latin1", from, end), next: end + 1 };
};

/** One session: messages in, answers out. */
export class HostileSession {
  /** The answers can no longer be told apart: from now on they carry no marks. */
  tainted = false;
  #status = "I";
  #copying = false;
  #skipping = false;
  readonly #statements = new Map<string, string>();
  #bound = "";

  /** The messages that answer one of the client's; null where it said goodbye. */
  answer(type: string, body: Buffer): Buffer[] | null {
    if (this.#copying) return this.#whileCopying(type);
    if (this.#skipping && type !== "S" && type !== "X") return [];
    switch (type) {
      case "Q":
        return this.#query(cut(body, 0).text);
      case "P": {
        const name = cut(body, 0);
        this.#statements.set(name.text, cut(body, name.next).text);
        return [message("1")];
      }
      case "B": {
        const portal = cut(body, 0);
        const statement = cut(body, portal.next);
        this.#bound = (this.#statements.get(statement.text) ?? "") + body.toString("latin1", statement.next);
        return [message("2")];
      }
      case "D":
        return body[0] === "S".charCodeAt(0)
          ? [message("t", int16(0)), reply.rowDescription()]
          : [reply.rowDescription()];
      case "E":
        return this.#execute();
      case "S":
        this.#skipping = false;
        return [reply.ready(this.#status)];
      case "C":
        return [message("3")];
      case "F":
        return [message("V", field(this.#marks(body.toString("latin1")))), reply.ready(this.#status)];
      case "X":
        return null;
      default:
        return [];
    }
  }

  /** The marks in a text, or what stands in their place when they could mislead. */
  #marks(text: string): string {
    if (this.tainted) return "tainted";
    const bytes = Buffer.from(text, "latin1");
    const found = marksIn(bytes, 0, bytes.length).map(({ client, sequence }) => mark(client, sequence));
    return found.join("") || "unmarked";
  }

  #execute(): Buffer[] {
    if (/^COPY .* FROM STDIN/i.test(this.#bound)) {
      this.#copying = true;
      return [message("G", Buffer.alloc(3))];
    }
    if (/^SELEC\b|1\/0/.test(this.#bound)) {
      this.#skipping = true;
      return [reply.error("ERROR", "22012", "division by zero")];
    }
    return [reply.row(this.#marks(this.#bound)), reply.complete("SELECT 1")];
  }

  #whileCopying(type: string): Buffer[] | null {
    if (type === "X") return null;
    if (type !== "c" && type !== "f") return [];
    this.#copying = false;
    const end = type === "c" ? reply.complete("COPY 1") : reply.error("ERROR", "57014", "COPY from stdin failed");
    // A COPY of the extended protocol has its Sync still to come.
    if (this.#bound !== "") {
      this.#bound = "";
      this.#skipping = type === "f";
      return [end];
    }
    return [end, reply.ready(this.#status)];
  }

  #query(sql: string): Buffer[] {
    this.#bound = "";
    const ready = () => reply.ready(this.#status);
    if (sql.includes("json_object_agg"))
      return [reply.rowDescription(), reply.row("{}"), reply.complete("SELECT 1"), ready()];
    const word = /^\s*([a-z]*)/i.exec(sql)?.[1]?.toUpperCase() ?? "";
    switch (word) {
      case "BEGIN":
        this.#status = "T";
        return [reply.complete("BEGIN"), ready()];
      case "COMMIT":
      case "ROLLBACK":
        if (!sql.includes(" TO ")) this.#status = "I";
        return [reply.complete(word), ready()];
      case "COPY":
        if (!sql.includes("FROM STDIN")) break;
        this.#copying = true;
        return [message("G", Buffer.alloc(3))];
      case "":
        return [message("I"), ready()];
      case "SELEC":
        return [reply.error("ERROR", "42601", `syntax error ${this.#marks(sql)}`), ready()];
      case "SELECT":
        break;
      default:
        return [reply.complete(/^DISCARD|^DEALLOCATE/i.test(sql) ? sql.toUpperCase() : word), ready()];
    }
    return [reply.rowDescription(), reply.row(this.#marks(sql)), reply.complete("SELECT 1"), ready()];
  }
}
