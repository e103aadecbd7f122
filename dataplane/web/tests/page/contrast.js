// What falls short of these contrasts in what is seen now: text against what is behind it, and
// signs (borders, curves, levels) against theirs. Colours are those that the browser computed.
(textMin, signMin) => {
  const rgba = text => {
    const all = text.match(/[\d.]+/g).map(Number);
    return { r: all[0], g: all[1], b: all[2], a: all[3] ?? 1 };
  };
  const over = (top, below) => {
    const mix = name => top[name] * top.a + below[name] * (1 - top.a);
    return { r: mix('r'), g: mix('g'), b: mix('b'), a: 1 };
  };
  const behind = node => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), { r: 255, g: 255, b: 255, a: 1 });
  };
  const light = colour => {
    const part = value => (value / 255 <= 0.03928 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(colour.r) + 0.7152 * part(colour.g) + 0.0722 * part(colour.b);
  };
  const contrast = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };

  const short = [];
  let seen = 0;
  const judge = (what, colour, node, least) => {
    seen += 1;
    const back = behind(node);
    const ratio = contrast(over(rgba(colour), back), back);
    if (ratio < least) short.push([what, ratio.toFixed(2)]);
  };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    const text = walk.currentNode.data.trim();
    if (!text || !node.checkVisibility() || node.closest('.unseen, script, style, noscript')) continue;
    const style = getComputedStyle(node);
    judge(text, node instanceof SVGElement ? style.fill : style.color, node, textMin);
  }
  const signs = [
    ['.bar', 'borderTopColor'], ['.swatch', 'borderTopColor'], ['.core i', 'borderTopColor'],
    ['.curve', 'stroke'], ['button:not(.term)', 'borderTopColor'], ['.hair', 'stroke'],
    ['.meter .level', 'backgroundColor'], ['.meter .busy', 'backgroundColor'],
  ];
  for (const [where, property] of signs) {
    for (const node of document.querySelectorAll(where)) {
      if (node.checkVisibility()) judge(where, getComputedStyle(node)[property], node.parentElement, signMin);
    }
  }
  return { seen, short };
}
