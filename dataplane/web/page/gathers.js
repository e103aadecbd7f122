// Gathers: one in full, with when its answers came, and the last ones in a table.

const OUTCOMES = [
  ['in_time', 'In time', 'Ready by the moment.'],
  ['late', 'Late', 'Ready, but after the moment.'],
  ['conflicts', 'Conflicts', 'Answered that they cannot.'],
  ['silent', 'Silent', 'No answer within the window.'],
  ['skipped', 'Skipped', 'Not sent to: they could not have made it.'],
];
const BARS_MAX = 48;
const GATHERS_MAX = 20;

class Gathers {
  constructor() {
    this.chosen = null;
    this.gathers = [];
    this.bars = make('div', { class: 'hist', role: 'img' });
    this.axis = make('div', { class: 'axis', 'aria-hidden': 'true' });
    this.title = make('h3');
    this.reason = make('p', { class: 'reason' });
    this.sum = make('dl', { class: 'trio' });
    $('gather').append(this.title, this.reason, this.bars, this.axis, this.sum);
  }

  update(gathers, at_ms) {
    this.gathers = gathers.slice(0, GATHERS_MAX);
    this.now = at_ms;
    put($('gathers-count'), gathers.length > 0 ? `the last ${whole(this.gathers.length)}` : '');
    rows($('gathers-table'), this.gathers, gather => gather.id, gather => [
      cell => this.choice(cell, gather), cell => decision(cell, gather.decision), cell => outcome(cell, gather),
      ...['targets', 'in_time', 'late', 'conflicts', 'silent', 'skipped'].map(name => whole(gather[name])),
      joined(millis(gather.took_ms))]);
    this.detail();
  }

  // The first cell opens its gather above; until somebody chooses, the newest is open.
  choice(cell, gather) {
    if (!cell.firstChild) {
      const button = make('button', { type: 'button', class: 'term' });
      button.addEventListener('click', () => {
        this.chosen = this.chosen === gather.id ? null : gather.id;
        this.update(this.gathers, this.now);
      });
      cell.append(button);
    }
    put(cell.firstChild, clock(gather.at_ms));
    mark(cell.firstChild, 'aria-pressed', this.open()?.id === gather.id);
    mark(cell.parentNode, 'class', this.open()?.id === gather.id ? 'chosen' : '');
  }

  open() {
    return this.gathers.find(gather => gather.id === this.chosen) ?? this.gathers[0];
  }

  detail() {
    const gather = this.open();
    if (!gather) return;
    put(this.title, `${this.chosen ? '' : 'The last one: '}${words(gather.decision)}, ${lasting(this.now - gather.at_ms)} ago`);
    put(this.reason, plain(gather.reason));
    const bins = merged(gather.arrivals);
    const most = Math.max(1, ...bins.map(([, many]) => many));
    const items = bins.map(([edge, many], at) => ({ edge, many, before: edge <= 0, first: edge > 0 && !(bins[at - 1]?.[0] > 0) }));
    each(this.bars, items, item => item.edge, () => {
      const node = make('span');
      const bar = make('i');
      node.append(bar);
      return [node, item => {
        mark(node, 'class', `${item.before ? 'before' : 'after'}${item.first ? ' first' : ''}`);
        mark(node, 'data-tip', `${whole(item.many)} up to ${signed(item.edge)}`);
        const height = `${item.many > 0 ? Math.max(2, (100 * item.many) / most).toFixed(1) : 0}%`;
        if (bar.style.height !== height) bar.style.height = height;
      }];
    });
    this.label(bins);
    figures(this.sum, OUTCOMES.map(([key, name, tip]) => [name, [whole(gather[key]), gather.targets > 0 ? percent(gather[key] / gather.targets) : ''], tip, key]));
  }

  label(bins) {
    show(this.bars, bins.length > 0);
    show(this.axis, bins.length > 0);
    if (bins.length === 0) return;
    const sum = test => bins.filter(test).reduce((all, [, many]) => all + many, 0);
    const before = sum(([edge]) => edge <= 0);
    mark(this.bars, 'aria-label', `When answers were ready: ${whole(before)} by the moment, ${whole(sum(() => true) - before)} after it, `
      + `between ${signed(bins[0][0])} and ${signed(bins.at(-1)[0])}`);
    const at = bins.findIndex(([edge]) => edge > 0);
    const place = at < 0 ? 1 : at / bins.length;
    each(this.axis, [[0, bins[0][0] > 0 ? '' : signed(bins[0][0])], [place, 'the moment'], [1, place > 0.68 ? '' : signed(bins.at(-1)[0])]].map(([share, text], key) => ({ share, text, key })), item => item.key, () => {
      const node = make('span');
      return [node, item => {
        put(node, item.text);
        node.style.left = `${(100 * item.share).toFixed(1)}%`;
        mark(node, 'class', item.share < 0.08 ? 'start' : item.share > 0.92 ? 'end' : '');
      }];
    });
  }
}

const signed = ms => `${ms > 0 ? '+' : ms < 0 ? '\u2212' : ''}${joined(millis(Math.abs(ms)))}`;

// At most BARS_MAX bars, neighbours together; none holds both sides of the moment.
function merged(arrivals) {
  const by = Math.ceil(arrivals.length / (BARS_MAX - 1));
  const bins = [];
  let inside = 0;
  for (const [edge, many] of arrivals) {
    const last = bins.at(-1);
    if (last && inside < by && (last[0] <= 0) === (edge <= 0)) {
      bins[bins.length - 1] = [edge, last[1] + many];
      inside += 1;
    } else {
      bins.push([edge, many]);
      inside = 1;
    }
  }
  return bins;
}

function decision(cell, text) {
  if (!cell.firstChild) cell.append(make('span', { class: 'pill' }));
  put(cell.firstChild, words(text));
  mark(cell.firstChild, 'data-as', text === 'proceed' ? 'good' : text === 'wait' ? 'unknown' : 'bad');
}

// Where the targets of a gather ended, as shares of one line; the columns beside it have the counts.
function outcome(cell, gather) {
  if (!cell.firstChild) cell.append(make('span', { class: 'outcome', 'aria-hidden': 'true' }, ...OUTCOMES.map(([key]) => make('i', { class: key }))));
  OUTCOMES.forEach(([key], at) => {
    const part = cell.firstChild.children[at];
    grow(part, number(gather[key]));
    show(part, gather[key] > 0);
  });
}
