import { describe, expect, test } from "vitest";
import { changedSections, planReload } from "../../../src/cli/reload.ts";
import { configOf } from "../config/fixture.ts";

const base = (settings = "") => `
clusters:
  one: { source: static, static: { hosts: [a] } }
auth: { file: userlist.txt }
listeners:
  - { name: w, port: 5000, route: write, cluster: one }
${settings}`;

describe("a reload", () => {
  test("takes listeners, users and pool settings", () => {
    const next = configOf(
      base("  - { name: r, port: 5001, route: read, cluster: one }\npool: { default_pool_size: 3, drain_timeout: 1s }"),
    );
    const plan = planReload(configOf(base()), next);
    expect(plan).toEqual({ ok: true, config: next, kept: [] });
  });

  test("takes another token for http, and names the sections that differ", () => {
    const [current, next] = ["0123456789abcdef", "fedcba9876543210"].map((token) =>
      configOf(base(`http: { token: "${token}" }`)),
    );
    if (current === undefined || next === undefined) throw new Error("two configurations");
    expect(planReload(current, next)).toEqual({ ok: true, config: next, kept: [] });
    expect(changedSections(current, next)).toEqual(["http"]);
    expect(changedSections(current, current)).toEqual([]);
    expect(changedSections(current, configOf(base("pool: { max_client_conn: 5000 }")))).toEqual([
      "pool",
      "limits",
      "http",
    ]);
  });

  test("keeps clusters, http and log as they are, and names what it kept", () => {
    const current = configOf(base());
    const next = configOf(
      base("http: { port: 7001 }\nlog: { level: debug }\npool: { default_pool_size: 3 }").replace(
        "hosts: [a] } }",
        "hosts: [b] }, probe: { interval: 3s } }\n  two: { source: static, static: { hosts: [c] } }",
      ),
    );
    const plan = planReload(current, next);
    expect(plan.ok && plan.kept).toEqual([
      "clusters.one: source, etcd, patroni or static",
      "clusters.one: probe.interval or timeout",
      "clusters.two (new)",
      "http",
      "log",
    ]);
    const kept = { clusters: current.clusters, http: current.http, log: current.log };
    expect(plan.ok && plan.config).toEqual({ ...next, ...kept });
  });

  test("takes how servers are logged in to", () => {
    const current = configOf(base());
    const settings = "hosts: [a] }, probe: { user: x, password: y, database: z }, server_tls: { sslmode: require } }";
    const next = configOf(base().replace("hosts: [a] } }", settings));
    expect(planReload(current, next)).toEqual({ ok: true, config: next, kept: [] });
  });

  test("is refused as a whole when a listener leads to a cluster that is not there yet", () => {
    const next = configOf(base().replaceAll("one", "two"));
    expect(planReload(configOf(base()), next)).toEqual({
      ok: false,
      reasons: ['listener "w" leads to cluster "two", which needs a restart'],
    });
  });
});
