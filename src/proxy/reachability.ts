// Members that are out of reach for this router: their hosts answer a connection attempt with neither yes nor no. What was sent to
// such a member is not lost for TCP, which sends it again for some 15 minutes (tcp_retries2 in
// https://docs.kernel.org/networking/ip-sysctl.html); clients would wait as long although other members could serve them. A
// member that refuses, or that accepts and is slow, is left alone: its own answers tell what becomes of its connections.

import { connect } from "node:net";
import { netAddress } from "../core/addresses.ts";
import type { Clock, Timer } from "../core/clock.ts";
import { HOST_SILENT_MS } from "../core/limits.ts";
import { millis } from "../core/units.ts";
import type { Member, MemberName, Topology } from "../discovery/topology.ts";

/** Attempts in a row without an answer until a member is given up: one packet may be lost. */
const SILENT_ATTEMPTS = 2;

/** What a connection attempt fails with where nobody answered it. */
const unanswered = new Set(["ETIMEDOUT", "EHOSTUNREACH", "EHOSTDOWN", "ENETUNREACH", "ENETDOWN", "EINVAL"]);

type Endpoint = Pick<Member, "name" | "host" | "port">;

export class Reachability {
  readonly #clock: Clock;
  readonly #outOfReach: (member: MemberName) => void;
  readonly #trials = new Map<MemberName, Trial>();

  /** `outOfReach` hears of a member once each time that its probes have begun to fail and its host does not answer. */
  constructor(clock: Clock, outOfReach: (member: MemberName) => void) {
    this.#clock = clock;
    this.#outOfReach = outOfReach;
  }

  /** Tries the members whose probes fail, for as long as they do. */
  follow({ members }: Topology): void {
    for (const [name, trial] of [...this.#trials]) {
      if (trial.concerns(members.get(name))) continue;
      trial.stop();
      this.#trials.delete(name);
    }
    for (const member of members.values()) {
      if (member.state !== UNREACHABLE || this.#trials.has(member.name)) continue;
      this.#trials.set(member.name, new Trial(this.#clock, member, this.#outOfReach));
    }
  }

  close(): void {
    for (const trial of this.#trials.values()) trial.stop();
    this.#trials.clear();
  }
}

const UNREACHABLE = "unreachable";

/** Connection attempts to one member, one after another, until it is given up. */
class Trial {
  readonly #clock: Clock;
  readonly #endpoint: Endpoint;
  readonly #outOfReach: (member: MemberName) => void;
  #silent = 0;
  #stopAttempt: () => void = () => {};
  #again: Timer | null = null;

  constructor(clock: Clock, endpoint: Endpoint, outOfReach: (member: MemberName) => void) {
    this.#clock = clock;
    this.#endpoint = endpoint;
    this.#outOfReach = outOfReach;
    this.#attempt();
  }

  /** Whether this is what is to be found out of a member as it is now. */
  concerns(member: Member | undefined): boolean {
    const { host, port } = this.#endpoint;
    return member?.state === UNREACHABLE && member.host === host && member.port === port;
  }

  stop(): void {
    this.#again?.cancel();
    this.#stopAttempt();
  }

  #attempt(): void {
    const { host, port } = this.#endpoint;
    const socket = connect(netAddress(host, port));
    let open = true;
    const end = (answered: boolean | null): void => {
      if (!open) return;
      open = false;
      deadline.cancel();
      socket.destroy();
      if (answered !== null) this.#ended(answered);
    };
    const deadline = this.#clock.after(millis(HOST_SILENT_MS), () => end(false));
    socket.on("connect", () => end(true));
    socket.on("error", (error) => end(!("code" in error) || !unanswered.has(String(error.code))));
    this.#stopAttempt = () => end(null);
  }

  #ended(answered: boolean): void {
    this.#silent = answered ? 0 : this.#silent + 1;
    if (this.#silent === SILENT_ATTEMPTS) this.#outOfReach(this.#endpoint.name);
    else this.#again = this.#clock.after(millis(HOST_SILENT_MS), () => this.#attempt());
  }
}
