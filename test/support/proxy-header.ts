// PROXY protocol headers as a load balancer sends them.

const SIGNATURE = Buffer.from("0d0a0d0a000d0a515549540a", "hex");

/** Version 2: command, family and transport, then whatever follows with its true length. */
export function proxyHeader2(command: number, family: number, ...parts: readonly Buffer[]): Buffer {
  const rest = Buffer.concat(parts);
  const fixed = Buffer.from([command, family, rest.length >> 8, rest.length & 0xff]);
  return Buffer.concat([SIGNATURE, fixed, rest]);
}
