// What `npm run sbom` makes names everything that is installed where pgsteer runs: all that package.json asks for, and what that asks for.

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { z } from "zod";
import { softwareBill } from "../../../scripts/sbom.ts";

const names = z.record(z.string(), z.string()).optional();
const entry = z.object({ version: z.string().optional(), dependencies: names, optionalDependencies: names });
const lock = z.object({ packages: z.record(z.string(), entry) });

/** `name version` of the production dependencies, found as Node.js finds them: in the package's own folder, or further up. */
function reachable(): string[] {
  const { packages } = lock.parse(JSON.parse(readFileSync("package-lock.json", "utf8")));
  const found = new Map<string, string>();
  const visit = (path: string): void => {
    const { dependencies = {}, optionalDependencies = {} } = packages[path] ?? {};
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies })) {
      let base = path;
      let place = `${base}${base === "" ? "" : "/"}node_modules/${name}`;
      while (!(place in packages) && base !== "") {
        base = base.slice(0, Math.max(0, base.lastIndexOf("/node_modules/")));
        place = `${base}${base === "" ? "" : "/"}node_modules/${name}`;
      }
      const known = packages[place];
      if (known === undefined || found.has(place)) continue;
      found.set(place, `${name} ${known.version}`);
      visit(place);
    }
  };
  visit("");
  return [...new Set(found.values())].toSorted();
}

test("the software bill of materials names every production package with its version and its licence, and no other", () => {
  const installed = reachable();
  const { components, metadata, dependencies } = softwareBill();
  expect(installed.length).toBeGreaterThan(40);
  expect(components.map(({ name, version }) => `${name} ${version}`).toSorted()).toEqual(installed);
  for (const { name, version, purl, licenses } of components) {
    expect(purl).toBe(`pkg:npm/${name.replace("@", "%40")}@${version}`);
    expect(JSON.stringify(licenses), name).toMatch(/"(?:id|name|expression)":"[^"]+"/);
  }
  expect(metadata.component).toMatchObject({ name: "pgsteer", licenses: [{ license: { id: "Apache-2.0" } }] });
  const own = dependencies.find(({ ref }) => ref === metadata.component["bom-ref"]);
  expect(own?.dependsOn.some((ref) => ref.startsWith("zod@"))).toBe(true);
  expect(own?.dependsOn.some((ref) => ref.startsWith("vitest@"))).toBe(false);
});
