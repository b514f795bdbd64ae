// Lets a Node that does not know TypeScript import it, as later ones do by themselves: node --import FILE.
import { readFileSync } from 'node:fs';
import { register } from 'node:module';
import { fileURLToPath } from 'node:url';
import { isMainThread } from 'node:worker_threads';
import typescript from 'typescript';

const { ESNext } = typescript.ModuleKind;
const compilerOptions = { module: ESNext, target: typescript.ScriptTarget.ES2022, verbatimModuleSyntax: true };

// Hooks run in a thread of their own, which reads this file as well.
if (isMainThread && !process.features.typescript) register(import.meta.url);

export async function load(url, context, next) {
  if (!/\.m?ts$/.test(url)) return next(url, context);
  const { outputText } = typescript.transpileModule(readFileSync(fileURLToPath(url), 'utf8'), { compilerOptions });
  return { format: 'module', source: outputText, shortCircuit: true };
}
