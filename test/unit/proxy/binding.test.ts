// What binds a client: doubts are raised by what texts may do, and settled by what a server says.

import { describe, expect, test } from "vitest";
import { Binding, type OnSessionState } from "../../../src/proxy/binding.ts";
import { type Effects, type PinCause, unknownEffects } from "../../../src/routing/session-effects.ts";

const effects = (changes: Partial<Effects>): Effects => ({
  settings: [],
  customNames: [],
  settingTags: 0,
  relocates: false,
  transactional: false,
  pins: [],
  undoes: [],
  opaque: false,
  ...changes,
});
const pins = (...causes: readonly PinCause[]) => effects({ pins: causes.map((cause) => ({ cause, object: cause })) });
const undoes = (...causes: readonly PinCause[]) => effects({ undoes: causes });

function binding(policy: OnSessionState = "pin"): { readonly it: Binding; readonly counted: string[] } {
  const counted: string[] = [];
  return { it: new Binding(policy, (cause, outcome) => counted.push(`${outcome} ${cause}`)), counted };
}

describe("a binding", () => {
  test("is made by the server's word, and counted once", () => {
    const { it, counted } = binding();
    it.runs(pins("listen"));
    expect([it.bound, it.doubtful, it.suspect]).toEqual([false, true, true]);
    it.settle(new Set<PinCause>(["listen"]));
    expect([it.bound, it.doubtful, it.suspect]).toEqual([true, false, true]);
    it.settle(new Set<PinCause>(["listen", "advisory_lock"]));
    expect(counted).toEqual(["pinned listen", "pinned advisory_lock"]);
    it.settle(new Set());
    expect([it.bound, it.suspect]).toEqual([false, false]);
  });

  test("is in doubt again only where it may have ended, or nobody knows", () => {
    const { it } = binding();
    it.settle(new Set<PinCause>(["listen"]));
    for (const each of [pins("listen"), undoes("temporary_table"), effects({ settings: null })]) {
      it.runs(each);
      expect(it.doubtful).toBe(false);
    }
    for (const each of [pins("advisory_lock"), undoes("listen"), effects({ opaque: true }), unknownEffects("SELEC")]) {
      it.runs(each);
      expect(it.doubtful).toBe(true);
      it.settle(new Set<PinCause>(["listen"]));
    }
  });

  test("asks for nothing while something binds that no server can be asked for", () => {
    const { it } = binding();
    it.runs(pins("load"));
    expect(it.doubtful).toBe(false);
    it.bind("load");
    it.runs(pins("listen"));
    expect([it.doubtful, it.bound, it.suspect]).toEqual([false, true, true]);
    it.settle(new Set());
    expect([...it.causes]).toEqual(["load"]);
    it.binds("load", false);
    expect(it.bound).toBe(false);
  });

  test("is refused or ignored where it may not be", () => {
    const refusing = binding("refuse");
    expect(refusing.it.refusable(pins("listen", "load"))?.cause).toBe("listen");
    expect(refusing.it.refusable(undoes("listen"))).toBeNull();
    expect(binding().it.refusable(pins("listen"))).toBeNull();
    const { it, counted } = binding("ignore");
    it.runs(pins("listen", "load"));
    it.bind("session_authorization");
    expect([it.bound, it.doubtful, it.suspect]).toEqual([false, false, false]);
    expect(counted).toEqual(["ignored listen", "ignored load"]);
    it.bind("large_prepared_statement");
    expect(it.bound).toBe(true);
  });
});
