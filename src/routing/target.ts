// What a client asks for, before anybody knows which member that is.

/** `primary`: takes writes. `replica`: fresh enough for reads. */
export type Target = "primary" | "replica";

/** A listener's route. */
export type Route = "auto" | "write" | "read";

/** How reads are spread, and what happens when no replica will do. */
export interface ReadOptions {
  /** Replicas that are further behind get no reads; bytes of WAL. */
  readonly lagBytesMax: number;
  /** `primary`: reads go to the leader when no replica is fresh enough; `none`: they wait. */
  readonly fallback: "primary" | "none";
}
