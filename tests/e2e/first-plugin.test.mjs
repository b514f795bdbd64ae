// A new user's run: what the pages of first plugins say is done to the letter, in an empty folder, with `mixlab` and
// what the page has installed in the PATH.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { CARGO, COMPILING } from '../support/cargo.mjs';
import { blocks } from '../support/documents.mjs';
import { FULL } from '../support/full.mjs';
import { PYTHON } from '../support/python.mjs';
import { PROGRAM, ROOT } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const START = 'host/docs/start';

/** Building and compiling a component of Python takes a minute, on a machine that has nothing else to do. */
const PATIENCE = 6 * COMPILING;

/** What a page has its reader install is there already: tests/run, or what it installs from, names it. */
const INSTALL = /^(?:npm install|pip install|apt-get install|rustup target add) /;
const INSTALLED = ['tests/run', 'tests/package.json', 'tests/python/requirements.txt'].map((path) => readFileSync(join(ROOT, path), 'utf8')).join('\n');

/** The line over a block that is a file: its path, and whether the block is its end only. */
const FILE = /(At the end of )?`(\S+)`:$/;

const escaped = (line) => line.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replaceAll('…', '.*');

/** Somebody who reads a page, has terminals in a folder, and does what the page says. */
class Reader {
  #folder = mkdtempSync(join(tmpdir(), 'mixlab-reader-'));
  #env;
  #terminals = [];
  #server;
  #client;
  /** Whose words the next block of text shows, and from where on. */
  #shown;
  #from = 0;

  /** `path` are folders with programs, `variables` more of the environment. */
  constructor(t, { path = [], ...variables }) {
    const bin = join(this.#folder, '.bin');
    mkdirSync(bin);
    symlinkSync(PROGRAM, join(bin, 'mixlab'));
    symlinkSync(process.execPath, join(bin, 'node'));
    symlinkSync(join(ROOT, 'tests/node_modules'), join(this.#folder, 'node_modules'));
    // Whatever port is free, since tests run side by side.
    this.#env = { HOME: this.#folder, MIXLAB_LISTEN: '127.0.0.1:0', ...variables, PATH: [bin, ...path, '/usr/bin', '/bin'].join(':') };
    t.after(async () => {
      for (const { child } of this.#terminals) child.kill('SIGKILL');
      await Promise.all(this.#terminals.map(({ ended }) => ended));
      rmSync(this.#folder, { recursive: true, force: true, maxRetries: 10 });
    });
  }

  async follow(document) {
    for (const block of blocks(document)) {
      if (block.language === 'sh') for (const line of block.text.trim().split('\n')) await this.#command(line);
      else if (block.language === 'text') await this.#compare(block);
      else this.#write(block);
    }
  }

  /** Leaves: the client ends well, and so does the server. */
  async leave() {
    this.#client.child.stdin.end();
    assert.equal(await this.#client.ended, 0, this.#client.output);
    assert.deepEqual(this.#client.output.match(/gone: .*/g), ['gone: io client disconnect'], 'nothing else ended its connection');
    this.#server.child.kill('SIGTERM');
    assert.equal(await this.#server.ended, 0, this.#server.output);
  }

  async #command(line) {
    if (INSTALL.test(line)) {
      const wanted = line.split(' ').slice(2).filter((word) => word !== 'add');
      for (const name of wanted) assert.ok(INSTALLED.includes(name), `${name} is installed for the tests`);
      return;
    }
    if (line === 'node client.mjs') this.#meet();
    const terminal = this.#open(line);
    this.#show(terminal, 0);
    if (line.startsWith('mixlab up')) this.#server = terminal;
    else if (line.startsWith('node ')) this.#client = terminal;
    else assert.equal(await terminal.ended, 0, `${line}\n${terminal.output}`);
  }

  #open(line) {
    // `exec`, so that a signal reaches the program.
    const child = spawn('bash', ['-c', `exec ${line}`], { cwd: this.#folder, env: this.#env });
    const terminal = { child, line, output: '' };
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (terminal.output += text));
    terminal.ended = new Promise((resolve) => child.once('close', resolve));
    this.#terminals.push(terminal);
    return terminal;
  }

  /** Gives the client the server's port. */
  #meet() {
    const [, url] = this.#server.output.match(/listening on (\S+)/);
    const path = join(this.#folder, 'client.mjs');
    writeFileSync(path, readFileSync(path, 'utf8').replace('http://127.0.0.1:3000', url));
  }

  #show(terminal, from) {
    this.#shown = terminal;
    this.#from = from;
  }

  #write({ text, before, where }) {
    const [, isEnd, name] = before.match(FILE) ?? assert.fail(`${where}: no file is named over it`);
    const path = join(this.#folder, name);
    if (isEnd) return appendFileSync(path, `\n${text}`);
    if (name.includes('/')) assert.ok(existsSync(path), `${where}: ${name} is there, and is changed`);
    writeFileSync(path, text);
    // What comes of a save is in the server's terminal.
    if (this.#server) this.#show(this.#server, this.#server.output.length);
  }

  /** Types what stands behind ">", and waits for all other lines, in order. */
  async #compare({ text, where }) {
    const lines = text.trim().split('\n');
    // Of what is made, the page names all.
    if (lines[0].startsWith('wrote ')) return assert.equal(this.#shown.output, text, where);
    const isClients = lines.some((line) => line.startsWith('> '));
    if (isClients && this.#shown !== this.#client) this.#show(this.#client, this.#client.output.length);
    for (const line of lines) {
      if (line.startsWith('> ')) {
        this.#client.child.stdin.write(`${line.slice(2)}\n`);
        continue;
      }
      const pattern = new RegExp(escaped(line).replace('127\\.0\\.0\\.1:3000', '127\\.0\\.0\\.1:\\d+'));
      const found = await until(() => pattern.exec(this.#shown.output.slice(this.#from)), {
        timeout: PATIENCE,
        message: () => `${where}: ${line}\n${this.#terminals.map((terminal) => `$ ${terminal.line}\n${terminal.output}`).join('\n')}`,
      });
      this.#from += found.index + found[0].length;
    }
  }
}

/** What a language needs beside `mixlab`. */
const TOOLS = {
  typescript: {},
  javascript: {},
  c: {},
  rust: { ...CARGO, path: [join(CARGO.CARGO_HOME, 'bin')] },
  python: { path: [dirname(PYTHON)] },
};

/** Those whose builds take a minute or more. */
const LONG = ['rust', 'python'];

for (const [language, tools] of Object.entries(TOOLS)) {
  const skip = LONG.includes(language) && !FULL && 'it takes minutes: MIXLAB_TESTS=full';
  test(`a first plugin, as the page says: ${language}`, { timeout: 4 * PATIENCE, skip }, async (t) => {
    const page = `${START}/${language}.md`;
    assert.match(readFileSync(join(ROOT, page), 'utf8'), /\]\(client\.md\)/, 'the page says where the client is');
    const reader = new Reader(t, tools);
    await reader.follow(`${START}/client.md`);
    await reader.follow(page);
    await reader.leave();
  });
}
