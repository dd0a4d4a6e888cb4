"use strict";
// Strokes are kept as points between 0 and 1, so that they can be drawn again at any size and in any colours,
// and the picture that is sent does not depend on the screen.
(() => {
  const PEN = 0.075; // of the sheet's side
  const SENT = 256; // pixels along a side of the picture that is sent
  const AGAIN = 3000; // milliseconds between two looks at which release is live
  const $ = (id) => document.getElementById(id);
  const sheet = $("sheet");
  const strokes = [];
  let picture = null; // a chosen image that is shown instead of strokes
  let stroke = null;
  let cursor = null; // the keyboard's pen: {x, y, down}
  let waiting = null; // the timer of the next request
  let asking = null; // the AbortController of the running one
  let known = null; // the release that was shown last

  // Drawing

  function paint(context, side, colour) {
    context.lineWidth = PEN * side;
    context.lineCap = context.lineJoin = "round";
    context.strokeStyle = context.fillStyle = colour;
    for (const points of strokes) {
      context.beginPath();
      points.forEach(([x, y]) => context.lineTo(x * side, y * side));
      if (points.length === 1) context.lineTo(points[0][0] * side + 0.01, points[0][1] * side);
      context.stroke();
    }
  }

  function show() {
    const side = Math.round(sheet.clientWidth * devicePixelRatio);
    sheet.width = sheet.height = side;
    const context = sheet.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    if (picture) {
      const scale = Math.min(side / picture.width, side / picture.height);
      const [width, height] = [picture.width * scale, picture.height * scale];
      context.drawImage(picture, (side - width) / 2, (side - height) / 2, width, height);
    }
    paint(context, side, style.getPropertyValue("--ink"));
    if (cursor && document.activeElement === sheet) {
      context.beginPath();
      context.lineWidth = 2 * devicePixelRatio;
      context.strokeStyle = style.getPropertyValue("--accent");
      context.arc(cursor.x * side, cursor.y * side, (PEN * side) / 2 + 3, 0, 7);
      context.stroke();
    }
    const empty = !strokes.length && !picture;
    $("hint").hidden = !empty || cursor !== null;
    $("undo").disabled = !strokes.length;
    $("clear").disabled = empty;
  }

  function place(event) {
    const box = sheet.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  function begin(point) {
    picture = null;
    strokes.push((stroke = [point]));
  }

  function changed(delay) {
    show();
    clearTimeout(waiting);
    if (asking) asking.abort();
    if (strokes.length) waiting = setTimeout(() => score(drawn()), delay);
    else if (!picture) empty();
  }

  function clear() {
    strokes.length = 0;
    picture = stroke = null;
    changed(0);
  }

  sheet.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    sheet.setPointerCapture(event.pointerId);
    cursor = null;
    begin(place(event));
    show();
  });
  sheet.addEventListener("pointermove", (event) => {
    if (!stroke || cursor) return;
    const all = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    (all.length ? all : [event]).forEach((one) => stroke.push(place(one)));
    show();
  });
  const lift = () => {
    if (!stroke || cursor) return;
    stroke = null;
    changed(150);
  };
  sheet.addEventListener("pointerup", lift);
  sheet.addEventListener("pointercancel", lift);

  sheet.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step && event.key !== " " && event.key !== "Escape") return;
    event.preventDefault();
    if (event.key === "Escape") {
      cursor = null;
      return clear();
    }
    cursor = cursor || { x: 0.5, y: 0.25, down: false };
    if (event.key === " ") {
      cursor.down = !cursor.down;
      if (cursor.down) begin([cursor.x, cursor.y]);
      else stroke = null;
    } else {
      cursor.x = Math.min(0.95, Math.max(0.05, cursor.x + step[0] / 24));
      cursor.y = Math.min(0.95, Math.max(0.05, cursor.y + step[1] / 24));
      if (cursor.down && stroke) stroke.push([cursor.x, cursor.y]);
    }
    changed(400);
  });
  sheet.addEventListener("blur", show);
  $("clear").addEventListener("click", clear);
  $("undo").addEventListener("click", () => {
    strokes.pop();
    stroke = null;
    changed(0);
  });
  new ResizeObserver(show).observe(sheet);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);

  // Asking the service

  function drawn() {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = SENT;
    const context = canvas.getContext("2d");
    context.fillStyle = "white";
    context.fillRect(0, 0, SENT, SENT);
    paint(context, SENT, "black");
    return canvas.toDataURL("image/png").split(",")[1];
  }

  async function score(image) {
    const mine = (asking = new AbortController());
    try {
      const response = await fetch("score", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ input: JSON.stringify([image]) }),
        signal: mine.signal,
      });
      const type = response.headers.get("Content-Type") || "";
      const answer = type.includes("json") ? await response.json() : {};
      if (!response.ok) throw new Error(answer.error || `The service answered ${response.status}.`);
      predicted(answer.predictions[0]);
      release(answer);
    } catch (error) {
      if (mine.signal.aborted) return;
      failed(error instanceof TypeError ? "The service cannot be reached." : error.message);
    }
  }

  $("file").addEventListener("change", async (event) => {
    const file = event.target.files[0];
    event.target.value = ""; // the same file may be chosen again
    if (!file) return;
    clear();
    cursor = null;
    // What the browser cannot open is sent as it is: the service says what is wrong with it.
    picture = await createImageBitmap(file).catch(() => null);
    show();
    score(picture && file.size > 1e6 ? smaller(picture) : await encoded(file));
  });

  function smaller(bitmap) {
    const scale = Math.min(1, 1024 / Math.max(bitmap.width, bitmap.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    return canvas.toDataURL("image/png").split(",")[1];
  }

  function encoded(file) {
    return new Promise((done, fail) => {
      const reader = new FileReader();
      reader.onload = () => done(reader.result.split(",")[1] || "");
      reader.onerror = () => fail(reader.error);
      reader.readAsDataURL(file);
    });
  }

  // Showing the answer

  // Rounded down: no model is 100.0 % sure because its last digit was dropped.
  const percent = (value) => (Math.floor(value * 1000) / 10).toFixed(1) + " %";

  function bars(probabilities) {
    let entries = Object.entries(probabilities);
    if (entries.length > 10) entries = entries.sort((a, b) => b[1] - a[1]).slice(0, 10);
    const best = Math.max(...entries.map((entry) => entry[1]));
    const list = $("bars");
    while (list.children.length > entries.length) list.lastChild.remove();
    entries.forEach(([name, value], index) => {
      let row = list.children[index];
      if (!row) {
        row = list.appendChild(document.createElement("li"));
        for (const part of ["name", "track", "value"]) {
          row.appendChild(document.createElement("span")).className = part;
        }
        row.children[1].appendChild(document.createElement("div")).className = "fill";
      }
      row.className = value > 0 && value === best ? "best" : "";
      row.children[0].textContent = name;
      row.children[2].textContent = value >= 0.001 ? percent(value) : "";
      row.querySelector(".fill").style.transform = `scaleX(${value})`;
    });
  }

  function predicted({ label, probability, probabilities }) {
    $("error").hidden = true;
    $("answer").hidden = false;
    $("label").textContent = label;
    $("label").classList.toggle("long", label.length > 3);
    $("sure").textContent = `${percent(probability)} sure`;
    bars(probabilities);
  }

  function empty() {
    $("error").hidden = true;
    $("answer").hidden = false;
    $("label").textContent = "\u2013";
    $("sure").textContent = "Nothing drawn yet";
    bars(Object.fromEntries([...$("bars").children].map((row) => [row.children[0].textContent, 0])));
  }

  function failed(message) {
    empty();
    $("answer").hidden = true;
    $("error").textContent = message;
    $("error").hidden = false;
  }

  function release({ commit, model }) {
    const now = `${commit} ${model.version} ${model.digest}`;
    if (known && known !== now) $("news").textContent = "A new release is answering now.";
    known = now;
    const short = (text) => text.replace(/^sha256:/, "");
    $("commit").textContent = short(commit).slice(0, 7);
    $("commit").title = commit;
    $("model").textContent = `${model.name} ${model.version}`;
    $("digest").textContent = short(model.digest).slice(0, 12);
    $("digest").title = model.digest;
  }

  async function look() {
    if (!document.hidden) {
      try {
        const response = await fetch("version");
        if (response.ok) release(await response.json());
      } catch {
        // The next look, or the next drawing, tells.
      }
    }
    setTimeout(look, AGAIN);
  }

  bars(Object.fromEntries([..."0123456789"].map((digit) => [digit, 0])));
  show();
  look();
})();
