/** The licences of what the page is made of, unpacked for who asks. */

import { elementOf } from "./elements.js";
import { embeddedBytes } from "./embedded.js";
import { fail } from "./notices.js";

export function showLicences() {
  const details = elementOf("licences");
  const show = async () => {
    elementOf("licences-text").textContent = new TextDecoder().decode(await embeddedBytes("licences"));
  };
  details.addEventListener("toggle", () => void show().catch(fail), { once: true });
}
