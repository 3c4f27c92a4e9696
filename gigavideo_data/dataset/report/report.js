
"use strict";
// Strings of the dataset become text nodes or attributes, never markup.
const { cards, clips, pairs } = JSON.parse(document.getElementById("data").textContent);
const PAGE = 24; // cards added at a time
const PIXELATED = 128; // px: smaller clips are shown with hard pixels
const form = document.getElementById("filters"), grid = document.getElementById("grid"), more = document.getElementById("more");
const motion = document.getElementById("motion"), reduced = matchMedia("(prefers-reduced-motion: reduce)");
let moving = !reduced.matches, found = [], shown = 0;

const make = (tag, name, ...children) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  node.append(...children);
  return node;
};
const words = (name) => name.replaceAll("_", " ");
// Direction marks would change the order of the shown text.
const plain = (text) => text.replace(/[\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
const kindOf = (value) => (value > 0.5 ? "good" : "bad");

// --- videos: loaded only near the viewport, because browsers limit the number of players in a page -------------------

const watch = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) isIntersecting ? load(target) : unload(target);
}, { rootMargin: "120px" });

function load(video) {
  if (!video.src) video.src = "data:video/mp4;base64," + clips[video.dataset.clip];
  if (moving) play(video);
}
function unload(video) {
  if (!video.src) return;
  video.removeAttribute("src");
  video.load();
}
function play(video) {
  video.play().catch(() => {}); // blocked by the browser, or unloaded before it started: the video stays paused
}
function step(video, frames) {
  video.pause();
  const length = video.dataset.frames / video.dataset.fps;
  const middle = (Math.floor(video.currentTime * video.dataset.fps + 0.01) + frames + 0.5) / video.dataset.fps;
  video.currentTime = ((middle % length) + length) % length;
}
function drawClip(clip, prompt, label) {
  if (!(clip.id in clips)) return make("p", "about", "This video is not in the dataset.");
  const video = make("video");
  Object.assign(video, { muted: true, loop: true, playsInline: true, preload: "auto", width: clip.width, height: clip.height, tabIndex: -1 });
  Object.assign(video.dataset, { clip: clip.id, frames: clip.num_frames, fps: clip.fps });
  const button = make("button", "clip stopped", video);
  button.type = "button";
  button.setAttribute("aria-label", `${label || clip.source} video: ${prompt}. Play or pause; arrow keys step one frame.`);
  if (label) button.append(make("span", "label", label));
  button.append(make("span", "still"));
  if (Math.max(clip.width, clip.height) < PIXELATED) button.classList.add("pixel");
  video.onplay = () => button.classList.remove("stopped");
  video.onpause = () => button.classList.add("stopped");
  button.onclick = () => (video.paused ? play(video) : video.pause());
  button.onmouseenter = button.onfocus = () => { if (!reduced.matches && !moving) play(video); };
  button.onmouseleave = button.onblur = () => { if (!reduced.matches && !moving) video.pause(); };
  button.onkeydown = (event) => {
    const frames = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (frames) { event.preventDefault(); step(video, frames); }
  };
  watch.observe(video);
  return button;
}
function setMoving(value) {
  moving = value;
  motion.textContent = moving ? "Pause all" : "Play all";
  for (const video of grid.querySelectorAll("video[src]")) moving ? play(video) : video.pause();
}

// --- cards -----------------------------------------------------------------------------------------------------------

function drawAnswer(answer) {
  const own = answer.expected === "yes" ? answer.p_yes : answer.p_no, other = answer.p_yes + answer.p_no - own;
  const score = own + other > 0 ? own / (own + other) : null;
  const bar = make("div", "mass", make("i"), make("i"));
  bar.children[0].style.width = `${100 * own}%`;
  bar.children[1].style.width = `${100 * other}%`;
  const numbers = `expected ${answer.expected}, P(yes) ${answer.p_yes.toFixed(2)}, P(no) ${answer.p_no.toFixed(2)}`;
  return make("li", score === null ? "" : kindOf(score),
    make("div", "q", make("span", "", plain(answer.question)), make("b", "", score === null ? "–" : score.toFixed(2))), bar,
    make("div", "note", numbers + (answer.gate ? ", gate" : "") + (answer.readout === "logits" ? "" : `, read from ${answer.readout}`)));
}
function drawCard(card, dimension) {
  const item = make("li", card.clips.length > 1 ? "card pair" : "card");
  const label = (clip) => (card.clips.length > 1 || clip.source !== "synthetic" ? clip.source : "");
  const stage = make("div", "stage", ...card.clips.map((clip) => drawClip(clip, card.prompt, label(clip))));
  const prompt = make("p", "prompt", plain(card.prompt));
  prompt.dir = "auto";
  const scores = make("ul", "scores"), main = dimension || card.dimension;
  for (const reward of [...card.rewards].sort((a, b) => (b.dimension === main) - (a.dimension === main))) {
    const value = reward.value === null ? make("b", "mute", words(reward.status)) : make("b", kindOf(reward.value), reward.value.toFixed(2));
    scores.append(make("li", "", make("span", "", words(reward.dimension) + (reward.reason ? `: ${reward.reason}` : "")), value));
  }
  if (!card.rewards.length) scores.append(make("li", "", make("span", "", words(card.status))));
  const rest = make("div", "rest");
  const first = card.answers.filter((answer) => !main || answer.dimension === main);
  const others = card.answers.filter((answer) => main && answer.dimension !== main);
  if (first.length) rest.append(make("ul", "answers", ...first.map(drawAnswer)));
  if (others.length) rest.append(make("details", "",
    make("summary", "", `${others.length} on ${[...new Set(others.map((answer) => words(answer.dimension)))].join(", ")}`),
    make("ul", "answers", ...others.map(drawAnswer))));
  const made = card.generator, about = [];
  if (made.model) about.push(made.adapter ? `${made.model} with ${made.adapter}` : made.model);
  if (made.profile && made.profile !== "default") about.push(`${made.profile} profile`);
  if (made.steps !== undefined) about.push(`${made.steps} steps`);
  if (made.guidance !== undefined) about.push(`guidance ${made.guidance}`);
  if (made.seed !== undefined) about.push(`seed ${made.seed}`);
  about.push(card.split);
  const foot = make("p", "foot", about.join(" · ") + " · ", make("code", "", card.id.slice(0, 10)));
  foot.title = card.id;
  rest.append(foot);
  item.append(stage, make("div", "body", make("div", "top", prompt, scores), rest));
  return item;
}

// --- filters ---------------------------------------------------------------------------------------------------------

// Reward and status of a card on the chosen dimension, or on its own.
function outcome(card, dimension) {
  const entry = dimension && card.rewards.find((reward) => reward.dimension === dimension);
  return entry ? { value: entry.value, status: entry.status } : { value: card.reward, status: card.status };
}
function apply() {
  const want = Object.fromEntries(new FormData(form)), low = +want.low, high = Math.max(+want.high, low);
  document.getElementById("range").textContent = `${low.toFixed(2)} to ${high.toFixed(2)}`;
  found = cards.map((card) => ({ card, ...outcome(card, want.dimension) })).filter(({ card, value, status }) =>
    (!want.dimension || (card.dimension || "captions") === want.dimension || card.rewards.some((reward) => reward.dimension === want.dimension)) &&
    (!want.source || card.clips.some((clip) => clip.source === want.source)) &&
    (!want.status || status === want.status || (want.status === "not_scored" && card.clips.some((clip) => clip.source === "real"))) &&
    (value === null ? low === 0 && high === 1 : value >= low && value <= high));
  const byId = (a, b) => (a.card.id < b.card.id ? -1 : 1);
  const up = (a, b) => (a.value === null) - (b.value === null) || a.value - b.value || byId(a, b);
  const down = (a, b) => (a.value === null) - (b.value === null) || b.value - a.value || byId(a, b);
  const alphabet = (a, b) => (a.card.prompt < b.card.prompt ? -1 : a.card.prompt > b.card.prompt ? 1 : byId(a, b));
  found.sort({ random: byId, worst: up, best: down, prompt: alphabet }[want.order]);
  for (const video of grid.querySelectorAll("video")) watch.unobserve(video);
  grid.replaceChildren();
  shown = 0;
  showMore();
}
function showMore() {
  const next = found.slice(shown, shown + PAGE);
  grid.append(...next.map(({ card }) => drawCard(card, form.elements.dimension.value)));
  shown += next.length;
  document.getElementById("found").textContent = found.length ? `${shown} of ${found.length} cards` : "No video matches. Change or reset the filters.";
  more.hidden = shown === found.length;
  more.textContent = `Show ${Math.min(PAGE, found.length - shown)} more`;
}

form.addEventListener("input", apply);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(apply));
more.addEventListener("click", () => {
  const first = shown;
  showMore();
  grid.children[first]?.querySelector("button").focus({ preventScroll: true });
});
motion.addEventListener("click", () => setMoving(!moving));
reduced.addEventListener("change", () => setMoving(!reduced.matches));
for (const link of document.querySelectorAll("a.see")) link.addEventListener("click", () => {
  form.elements.dimension.value = link.dataset.dimension;
  apply();
});

// --- base and tuned model on one prompt and seed, with one slider for both ---------------------------------------------

function drawPair(pair) {
  const sides = ["base", "tuned"].map((side) =>
    drawClip({ id: pair[side].clip, source: side, ...pair[side] }, pair.prompt, `${side} ${pair[side].reward.toFixed(2)}`));
  const videos = sides.map((button) => button.querySelector("video"));
  const scrub = make("input", "scrub");
  Object.assign(scrub, { type: "range", min: 0, max: Math.min(...videos.map((video) => video.dataset.frames)) - 1, step: 1, value: 0 });
  scrub.setAttribute("aria-label", "frame of both videos");
  scrub.oninput = () => {
    for (const video of videos) { video.pause(); video.currentTime = (scrub.valueAsNumber + 0.5) / video.dataset.fps; }
  };
  const toggle = () => {
    const start = videos[0].paused;
    for (const video of videos) {
      if (start) { video.currentTime = videos[0].currentTime; play(video); } else video.pause();
    }
  };
  for (const button of sides) { button.onclick = toggle; button.onmouseenter = button.onmouseleave = button.onfocus = button.onblur = null; }
  videos[0].ontimeupdate = () => {
    if (videos[0].paused) return;
    scrub.value = Math.floor(videos[0].currentTime * videos[0].dataset.fps);
    if (Math.abs(videos[1].currentTime - videos[0].currentTime) > 0.1) videos[1].currentTime = videos[0].currentTime;
  };
  const change = pair.tuned.reward - pair.base.reward;
  const amount = make("b", change < 0 ? "bad" : "good", (change < 0 ? "" : "+") + change.toFixed(2));
  const top = make("div", "pairtop", make("p", "prompt", plain(pair.prompt)), amount);
  return make("li", "card versus", make("div", "stage", ...sides), scrub, make("div", "body", top));
}
function showPairs(dimension) {
  const mine = pairs.filter((pair) => pair.dimension === dimension);
  const change = (pair) => pair.tuned.reward - pair.base.reward;
  for (const [id, sign] of [["gains", 1], ["losses", -1]]) {
    const list = document.getElementById(id);
    for (const video of list.querySelectorAll("video")) watch.unobserve(video);
    const chosen = mine.filter((pair) => sign * change(pair) >= 0.005).sort((a, b) => sign * (change(b) - change(a)));
    list.replaceChildren(...(chosen.length ? chosen.map(drawPair) : [make("li", "note", "none")]));
  }
}
const pick = document.getElementById("pick");
if (pick) {
  pick.addEventListener("input", () => showPairs(pick.value));
}

setMoving(moving);
apply();
if (pick) {
  const most = pairs.reduce((a, b) => (Math.abs(b.tuned.reward - b.base.reward) > Math.abs(a.tuned.reward - a.base.reward) ? b : a), pairs[0]);
  if (most) pick.value = most.dimension;  // start with the largest change
  showPairs(pick.value);
}
