/** The page: opens the model, puts the cards together, and keeps the address. */

import { copy, decodeCommand, fromHash, numberText, toHash } from "./address.js";
import { HereCard } from "./cards/here.js";
import { MixCard } from "./cards/mix.js";
import { OwnCard } from "./cards/own.js";
import { PlaneCard } from "./cards/plane.js";
import { SamplesCard } from "./cards/samples.js";
import { SlidersCard } from "./cards/sliders.js";
import { buttonOf, elementOf } from "./elements.js";
import { embeddedJson } from "./embedded.js";
import { showLicences } from "./licences.js";
import { Network } from "./network.js";
import { Newest } from "./newest.js";
import { fail, toast } from "./notices.js";
import { Points } from "./points.js";
import { State } from "./state.js";

const LATER = 250; // milliseconds after a change, until the address says so

const contents = embeddedJson("contents");
const network = new Network(contents);
const points = new Points(contents);
const state = new State(contents.mean, contents.conditional ? 0 : null);
const here = new HereCard(network, state, points);
const plane = new PlaneCard(network, state, points, here, changedView);
const samples = new SamplesCard(network, state, here, changedView, (text) => void copied(text, "command copied"));
const sliders = new SlidersCard(contents, state);
const mix = new MixCard(network, state, plane);

let pending = 0;

function changedView() {
  clearTimeout(pending);
  pending = window.setTimeout(() => history.replaceState(null, "", hash()), LATER);
}

function hash() {
  return toHash({
    latent: [...state.latent],
    label: state.label ?? undefined,
    seed: samples.seed,
    temperature: samples.temperature,
    sampled: samples.label ?? undefined,
    dims: plane.dims ?? undefined,
  });
}

/** Go where an address says. @param {string} address @returns {boolean} Whether it names a latent. */
function goTo(address) {
  const view = fromHash(new URL(address).hash, contents);
  samples.seed = view.seed ?? samples.seed;
  samples.temperature = view.temperature ?? samples.temperature;
  samples.label = view.sampled ?? (contents.conditional ? (view.label ?? samples.label) : null);
  plane.dims = view.dims ?? null;
  if (view.latent) state.go(view.latent, contents.conditional ? (view.label ?? state.label) : null);
  return view.latent !== undefined;
}

/** @param {string} text @param {string} done */
async function copied(text, done) {
  toast((await copy(text)) ? done : "The browser does not let this page copy.");
}

function listenToCopies() {
  buttonOf("copy-command").addEventListener("click", () => {
    void copied(decodeCommand(state.latent, state.label, contents), "command copied");
  });
  buttonOf("copy-link").addEventListener("click", () => {
    history.replaceState(null, "", hash());
    void copied(location.href, "link copied");
  });
}

async function start() {
  elementOf("name").textContent = contents.name;
  elementOf("size").textContent = contents.latentDim === 1 ? "one number" : `${contents.latentDim} numbers`;
  elementOf("facts").textContent = contents.facts.join(" · ");
  await Promise.all([network.open(), points.open()]);
  if (!goTo(location.href)) state.go((await samples.draw(0, 1))[0], samples.given);
  elementOf("status").hidden = true;
  elementOf("main").hidden = false;
  await here.picture.run();
  document.documentElement.dataset.first = String(Math.round(performance.now()));
  for (const card of [here, plane, sliders, samples, mix]) card.open();
  listenToCopies();
  showLicences();
  state.subscribe(changedView);
  await network.openOthers();
  elementOf("own-card").hidden = !contents.hasEncoder;
  if (contents.hasEncoder) new OwnCard(network, state).open();
  state.go(state.latent);
  await samples.show();
  plane.show();
  window.addEventListener("hashchange", ({ newURL }) => {
    goTo(newURL); // the page may have written its own address since
    samples.show().catch(fail);
    plane.show();
  });
  document.documentElement.dataset.state = "ready";
  // For the console of the curious, and for tests.
  Object.assign(globalThis, { explore: { contents, network, state, numberText, isWorking: () => Newest.working > 0 } });
}

start().catch(fail);
