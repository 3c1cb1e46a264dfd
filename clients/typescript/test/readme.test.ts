/** The programs of the README compile. */

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import assert from "node:assert/strict";
import { test } from "node:test";

test("the programs of the README compile", () => {
  const programs = [...readFileSync("README.md", "utf8").matchAll(/```ts\n(.*?)```/gs)].map(([, text]) => text!);
  assert.ok(programs.length > 6);
  mkdirSync("build/readme", { recursive: true });
  programs.forEach((text, index) => writeFileSync(`build/readme/program-${index}.ts`, text));
  const compilerOptions = { rootDir: ".", noEmit: true, noUnusedLocals: false };
  const include = ["."];
  writeFileSync("build/readme/tsconfig.json", JSON.stringify({ extends: "../../tsconfig.json", compilerOptions, include }));
  execFileSync("node_modules/.bin/tsc", ["--project", "build/readme"], { stdio: ["ignore", "inherit", "inherit"] });
});
