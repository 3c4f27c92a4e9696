const { cards, pairs } = page;
const PAGE = 24; // cards added at a time
const form = document.getElementById("filters"), grid = document.getElementById("grid"), more = document.getElementById("more");
const motion = document.getElementById("motion");
const kindOf = (value) => (value > 0.5 ? "good" : "bad");
let found = [], shown = 0;

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
  const { scrub } = together(sides, "frame of both videos");
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
