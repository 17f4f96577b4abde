// Message types and codes of the PostgreSQL frontend/backend protocol, version 3
// (https://www.postgresql.org/docs/current/protocol-message-formats.html).

const code = (letter: string): number => letter.charCodeAt(0);

/** Types of messages that clients send. */
export const Frontend = {
  Bind: code("B"),
  Close: code("C"),
  CopyData: code("d"),
  CopyDone: code("c"),
  CopyFail: code("f"),
  Describe: code("D"),
  Execute: code("E"),
  Flush: code("H"),
  FunctionCall: code("F"),
  Parse: code("P"),
  Password: code("p"),
  Query: code("Q"),
  Sync: code("S"),
  Terminate: code("X"),
} as const;

/** Types of messages that servers send. */
export const Backend = {
  Authentication: code("R"),
  BackendKeyData: code("K"),
  BindComplete: code("2"),
  CloseComplete: code("3"),
  CommandComplete: code("C"),
  CopyBothResponse: code("W"),
  CopyData: code("d"),
  CopyDone: code("c"),
  CopyInResponse: code("G"),
  CopyOutResponse: code("H"),
  DataRow: code("D"),
  EmptyQueryResponse: code("I"),
  ErrorResponse: code("E"),
  FunctionCallResponse: code("V"),
  NegotiateProtocolVersion: code("v"),
  NoData: code("n"),
  NoticeResponse: code("N"),
  NotificationResponse: code("A"),
  ParameterDescription: code("t"),
  ParameterStatus: code("S"),
  ParseComplete: code("1"),
  PortalSuspended: code("s"),
  ReadyForQuery: code("Z"),
  RowDescription: code("T"),
} as const;

/** Transaction status in ReadyForQuery. */
export const TransactionStatus = {
  Idle: code("I"),
  InTransaction: code("T"),
  Failed: code("E"),
} as const;

/** What stands in the place of a protocol version in the special startup packets. */
export const RequestCode = {
  Cancel: 80_877_102,
  Ssl: 80_877_103,
  Gssenc: 80_877_104,
} as const;

/** Version 3.0 as sent in a StartupMessage: major in the upper half. */
export const PROTOCOL_3_0 = 0x0003_0000;

/** The newest minor version of protocol 3 that clients can have: with it cancel keys may be longer than four bytes. */
export const MINOR_NEWEST = 2;

/** Bytes of a message's header: its type and its length, which counts itself but not the type. */
export const HEADER_BYTES = 5;
