//! The rules that make the generated scheduler event-driven.
//!
//! js-component-bindgen polls: its scheduler waits 10 ms before the first step of a task and whenever nothing is ready,
//! and intervals complete the reads and writes of streams. So each asynchronous call takes 10 to 15 ms. With these rules,
//! the scheduler runs when something has happened: an event is pending, or a lock was released. A timer of 50 ms remains
//! as a safety net.
//!
//! An instance that is discarded must stop waiting, because timers keep it in memory: the scheduler of an instance ends
//! when its host calls `life.end()` on the imports.
//!
//! Messages of a channel run the scheduler soon, because browsers delay nested timers by 4 ms. The channel belongs to
//! the module: a channel of an instance would keep the instance in memory.

use crate::rewrite::{Occurs, Rule};

/// The version of js-component-bindgen whose output the rules match.
pub(crate) const GENERATOR_VERSION: &str = "2.18.0";

/// The function whose calls are removed.
pub(crate) const DEBUG_LOG: &str = "_debugLog";

/// The rules, in the order in which they are applied. They apply to condensed source: without comments and indentation.
pub(crate) const RULES: [Rule; 14] = [
    Rule {
        name: "the tick loop is woken",
        occurs: Occurs::Exactly(1),
        old: "if (this.#tickLoop !== null) { return; }",
        new: "if (this.#tickLoop !== null) { _wake(); return; }",
    },
    Rule {
        name: "the tick loop starts soon",
        occurs: Occurs::Exactly(1),
        old: "setTimeout(async () => {\nlet result = this.tick();",
        new: "_soon(async () => {\nlet result = this.tick();",
    },
    Rule {
        name: "the tick loop waits until it is woken",
        occurs: Occurs::Exactly(1),
        old: "const delay = result === ComponentAsyncState.TickResult.RESUMED ? 0 : 10;\n\
              await new Promise((resolve) => setTimeout(resolve, delay));",
        new: "await (result === ComponentAsyncState.TickResult.RESUMED ? new Promise(_soon) : _idle());",
    },
    Rule {
        name: "the tick loop ends",
        occurs: Occurs::Exactly(1),
        old: "this.#tickLoop = null;\n}, 10);",
        new: "this.#tickLoop = null;\n});",
    },
    Rule {
        name: "an event wakes",
        occurs: Occurs::Exactly(1),
        old: "this.#pendingEventFn = fn;\n}",
        new: "this.#pendingEventFn = fn;\n_wake();\n}",
    },
    Rule {
        name: "a released lock wakes",
        occurs: Occurs::Exactly(1),
        old: "this.#scheduleLockHandoff();\nreturn true;",
        new: "this.#scheduleLockHandoff();\n_wake();\nreturn true;",
    },
    Rule {
        name: "an asynchronous import returns soon",
        occurs: Occurs::With("const finishAsyncLower = () => {"),
        old: "setTimeout(() => {\ntry {\nresolve(finishAsyncLower());",
        new: "_soon(() => {\ntry {\nresolve(finishAsyncLower());",
    },
    Rule {
        name: "a call that had to wait starts soon",
        occurs: Occurs::With("const failDeferredStart = (err) => {"),
        old: "setTimeout(async () => {\ntry {\nconst started = await enterPromise;",
        new: "_soon(async () => {\ntry {\nconst started = await enterPromise;",
    },
    // The host reads and writes streams and futures, which every HTTP handler has.
    Rule {
        name: "reads and writes of the host wait for an event",
        occurs: Occurs::Exactly(4),
        old: "let waitInterval = setInterval(",
        new: "let waitInterval = _poll(",
    },
    Rule {
        name: "reads and writes of the host end their wait",
        occurs: Occurs::Exactly(4),
        old: "clearInterval(waitInterval);",
        new: "_unpoll(waitInterval);",
    },
    Rule {
        name: "no other code polls",
        occurs: Occurs::With("const interval = setInterval("),
        old: "setInterval(",
        new: "setInterval(",
    },
    Rule { name: "no code imports a module", occurs: Occurs::Exactly(0), old: "await import(", new: "" },
    Rule {
        name: "the module has a channel",
        occurs: Occurs::Exactly(1),
        old: "export function instantiate(",
        new: "const _channel = new MessageChannel(), _queue = [];\n\
              _channel.port1.onmessage = () => { const next = _queue.shift(); if (next) next(); };\n\
              const _soon = (next) => { _queue.push(next); _channel.port2.postMessage(0); };\n\
              export function instantiate(",
    },
    Rule {
        name: "the instance has functions to wait and wake",
        occurs: Occurs::Exactly(1),
        old: "const _debugLog = ",
        new: "const _wakers = new Map();\n\
              let _isWakePlanned = false, _isOver = false;\n\
              imports.life.end = () => { _isOver = true; for (const timer of _wakers.values()) clearTimeout(timer); _wakers.clear(); };\n\
              const _wake = () => {\n\
              if (_isWakePlanned || _wakers.size === 0) return;\n\
              _isWakePlanned = true;\n\
              _soon(() => { _isWakePlanned = false; for (const waker of [..._wakers.keys()]) waker(); });\n\
              };\n\
              const _idle = () => new Promise((resolve) => {\n\
              if (_isOver) return;\n\
              const waker = () => { clearTimeout(_wakers.get(waker)); _wakers.delete(waker); resolve(); };\n\
              _wakers.set(waker, setTimeout(waker, 50));\n\
              });\n\
              const _poll = (waker) => { if (!_isOver) { _wakers.set(waker, setInterval(waker, 50)); _wake(); } return waker; };\n\
              const _unpoll = (waker) => { clearInterval(_wakers.get(waker)); _wakers.delete(waker); };\n\
              const _debugLog = ",
    },
];
