// What can change and is shown: sources tell, and what shows them is drawn again, all at once and
// at most some twenty times a second, however many messages come.
import { useEffect, useState } from "./vendor/preact-htm.js";

const MIN_GAP_MS = 50;
const dirty = new Set();
let pending = false;
let lastMs = 0;

function flush() {
  pending = false;
  lastMs = performance.now();
  const drawn = [...dirty];
  dirty.clear();
  for (const listener of drawn) listener();
}

function schedule(listener) {
  dirty.add(listener);
  if (pending) return;
  pending = true;
  const wait = Math.max(0, MIN_GAP_MS - (performance.now() - lastMs));
  setTimeout(() => requestAnimationFrame(flush), wait);
}

/** Something that changes; `version` counts how often. */
export class Source {
  constructor() {
    this.version = 0;
    this.listeners = new Set();
  }

  changed() {
    this.version += 1;
    for (const listener of this.listeners) schedule(listener);
  }
}

/** Draw a component again when one of the sources has changed. */
export function useLive(...sources) {
  const [, set] = useState(0);
  useEffect(() => {
    const draw = () => set((n) => n + 1);
    for (const source of sources) source.listeners.add(draw);
    draw();
    return () => {
      dirty.delete(draw);
      for (const source of sources) source.listeners.delete(draw);
    };
  }, sources);
}
