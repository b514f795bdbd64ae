// Building plugins outside this repository.
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from './server.mjs';
import { PATIENCE } from './wait.mjs';

/** Compiling takes its time. */
export const COMPILING = 6 * PATIENCE;

/**
 * The environment of a build: where cargo finds what it needs, and a folder for its output that other
 * builds share. The profile is this repository's, so that nothing is compiled twice, and what is compiled leaves
 * processors to the tests that run beside it.
 */
export const CARGO = {
  CARGO_HOME: process.env.CARGO_HOME ?? join(homedir(), '.cargo'),
  RUSTUP_HOME: process.env.RUSTUP_HOME ?? join(homedir(), '.rustup'),
  CARGO_TARGET_DIR: process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target'),
  CARGO_BUILD_JOBS: '1',
  CARGO_PROFILE_RELEASE_CODEGEN_UNITS: '1',
  CARGO_PROFILE_RELEASE_LTO: 'thin',
};

/** Writes a crate with one source file. It gets the versions of this repository, which are fetched already. */
export function writeCrate(crate, manifest, source) {
  mkdirSync(join(crate, 'src'), { recursive: true });
  cpSync(join(ROOT, 'Cargo.lock'), join(crate, 'Cargo.lock'));
  writeFileSync(join(crate, 'Cargo.toml'), manifest);
  writeFileSync(join(crate, 'src/lib.rs'), source);
}

/** The manifest with the folder of the SDK, wherever it is. */
export function withSdk(manifest) {
  const sdk = /^(mixlab-plugin = \{ path = )"[^"]*"/m;
  if (!sdk.test(manifest)) throw new Error(`no path of the SDK in\n${manifest}`);
  return manifest.replace(sdk, `$1${JSON.stringify(join(ROOT, 'plugins/sdk'))}`);
}
