// `npm run sbom`: the software bill of materials of what is installed beside pgsteer where it runs, as CycloneDX JSON in dist/sbom.json. Made
// by npm from package-lock.json alone, so that it says what `npm ci --omit=dev` installs and nothing of this checkout. npm's own `--omit=dev`
// leaves out what a development package needs too, so that is done here.

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";

const root = join(import.meta.dirname, "..");
const readJson = (name: string): unknown => JSON.parse(readFileSync(join(root, name), "utf8"));

const manifestSchema = z.object({ name: z.string(), version: z.string(), license: z.string() });

const lockSchema = z.object({
  packages: z.record(z.string(), z.object({ version: z.string().optional(), dev: z.boolean().optional() })),
});

/** By an identifier of SPDX, or an expression of several. */
const licenseSchema = z.union([
  z.object({ license: z.looseObject({ id: z.string() }) }),
  z.object({ license: z.looseObject({ name: z.string() }) }),
  z.object({ expression: z.string() }),
]);

const componentSchema = z.looseObject({ "bom-ref": z.string(), name: z.string(), version: z.string() });

const knownSchema = z.looseObject({
  "bom-ref": z.string(),
  name: z.string(),
  version: z.string(),
  purl: z.string(),
  licenses: z.array(licenseSchema).min(1),
});

const billSchema = z.looseObject({
  bomFormat: z.literal("CycloneDX"),
  metadata: z.looseObject({ component: z.looseObject({ "bom-ref": z.string() }) }),
  components: z.array(componentSchema),
  dependencies: z.array(z.looseObject({ ref: z.string(), dependsOn: z.array(z.string()) })),
});

/** `name version` of every package that is not there for development alone. */
function productionPackages(): ReadonlySet<string> {
  const { packages } = lockSchema.parse(readJson("package-lock.json"));
  const kept = Object.entries(packages).filter(([path, { dev }]) => path !== "" && dev !== true);
  return new Set(kept.map(([path, { version }]) => `${path.split("node_modules/").at(-1)} ${version}`));
}

/** Asks npm. Throws where it fails, or where a component has no version or no licence. */
export function softwareBill() {
  const words = ["sbom", "--sbom-format=cyclonedx", "--sbom-type=application", "--package-lock-only"];
  const written = execFileSync("npm", words, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  const made = billSchema.parse(JSON.parse(written));
  const production = productionPackages();
  const components = made.components
    .filter(({ name, version }) => production.has(`${name} ${version}`))
    .map((each) => knownSchema.parse(each));
  // npm names the application after the directory that it stands in.
  const { name, version, license } = manifestSchema.parse(readJson("package.json"));
  const own = { name, version, purl: `pkg:npm/${name}@${version}`, licenses: [{ license: { id: license } }] };
  const component = { ...made.metadata.component, ...own };
  const known = new Set([component["bom-ref"], ...components.map((each) => each["bom-ref"])]);
  const dependencies = made.dependencies
    .filter(({ ref }) => known.has(ref))
    .map((each) => ({ ...each, dependsOn: each.dependsOn.filter((ref) => known.has(ref)) }));
  return { ...made, metadata: { ...made.metadata, component }, components, dependencies };
}

if (import.meta.main) {
  const made = softwareBill();
  mkdirSync(join(root, "dist"), { recursive: true });
  writeFileSync(join(root, "dist", "sbom.json"), `${JSON.stringify(made, null, 2)}\n`);
  console.log(`dist/sbom.json: ${made.components.length} packages`);
}
