// What a server may ask of pgsteer before it gets an answer: libpq's channel_binding and require_auth
// (https://www.postgresql.org/docs/current/libpq-connect.html), and a rule of our own: a password does not cross a network in
// clear unless that is allowed.

/** Names as in libpq's require_auth. `none`: the server lets us in without asking, as after a certificate. */
export const serverAuthMethods = ["password", "md5", "gss", "sspi", "scram-sha-256", "none"] as const;
export type ServerAuthMethod = (typeof serverAuthMethods)[number];

export interface ServerAuthRules {
  /** `prefer`: where both sides can. */
  readonly channelBinding: "disable" | "prefer" | "require";
  /** Null: any. */
  readonly requireAuth: ReadonlySet<ServerAuthMethod> | null;
  /** Whether a password may be sent in clear over a network without TLS. */
  readonly allowClearText: boolean;
}

/** As libpq where nothing is set, but for passwords in clear. */
export const usualRules: ServerAuthRules = { channelBinding: "prefer", requireAuth: null, allowClearText: false };

/** The connection that a login goes over. */
export interface ServerChannel {
  readonly tls: boolean;
  /** Whether somebody between could read it: neither TLS, nor a Unix-domain socket, nor this machine's own addresses. */
  readonly readable: boolean;
  /** Binding data of the server's certificate; null without TLS, or where the certificate has none. */
  readonly binding: Buffer | null;
}

/** A connection that stays on this machine. */
export const localChannel: ServerChannel = { tls: false, readable: false, binding: null };

/** By authentication request code. */
const requests: ReadonlyMap<number, { readonly method: ServerAuthMethod; readonly asks: string }> = new Map([
  [0, { method: "none", asks: "does not ask who we are" }],
  [3, { method: "password", asks: "asks for the password in clear" }],
  [5, { method: "md5", asks: "asks for md5 authentication" }],
  [7, { method: "gss", asks: "asks for GSSAPI" }],
  [9, { method: "sspi", asks: "asks for SSPI" }],
  [10, { method: "scram-sha-256", asks: "asks for SASL authentication" }],
]);

/** Why the server's first request gets no answer; null where it may have one. */
export function refusedRequest(rules: ServerAuthRules, channel: ServerChannel, code: number): string | null {
  const request = requests.get(code);
  if (request === undefined) return null;
  const { method, asks } = request;
  const { requireAuth, channelBinding, allowClearText } = rules;
  if (requireAuth !== null && !requireAuth.has(method)) {
    return `require_auth allows ${[...requireAuth].join(", ")}, but the server ${asks}`;
  }
  if (channelBinding === "require" && method !== "scram-sha-256") {
    return `channel_binding is require, but the server ${asks}`;
  }
  if (method === "password" && channel.readable && !allowClearText) {
    return "server asks for the password in clear, over a connection without TLS";
  }
  return null;
}

/** `scram-sha-256,md5`, or `!password,!none` for all others, as libpq reads it. Null when it is neither. */
export function parseRequireAuth(written: string): ReadonlySet<ServerAuthMethod> | null {
  const words = written.split(",").map((word) => word.trim());
  const negated = words.filter((word) => word.startsWith("!"));
  if (negated.length > 0 && negated.length < words.length) return null;
  const named = new Set<ServerAuthMethod>();
  for (const word of words) {
    const method = serverAuthMethods.find((each) => each === word.replace(/^!\s*/, ""));
    if (method === undefined || named.has(method)) return null;
    named.add(method);
  }
  return negated.length === 0 ? named : new Set(serverAuthMethods.filter((method) => !named.has(method)));
}
