// Completes package-lock.json after `npm install` against a registry that lacks packages of other platforms: npm leaves those out
// of the lock, and `npm ci` then refuses it everywhere. Run it after each change of a dependency: node scripts/complete-lock.ts

import { readFileSync, writeFileSync } from "node:fs";
import { z } from "zod";

const entry = z.looseObject({
  dev: z.boolean().optional(),
  optionalDependencies: z.record(z.string(), z.string()).optional(),
});
const lock = z.looseObject({ packages: z.record(z.string(), entry) });

const systems = ["aix", "android", "darwin", "freebsd", "linux", "netbsd", "openbsd", "openharmony", "sunos", "win32"];
const processors = ["arm64", "arm", "ia32", "loong64", "mips64el", "ppc64", "riscv64", "s390x", "wasm32", "x64"];

/** `os`, `cpu` and `libc` of a platform package, read from its name: `@scope/tool-linux-x64-musl`. */
function platformOf(name: string): Record<string, string[]> {
  const words = name.slice(name.lastIndexOf("/") + 1).split(/[-.]/);
  const os = systems.find((system) => words.includes(system));
  const cpu = processors.find((processor) => words.includes(processor));
  if (os === undefined && cpu === undefined) throw new Error(`${name} does not say its platform`);
  const libc = words.includes("musl") ? "musl" : words.includes("gnu") || words.includes("gnueabihf") ? "glibc" : null;
  return {
    ...(cpu === undefined ? {} : { cpu: [cpu] }),
    ...(libc === null ? {} : { libc: [libc] }),
    ...(os === undefined ? {} : { os: [os] }),
  };
}

const decoded = lock.parse(JSON.parse(readFileSync("package-lock.json", "utf8")));
const added: string[] = [];
for (const { dev, optionalDependencies } of Object.values(decoded.packages)) {
  for (const [name, version] of Object.entries(optionalDependencies ?? {})) {
    const key = `node_modules/${name}`;
    if (key in decoded.packages || !/^\d/.test(version)) continue;
    const flags = { ...(dev === true ? { dev } : {}), optional: true };
    decoded.packages[key] = { version, ...platformOf(name), ...flags };
    added.push(name);
  }
}
decoded.packages = Object.fromEntries(
  Object.entries(decoded.packages).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)),
);
writeFileSync("package-lock.json", `${JSON.stringify(decoded, null, 2)}\n`);
console.log(`${added.length} added`, added.join(" "));
