// Two test files run at a time: integration tests mostly wait, for elections and leases, and processors would idle with one.
// The longest files begin first, so that none of them is left over at the end. Last, and alone, come those whose printed
// figures mean nothing while something else runs. What two files share is kept apart by test/support: ports, directories,
// names and processes belong to one file each.

import { relative } from "node:path";
import { configDefaults, defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

const root = import.meta.dirname;

/** Whose figures are to be read. */
const alone = ["test/integration/leader-change.test.ts"];

/** Seconds that the long ones take. Nothing breaks when these are wrong: the run takes a little longer. */
const seconds: Readonly<Record<string, number>> = {
  "test/integration/observer.test.ts": 140,
  "test/integration/leader-change.test.ts": 160,
  "test/integration/prepared-beside-postgres.test.ts": 70,
  "test/integration/etcd-source.test.ts": 50,
  "test/integration/tls.test.ts": 43,
  "test/integration/switchover.test.ts": 45,
  "test/integration/harness.test.ts": 41,
  "test/integration/client-sees.test.ts": 38,
  "test/integration/surroundings.test.ts": 36,
  "test/integration/tools.test.ts": 35,
  "test/integration/surface.test.ts": 32,
  "test/integration/pooling.test.ts": 30,
  "test/integration/static.test.ts": 28,
};

/** The others: an integration test starts servers, the rest is done within a second or two. */
function expectedSeconds(file: string): number {
  return seconds[file] ?? (file.startsWith("test/integration/") ? 15 : file.startsWith("test/unit/") ? 1 : 30);
}

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const expected = ({ moduleId }: TestSpecification) => expectedSeconds(relative(root, moduleId));
    return files.toSorted((a, b) => expected(b) - expected(a));
  }
}

export default defineConfig({
  test: {
    testTimeout: 120_000,
    hookTimeout: 300_000,
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        extends: true,
        test: {
          name: { label: "two at a time", color: "cyan" },
          include: ["test/**/*.test.ts"],
          exclude: [...configDefaults.exclude, ...alone],
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: { label: "alone", color: "cyan" },
          include: alone,
          maxWorkers: 1,
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
