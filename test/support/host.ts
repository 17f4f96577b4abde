// Where a server of a test lives: at an address, and where addresses shall be cut off from each other, in a network namespace.

export interface Host {
  readonly address: string;
  /** A process in whose network namespace the server runs; null: the test's own. */
  readonly namespaceOf: number | null;
}

export const LOCAL_HOST: Host = { address: "127.0.0.1", namespaceOf: null };
