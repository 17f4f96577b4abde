// From the configuration to the rules by which clients are let in.

import { networkInterfaces } from "node:os";
import { type AccessRules, CertificateOfUser, OneMethod } from "../auth/access.ts";
import { HbaRules } from "../auth/hba.ts";
import type { AuthConfig } from "../config/config.ts";
import { assert } from "../core/assert.ts";

export function accessRules({ type, hba, allowClearText }: AuthConfig): AccessRules {
  if (type === "cert") return new CertificateOfUser();
  if (type !== "hba") return new OneMethod(type, allowClearText);
  assert(hba !== null, "type hba has its rules");
  return new HbaRules(hba.rules, { maps: hba.maps, allowClearText, ownAddresses });
}

/** Asked anew each time: addresses come and go, a virtual one above all. */
function ownAddresses(): readonly string[] {
  return Object.values(networkInterfaces()).flatMap((each) => (each ?? []).map(({ cidr }) => cidr ?? ""));
}
