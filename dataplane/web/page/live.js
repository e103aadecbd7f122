// What keeps the page alive: the stream of overviews, what is said of it, keys and theme.

const RETRY_MS = [1000, 2000, 4000, 8000];
// The node sends one a second; after this long without any the stream is taken for dead.
const SILENCE_MS = 6000;

const sectors = new Sectors();
const gathers = new Gathers();
const curves = [
  new Curves($('chart-rate'), 'Queries a second', [{ key: 'rate', name: 'queries/s', of: rates => rates.queries_per_s }], rate),
  new Curves($('chart-latency'), 'Latency', ['p50', 'p95', 'p99'].map(key => ({ key, name: key, of: rates => rates[`${key}_ms`] })), latency, true),
];

const page = {
  latest: null, drawn: 0, history: [], source: null, tries: 0, heard: 0, lost: null,
  paused: false, awaited: false, retry: 0, watch: 0,
};

// Said aloud, and only when something changes.
function say(text) {
  put($('said'), text);
}

function link() {
  const last = page.drawn > 0 ? clock(page.drawn) : '';
  const [as, text] = page.lost !== null
    ? ['lost', `Connection lost since ${clock(page.lost)}; trying again`]
    : page.paused ? ['paused', `Paused at ${last}`] : ['live', last ? `Live, ${last}` : 'waiting for the node'];
  mark(document.documentElement, 'data-link', as);
  put($('link'), text);
}

// One frame for however many events came meanwhile.
function refresh() {
  if (page.awaited || !page.latest || page.paused) return;
  page.awaited = true;
  requestAnimationFrame(() => {
    page.awaited = false;
    if (page.paused) return;
    const all = page.latest;
    page.drawn = all.at_ms;
    const was = $('state').textContent;
    for (const section of [head, notices, now, workers, batches, mesh, refusals, copies, facts]) section(all);
    standing(all.bar);
    const many = all.sectors.length;
    for (const id of ['map', 'map-legend', 'sectors-more']) show($(id), many > 0);
    teach('sectors-empty', many === 0, 'Sectors appear with their agents.', '');
    sectors.update(all.sectors);
    show($('gathers'), all.gathers.length > 0);
    teach('gathers-empty', all.gathers.length === 0, 'No gather has ended yet. To reach all agents at one moment:', `butterfly gather --addr ${address(all.node)} --targets all --verb act`);
    gathers.update(all.gathers, all.at_ms);
    curves.forEach(curve => curve.update(page.history));
    link();
    mark(document.documentElement, 'data-drawn', all.at_ms);
    const state = $('state').textContent;
    if (was !== state) say(`The node is ${state.toLowerCase()}`);
  });
}

// An overview, complete whatever the node left out: a page may be older or newer than its node.
function complete(said) {
  const list = value => (Array.isArray(value) ? value : []);
  const map = value => (value && typeof value === 'object' && !Array.isArray(value) ? value : {});
  const objects = value => list(value).filter(item => item && typeof item === 'object');
  const node = map(said.node);
  return {
    at_ms: number(said.at_ms),
    node: { ...node, fallbacks: list(node.fallbacks), facts: map(node.facts) },
    now: map(said.now),
    bar: { of: '', total: 0, ...map(said.bar), parts: objects(said.bar?.parts) },
    batches: { ...map(said.batches), by_reason: map(said.batches?.by_reason) },
    workers: objects(said.workers).map(worker => ({ ...worker, checks: objects(worker.checks) })),
    mesh: { ...map(said.mesh), kpi: map(said.mesh?.kpi), by_state: map(said.mesh?.by_state) },
    sectors: objects(said.sectors),
    gathers: objects(said.gathers).map(gather => ({ ...gather, arrivals: list(gather.arrivals).filter(Array.isArray) })),
    refusals: map(said.refusals),
    recent_refusals: objects(said.recent_refusals),
    copies: map(said.copies),
  };
}

function take(said) {
  const overview = complete(said);
  page.latest = overview;
  // A node's clock may be set back: what it says of later is of a clock that is no more.
  page.history = page.history.filter(point => point.at_ms <= overview.at_ms + GAP_MS);
  remember([{ at_ms: overview.at_ms, rates: overview.now }]);
  if (page.lost !== null) {
    page.lost = null;
    say('Connected again');
    link();
    load('/api/history', remember);
  }
  page.tries = 0;
  page.heard = Date.now();
  refresh();
}

// Points in order, one for each moment, no older than the curves show.
function remember(points) {
  const all = new Map(page.history.map(point => [point.at_ms, point]));
  for (const point of points) if (Number.isFinite(point?.at_ms) && point.rates) all.set(point.at_ms, point);
  const sorted = [...all.values()].sort((a, b) => a.at_ms - b.at_ms);
  const end = sorted.at(-1)?.at_ms ?? 0;
  page.history = sorted.filter(point => point.at_ms > end - SPAN_MS);
  refresh();
}

async function load(path, use) {
  try {
    const answer = await fetch(path);
    if (answer.ok) use(await answer.json());
  } catch {
    // The stream says that the node is away, and tries again.
  }
}

function lose() {
  close();
  if (page.lost === null) {
    page.lost = page.heard || Date.now();
    say('Connection lost');
  }
  link();
  const wait = RETRY_MS[Math.min(page.tries, RETRY_MS.length - 1)];
  page.tries += 1;
  page.retry = setTimeout(open, wait);
}

function close() {
  clearTimeout(page.retry);
  clearInterval(page.watch);
  page.source?.close();
  page.source = null;
}

function open() {
  close();
  page.source = new EventSource('/events');
  const opened = Date.now();
  page.source.addEventListener('overview', event => {
    try {
      take(JSON.parse(event.data));
    } catch {
      lose();
    }
  });
  page.source.addEventListener('error', lose);
  page.watch = setInterval(() => {
    if (Date.now() - Math.max(page.heard, opened) > SILENCE_MS) lose();
  }, 1000);
}

// Nobody looks at a hidden page, so the node need not speak to it.
document.addEventListener('visibilitychange', () => {
  if (document.hidden) close();
  else {
    load('/api/history', remember);
    open();
  }
});

function pause() {
  page.paused = !page.paused;
  mark($('pause'), 'aria-pressed', page.paused);
  put($('pause'), page.paused ? 'Go on' : 'Pause');
  say(page.paused ? 'Paused' : 'Going on');
  link();
  refresh();
}

const THEMES = ['system', 'light', 'dark'];
function theme(chosen) {
  const name = THEMES.includes(chosen) ? chosen : THEMES[0];
  mark(document.documentElement, 'data-theme', name);
  put($('theme'), `Theme: ${name}`);
  return name;
}

// A browser may forbid to remember; then the theme lasts as long as the page.
function remembered(name) {
  try {
    if (name) localStorage.setItem('theme', name);
    return localStorage.getItem('theme');
  } catch {
    return name;
  }
}

function turn() {
  const at = THEMES.indexOf(document.documentElement.dataset.theme);
  remembered(theme(THEMES[(at + 1) % THEMES.length]));
  say($('theme').textContent);
}

async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    put(button, 'Copied');
    say('Copied');
  } catch {
    // Not allowed here (plain HTTP beyond this host): it is selected, to be copied by hand.
    getSelection().selectAllChildren(button.previousSibling);
    put(button, 'Selected');
    say('Selected; copy it with the keyboard');
  }
  setTimeout(() => put(button, 'Copy'), 2000);
}

theme(remembered());
tips();
$('pause').addEventListener('click', pause);
$('theme').addEventListener('click', turn);
$('help').addEventListener('click', () => $('helping').showModal());
document.addEventListener('click', event => event.target.dataset?.copy && copy(event.target));
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey || $('helping').open) return;
  const act = { '?': () => $('helping').showModal(), t: turn, p: pause }[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
});
link();
load('/api/overview', said => page.latest ?? take(said));
load('/api/history', remember);
open();
