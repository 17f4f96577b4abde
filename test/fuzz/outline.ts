// Messages of a server as short lines, for comparing what came with what should have come: `T`, `D one|two`, `C SELECT 1`,
// `E 42601`, `Z I`.

import { Backend } from "../../src/protocol/constants.ts";
import { decodeDataRow } from "../../src/protocol/messages.ts";
import { errorFields } from "../support/raw-client.ts";

/** The line for one message; null for what a server may say at any time. */
export function outlineOf(type: number, buffer: Buffer, start: number, end: number): string | null {
  switch (type) {
    case Backend.NoticeResponse:
    case Backend.ParameterStatus:
    case Backend.NotificationResponse:
      return null;
    case Backend.DataRow:
      return `D ${decodeDataRow(buffer, start + 5, end).join("|")}`;
    case Backend.CommandComplete:
      return `C ${buffer.toString("latin1", start + 5, end - 1)}`;
    case Backend.ErrorResponse:
      return `E ${errorFields(buffer.subarray(start + 5, end))["C"]}`;
    case Backend.ReadyForQuery:
      return `Z ${buffer.toString("latin1", start + 5, end)}`;
    default:
      return String.fromCharCode(type);
  }
}
