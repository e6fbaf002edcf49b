// The interfaces of WASI that a tab provides, except HTTP. Each provider returns the functions and resource classes of one interface
// for one instance of the group. Interfaces that two versions of WASI share have the functions of both.

import { logLine, OutputLines } from "./logs.js";
import { dispose, ValueError } from "./values.js";

/** The size in bytes that an output stream accepts at once. */
const WRITE_BYTES_MAX = 65536n;

/** The number of random bytes that the browser returns at once. */
const RANDOM_BYTES_AT_ONCE = 65536;

/** The maximum number of random bytes that one call returns. */
const RANDOM_BYTES_MAX = 1n << 20n;

const NANOSECONDS_PER_MS = 1e6;

/** The error that a call of `wasi:cli/exit` throws. It ends the instance. */
export class Exit extends Error {}

class Pollable {
  /** @param {number | null} at the time at which it is ready, on the clock of `performance.now()`; `null` if it is always ready. */
  constructor(at = null) {
    this.at = at;
  }
  ready() {
    return this.at === null || performance.now() >= this.at;
  }
  async block() {
    await until(this.at ?? 0);
  }
  [dispose]() {}
}

class IoError {
  toDebugString() {
    return "closed";
  }
  [dispose]() {}
}

/** Standard input is empty. */
class InputStream {
  read() {
    throw new ValueError({ tag: "closed" });
  }
  blockingRead() {
    return this.read();
  }
  skip() {
    return this.read();
  }
  blockingSkip() {
    return this.read();
  }
  subscribe() {
    return new Pollable();
  }
  [dispose]() {}
}

class OutputStream {
  /** @param {OutputLines} lines */
  constructor(lines) {
    this.lines = lines;
  }
  checkWrite() {
    return WRITE_BYTES_MAX;
  }
  write(bytes) {
    this.lines.write(bytes);
  }
  blockingWriteAndFlush(bytes) {
    this.lines.write(bytes);
  }
  writeZeroes(count) {
    this.lines.write(new Uint8Array(Number(count)));
  }
  blockingWriteZeroesAndFlush(count) {
    this.writeZeroes(count);
  }
  flush() {}
  blockingFlush() {}
  splice() {
    throw new ValueError({ tag: "closed" });
  }
  blockingSplice() {
    return this.splice();
  }
  subscribe() {
    return new Pollable();
  }
  [dispose]() {}
}

/** A resource of which no instance exists, because a tab has no files and no terminal. */
class Absent {
  [dispose]() {}
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function until(at) {
  for (;;) {
    const left = at - performance.now();
    if (left <= 0) return;
    // Timers have 31 bits.
    await sleep(Math.min(left, 2 ** 31 - 1));
  }
}

const nowNs = () => BigInt(Math.round(performance.now() * NANOSECONDS_PER_MS));
const msOf = (ns) => Number(ns) / NANOSECONDS_PER_MS;

function dateTime() {
  const ms = performance.timeOrigin + performance.now();
  const seconds = Math.floor(ms / 1000);
  return { seconds: BigInt(seconds), nanoseconds: Math.floor((ms - seconds * 1000) * NANOSECONDS_PER_MS) };
}

function randomBytes(count) {
  if (count > RANDOM_BYTES_MAX) throw new Error(`${count} random bytes were requested, at most ${RANDOM_BYTES_MAX} are allowed`);
  const bytes = new Uint8Array(Number(count));
  for (let at = 0; at < bytes.length; at += RANDOM_BYTES_AT_ONCE) crypto.getRandomValues(bytes.subarray(at, at + RANDOM_BYTES_AT_ONCE));
  return bytes;
}

const randomU64 = () => crypto.getRandomValues(new BigUint64Array(1))[0];
const randomPair = () => [randomU64(), randomU64()];

/** Returns standard output or standard error of WASI 0.2 and 0.3. */
function output(component, stream) {
  const lines = new OutputLines(component, stream);
  return {
    [stream === "stdout" ? "getStdout" : "getStderr"]: () => new OutputStream(lines),
    async writeViaStream(data) {
      for await (const chunk of chunks(data)) lines.write(chunk);
    },
  };
}

/** Reads a stream of the component in large chunks. */
export async function* chunks(stream, count = 65536) {
  for (;;) {
    const { value, done } = await stream.read({ count });
    if (value !== undefined) yield bytesOf(value);
    if (done) return;
  }
}

/** Returns the bytes of a value that was read from a stream of bytes. */
export function bytesOf(value) {
  if (value instanceof Uint8Array) return value;
  return typeof value === "number" ? Uint8Array.of(value) : Uint8Array.from(value);
}

function exit(status) {
  throw new Exit(`the component has exited with ${JSON.stringify(status)}`);
}

function config(component, session) {
  const values = () => session.config?.[component] ?? {};
  const get = (key) => (Object.hasOwn(values(), key) ? values()[key] : undefined);
  return { get, getAll: () => Object.entries(values()) };
}

/** The providers, by interface without version. */
export const PROVIDERS = {
  "wasi:io/error": () => ({ Error: IoError }),
  "wasi:io/poll": () => ({
    Pollable,
    async poll(pollables) {
      const ready = () => pollables.flatMap((pollable, index) => (pollable.ready() ? [index] : []));
      for (;;) {
        const found = ready();
        if (found.length > 0) return Uint32Array.from(found);
        await until(Math.min(...pollables.map((pollable) => pollable.at)));
      }
    },
  }),
  "wasi:io/streams": () => ({ InputStream, OutputStream }),
  "wasi:clocks/types": () => ({}),
  "wasi:clocks/monotonic-clock": () => ({
    now: nowNs,
    resolution: () => 1000n,
    getResolution: () => 1000n,
    subscribeInstant: (when) => new Pollable(msOf(when)),
    subscribeDuration: (duration) => new Pollable(performance.now() + msOf(duration)),
    waitUntil: (when) => until(msOf(when)),
    waitFor: (duration) => until(performance.now() + msOf(duration)),
  }),
  "wasi:clocks/wall-clock": () => ({ now: dateTime, resolution: () => ({ seconds: 0n, nanoseconds: 1000 }) }),
  "wasi:clocks/system-clock": () => ({ now: dateTime, getResolution: () => 1000n }),
  "wasi:random/random": () => ({ getRandomBytes: randomBytes, getRandomU64: randomU64 }),
  "wasi:random/insecure": () => ({ getInsecureRandomBytes: randomBytes, getInsecureRandomU64: randomU64 }),
  "wasi:random/insecure-seed": () => ({ insecureSeed: randomPair, getInsecureSeed: randomPair }),
  "wasi:cli/types": () => ({}),
  "wasi:cli/environment": (component, { session }) => ({
    getEnvironment: () => Object.entries(session.config?.[component] ?? {}),
    getArguments: () => [],
    initialCwd: () => undefined,
    getInitialCwd: () => undefined,
  }),
  "wasi:cli/exit": () => ({ exit, exitWithCode: exit }),
  "wasi:cli/stdin": () => ({
    getStdin: () => new InputStream(),
    readViaStream: () => [new ReadableStream({ start: (controller) => controller.close() }), Promise.resolve({ tag: "ok", val: undefined })],
  }),
  "wasi:cli/stdout": (component) => output(component, "stdout"),
  "wasi:cli/stderr": (component) => output(component, "stderr"),
  "wasi:cli/terminal-input": () => ({ TerminalInput: Absent }),
  "wasi:cli/terminal-output": () => ({ TerminalOutput: Absent }),
  "wasi:cli/terminal-stdin": () => ({ getTerminalStdin: () => undefined }),
  "wasi:cli/terminal-stdout": () => ({ getTerminalStdout: () => undefined }),
  "wasi:cli/terminal-stderr": () => ({ getTerminalStderr: () => undefined }),
  "wasi:filesystem/types": () => ({ Descriptor: Absent, DirectoryEntryStream: Absent, filesystemErrorCode: () => undefined }),
  "wasi:filesystem/preopens": () => ({ getDirectories: () => [] }),
  "wasi:config/store": (component, { session }) => config(component, session),
  "wasi:config/runtime": (component, { session }) => config(component, session),
  "wasi:logging/logging": (component) => ({
    log: (level, context, message) => logLine({ component, level, message: context ? `${context}: ${message}` : message }),
  }),
};
