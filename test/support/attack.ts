// An attack as its victim's tests see it: the program attacker.ts, what it says of itself, and its end.

import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import type { AttackPlan, AttackState } from "./attacker.ts";
import { waitFor } from "./time.ts";

/** So many addresses of this machine's own, `127.0.0.2` on, none of which a test uses otherwise. */
export const strangers = (count: number): string[] =>
  Array.from({ length: count }, (_, index) => `127.0.${Math.floor(index / 250) + 9}.${(index % 250) + 2}`);

/** An attack that goes on. */
export interface Attack {
  state(): AttackState;
  /** Waits until it says so of itself. */
  until(what: string, look: (state: AttackState) => boolean, timeoutMs?: number): Promise<AttackState>;
  stop(): Promise<void>;
}

/** Begins one. */
export function startAttack(plan: AttackPlan): Attack {
  const program = join(import.meta.dirname, "attacker.ts");
  const child: ChildProcess = spawn(process.execPath, [program, JSON.stringify(plan)], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  let state: AttackState = { open: 0, opened: 0, closed: 0, failed: 0, said: {} };
  let rest = "";
  child.stdout?.on("data", (chunk: Buffer) => {
    const lines = (rest + chunk.toString()).split("\n");
    rest = lines.pop() ?? "";
    const last = lines.at(-1);
    if (last !== undefined) state = JSON.parse(last) as AttackState;
  });
  return {
    state: () => state,
    until: async (what, look, timeoutMs = 60_000) => {
      await waitFor(() => look(state), { timeoutMs, what: `${what}; it is ${JSON.stringify(state)}` });
      return state;
    },
    stop: async () => {
      child.stdin?.end();
      const timer = setTimeout(() => child.kill("SIGKILL"), 5_000);
      await gone;
      clearTimeout(timer);
    },
  };
}
