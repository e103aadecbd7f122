// Curves over the last ten minutes, with a crosshair for the pointer and for the arrow keys.

const SPAN_MS = 600e3;
// A longer silence than this is a gap in the curve, not a line across it.
const GAP_MS = 3500;
// Room for the labels of the axes, and the text size that they were measured with.
const LEFT = 46;
const BOTTOM = 18;
const MEASURED = 14;

// Round numbers for an axis from zero: at most four steps.
function linear(top) {
  const rough = Math.max(top, 1) / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find(by => by * power >= rough) * power;
  const end = Math.ceil(Math.max(top, 1) / step) * step;
  const ticks = [];
  for (let at = 0; at <= end + step / 2; at += step) ticks.push(at);
  return { ticks, at: value => value / end };
}

// Decades, for times that lie far apart.
function logarithmic(low, top) {
  const from = Math.floor(Math.log10(low));
  const to = Math.max(Math.ceil(Math.log10(top)), from + 1);
  const every = Math.ceil((to - from) / 4);
  const ticks = [];
  for (let at = from; at <= to; at += every) ticks.push(10 ** at);
  return { ticks, at: value => (Math.log10(Math.max(value, 10 ** from)) - from) / (to - from) };
}

// A round number without the digits that show how exact a measured one is.
const short = ([text, unit]) => joined([text.includes('.') ? text.replace(/\.?0+$/, '') : text, unit]);

class Curves {
  // `lines`: { key, name, of: rates => value }, the first one drawn filled. `format` gives
  // [text, unit].
  constructor(figure, title, lines, format, decades = false) {
    Object.assign(this, { lines, format, decades, points: [], pinned: null, title });
    this.values = lines.map(() => make('b'));
    this.when = make('span', { class: 'when' });
    const legend = make('span', { class: 'lines' }, this.when, ...lines.map((line, at) => make(
      'span', { class: `line ${line.key}` }, make('i', { 'aria-hidden': 'true' }), `${line.name} `, this.values[at])));
    this.plot = make('div', {
      class: 'plot', tabindex: 0, role: 'slider', 'aria-label': `${title}, last ten minutes`,
      'aria-valuemin': -600, 'aria-valuemax': 0, 'aria-valuenow': 0, 'aria-valuetext': 'no values yet',
    });
    this.svg = draw('svg', { 'aria-hidden': 'true' });
    this.grid = draw('g', { class: 'grid' });
    this.area = draw('path', { class: `area ${lines[0].key}` });
    this.paths = lines.map(line => draw('path', { class: `curve ${line.key}` }));
    this.hair = draw('line', { class: 'hair', visibility: 'hidden' });
    this.dots = lines.map(line => draw('circle', { class: `dot ${line.key}`, r: 3, visibility: 'hidden' }));
    this.svg.append(this.grid, this.area, ...this.paths, this.hair, ...this.dots);
    this.plot.append(this.svg);
    const more = make('details', { class: 'more' }, make('summary', {}, 'By the minute'), make('div'));
    figure.append(make('figcaption', {}, make('h3', {}, title), legend), this.plot, more);
    this.fill = fold(more, ['Minute', ...lines.flatMap(line => [`${line.name} mean`, `${line.name} max`])], () => this.minutes());
    this.listen();
    new ResizeObserver(() => this.redraw()).observe(this.plot);
  }

  listen() {
    this.plot.addEventListener('pointermove', event => {
      const { end, width, left } = this.frame();
      const share = (event.clientX - this.plot.getBoundingClientRect().left - left) / Math.max(1, width - left);
      this.pin(end - SPAN_MS * (1 - share));
    });
    this.plot.addEventListener('pointerleave', () => this.pin(null));
    this.plot.addEventListener('blur', () => this.pin(null));
    this.plot.addEventListener('focus', () => this.say());
    this.plot.addEventListener('keydown', event => this.key(event));
  }

  key(event) {
    const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -60, PageUp: 60 }[event.key];
    const jump = { Home: 0, End: this.points.length - 1 }[event.key];
    if (event.key === 'Escape') this.pin(null);
    else if (by !== undefined || jump !== undefined) {
      const now = this.pinned === null ? this.points.length - 1 : this.nearest(this.pinned);
      const to = jump ?? now + by * (event.shiftKey ? 60 : 1);
      const point = this.points[Math.min(this.points.length - 1, Math.max(0, to))];
      if (point) this.pin(point.at_ms);
      event.preventDefault();
    }
  }

  pin(at) {
    this.pinned = at;
    this.cross();
    this.say();
  }

  frame() {
    const end = this.points.at(-1)?.at_ms ?? 0;
    const size = parseFloat(getComputedStyle(document.documentElement).fontSize) / MEASURED;
    return { end, width: this.plot.clientWidth, height: this.plot.clientHeight, left: LEFT * size, bottom: BOTTOM * size };
  }

  nearest(at) {
    let low = 0;
    let high = this.points.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.points[middle].at_ms < at) low = middle + 1;
      else high = middle;
    }
    const before = this.points[low - 1];
    return before && at - before.at_ms < this.points[low].at_ms - at ? low - 1 : low;
  }

  update(points) {
    this.points = points;
    this.redraw();
    this.fill();
  }

  redraw() {
    const frame = this.frame();
    const { end, width, height, left, bottom } = frame;
    if (width === 0 || this.points.length === 0) return;
    const values = this.points.flatMap(point => this.lines.map(line => number(line.of(point.rates))));
    const top = Math.max(...values);
    const low = Math.min(...values.filter(value => value > 0), top || 1);
    this.scale = this.decades ? logarithmic(low, top || 1) : linear(top);
    this.x = at => left + (width - left) * (1 - (end - at) / SPAN_MS);
    this.y = value => 6 + (height - bottom - 6) * (1 - this.scale.at(value));
    mark(this.svg, 'viewBox', `0 0 ${width} ${height}`);
    this.lines.forEach((line, at) => mark(this.paths[at], 'd', this.path(line)));
    mark(this.area, 'd', this.under(this.lines[0], this.lines.at(-1), height - bottom));
    this.axes(frame);
    this.cross();
  }

  // A curve: a line for each stretch without a gap. Where nothing was measured there is none.
  path(line) {
    let text = '';
    let last = -Infinity;
    for (const { at_ms, rates } of this.points) {
      const value = number(line.of(rates));
      if (this.decades && value <= 0) continue;
      const step = at_ms - last > GAP_MS ? 'M' : 'L';
      text += `${step}${this.x(at_ms).toFixed(1)} ${this.y(value).toFixed(1)}`;
      last = at_ms;
    }
    return text;
  }

  // What lies under the one curve, or between the lowest and the highest of several.
  under(first, last, ground) {
    let text = '';
    let stretch = [];
    const close = () => {
      if (stretch.length > 1) {
        const floor = point => (first === last ? ground : this.y(number(first.of(point.rates))));
        const up = stretch.map(point => `${this.x(point.at_ms).toFixed(1)} ${this.y(number(last.of(point.rates))).toFixed(1)}`);
        const down = stretch.toReversed().map(point => `${this.x(point.at_ms).toFixed(1)} ${floor(point).toFixed(1)}`);
        text += `M${up.concat(down).join('L')}Z`;
      }
      stretch = [];
    };
    for (const point of this.points) {
      const empty = this.decades && number(first.of(point.rates)) <= 0;
      if (empty || point.at_ms - (stretch.at(-1)?.at_ms ?? point.at_ms) > GAP_MS) close();
      if (!empty) stretch.push(point);
    }
    close();
    return text;
  }

  axes({ end, width, height, left, bottom }) {
    const marks = this.scale.ticks.map(value => ({ value, text: short(this.format(value)), y: this.y(value) }));
    const every = width < 420 ? 240e3 : 120e3;
    for (let at = Math.floor(end / every) * every; at > end - SPAN_MS; at -= every) {
      marks.push({ value: `t${at}`, text: clock(at, false), x: this.x(at) });
    }
    each(this.grid, marks, item => String(item.value), () => {
      const line = draw('line');
      const text = draw('text');
      return [draw('g', {}, line, text), item => {
        const [x1, x2, y1, y2] = item.x === undefined
          ? [left, width, item.y, item.y] : [item.x, item.x, height - bottom, height - bottom + 4];
        Object.entries({ x1, x2, y1, y2 }).forEach(([name, value]) => mark(line, name, value.toFixed(1)));
        const up = item.x === undefined;
        mark(text, 'x', (up ? left - 6 : Math.min(item.x, width - 16)).toFixed(1));
        mark(text, 'y', (up ? item.y + 3.5 : height - 3).toFixed(1));
        mark(text, 'text-anchor', up ? 'end' : 'middle');
        put(text, item.text);
      }];
    });
  }

  // The crosshair and the figures in the legend: of the moment that is pointed at, or of now.
  cross() {
    const pinned = this.pinned !== null;
    const point = pinned ? this.points[this.nearest(this.pinned)] : this.points.at(-1);
    if (!point || !this.x) return;
    const shown = pinned ? 'visible' : 'hidden';
    const x = this.x(point.at_ms).toFixed(1);
    mark(this.hair, 'visibility', shown);
    Object.entries({ x1: x, x2: x, y1: 0, y2: this.frame().height - this.frame().bottom }).forEach(([name, value]) => mark(this.hair, name, value));
    put(this.when, pinned ? clock(point.at_ms) : '');
    this.lines.forEach((line, at) => {
      const value = number(line.of(point.rates));
      put(this.values[at], joined(this.format(value)));
      mark(this.dots[at], 'visibility', shown);
      mark(this.dots[at], 'cx', x);
      mark(this.dots[at], 'cy', this.y(value).toFixed(1));
    });
  }

  // For who hears the page: only when asked, by focus or by a key, not each second.
  say() {
    const point = this.pinned === null ? this.points.at(-1) : this.points[this.nearest(this.pinned)];
    if (!point) return;
    const { end } = this.frame();
    mark(this.plot, 'aria-valuenow', Math.max(-600, Math.round((point.at_ms - end) / 1000)));
    const values = this.lines.map(line => `${line.name} ${joined(this.format(number(line.of(point.rates))))}`);
    mark(this.plot, 'aria-valuetext', `${clock(point.at_ms)}: ${values.join(', ')}`);
  }

  minutes() {
    const parts = new Map();
    for (const point of this.points) {
      const minute = Math.floor(point.at_ms / 60e3) * 60e3;
      parts.set(minute, [...(parts.get(minute) ?? []), point.rates]);
    }
    return [...parts].reverse().map(([minute, all]) => [clock(minute, false), ...this.lines.flatMap(line => {
      const values = all.map(rates => number(line.of(rates)));
      const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
      return [joined(this.format(mean)), joined(this.format(Math.max(...values)))];
    })]);
  }
}
