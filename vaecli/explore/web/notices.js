/** What the page says to its visitor: for a moment, or because it cannot go on. */

import { elementOf } from "./elements.js";

const SHOWN = 1800; // milliseconds

let hiding = 0;

/** Say something for a moment. @param {string} text */
export function toast(text) {
  const box = elementOf("toast");
  box.textContent = text;
  box.classList.add("shown");
  clearTimeout(hiding);
  hiding = window.setTimeout(() => box.classList.remove("shown"), SHOWN);
}

/** @param {unknown} error */
export function fail(error) {
  const status = elementOf("status");
  status.hidden = false;
  status.textContent = `This page cannot go on: ${error instanceof Error ? error.message : String(error)}`;
  document.documentElement.dataset.state = "failed";
}
