// The document: nodes are made once, and only what changed is written. Text goes in as text.

const $ = id => document.getElementById(id);

function make(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function draw(tag, options = {}, ...children) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(options)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function mark(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

function grow(node, value) {
  const text = String(value);
  if (node.style.flexGrow !== text) node.style.flexGrow = text;
}

function widen(node, share) {
  const text = `${Math.min(100, Math.max(0, 100 * number(share))).toFixed(1)}%`;
  if (node.style.width !== text) node.style.width = text;
}

// Children of `parent` follow `items`: one node for each key, made by `create`, which returns
// [node, update]. At most `most` of them, whatever is sent.
const kept = new WeakMap();
function each(parent, items, key, create, most = 256) {
  const before = kept.get(parent) ?? new Map();
  const after = new Map();
  let next = parent.firstChild;
  for (const item of items.slice(0, most)) {
    const name = key(item);
    if (after.has(name)) continue;
    const entry = before.get(name) ?? create(item);
    after.set(name, entry);
    before.delete(name);
    entry[1](item);
    if (entry[0] === next) next = next.nextSibling;
    else parent.insertBefore(entry[0], next);
  }
  for (const [node] of before.values()) node.remove();
  kept.set(parent, after);
}

// Rows of a table: `cells` gives a text, or a function that fills its cell, for each column.
function rows(table, items, key, cells, most) {
  each(table.tBodies[0], items, key, item => {
    const row = make('tr');
    cells(item).forEach((_, at) => {
      row.append(at === 0 ? make('th', { scope: 'row' }) : make('td'));
    });
    return [row, now => cells(now).forEach((cell, at) => {
      if (typeof cell === 'function') cell(row.cells[at]);
      else put(row.cells[at], cell);
    })];
  }, most);
}

// A table that is filled only while it is open.
function fold(details, heads, rowsOf) {
  const body = make('tbody');
  const head = heads.map(text => make('th', { scope: 'col' }, text));
  const table = make('table', { class: 'wide' }, make('thead', {}, make('tr', {}, ...head)), body);
  details.lastElementChild.append(table);
  const fill = () => {
    if (details.open) rows(table, rowsOf(), row => row[0], row => row);
  };
  details.addEventListener('toggle', fill);
  return fill;
}

// A list of figures: [name, [text, unit], explanation]
function figures(list, items) {
  each(list, items, item => item[0], ([name, , tip]) => {
    const text = make('span');
    const unit = make('span', { class: 'unit' });
    const node = make('div', {}, make('dt', {}, term(name, tip)), make('dd', {}, text, ' ', unit));
    return [node, item => {
      put(text, item[1][0]);
      put(unit, item[1][1]);
      mark(node, 'data-as', item[3] ?? null);
    }];
  });
}

// A word with an explanation, for the pointer and for the keyboard.
function term(text, tip) {
  return tip ? make('button', { type: 'button', class: 'term', 'data-tip': tip }, text) : text;
}

// A level beside its number: the number is read out, the level is only seen.
function meter(cell, share, as = 'level') {
  if (!cell.firstChild) cell.append(make('span', { class: 'meter', 'aria-hidden': 'true' }, make('i')));
  const level = cell.firstChild.firstChild;
  mark(level, 'class', as);
  widen(level, share);
}

// A command to try, with a button that copies it.
function command(text) {
  const button = make('button', { type: 'button', class: 'copy' }, 'Copy');
  button.dataset.copy = text;
  button.setAttribute('aria-label', `Copy: ${text}`);
  return make('span', { class: 'command' }, make('code', {}, text), button);
}

// What an empty section teaches; made once for each text.
function teach(id, shown, text, line) {
  const node = $(id);
  show(node, shown);
  if (!shown || node.dataset.line === text + line) return;
  node.dataset.line = text + line;
  node.replaceChildren(make('p', {}, text), ...(line ? [command(line)] : []));
}

// One explanation at a time, beside what it explains.
function tips() {
  const tip = $('tip');
  let of = null;
  const hide = () => {
    of?.removeAttribute('aria-describedby');
    of = null;
    tip.hidden = true;
  };
  const place = () => {
    if (!of) return;
    const at = of.getBoundingClientRect();
    if (at.bottom < 0 || at.top > innerHeight) return hide();
    const left = Math.min(at.left, innerWidth - tip.offsetWidth - 8);
    const below = at.bottom + 6 + tip.offsetHeight < innerHeight;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${below ? at.bottom + 6 : at.top - tip.offsetHeight - 6}px`;
  };
  const open = event => {
    const target = event.target.closest?.('[data-tip]') ?? null;
    if (target === of) return;
    hide();
    if (!target) return;
    of = target;
    put(tip, target.dataset.tip);
    tip.hidden = false;
    target.setAttribute('aria-describedby', 'tip');
    place();
  };
  document.addEventListener('pointerover', open);
  document.addEventListener('focusin', open);
  document.addEventListener('focusout', hide);
  document.addEventListener('keydown', event => event.key === 'Escape' && hide());
  // It follows what it explains: focus scrolls there by itself, and is told of before the scrolling.
  addEventListener('scroll', place, { passive: true, capture: true });
}
