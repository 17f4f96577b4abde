// Where a server connection leads, and what its login learnt.

import type { Millis } from "../core/units.ts";

/** Where a server connection leads. */
export interface Endpoint {
  readonly member: string;
  readonly host: string;
  readonly port: number;
}

/** What login learnt. */
export interface LoginFacts {
  readonly endpoint: Endpoint;
  readonly parameters: Map<string, string>;
  readonly pid: number;
  readonly key: Buffer;
  readonly loggedInAt: Millis;
}
