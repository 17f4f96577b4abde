// Metrics of auth_query: what its questions came to, and the logins that were judged without one.

import { ofClusters, type SampledRow } from "./metric-row.ts";

const counter = (row: SampledRow): SampledRow => ({ ...row, kind: "counter" });

export const authRows: readonly SampledRow[] = [
  counter(
    ofClusters(
      "pgsteer_auth_queries_total",
      "Questions to auth_query by result: secret, nobody (no such user, or none with a password), silent (no server could be asked, or answered as it should).",
      ["result"],
      ({ authQueries: { answered, nobody, silent } }) => [
        [{ result: "secret" }, answered],
        [{ result: "nobody" }, nobody],
        [{ result: "silent" }, silent],
      ],
    ),
  ),
  counter(
    ofClusters(
      "pgsteer_auth_remembered_total",
      "Logins that were judged by a remembered answer of auth_query: recent (query_age_max), or stale (no server could be asked).",
      ["why"],
      ({ authQueries: { recent, stale } }) => [
        [{ why: "recent" }, recent],
        [{ why: "stale" }, stale],
      ],
    ),
  ),
];
