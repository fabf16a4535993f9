"""The page that shows a phone's screen in a browser, and reports what is touched and typed there."""

# `show(screen)` draws a screen. `take(milliseconds)` waits for what a touch or a key has done and returns it. Texts are only ever
# put into text nodes and values, never read as HTML.
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1, user-scalable=no">
<style>
* { box-sizing: border-box; margin: 0; -webkit-tap-highlight-color: transparent; user-select: none; }
html, body { height: 100%; overflow: hidden; background: #eceff4; }
body { font: 20px "DejaVu Sans", "Noto Sans CJK SC", sans-serif; letter-spacing: -0.4px; color: #11141c; }
.at { position: absolute; overflow: hidden; white-space: nowrap; }
.line { display: flex; flex-direction: column; justify-content: center; padding: 0 18px; }
.line > * { overflow: hidden; text-overflow: ellipsis; }
.detail { font-size: 15px; color: #585e6a; }
#bar { background: #1b2642; color: #fff; font-size: 21px; }
.action, .button { isolation: isolate; color: #fff; }
.action::before, .button::before { content: ""; position: absolute; inset: 4px 8px; border-radius: 12px; background: #1462d6;
  z-index: -1; }
.action { padding: 0; text-align: center; }
.action::before { inset: 8px 4px; background: #3e5080; }
#body { overflow-x: hidden; overflow-y: scroll; touch-action: pan-y; overscroll-behavior: none; }
.row, .switch { background: #fff; border-bottom: 1px solid #d6dae2; }
.switch, .choice { padding-right: 88px; }
.label { color: #585e6a; }
.button .detail { color: #d6e5fc; }
.knob { position: absolute; right: 14px; top: 13px; width: 56px; height: 30px; border-radius: 15px; background: #a4aab6; }
.knob::after { content: ""; position: absolute; left: 3px; top: 3px; width: 24px; height: 24px; border-radius: 12px;
  background: #fff; }
.on > .knob { background: #26964c; }
.on > .knob::after { left: 29px; }
.mark { position: absolute; right: 20px; top: 15px; width: 26px; height: 26px; border-radius: 13px;
  border: 2px solid #7c828e; background: #fff; }
.on > .mark { border: 8px solid #1462d6; }
.field { padding: 2px 6px; }
.field input { width: 100%; height: 100%; border: 1px solid #7c828e; border-radius: 10px; padding: 14px 12px 0;
  font: inherit; letter-spacing: inherit; color: #11141c; background: #fff; caret-color: transparent; outline: none;
  user-select: text; }
.field input:placeholder-shown { padding-top: 0; }
.field input::placeholder { color: #7c828e; opacity: 1; }
.field input::selection { background: #d6e5fc; color: #11141c; }
.field input.chosen { border: 3px solid #1462d6; padding-left: 10px; }
.field span { position: absolute; left: 18px; top: 6px; font-size: 13px; color: #585e6a; pointer-events: none; }
.icon { text-align: center; }
.icon i { display: block; width: 64px; height: 64px; line-height: 64px; margin: 10px auto 4px; border-radius: 16px;
  color: #fff; font-style: normal; font-size: 36px; }
.tab { background: #fff; color: #585e6a; border-top: 1px solid #d6dae2; padding: 0; text-align: center; }
.tab.on { background: #d6e5fc; color: #1462d6; border-top: 5px solid #1462d6; }
#shade { left: 0; top: 0; width: 100%; height: 100%; background: rgba(0, 0, 0, 0.6); }
#popup { background: #fff; }
#popup h1 { background: #d6e5fc; height: 56px; line-height: 56px; padding: 0 18px; font-size: 21px; font-weight: normal; }
#popup p { padding: 14px 18px; font-size: 19px; line-height: 30px; color: #585e6a; white-space: normal; }
.choose:not(.first) { color: #11141c; }
.choose:not(.first)::before { background: #d6dae2; }
#toast { background: #2d3038; color: #fff; border-radius: 12px; font-size: 19px; pointer-events: none; }
#track { background: #d6dae2; pointer-events: none; }
#track div { background: #585e6a; }
</style>
</head>
<body>
<script>
"use strict";
let reports = [], waiting = null, start = null, held = false;

function report(event) {
  reports.push(event);
  if (waiting) { waiting(reports.splice(0)); waiting = null; }
}

function take(milliseconds) {
  return new Promise(done => {
    if (reports.length) return done(reports.splice(0));
    waiting = done;
    setTimeout(() => { if (waiting === done) { waiting = null; done([]); } }, milliseconds);
  });
}

// What a touch hits is what lay under the finger at its start. The event's target may be a field nearby: Chromium takes fingers
// to miss.
document.addEventListener("touchstart", event => {
  const { clientX, clientY } = event.touches[0];
  const widget = document.elementFromPoint(clientX, clientY)?.closest("[data-id]");
  held = false;
  start = { time: event.timeStamp, x: clientX, y: clientY, id: widget ? widget.dataset.id : "" };
}, { passive: true });
document.addEventListener("touchend", event => {
  const end = event.changedTouches[0];
  const still = Math.abs(end.clientX - start.x) < 5 && Math.abs(end.clientY - start.y) < 5;
  held = still && event.timeStamp - start.time >= LONG_PRESS;
  if (held) report({ kind: "long_press", id: start.id });
});
document.addEventListener("click", () => { if (!held) report({ kind: "tap", id: start.id }); });
document.addEventListener("contextmenu", event => event.preventDefault());
document.addEventListener("input", event => report({ kind: "text", text: event.target.value }));
document.addEventListener("keydown", event => {
  if (event.key !== "Enter" && event.key !== "Backspace") return;
  event.preventDefault();
  report({ kind: "key", key: event.key });
});

function element(parent, classes, box, text = "") {
  const made = document.createElement("div");
  made.className = "at " + classes;
  if (box) {
    const [left, top, right, bottom] = box;
    Object.assign(made.style, { left: left + "px", top: top + "px", width: right - left + "px", height: bottom - top + "px" });
  }
  if (text) made.appendChild(document.createElement("div")).textContent = text;
  parent.appendChild(made);
  return made;
}

function draw(parent, widget, classes, screen) {
  const made = element(parent, classes + (widget.on ? " on" : ""), widget.box);
  if (widget.kind !== "label") made.dataset.id = widget.id;
  if (widget.kind === "field") {
    const input = made.appendChild(document.createElement("input"));
    Object.assign(input, { value: widget.value, placeholder: widget.text, autocomplete: "off", spellcheck: false });
    if (widget.value) made.appendChild(document.createElement("span")).textContent = widget.text;
    if (widget.id !== screen.focus) return;
    input.className = "chosen";
    input.focus({ preventScroll: true });
    input.setSelectionRange(screen.selected ? 0 : input.value.length, input.value.length);
    return;
  }
  if (widget.kind === "icon") {
    const tile = made.appendChild(document.createElement("i"));
    tile.textContent = widget.text.slice(0, 1).toUpperCase();
    tile.style.background = widget.colour;
  }
  made.appendChild(document.createElement("div")).textContent = widget.text;
  if (widget.detail) {
    const detail = made.appendChild(document.createElement("div"));
    detail.className = "detail";
    detail.textContent = widget.detail;
  }
  if (widget.kind === "switch") made.appendChild(document.createElement("b")).className = "knob";
  if (widget.kind === "row" && widget.on !== null) {
    made.classList.add("choice");
    made.appendChild(document.createElement("b")).className = "mark";
  }
}

function show(screen) {
  reports = [];
  document.body.replaceChildren();
  const body = element(document.body, "", screen.body_box);
  body.id = "body";
  for (const widget of screen.body) draw(body, widget, widget.kind === "icon" ? "icon" : "line " + widget.kind, screen);
  body.scrollTop = screen.scroll;
  const bar = element(document.body, "line", screen.bar_box, screen.title);
  bar.id = "bar";
  bar.style.paddingRight = screen.bar_taken + "px";
  for (const widget of screen.actions) draw(document.body, widget, "line action", screen);
  for (const widget of screen.tabs) draw(document.body, widget, "line tab", screen);
  if (screen.track) {
    const track = element(document.body, "", screen.track);
    track.id = "track";
    element(track, "", screen.thumb);
  }
  if (screen.popup) {
    element(document.body, "", null).id = "shade";
    const popup = element(document.body, "", screen.popup.box);
    popup.id = "popup";
    popup.appendChild(document.createElement("h1")).textContent = screen.popup.title;
    popup.appendChild(document.createElement("p")).textContent = screen.popup.text;
    screen.popup.buttons.forEach((widget, i) => {
      draw(document.body, widget, "line button choose" + (i ? "" : " first"), screen);
    });
  }
  if (screen.toast) element(document.body, "line", screen.toast_box, screen.toast).id = "toast";
}

function scrolled() {
  return new Promise(done => requestAnimationFrame(() => done(document.getElementById("body").scrollTop)));
}
</script>
</body>
</html>
"""
