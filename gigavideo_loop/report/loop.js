const { shots, rounds, best } = page;
const chooser = document.getElementById("prompt"), stage = document.getElementById("shot");
const LONGEST = 90; // characters of a prompt in the list

const named = (position) => (position ? `round ${rounds[position - 1]}` : "base");
const shorten = (text) => (text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text);

function drawReward(side, base) {
  if (side.reward === null) return make("span", "mute", "unscorable");
  const value = make("span", "", make("b", "", side.reward.toFixed(2)));
  if (side !== base && base && base.reward !== null) {
    const change = side.reward - base.reward, same = Math.abs(change) < 0.005;
    value.append(" ", make("span", `change ${same ? "mute" : change < 0 ? "bad" : "good"}`, (change < 0 && !same ? "-" : "+") + Math.abs(change).toFixed(2)));
  }
  return value;
}
function drawBox(side, position, shot) {
  const isBest = position > 0 && rounds[position - 1] === best;
  const name = make("span", "", named(position));
  if (isBest) name.append(" ", make("b", "chip", "best"));
  const item = make("li", isBest ? "best" : "");
  if (!side) {
    item.append(make("p", "missing", `No clip of this prompt and seed in ${position ? "this round" : "the evaluations"}.`), make("div", "what", name));
    return item;
  }
  const clip = drawClip({ ...side, id: side.clip, source: named(position) }, plain(shot.prompt), "");
  item.append(clip, make("div", "what", name, drawReward(side, shot.sides[0])));
  return item;
}
function draw(shot) {
  for (const video of stage.querySelectorAll("video")) watch.unobserve(video);
  const prompt = make("p", "prompt", plain(shot.prompt));
  prompt.dir = "auto";
  const about = `${words(shot.dimension)}, seed ${shot.seed}, ${shot.fixed ? "one of the first prompts of this dimension" : "shown because of a large gain or loss in some round"}`;
  const boxes = shot.sides.map((side, position) => drawBox(side, position, shot));
  const buttons = boxes.map((box) => box.querySelector("button")).filter(Boolean);
  const { scrub, where, toggle, lead } = together(buttons, "frame of all clips");
  const button = make("button");
  button.type = "button";
  const tell = () => { button.textContent = lead.paused ? "Play" : "Pause"; };
  button.onclick = () => { moving = lead.paused; toggle(); };
  for (const name of ["play", "pause"]) lead.addEventListener(name, tell);
  scrub.addEventListener("input", () => { moving = false; }); // clips that come into view again stay paused
  tell();
  stage.replaceChildren(prompt, make("ul", "boxes", ...boxes), make("div", "player", button, scrub, where), make("p", "note", about));
}
function choose(position) {
  chooser.selectedIndex = (position + shots.length) % shots.length;
  draw(shots[chooser.selectedIndex]);
}

if (chooser) {
  const groups = new Map();
  for (const shot of shots) {
    if (!groups.has(shot.dimension)) {
      groups.set(shot.dimension, make("optgroup"));
      groups.get(shot.dimension).label = words(shot.dimension);
    }
    groups.get(shot.dimension).append(make("option", "", shorten(plain(shot.prompt))));
  }
  chooser.append(...groups.values());
  chooser.addEventListener("input", () => draw(shots[chooser.selectedIndex]));
  document.getElementById("earlier").addEventListener("click", () => choose(chooser.selectedIndex - 1));
  document.getElementById("later").addEventListener("click", () => choose(chooser.selectedIndex + 1));
  choose(0);
}
