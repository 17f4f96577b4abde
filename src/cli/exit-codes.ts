// What the process says when it ends, for systemd, scripts and Keepalived; the numbers beyond 2 are those of sysexits.h.

export const EXIT = {
  /** Done, or stopped as asked; for `status`: writes are served. */
  ok: 0,
  /** It did not work: cannot listen, problems were found; for `status`: not reachable. */
  failed: 1,
  /** `status`: reachable, but some cluster has no writable leader. */
  notWritable: 2,
  /** The command line is wrong. */
  usage: 64,
  /** A bug. */
  internal: 70,
  /** `switchover`, `pause`, `resume`: called off, or refused because another command is at work. Nothing has changed. */
  calledOff: 75,
  /** The configuration cannot be used. */
  configuration: 78,
} as const;
