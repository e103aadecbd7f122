// Gathers: one in full, with when its answers came, and the last ones in a table.

const OUTCOMES = [
  ['in_time', 'In time', 'Ready by the moment.'],
  ['late', 'Late', 'Ready, but after the moment.'],
  ['conflicts', 'Conflicts', 'Answered that they cannot.'],
  ['silent', 'Silent', 'No answer within the window.'],
  ['transit', 'Under way', 'Said only that they were under way.'],
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
    const bins = columns(gather.arrivals);
    const most = Math.max(1, ...bins.map(bin => bin.many));
    each(this.bars, bins, bin => bin.row, () => {
      const bar = make('i');
      return [make('span', {}, bar), bin => {
        mark(bar.parentNode, 'class', `${bin.row < 0 ? 'before' : 'after'}${bin.row === 0 ? ' first' : ''}`);
        mark(bar.parentNode, 'data-tip', `${whole(bin.many)} from ${signed(bin.from)} to ${signed(bin.to)}`);
        const height = `${bin.many > 0 ? Math.max(2, (100 * bin.many) / most).toFixed(1) : 0}%`;
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
    const sum = some => bins.filter(some).reduce((all, bin) => all + bin.many, 0);
    const [first, last] = [bins[0], bins.at(-1)];
    mark(this.bars, 'aria-label', `When answers were ready: ${whole(sum(bin => bin.row < 0))} by the moment, `
      + `${whole(sum(bin => bin.row >= 0))} after it, between ${signed(first.from)} and ${signed(last.to)}`);
    const place = -first.row / bins.length;
    const labels = [[0, place < 0.3 ? '' : signed(first.from)], [place, 'the moment'], [1, place > 0.68 ? '' : signed(last.to)]];
    each(this.axis, labels.map(([share, text], key) => ({ share, text, key })), label => label.key, () => {
      const node = make('span');
      return [node, label => {
        put(node, label.text);
        node.style.left = `${(100 * label.share).toFixed(1)}%`;
        mark(node, 'class', label.share < 0.15 ? 'start' : label.share > 0.85 ? 'end' : '');
      }];
    });
  }
}

const signed = ms => `${ms > 0 ? '+' : ms < 0 ? '\u2212' : ''}${joined(millis(Math.abs(ms)))}`;

// Bars of one width, the moment between two of them. What is sent are upper edges and counts, fine
// about the moment and coarse far from it. One straggler in a thousand does not stretch the axis:
// the outermost bars hold what lies beyond them.
function columns(arrivals) {
  const points = arrivals.map(([edge, many]) => [number(edge), number(many)]).filter(([, many]) => many > 0).sort(([a], [b]) => a - b);
  if (points.length === 0) return [];
  const total = points.reduce((sum, [, many]) => sum + many, 0);
  const quantile = share => {
    let left = share * total;
    return (points.find(([, many]) => (left -= many) <= 0) ?? points.at(-1))[0];
  };
  const low = Math.min(0, quantile(0.001));
  const high = Math.max(0, quantile(0.999));
  const width = round((high - low) / (BARS_MAX - 2));
  const row = edge => Math.ceil(edge / width) - 1;
  const first = Math.min(row(low), -1);
  const bins = [];
  for (let at = first; at <= Math.max(row(high), 0); at += 1) bins.push({ row: at, from: at * width, to: (at + 1) * width, many: 0 });
  const at = edge => Math.min(bins.length - 1, Math.max(0, row(edge) - first));
  points.forEach(([edge, many], index) => {
    // What is counted lies below its edge: above the edge before it, and within an eighth of its
    // distance from the moment. It is spread evenly over the bars there.
    const from = Math.max(points[index - 1]?.[0] ?? -Infinity, edge - Math.abs(edge) / 8);
    const highest = at(edge);
    const lowest = Math.min(at(from + width * 1e-6), highest);
    for (let bar = lowest; bar <= highest; bar += 1) {
      const start = bar === lowest ? from : bins[bar].from;
      const end = bar === highest ? edge : bins[bar].to;
      bins[bar].many += lowest === highest ? many : (many * (end - start)) / (edge - from);
    }
  });
  return bins;
}

// The next of 1, 2, 5, 10, 20 and so on.
function round(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1e-4)));
  return power * [1, 2, 5, 10].find(by => by * power >= value * 0.9999);
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
