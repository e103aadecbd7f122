// Numbers, times and words as people read them. One locale, so that everybody reads the same.

const number = value => (Number.isFinite(value) ? value : 0);
const whole = value => Math.round(number(value)).toLocaleString('en-US');
const percent = (share, digits = 1) => `${(100 * number(share)).toFixed(digits)}%`;

// Three digits that count: 0.123, 4.56, 78.9, 1,234.
function digits(value) {
  const size = Math.abs(value);
  if (size === 0) return '0';
  if (size >= 100) return whole(value);
  return value.toFixed(size >= 10 ? 1 : size >= 1 ? 2 : 3);
}

// A value in the largest of its units that keeps it at 1 or more.
function scaled(value, units, step = 1000) {
  let at = 0;
  let rest = number(value);
  while (Math.abs(rest) >= step && at + 1 < units.length) {
    rest /= step;
    at += 1;
  }
  return [digits(rest), units[at]];
}

// Counts are written out as long as they are read at a glance.
const count = value => (Math.abs(number(value)) < 1e6
  ? [whole(value), '']
  : scaled(value / 1e6, ['M', 'G', 'T', 'P']));
const rate = value => (Math.abs(number(value)) < 100 ? [digits(number(value)), ''] : count(value));
const bytes = value => scaled(value, ['B', 'kB', 'MB', 'GB', 'TB', 'PB']);
const memory = value => scaled(value, ['B', 'KiB', 'MiB', 'GiB', 'TiB'], 1024);
const joined = ([text, unit]) => (unit ? `${text} ${unit}` : text);

function millis(value) {
  const size = Math.abs(number(value));
  if (size > 0 && size < 1) return [digits(value * 1000), '\u00b5s'];
  return size >= 1000 ? [digits(value / 1000), 's'] : [digits(number(value)), 'ms'];
}

// Where nothing was answered there is no latency, which is not the same as none.
const latency = value => (number(value) > 0 ? millis(value) : ['\u2013', '']);

// How long, in its two largest units: 3 d 4 h, 12 min 5 s.
function lasting(ms) {
  let seconds = Math.max(0, Math.floor(number(ms) / 1000));
  const parts = [];
  for (const [unit, size] of [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]]) {
    const many = Math.floor(seconds / size);
    seconds -= many * size;
    if (many > 0 || (size === 1 && parts.length === 0)) parts.push(`${many} ${unit}`);
  }
  return parts.slice(0, 2).join(' ');
}

// A clock that reads the same everywhere; the node's moments in the reader's time zone.
function clock(ms, seconds = true) {
  const time = new Date(number(ms));
  const two = value => String(value).padStart(2, '0');
  const text = `${two(time.getHours())}:${two(time.getMinutes())}`;
  return seconds ? `${text}:${two(time.getSeconds())}` : text;
}

// What a node or its peers wrote: control characters and those that turn the direction of reading
// are made visible, and nothing fills the page.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
const TEXT_MAX = 200;
function plain(text) {
  const shown = String(text ?? '').replace(UNSEEN, '\ufffd');
  return shown.length > TEXT_MAX ? `${shown.slice(0, TEXT_MAX)}\u2026` : shown;
}

// What a table of ours says of a name of theirs, which may be any: `constructor` too.
const known = (table, name) => (Object.hasOwn(table, name) ? table[name] : undefined);

// A label of a metric as words: `worker_idle` is "worker idle".
const words = label => plain(label).replaceAll('_', ' ');
