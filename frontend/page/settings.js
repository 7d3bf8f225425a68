// What is kept for the next visit: how the page looks. Never a key, nor who somebody is.
import { Source } from "./source.js";

const NAME = "shardbook";
const DEFAULTS = {
  theme: null, panes: [], group: 1, cumulative: false, interval: "1m", letters: true, quantity: "1",
};

class Settings extends Source {
  constructor() {
    super();
    this.values = { ...DEFAULTS };
    try {
      const kept = JSON.parse(localStorage.getItem(NAME)) ?? {};
      for (const name of Object.keys(DEFAULTS)) {
        if (name in kept && (DEFAULTS[name] === null || typeof kept[name] === typeof DEFAULTS[name])) {
          this.values[name] = kept[name];
        }
      }
    } catch { /* nothing is kept here, or nothing that can be read */ }
    this.values.theme = document.documentElement.dataset.theme;
  }

  get(name) {
    return this.values[name];
  }

  set(name, value) {
    this.values[name] = value;
    if (name === "theme") document.documentElement.dataset.theme = value;
    try {
      localStorage.setItem(NAME, JSON.stringify(this.values));
    } catch { /* then it lasts as long as the page */ }
    this.changed();
  }
}

export const settings = new Settings();
