#!/usr/bin/env node
// Runs the program of this package; where the folder has no mixlab.toml, with that of this package.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const file = (name) => fileURLToPath(new URL(name, import.meta.url));
const args = process.argv.slice(2);
const env = { ...process.env };
const isChosen = args.some((arg) => /^(-c|--config)/.test(arg));
if (args[0] === 'up' && !isChosen && !existsSync('mixlab.toml')) {
  console.error('there is no mixlab.toml here: the shipped plugins are served');
  args.push('--config', file('mixlab.toml'));
  env.MIXLAB_STORE__PATH ??= `${process.cwd()}/data/store.redb`;
}
const child = spawn(file('mixlab'), args, { stdio: 'inherit', env });
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => child.kill(signal));
child.on('error', (error) => {
  console.error(`error: ${error.message}`);
  process.exit(1);
});
child.on('exit', (code, signal) => process.exit(code ?? (signal === 'SIGINT' ? 130 : 143)));
