// A fixed list of hosts: for clusters without Patroni, and for managed services. It knows nobody's role; SQL probes tell.

import { formatAddress } from "../core/addresses.ts";
import type { Clock } from "../core/clock.ts";
import type { MemberClaim } from "./claim.ts";
import { emptyClaim } from "./claim.ts";
import type { ClaimSink, ClaimSource } from "./source.ts";
import type { MemberName } from "./topology.ts";

export interface StaticHost {
  readonly host: string;
  readonly port: number;
}

/** A static member goes by its address: `10.0.0.1:5432`, `[fe80::1]:5432`, `/run/postgresql/.s.PGSQL.5432`. */
export const staticName = ({ host, port }: StaticHost): MemberName => formatAddress(host, port);

/** A source that claims the same members for ever. */
export function staticSource(clock: Clock, hosts: readonly StaticHost[], sink: ClaimSink): ClaimSource {
  const claims = hosts.map(
    ({ host, port }): MemberClaim => ({
      name: staticName({ host, port }),
      host,
      port,
      apiUrl: null,
      role: "unknown",
      state: "",
      timeline: null,
      position: null,
      tags: { noloadbalance: false, nofailover: false },
    }),
  );
  const claim = { ...emptyClaim, members: new Map(claims.map((member) => [member.name, member])) };
  return {
    start: () => sink(claim, { kind: "static", connected: true, confirmedAt: clock.now(), reason: "" }),
    setHurry: () => {},
    close: () => {},
  };
}
