// Carries out what failover.ts decided for a client whose server is gone.

import type { ProxyError } from "../core/errors.ts";
import type { Server } from "../pool/server.ts";
import type { Transport } from "../protocol/transport.ts";
import { MessageWriter } from "../protocol/writer.ts";
import type { ClientReader } from "./client-reader.ts";
import { FailedTransaction } from "./failed-transaction.ts";
import { type Aftermath, answerOwed } from "./failover.ts";
import type { Session } from "./session.ts";
import type { Traffic } from "./traffic.ts";

/** What belongs to the client. */
export interface LossParts {
  readonly reader: ClientReader;
  readonly transport: Transport;
  readonly session: Session;
  readonly traffic: Traffic;
}

/** The client, idle again as far as it knows. */
export interface LossHost {
  /** Reads on; `resent`: with what was put back, for another server. */
  goOn(resent: boolean): void;
  /** From now on `transaction` answers, until it is over. */
  standIn(transaction: FailedTransaction): void;
  /** Says why, and ends the connection. */
  end(error: ProxyError): void;
  /** Ends the connection. */
  leave(reason: string): void;
}

export function carryOut(answer: Aftermath, server: Server, host: LossHost, parts: LossParts): void {
  const { reader, transport, session, traffic } = parts;
  if (answer.kind !== "fail_statement" && answer.kind !== "fail_transaction") server.exchange.abandon(() => {});
  switch (answer.kind) {
    case "rerun":
      traffic.reran();
      reader.intake.putBack(answer.flight);
      return host.goOn(true);
    case "stand_in":
      reader.intake.putBack(answer.flight);
      return host.standIn(new FailedTransaction(null, false, true, session.mapper));
    case "fail_statement":
    case "fail_transaction":
      return fail(answer, server, host, parts);
    case "close":
      return host.end(answer.error);
    case "close_with":
      transport.say(answer.message);
      return host.leave("the server ended the session");
    case "break":
      traffic.brokeOff();
      transport.destroy();
      return host.leave("the server was lost in the middle of a reply");
  }
}

/** Answers what the server still owed, and stands in for it until the client has ended the transaction. */
function fail(
  { kind, error }: Aftermath & { kind: "fail_statement" | "fail_transaction" },
  server: Server,
  host: LossHost,
  { reader, transport, session, traffic }: LossParts,
): void {
  const inTransaction = kind === "fail_transaction";
  if (inTransaction) traffic.failedTransactions += 1;
  traffic.countError(error.code);
  reader.intake.dropRest();
  const writer = new MessageWriter();
  const owed = answerOwed(server.exchange, error, inTransaction, writer);
  transport.say(writer.finish());
  if (!inTransaction && !owed.openBatch) return host.goOn(false);
  host.standIn(new FailedTransaction(owed.told ? null : error, owed.openBatch, inTransaction, session.mapper));
}
