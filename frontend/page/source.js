// What can change and is shown: sources tell, and what shows them is drawn again: a part at most some
// twenty times a second, however many messages come, each in a task of its own, and all of them in at
// most about a third of the time, so that the page stays quick to the hand on a slow machine too.
import { useEffect, useState } from "./vendor/preact-htm.js";

const GAP_MS = 50;
const REST = 2;
const MOST_REST_MS = 500;
const waiting = new Set();
let running = false;
let restUntilMs = 0;
let step = null;
const channel = new MessageChannel();
channel.port1.onmessage = () => step();

/** Carry out in a task of its own. */
function soon(act) {
  step = act;
  channel.port2.postMessage(null);
}

function schedule(part) {
  waiting.add(part);
  if (running) return;
  running = true;
  look();
}

/** Draw what is due in the next frame, or look again when something is. */
function look() {
  if (!waiting.size) {
    running = false;
    return;
  }
  const now = performance.now();
  const first = Math.max(restUntilMs, Math.min(...[...waiting].map((part) => part.dueMs)));
  if (first > now) setTimeout(look, first - now);
  else requestAnimationFrame(() => draw([...waiting].filter((part) => part.dueMs <= now), now));
}

function draw(parts, begunMs) {
  const part = parts.pop();
  if (part) {
    if (waiting.delete(part)) {
      part.dueMs = performance.now() + part.gapMs;
      part.draw();
    }
    soon(() => draw(parts, begunMs));
    return;
  }
  const drawnMs = performance.now();
  requestAnimationFrame((frameMs) => soon(() => {
    const now = performance.now();
    const costMs = drawnMs - begunMs + Math.max(0, now - Math.max(frameMs, drawnMs));
    restUntilMs = now + Math.min(REST * costMs, MOST_REST_MS);
    look();
  }));
}

/** Something that changes; `version` counts how often. */
export class Source {
  constructor() {
    this.version = 0;
    this.listeners = new Set();
  }

  changed() {
    this.version += 1;
    for (const listener of this.listeners) listener();
  }
}

function useDrawn(sources, gapMs) {
  const [, set] = useState(0);
  useEffect(() => {
    const part = { dueMs: 0, gapMs, draw: () => set((n) => n + 1) };
    const listener = () => schedule(part);
    for (const source of sources) source.listeners.add(listener);
    listener();
    return () => {
      waiting.delete(part);
      for (const source of sources) source.listeners.delete(listener);
    };
  }, sources);
}

/** Draw a component again when one of the sources has changed. */
export function useLive(...sources) {
  useDrawn(sources, GAP_MS);
}

/** The same, some four times a second: for what one glances at. */
export function useCalm(...sources) {
  useDrawn(sources, 5 * GAP_MS);
}
