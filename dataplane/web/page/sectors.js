// The map: a tile for each sector, coloured by impedance, its core as large as its share of agents.

const TILES_MAX = 256;
// Upper bounds of the classes of impedance, milliseconds; the last class has none.
const CLASSES = [1, 5, 20, 80, 300];
const HEALTHY = 0.95;

class Sectors {
  constructor() {
    this.at = 0;
    this.sectors = [];
    const tiles = $('tiles');
    tiles.addEventListener('keydown', event => this.key(event));
    const choose = event => {
      const tile = event.target.closest('.tile');
      if (tile) this.choose([...tiles.children].indexOf(tile));
    };
    tiles.addEventListener('pointerover', choose);
    tiles.addEventListener('focusin', choose);
    const bounds = [...CLASSES.map(bound => `\u2264 ${bound}`), `> ${CLASSES.at(-1)} ms`];
    $('map-legend').append('impedance ', ...bounds.map((text, at) => make('span', {}, make('i', { class: `heat h${at}` }), text)),
      make('span', {}, make('i', { class: 'heat weak' }), 'under 95% active'));
    this.fill = fold($('sectors-more'), ['Sector', 'Node', 'Clusters', 'Agents', 'Active', 'Mean', 'p95'], () => this.sectors.map(sector => [
      String(sector.sector), plain(sector.node) || 'this one', whole(sector.clusters), whole(sector.agents),
      share(sector), joined(millis(sector.mean_ms)), joined(millis(sector.p95_ms))]));
  }

  update(sectors) {
    this.sectors = sectors.slice(0, TILES_MAX);
    const left = sectors.length - this.sectors.length;
    put($('sectors-count'), `${whole(sectors.length)}${left > 0 ? `, the first ${TILES_MAX} shown` : ''}`);
    const most = Math.max(1, ...this.sectors.map(sector => sector.agents));
    // Square tiles; numbers in them while they are large enough.
    mark($('tiles'), 'data-size', this.sectors.length <= 32 ? 'large' : this.sectors.length <= 96 ? 'middle' : 'small');
    each($('tiles'), this.sectors, sector => sector.sector, () => tile(), TILES_MAX);
    [...$('tiles').children].forEach((node, at) => node.draw(this.sectors[at], most));
    this.choose(Math.min(this.at, Math.max(0, this.sectors.length - 1)));
    this.fill();
  }

  key(event) {
    const columns = getComputedStyle($('tiles')).gridTemplateColumns.split(' ').length;
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    const last = this.sectors.length - 1;
    const to = { Home: 0, End: last }[event.key] ?? (by === undefined ? undefined : this.at + by);
    if (to === undefined) return;
    event.preventDefault();
    if (to < 0 || to > last) return;
    this.choose(to);
    $('tiles').children[to].focus();
  }

  choose(at) {
    const sector = this.sectors[at];
    if (!sector) return;
    this.at = at;
    [...$('tiles').children].forEach((node, index) => {
      mark(node, 'tabindex', index === at ? 0 : -1);
      mark(node, 'aria-selected', index === at);
    });
    figures($('sector'), [
      ['Sector', [String(sector.sector), '']],
      ['Agents', [whole(sector.agents), '']],
      ['Active', [share(sector), ''], 'A sector is healthy with more than 95% of its agents active.'],
      ['Mean impedance', millis(sector.mean_ms)],
      ['p95', millis(sector.p95_ms)],
      ['Clusters', [whole(sector.clusters), '']],
      ['Node', [plain(sector.node) || 'this one', '']],
    ]);
  }
}

const active = sector => (sector.agents > 0 ? sector.active / sector.agents : 0);
const share = sector => percent(active(sector));

function tile() {
  const number = make('b');
  const mean = make('span', { class: 'of' });
  const many = make('span', { class: 'of' });
  const core = make('i');
  const node = make('div', { class: 'tile', role: 'option' }, make('span', { class: 'core', 'aria-hidden': 'true' }, core), number, mean, many);
  node.draw = (sector, most) => {
    const heat = CLASSES.findIndex(bound => sector.mean_ms <= bound);
    const weak = sector.agents > 0 && active(sector) <= HEALTHY;
    mark(node, 'class', `tile h${heat < 0 ? CLASSES.length : heat}${weak ? ' weak' : ''}`);
    const side = `${(100 * Math.sqrt(sector.agents / most)).toFixed(0)}%`;
    if (core.style.width !== side) core.style.width = core.style.height = side;
    put(number, String(sector.sector));
    put(mean, joined(millis(sector.mean_ms)));
    put(many, `${whole(sector.agents)} agents`);
    mark(node, 'aria-label', `Sector ${sector.sector}: ${whole(sector.agents)} agents, ${share(sector)} active, impedance ${joined(millis(sector.mean_ms))}`);
  };
  return [node, () => {}];
}
