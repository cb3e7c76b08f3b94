// Puts the parts that the server sends into the page, and tells it what the address says is to be shown.
// Runs once, when Bokeh has the document: `parts`, `view`, `bars`, `plot`, `axes` and `grids` are models of it.
const shown = new Map();
let late = null;

function put(name) {
  const element = document.getElementById(`df-${name}`);
  const html = parts.data[name][0];
  if (element === null || shown.get(name) === html) return;
  const selection = document.getSelection();
  const copies = selection !== null && !selection.isCollapsed && element.contains(selection.anchorNode);
  const chooses = document.activeElement instanceof HTMLSelectElement && element.contains(document.activeElement);
  if (copies || chooses) {  // someone would lose what is in hand
    clearTimeout(late);
    late = setTimeout(put_all, 1000);
    return;
  }
  const is_first = !shown.has(name);
  shown.set(name, html);
  const places = new Map();
  for (const each of [element, ...element.querySelectorAll("[id]")]) {
    const at_end = each.scrollTop + each.clientHeight >= each.scrollHeight - 4;
    places.set(each.id, [each.scrollLeft, each.scrollTop, at_end]);
  }
  const unfolded = element.querySelector("details")?.open ?? false;
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  element.innerHTML = html;
  for (const each of [element, ...element.querySelectorAll("[id]")]) {
    const place = places.get(each.id);
    if (place !== undefined) [each.scrollLeft, each.scrollTop] = place;
    if (each.hasAttribute("data-end") && (is_first || place === undefined || place[2])) each.scrollTop = each.scrollHeight;
  }
  for (const each of element.querySelectorAll("details")) each.open = unfolded;
  if (focused !== null) {  // by its id where the address changes with each use
    const links = [...element.querySelectorAll("a[href], summary")];
    const same = link => focused.id ? link.id === focused.id : link.getAttribute("href") === focused.getAttribute("href");
    links.find(same)?.focus({preventScroll: true});
  }
}

let beat = performance.now();
let asking = false;

// Without a word from the server for a while: say so, and start anew once it answers.
async function watch() {
  const gone = performance.now() - beat > 7000;
  document.getElementById("df-gone").hidden = !gone;
  if (!gone || asking) return;
  asking = true;
  try {
    const answer = await fetch(location.href, {signal: AbortSignal.timeout(5000)});
    if (answer.ok) location.reload();
  } catch {
    // not yet
  } finally {
    asking = false;
  }
}

let centred = "";

// The selected step is to be seen, also where there are many.
function centre() {
  const graph = document.getElementById("df-graph");
  const node = graph.querySelector(".df-selected");
  if (node === null || node.dataset.step === centred) return;
  centred = node.dataset.step;
  const beside = node.offsetLeft - graph.scrollLeft, below = node.offsetTop - graph.scrollTop;
  if (beside < 0 || beside + node.offsetWidth > graph.clientWidth) {
    graph.scrollLeft = node.offsetLeft - (graph.clientWidth - node.offsetWidth) / 2;
  }
  if (below < 0 || below + node.offsetHeight > graph.clientHeight) {
    graph.scrollTop = node.offsetTop - (graph.clientHeight - node.offsetHeight) / 2;
  }
}

function hear() {
  beat = performance.now();
  put_all();
}

function put_all() {
  document.body.dataset.mode = parts.data.mode[0];
  document.body.dataset.task = new URLSearchParams(parts.data.query[0]).get("task") ? "yes" : "";
  for (const name of ["runs", "head", "graph", "tasks", "task"]) put(name);
  centre();
  tick();
}

function duration(seconds) {
  const two = number => String(Math.floor(number)).padStart(2, "0");
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${two(seconds % 3600 / 60)} min`;
}

const opened = Number(parts.data.now[0]) - performance.now() / 1000;  // by the server's clock

function tick() {
  for (const time of document.querySelectorAll("time[data-at]")) {
    time.textContent = duration(Math.max(0, performance.now() / 1000 + opened - Number(time.dataset.at)));
  }
}

function ask() {
  view.data = {query: [location.search]};
  const asked = new URLSearchParams(location.search);
  for (const input of document.querySelectorAll("input[data-bind]")) {
    if (input !== document.activeElement) input.value = asked.get(input.dataset.bind) ?? "";
  }
}

function go(address) {
  history.pushState(null, "", address);
  ask();
}

document.addEventListener("click", event => {
  const link = event.target.closest("a[data-go]");
  if (link === null || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});

document.addEventListener("change", event => {
  if (!event.target.matches("select[data-go-select]")) return;
  event.target.blur();
  go(event.target.value);
});

let typed = null;
document.addEventListener("input", event => {
  const input = event.target;
  if (!input.matches("input[data-bind]")) return;
  clearTimeout(typed);
  typed = setTimeout(() => {
    const asked = new URLSearchParams(location.search);
    asked.delete(input.dataset.from);
    if (input.value) asked.set(input.dataset.bind, input.value);
    else asked.delete(input.dataset.bind);
    history.replaceState(null, "", `?${asked}`);
    ask();
  }, 200);
});

addEventListener("popstate", ask);

const dark = matchMedia("(prefers-color-scheme: dark)");
function colour() {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--faint").trim();
  const line = style.getPropertyValue("--line").trim();
  for (const axis of axes) {
    axis.major_label_text_color = ink;
    axis.axis_label_text_color = ink;
    axis.axis_line_color = line;
    axis.major_tick_line_color = line;
    axis.minor_tick_line_color = null;
  }
  for (const grid of grids) grid.grid_line_color = line;
  plot.outline_line_color = line;
}
dark.addEventListener("change", colour);
colour();

bars.selected.properties.indices.change.connect(() => {
  const [place] = bars.selected.indices;
  if (place === undefined) return;
  const step = bars.data.step[place];
  if (step === "") return;
  const asked = new URLSearchParams(location.search);
  for (const name of ["table", "column", "offset", "words", "sort", "down"]) asked.delete(name);
  if (parts.data.run[0]) {
    const [flow, run] = parts.data.run[0].split("/");
    asked.set("flow", flow);
    asked.set("run", run);
  }
  asked.set("step", step);
  const task = bars.data.task[place].split("..")[0];
  if (task) asked.set("task", task);
  else asked.delete("task");
  go(`?${asked}`);
});

parts.properties.data.change.connect(hear);
parts.patching.connect(hear);
put_all();
setInterval(tick, 1000);
setInterval(watch, 1500);
document.body.dataset.ready = "yes";
