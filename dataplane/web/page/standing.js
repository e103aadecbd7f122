// The status bar (green, white, red, yellow, grey from top to bottom), and its figures.

const STANDINGS = {
  ready: ['Ready', 'Idle: can be asked at once.'],
  trusted: ['Trusted', 'Idle, and of proven reliability.'],
  busy: ['Busy', 'At work.'],
  unknown: ['Unknown', 'Nothing certain is known of these.'],
  offline: ['Offline', 'Gone: silent for too long, or ended.'],
};

function standing(bar) {
  const parts = bar.parts.filter(part => Object.hasOwn(STANDINGS, part.standing));
  const all = parts.map(part => {
    const [name, tip] = STANDINGS[part.standing];
    return { ...part, name, tip, share: `${(part.permille / 10).toFixed(1)}%` };
  });
  put($('bar-total'), whole(bar.total));
  put($('bar-of'), bar.total === 1 ? plain(bar.of).replace(/s$/, '') : plain(bar.of) || 'agents');
  each($('bar'), all, part => part.standing, part => {
    const node = make('span', { class: `part ${part.standing}` });
    return [node, now => {
      grow(node, now.permille);
      show(node, now.count > 0);
      mark(node, 'data-tip', `${now.name}: ${whole(now.count)}, ${now.share}. ${now.tip}`);
    }];
  });
  teach('bar-empty', bar.total === 0, 'Nobody is here yet. Agents and workers stand here by what can be asked of them.', '');
  show($('standing'), bar.total > 0);
  const spoken = all.map(part => `${part.name} ${part.share}`).join(', ');
  mark($('bar'), 'aria-label', bar.total > 0 ? spoken : 'Nobody is here yet');
  rows($('bar-table'), all, part => part.standing, part => [
    cell => {
      if (!cell.firstChild) cell.append(make('i', { class: `swatch ${part.standing}`, 'aria-hidden': 'true' }), term(part.name, part.tip));
    },
    part.share,
    whole(part.count),
  ]);
}
