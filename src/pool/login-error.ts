// A failed login of ours in the words of the client that waited for it.

import { ProxyError } from "../core/errors.ts";
import type { LoginFailure } from "./server-login.ts";

/** A refusal that will not go away, in the server's own words. */
export function loginError(failure: LoginFailure): ProxyError {
  if (failure.kind === "ours") return failure.error;
  if (failure.kind === "unreachable") return new ProxyError("server_login_failed", failure.reason);
  const { message, sqlstate, detail, hint } = failure.fields;
  return new ProxyError("server_login_failed", message, {
    sqlstate,
    ...(detail === null ? {} : { detail }),
    ...(hint === null ? {} : { hint }),
  });
}
