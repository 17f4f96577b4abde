// Answers that the router gives in a server's place, in PostgreSQL's own bytes.

import { inFailedTransaction } from "../core/errors.ts";
import { Backend, TransactionStatus } from "../protocol/constants.ts";
import { FAKE_DEALLOCATE, FAKE_PARSE_COMPLETE, type Fake } from "../protocol/exchange.ts";
import { commandComplete, errorResponse, readyForQuery } from "../protocol/messages.ts";
import { MessageWriter } from "../protocol/writer.ts";

/** What a fake says to the client, in a session whose last status was `status`. */
export function fakeAnswer(fake: Fake, status: number): Buffer {
  const writer = new MessageWriter();
  if (fake !== FAKE_DEALLOCATE) {
    return writer.message(fake === FAKE_PARSE_COMPLETE ? Backend.ParseComplete : Backend.CloseComplete).finish();
  }
  if (status === TransactionStatus.Failed) errorResponse(inFailedTransaction(), writer);
  else commandComplete("DEALLOCATE", writer);
  return readyForQuery(status, writer).finish();
}
