// Each section of the page, from one overview.

const REASONS = {
  full: 'It had as many requests as a batch may have.',
  bytes: 'It had as many bytes as a batch may have.',
  worker_idle: 'A worker had nothing to do, so nothing was gained by waiting.',
  age: 'Its first request had waited as long as it may.',
  deadline: 'Waiting longer would have missed a deadline.',
  drain: 'The node is draining.',
  displaced: 'Its place was needed for requests of another shape.',
  retry: 'Its worker died; the requests went to another one.',
};
const STAGES = {
  small_lane: 'Short requests, from the receive buffer into their slot.',
  reply_inline: 'Short replies, into a shared chunk.',
  restore: 'Compressed requests, when they are restored.',
  realign: 'Rows that arrived unaligned.',
  lane_switch: 'Bytes that came with a header and belong to a row.',
  promote: 'Short requests that turned out long.',
  worker: 'Inside a worker.',
};
const KPIS = {
  success: ['Proceeded', 'Gathers whose decision was to proceed.'],
  window_hit: ['In the window', 'Answers that came within the window.'],
  accuracy: ['Predicted well', 'Answers whose time was predicted well.'],
  conflict: ['In conflict', 'Answers that were conflicts. Lower is better.'],
  availability: ['Available', 'Agents that were active.'],
};
const WORKERS_MAX = 128;
const LABELS_MAX = 64;
// Other servers print an address that nobody can call; the page was reached at this one.
const ADDRESS = /^[\w.-]+:\d+$|^\[[\da-f:]+\]:\d+$/i;

function address(node) {
  const said = String(node.facts.listen ?? '');
  return ADDRESS.test(said) && !/^(0\.0\.0\.0|\[::\]):/.test(said) ? said : `${location.hostname || '127.0.0.1'}:7171`;
}

function head({ node }) {
  put($('name'), plain(node.name) || 'Butterfly');
  const facts = [node.version && `butterfly ${node.version}`, node.backend, `up ${lasting(node.uptime_ms)}`, `${whole(node.connections)} connections`];
  put($('who'), facts.filter(Boolean).map(plain).join(' \u00b7 '));
  put($('state'), node.ready ? 'Ready' : 'Not ready');
  mark($('state'), 'data-as', node.ready ? 'good' : 'bad');
  const title = `${node.ready ? '' : 'Not ready: '}${plain(node.name) || 'Butterfly'}`;
  if (document.title !== title) document.title = title;
}

// What a person must know before any figure.
function notices({ node, mesh }) {
  const all = [];
  if (!node.ready) all.push(['bad', 'Not ready', plain(node.not_ready_because) || 'The node does not say why.']);
  if (node.insecure) all.push(['bad', 'Insecure', `Plaintext beyond this host was asked for (--insecure). ${plain(node.security)}`]);
  if (mesh.mode && mesh.mode !== 'normal') all.push(['warn', 'Mesh', mesh.mode === 'alone' ? 'The node above is away; this one coordinates its own agents.' : `The mesh is ${plain(mesh.mode)}.`]);
  for (const fallback of node.fallbacks) all.push(['warn', 'Fallback', plain(fallback)]);
  show($('notices'), all.length > 0);
  each($('notices'), all, notice => notice.join('\n'), ([as, what, text]) => [
    make('p', { class: `notice ${as}` }, make('b', {}, what), ' ', text), () => {}], LABELS_MAX);
}

function now({ now: rates }) {
  figures($('now'), [
    ['Queries a second', rate(rates.queries_per_s), 'Requests that a worker answered.'],
    ['Rows a second', rate(rates.tokens_per_s), 'A row is one token\u2019s worth of work.'],
    ['p50', latency(rates.p50_ms), 'Latency, from a whole request to its queued reply: half of all requests take no longer.'],
    ['p95', latency(rates.p95_ms), 'Latency: 95% of all requests take no longer.'],
    ['p99', latency(rates.p99_ms), 'Latency: 99% of all requests take no longer.'],
    ['Received', perSecond(rates.bytes_in_per_s)],
    ['Sent', perSecond(rates.bytes_out_per_s)],
    ['Refused', [percent(rates.error_share, 2), ''], 'Share of refusals among all answers.', rates.error_share > 0.01 ? 'bad' : null],
    ['Timed out', [percent(rates.timeout_share, 2), ''], 'Passed deadlines, as a share of all answers.', rates.timeout_share > 0.01 ? 'bad' : null],
  ]);
}

function perSecond(value) {
  const [text, unit] = bytes(value);
  return [text, `${unit}/s`];
}

function worker() {
  const name = make('b');
  const state = make('span', { class: 'pill' });
  const level = make('span', { class: 'cell' });
  const busy = make('span', { class: 'n' });
  const where = make('span', { class: 'where' });
  const gpu = make('dl', { class: 'gpu' });
  const checks = make('ul', { class: 'checks' });
  const none = make('p', { class: 'soft' }, 'Not checked yet.');
  const node = make('li', {}, make('details', {},
    make('summary', {}, make('span', { class: 'worker' }, name, state, level, busy, where)), none, checks), gpu);
  return [node, item => {
    const failed = item.checks.filter(check => !check.holds).length;
    put(name, plain(item.id));
    put(state, !item.up ? 'Down' : failed > 0 ? `${failed} failed` : item.healthy ? 'Healthy' : item.checks.length > 0 ? 'Unhealthy' : 'Up');
    mark(state, 'data-as', !item.up ? 'bad' : item.healthy ? 'good' : failed > 0 ? 'bad' : 'unknown');
    meter(level, item.busy, 'busy');
    put(busy, `${percent(item.busy, 0)} busy`);
    put(where, plain(item.backend));
    show(none, item.checks.length === 0);
    each(checks, item.checks, check => check.name, () => {
      const sign = make('b', { class: 'sign' });
      const text = make('span');
      return [make('li', {}, sign, text), check => {
        put(sign, check.holds ? '\u2713 holds' : '\u2717 fails');
        mark(sign, 'data-as', check.holds ? 'good' : 'bad');
        put(text, `${words(check.name)}: ${plain(check.detail)}`);
      }];
    }, LABELS_MAX);
    device(gpu, item.gpu);
  }];
}

function device(list, gpu) {
  show(list, Boolean(gpu));
  if (!gpu) return;
  const used = gpu.memory_total > 0 ? gpu.memory_used / gpu.memory_total : 0;
  const items = [
    ['GPU', plain(gpu.name), null],
    ['Busy', percent(gpu.busy, 0), gpu.busy],
    ['Memory', spread(memory(gpu.memory_used), memory(gpu.memory_total)), used],
    ['Temperature', `${whole(gpu.celsius)} \u00b0C`, null],
  ];
  each(list, items, item => item[0], ([title, , level]) => {
    const text = make('span');
    const cell = make('span', { class: 'cell' });
    const node = make('div', {}, make('dt', title === 'GPU' ? { class: 'unseen' } : {}, title), make('dd', {}, ...(level === null ? [text] : [cell, text])));
    return [node, item => {
      put(text, item[1]);
      if (item[2] !== null) meter(cell, item[2]);
    }];
  });
}

// Two amounts, their unit once where it is the same.
const spread = (one, all) => `${one[1] === all[1] ? one[0] : joined(one)} of ${joined(all)}`;

function workers({ workers: all }) {
  const up = all.filter(item => item.up).length;
  put($('workers-count'), all.length > 0 ? `${whole(up)} of ${whole(all.length)} up${all.length > WORKERS_MAX ? `, the first ${WORKERS_MAX} shown` : ''}` : '');
  each($('workers'), all, item => item.id, worker, WORKERS_MAX);
  show($('workers'), all.length > 0);
  teach('workers-empty', all.length === 0, 'No worker has started yet. A node starts its workers by itself; what keeps one from starting is told by:', 'butterfly check');
}

// Rows of a name, a level and a number.
function levels(table, items) {
  rows(table, items, item => item.key, item => [
    cell => {
      if (!cell.firstChild) cell.append(term(item.name, item.tip));
    },
    cell => meter(cell, item.share, item.as),
    item.text,
  ], LABELS_MAX);
  show(table, items.length > 0);
}

function batches({ node, batches: all }) {
  const total = Object.values(all.by_reason).reduce((sum, many) => sum + many, 0);
  const by = Object.entries(all.by_reason).filter(([, many]) => many > 0).sort(([, a], [, b]) => b - a);
  put($('batches-count'), '');
  show($('batches-sum'), total > 0);
  figures($('batches-sum'), [
    ['Batches', count(total)], ['Requests', count(all.requests)],
    ['Mean size', [digits(number(all.mean_size)), ''], 'Requests in a batch, on average.'],
  ]);
  levels($('batches'), by.map(([reason, many]) => ({
    key: reason, name: words(reason), tip: known(REASONS, reason), share: many / total, text: `${joined(count(many))} \u00b7 ${percent(many / total)}`,
  })));
  teach('batches-empty', total === 0, 'No request has come yet. To send some:', `blast run --addr ${address(node)} --op echo --rate 2000`);
}

function mesh({ node, mesh: all, at_ms }) {
  const some = all.agents > 0;
  put($('mesh-mode'), some ? plain(all.mode) : '');
  show($('mesh-sum'), some);
  figures($('mesh-sum'), [
    ['Agents', [whole(all.agents), '']],
    ['Active', [percent(some ? all.active / all.agents : 0), '']],
    ['Healthy sectors', [`${whole(all.sectors_healthy)} of ${whole(all.sectors)}`, ''], 'Sectors with more than 95% of their agents active.'],
    ['Mean impedance', millis(all.impedance_mean_ms), 'How hard agents are to reach, as one number. Lower is better.'],
    ['Impedance p95', millis(all.impedance_p95_ms)],
    ['Conflicts', [whole(all.conflicts_last_hour), 'last hour'], 'Answers of agents that could not do as they were told.', all.conflicts_last_hour > 0 ? 'warn' : null],
    ['Gathers p95', millis(all.cascade_p95_ms), 'How long 95% of the last hundred gathers took, at most.'],
    ['Last gather', all.last_gather_ms > 0 ? [lasting(at_ms - all.last_gather_ms), 'ago'] : ['never', '']],
  ]);
  const order = Object.keys(KPIS);
  const kpi = Object.entries(all.kpi).sort(([a], [b]) => order.indexOf(a) - order.indexOf(b));
  levels($('kpi'), kpi.map(([key, value]) => {
    const [name, tip] = known(KPIS, key) ?? [words(key)];
    return { key, name, tip, share: value, as: key === 'conflict' ? 'worse' : 'level', text: percent(value) };
  }));
  const states = Object.entries(all.by_state);
  rows($('states'), states, ([state]) => state, ([state, many]) => [words(state), whole(many)], LABELS_MAX);
  show($('states'), some && states.length > 0);
  show($('kpi'), some && Object.keys(all.kpi).length > 0);
  teach('mesh-empty', !some, 'No agents yet. To see thirty thousand arrive:', `blast agents --addr ${address(node)} --count 30000 --hosts 300`);
}

function refusals({ refusals: by, recent_refusals: recent, at_ms }) {
  const all = Object.entries(by).filter(([, many]) => many > 0).sort(([, a], [, b]) => b - a);
  const total = all.reduce((sum, [, many]) => sum + many, 0);
  put($('refusals-count'), total > 0 ? whole(total) : '');
  rows($('refusals-table'), all, ([reason]) => reason, ([reason, many]) => [words(reason), whole(many)], LABELS_MAX);
  rows($('recent-table'), recent, refusal => `${refusal.at_ms} ${refusal.request} ${refusal.reason}`, refusal => [
    `${lasting(at_ms - refusal.at_ms)} ago`, words(refusal.reason), cell => why(cell, refusal.request)], 20);
  show($('recent-table'), recent.length > 0);
  show($('refusals'), total > 0 || recent.length > 0);
  teach('refusals-empty', total === 0 && recent.length === 0, 'Nothing was refused.', '');
}

// Peers choose the names of requests: what could mean more than a name to a shell is not offered as
// a command.
function why(cell, request) {
  if (cell.firstChild || !request) return;
  if (/^[A-Za-z0-9][A-Za-z0-9@:._/-]{0,99}$/.test(request)) cell.append(command(`butterfly why ${request}`));
  else cell.append(make('span', {}, plain(request)));
}

function copies({ copies: all }) {
  const items = Object.entries(all).filter(([, copy]) => copy.count > 0);
  rows($('copies'), items, ([stage]) => stage, ([stage, copy]) => [
    cell => {
      if (!cell.firstChild) cell.append(term(words(stage), known(STAGES, stage)));
    },
    whole(copy.count), joined(bytes(copy.bytes))], LABELS_MAX);
  show($('copies'), items.length > 0);
  teach('copies-empty', items.length === 0, 'No payload byte was copied.', '');
}

function facts({ node }) {
  const own = [['Computes on', node.backend], ['because', node.backend_reason], ['Security', node.security], ['Version', node.version]];
  const items = [...own, ...Object.entries(node.facts).map(([name, value]) => [words(name), value])].filter(([, value]) => value);
  each($('facts'), items, ([name]) => name, ([name]) => {
    const text = make('dd');
    return [make('div', {}, make('dt', {}, name), text), ([, value]) => put(text, plain(value))];
  }, LABELS_MAX);
}
