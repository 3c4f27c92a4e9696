"use strict";
// What the scripts of all pages share: nodes, and videos alone or several under one slider.
// Strings of others become text nodes or attributes, never markup.
const page = JSON.parse(document.getElementById("data").textContent);
const { clips } = page; // videos in base64, by name
const PIXELATED = 128; // px: smaller clips are shown with hard pixels
const reduced = matchMedia("(prefers-reduced-motion: reduce)");
let moving = !reduced.matches; // whether a video plays as soon as it is near the viewport

const make = (tag, name, ...children) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  node.append(...children);
  return node;
};
const words = (name) => name.replaceAll("_", " ");
// Direction marks would change the order of the shown text.
const plain = (text) => text.replace(/[\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]/g, "\ufffd");

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

// Returns one slider for the given clips (of `drawClip`), the frame as text, a function that plays or pauses all of them,
// and the video that leads.
function together(buttons, label) {
  const videos = buttons.map((button) => button.querySelector("video")), lead = videos[0];
  const count = Math.min(...videos.map((video) => video.dataset.frames));
  const scrub = make("input", "scrub"), where = make("output");
  Object.assign(scrub, { type: "range", min: 0, max: count - 1, step: 1, value: 0 });
  scrub.setAttribute("aria-label", label);
  const show = (frame) => {
    scrub.value = frame;
    where.textContent = `frame ${scrub.valueAsNumber + 1} of ${count}`;
    scrub.setAttribute("aria-valuetext", where.textContent);
  };
  const seek = (frame) => {
    show(frame);
    for (const video of videos) { video.pause(); video.currentTime = (frame + 0.5) / video.dataset.fps; }
  };
  const toggle = () => {
    const start = lead.paused;
    for (const video of videos) {
      if (start) { video.currentTime = lead.currentTime; play(video); } else video.pause();
    }
  };
  scrub.oninput = () => seek(scrub.valueAsNumber);
  for (const video of videos) video.onloadedmetadata = () => {
    if (video.paused) video.currentTime = (scrub.valueAsNumber + 0.5) / video.dataset.fps; // loaded again
  };
  for (const button of buttons) {
    button.onclick = toggle;
    button.onmouseenter = button.onmouseleave = button.onfocus = button.onblur = null;
    button.onkeydown = (event) => {
      const frames = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (frames) { event.preventDefault(); seek((scrub.valueAsNumber + frames + count) % count); }
    };
  }
  lead.ontimeupdate = () => {
    if (lead.paused) return;
    show(Math.floor(lead.currentTime * lead.dataset.fps));
    for (const video of videos) {
      if (Math.abs(video.currentTime - lead.currentTime) > 0.1) video.currentTime = lead.currentTime;
    }
  };
  show(0);
  return { scrub, where, toggle, lead };
}
