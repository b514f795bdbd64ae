// What a running server can be deprived of, and given back.
import { execFileSync } from 'node:child_process';

/** Takes from a server the right to open anything more; returns what gives it back. */
export function takeDescriptors({ pid }) {
  const limit = (value) => execFileSync('prlimit', ['--pid', String(pid), `--nofile=${value}:`]);
  const former = execFileSync('prlimit', ['--pid', String(pid), '--nofile', '--output=SOFT', '--noheadings'], { encoding: 'utf8' });
  // No number is free below it.
  limit(3);
  return () => limit(former.trim());
}
