// `npm test`: types, lint and unused code first, then all of vitest, then one line that counts the whole. Arguments after
// `--` go to vitest. Exits with 1 when anything failed, or when no test ran at all.

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import type { Reporter, TestModule, TestSuite } from "vitest/node";
import { parseCLI, startVitest } from "vitest/node";

const root = join(import.meta.dirname, "..");
const tools = join(root, "node_modules", ".bin");

interface Tally {
  passed: number;
  failed: number;
  readonly skipped: { readonly name: string; readonly reason: string }[];
}

const checks: readonly (readonly [string, ...string[]])[] = [["tsc", "--noEmit"], ["biome", "check", "."], ["knip"]];

function runChecks(tally: Tally): void {
  for (const [tool, ...args] of checks) {
    const { status, error } = spawnSync(join(tools, tool), args, { cwd: root, stdio: "inherit" });
    if (error !== undefined) console.error(String(error));
    if (status === 0) tally.passed += 1;
    else tally.failed += 1;
    console.log(`${status === 0 ? "passed" : "FAILED"}: ${[tool, ...args].join(" ")}`);
  }
}

/** Errors outside any test: a file that does not load, a hook that throws. Each is a failure of its own. */
function countErrorsOutside(collection: TestModule | TestSuite, tally: Tally): void {
  if (collection.errors().length > 0) tally.failed += 1;
  for (const child of collection.children) if (child.type === "suite") countErrorsOutside(child, tally);
}

function countModule(module: TestModule, tally: Tally): void {
  countErrorsOutside(module, tally);
  for (const test of module.children.allTests()) {
    const result = test.result();
    if (result.state === "passed") tally.passed += 1;
    else if (result.state === "failed") tally.failed += 1;
    else if (result.state === "skipped") {
      const reason =
        result.note ?? (test.options.mode === "run" ? "its suite failed or was skipped" : "no reason given");
      tally.skipped.push({ name: `${module.relativeModuleId} > ${test.fullName}`, reason });
    } else {
      // Still pending at the end: it was collected, but the run ended before it.
      tally.failed += 1;
      console.error(`did not run: ${module.relativeModuleId} > ${test.fullName}`);
    }
  }
}

/** Runs vitest in this process and adds to the tally. Returns how many tests ran. */
async function runTests(args: readonly string[], tally: Tally): Promise<number> {
  const { filter, options } = parseCLI(["vitest", "run", ...args]);
  const counter: Reporter = {
    onInit: (vitest) => {
      for (const name of ["SIGINT", "SIGTERM"] as const) {
        process.once(name, () => {
          console.error("interrupted: stopping the tests and their servers");
          vitest.close().finally(() => process.exit(130));
        });
      }
    },
    onTestRunEnd: (modules, unhandled) => {
      for (const module of modules) countModule(module, tally);
      tally.failed += unhandled.length;
    },
  };
  const before = tally.passed + tally.failed;
  const vitest = await startVitest("test", filter, {
    ...options,
    root,
    watch: false,
    run: true,
    reporters: ["default", counter],
  });
  await vitest.close();
  return tally.passed + tally.failed - before;
}

const tally: Tally = { passed: 0, failed: 0, skipped: [] };
runChecks(tally);
const separator = process.argv[2] === "--" ? 3 : 2;
const ran = await runTests(process.argv.slice(separator), tally);
for (const { name, reason } of tally.skipped) console.log(`skipped: ${name}: ${reason}`);
if (ran === 0) console.log("no test ran: that counts as a failure");
console.log(`${tally.passed} passed, ${tally.failed} failed, ${tally.skipped.length} skipped`);
process.exit(tally.failed > 0 || ran === 0 ? 1 : 0);
