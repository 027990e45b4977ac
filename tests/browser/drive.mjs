// Opens a report in Chromium and checks what a reader sees and does. Prints the page's data as JSON.
import assert from 'node:assert/strict';
import { pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';

const [executablePath, path, shots] = process.argv.slice(2);
const url = pathToFileURL(path).href;
const browser = await chromium.launch({
  executablePath,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});

// A page that must neither complain, nor ask anybody for anything, nor run what came from data.
async function open(options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const wrong = [];
  page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) wrong.push(message.text()); });
  page.on('pageerror', (error) => wrong.push(String(error)));
  page.on('dialog', (dialog) => { wrong.push('dialog: ' + dialog.message()); dialog.dismiss(); });
  page.on('request', (request) => { if (request.url() !== url) wrong.push('request: ' + request.url()); });
  await page.goto(url);
  return { page, wrong, close: async () => { assert.deepEqual(wrong, []); await context.close(); } };
}

// The least contrast of text against what lies behind it, and where.
function contrast() {
  const luminance = (c) => {
    const [r, g, b] = c.slice(0, 3).map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const parse = (text) => {
    const numbers = text.match(/[\d.]+/g).map(Number);
    return numbers.length < 4 ? [...numbers, 1] : numbers;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour[3] === 1) return colour;
    }
    return [255, 255, 255, 1];
  };
  let least = [99, ''];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility() || element.closest('script, .skip')) continue;
    const style = getComputedStyle(element);
    const text = parse(element instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [luminance(text), luminance(behind(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < least[0]) least = [ratio, element.tagName + '.' + element.getAttribute('class') + ': ' + element.textContent.slice(0, 40)];
  }
  return least;
}

const tip = (page) => page.locator('#tip');
let data;
try {
  const desktop = await open({ viewport: { width: 1280, height: 900 }, colorScheme: 'light' });
  const page = desktop.page;
  data = await page.evaluate(() => JSON.parse(document.getElementById('data').textContent));

  // Every drawing stands for what the data say.
  const drawn = await page.evaluate(() => [...document.querySelectorAll('svg[data-plot]')].map((svg) => ({
    id: svg.dataset.plot,
    label: svg.getAttribute('aria-label'),
    dots: svg.querySelectorAll('g circle').length,
    bars: svg.querySelectorAll('rect.bar').length,
    paths: [...svg.querySelectorAll('path.line')].map((path) => path.getAttribute('d').match(/-?[\d.]+/g).map(Number)),
    caption: svg.closest('figure').querySelector('figcaption').textContent.length,
    rows: svg.closest('figure').querySelectorAll('details tbody tr').length,
  })));
  assert.deepEqual(drawn.map((d) => d.id).sort(), Object.keys(data.plots).filter((id) => id !== 'slices').sort());
  const place = (axis, value) => {
    const share = axis.log ? Math.log(value / axis.low) / Math.log(axis.high / axis.low) : (value - axis.low) / (axis.high - axis.low);
    return axis.from + Math.min(1, Math.max(0, share)) * (axis.to - axis.from);
  };
  for (const figure of drawn) {
    const plot = data.plots[figure.id];
    assert.ok(figure.label.length > 20 && figure.caption > 20 && figure.rows > 0, figure.id + ' has words and a table');
    if (plot.kind === 'lines') {
      assert.equal(figure.paths.length, plot.series.length, figure.id);
      plot.series.forEach((series, i) => {
        const expected = series.points.flatMap(([x, y]) => [place(plot.x, x), place(plot.y, y)]);
        assert.equal(figure.paths[i].length, expected.length, figure.id);
        expected.forEach((value, at) => assert.ok(Math.abs(value - figure.paths[i][at]) < 0.02, figure.id));
      });
    }
    if (plot.kind === 'bars') assert.equal(figure.bars, plot.classes.length * plot.series.length);
    if (plot.kind === 'scatter') assert.equal(figure.dots, plot.points.length);
  }

  // Hover and keys.
  const loss = page.locator('svg[data-plot="loss"]');
  await loss.scrollIntoViewIfNeeded();
  assert.ok(await tip(page).isHidden());
  await loss.hover();
  assert.match(await tip(page).textContent(), /^epoch [\d.]+\n.+: -?[\d.]+/);
  await page.mouse.move(2, 2);
  assert.ok(await tip(page).isHidden());
  await loss.focus();
  await page.keyboard.press('Home');
  const first = await tip(page).textContent();
  assert.ok(first.startsWith('epoch ' + data.plots.loss.series[0].points[0][0]), first);
  await page.keyboard.press('ArrowRight');
  assert.notEqual(await tip(page).textContent(), first);
  await page.keyboard.press('Escape');
  assert.ok(await tip(page).isHidden());

  // The map: names, zoom, search.
  if (data.plots.map) {
    const map = page.locator('svg[data-plot="map"]');
    await map.scrollIntoViewIfNeeded();
    await map.locator('circle').last().hover({ force: true });
    assert.match(await tip(page).textContent(), /: [\d]+ train interactions(\n|$)/);
    const colours = () => map.evaluate((svg) => [...svg.querySelectorAll('g circle')].map((dot) => getComputedStyle(dot).fill));
    const keys = () => page.evaluate(() => [...document.querySelectorAll('[data-legend]')].filter((key) => key.checkVisibility())
      .map((key) => key.dataset.legend));
    const byPopularity = await colours();
    assert.deepEqual(await keys(), ['0']);
    for (const [at, choice] of data.plots.map.choices.entries()) {
      await page.locator('#colour').selectOption(String(at + 1));
      assert.deepEqual(await keys(), [String(at + 1)]);
      const seen = await colours();
      // Equal classes have equal colours, different ones different colours.
      const pairs = new Set(choice.of.map((of, dot) => of + ' ' + seen[dot]));
      assert.equal(pairs.size, new Set(choice.of).size, choice.name);
      assert.equal(new Set(seen).size, pairs.size, choice.name);
    }
    if (data.plots.map.choices.length) {
      if (shots) await page.locator('#map').screenshot({ path: shots + '-map-coloured.png' });
      await page.locator('#colour').selectOption('0');
    }
    assert.deepEqual(await colours(), byPopularity);
    await page.locator('[data-zoom="in"]').click();
    assert.notEqual(await map.getAttribute('viewBox'), '0 0 1000 620');
    await page.locator('[data-zoom="all"]').click();
    assert.equal(await map.getAttribute('viewBox'), '0 0 1000 620');
    await page.locator('#find').fill('no item is called like this');
    assert.equal(await page.locator('#found').textContent(), '0 found');
    await page.locator('#find').fill('');
  }

  // Theme: the system's, then the reader's.
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await background();
  const readable = async (what) => {
    const [ratio, where] = await page.evaluate(contrast);
    assert.ok(ratio >= 4.5, what + ': contrast ' + ratio.toFixed(2) + ' of ' + where);
  };
  await readable('light');
  if (shots) await page.screenshot({ path: shots + '-desktop-light.png', fullPage: true });
  await page.locator('#theme').click();
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'dark');
  const dark = await background();
  assert.notEqual(dark, light);
  await readable('dark');
  if (shots) await page.screenshot({ path: shots + '-desktop-dark.png', fullPage: true });
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.locator('#theme').click();
  assert.equal(await background(), light, 'the reader has the last word');
  await page.locator('details:not([open]) > summary').first().click();
  await page.evaluate(() => document.querySelectorAll('details').forEach((details) => { details.open = true; }));
  await readable('opened');
  assert.equal(await page.evaluate(() => document.querySelectorAll('main script, main iframe, main img, main [onerror]').length), 0);
  await desktop.close();

  // A phone: nothing sticks out, and the system's dark theme is taken up.
  const phone = await open({ viewport: { width: 390, height: 844 }, colorScheme: 'dark', hasTouch: true, deviceScaleFactor: 2 });
  const wide = await phone.page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide[0] <= wide[1], 'the page is ' + wide[0] + ' wide on a screen of ' + wide[1]);
  assert.equal(await phone.page.evaluate(() => getComputedStyle(document.body).backgroundColor), dark);
  const small = await phone.page.evaluate(() => Math.min(...[...document.querySelectorAll('figure > svg text')].map((text) => {
    const matrix = text.getScreenCTM();
    return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(matrix.a, matrix.b);
  })));
  assert.ok(small >= 10, 'text of plots has ' + small.toFixed(1) + ' px on a phone');
  await phone.page.locator('svg[data-plot="loss"]').tap();
  assert.ok(await tip(phone.page).isVisible());
  if (shots) {
    await phone.page.screenshot({ path: shots + '-phone-dark.png', fullPage: true });
    await phone.page.emulateMedia({ colorScheme: 'light' });
    await phone.page.screenshot({ path: shots + '-phone-light.png', fullPage: true });
  }
  await phone.close();

  // Without scripts it is all there, but for hovering.
  const still = await open({ javaScriptEnabled: false });
  assert.ok(await still.page.locator('svg[data-plot="loss"] path.line').first().isVisible());
  assert.ok(await still.page.locator('.metrics').isVisible());
  await still.close();
} finally {
  await browser.close();
}
process.stdout.write(JSON.stringify(data));
