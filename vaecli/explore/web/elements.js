/** The elements of the page: those of index.html by their id, and new ones. */

/** @template {HTMLElement} T @param {string} id @param {new () => T} kind @returns {T} */
function byId(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`no ${id} in the page`);
  return found;
}

export const elementOf = (/** @type {string} */ id) => byId(id, HTMLElement);
export const buttonOf = (/** @type {string} */ id) => byId(id, HTMLButtonElement);
export const canvasOf = (/** @type {string} */ id) => byId(id, HTMLCanvasElement);
export const inputOf = (/** @type {string} */ id) => byId(id, HTMLInputElement);
export const selectOf = (/** @type {string} */ id) => byId(id, HTMLSelectElement);

/** A new element with text in it. @template {keyof HTMLElementTagNameMap} K @param {K} name @param {string} [text] */
export function element(name, text = "") {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

/** A new button, which submits nothing. @param {() => void} pressed @param {...(Node | string)} inside */
export function newButton(pressed, ...inside) {
  const button = element("button");
  button.type = "button";
  button.append(...inside);
  button.addEventListener("click", pressed);
  return button;
}

/** A new canvas for a picture of the model. @param {import("./pictures.js").Shape} shape */
export function pictureCanvas([, height, width]) {
  const canvas = element("canvas");
  canvas.className = "pixels";
  [canvas.width, canvas.height] = [width, height];
  return canvas;
}

/** Choices of a class, by its number. @param {HTMLSelectElement} select @param {string[]} classes */
export function offerClasses(select, classes) {
  classes.forEach((name, label) => select.append(new Option(name, String(label))));
}
