(function () {
  'use strict';
  const data = JSON.parse(document.getElementById('data').textContent);
  const root = document.documentElement;
  const tip = document.getElementById('tip');
  const SVG = 'http://www.w3.org/2000/svg';

  // Theme: that of the system, until the reader chooses; kept where the browser allows.
  const theme = document.getElementById('theme');
  const system = matchMedia('(prefers-color-scheme: dark)');
  const isDark = () => (root.dataset.theme || (system.matches ? 'dark' : 'light')) === 'dark';
  const kept = {
    get() { try { return localStorage.getItem('peccary-theme'); } catch { return null; } },
    set(value) { try { localStorage.setItem('peccary-theme', value); } catch { /* a file may not have any */ } },
  };
  const name = () => { theme.textContent = isDark() ? 'Light theme' : 'Dark theme'; };
  if (['light', 'dark'].includes(kept.get())) root.dataset.theme = kept.get();
  theme.hidden = false;
  theme.addEventListener('click', () => {
    root.dataset.theme = isDark() ? 'light' : 'dark';
    kept.set(root.dataset.theme);
    name();
  });
  system.addEventListener('change', name);
  name();

  function show(text, x, y) {
    tip.textContent = text;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = x + 14 + box.width > innerWidth ? x - 14 - box.width : x + 14;
    const top = y + 14 + box.height > innerHeight ? y - 14 - box.height : y + 14;
    tip.style.left = Math.max(4, left) + 'px';
    tip.style.top = Math.max(4, top) + 'px';
  }
  function hide() { tip.hidden = true; }

  function three(value) {
    const size = Math.abs(value);
    for (const [unit, letter] of [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']]) {
      if (size >= unit * 0.9995) return (value / unit).toPrecision(3) + letter;
    }
    return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
  }
  function written(value, axis) {
    if (axis.form === 'percent') return Number((value * 100).toPrecision(3)) + ' %';
    return three(value);
  }
  function place(axis, value) {
    const share = axis.log ? Math.log(value / axis.low) / Math.log(axis.high / axis.low)
      : (value - axis.low) / (axis.high - axis.low);
    return axis.from + Math.min(1, Math.max(0, share)) * (axis.to - axis.from);
  }
  // From the drawing's units to the window's, and back.
  function toWindow(svg, x, y) { return new DOMPoint(x, y).matrixTransform(svg.getScreenCTM()); }
  function toDrawing(svg, event) {
    return new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  }
  function add(parent, tag, attributes) {
    const made = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return parent.appendChild(made);
  }

  // Curves: a line across all of them at the nearest place, moved by pointer or arrow keys.
  function lines(svg, plot) {
    const places = [...new Set(plot.series.flatMap((s) => s.points.map((p) => p[0])))].sort((a, b) => a - b);
    const cross = add(svg, 'path', { class: 'cross' });
    const spots = plot.series.map((s) => add(svg, 'circle', { class: 'spot c' + s.colour, r: 4.5, visibility: 'hidden' }));
    let at = -1;
    function go(index) {
      at = Math.min(places.length - 1, Math.max(0, index));
      const x = place(plot.x, places[at]);
      cross.setAttribute('d', 'M' + x + ' ' + plot.y.to + 'V' + plot.y.from);
      const said = [plot.x.label + ' ' + written(places[at], plot.x)];
      let high = plot.y.from;
      plot.series.forEach((series, i) => {
        const point = series.points.find((p) => p[0] === places[at]);
        spots[i].setAttribute('visibility', point ? 'visible' : 'hidden');
        if (!point) return;
        const y = place(plot.y, point[1]);
        high = Math.min(high, y);
        spots[i].setAttribute('cx', x);
        spots[i].setAttribute('cy', y);
        said.push(series.name + ': ' + written(point[1], plot.y));
      });
      for (const band of plot.bands || []) {
        const point = band.points.find((p) => p[0] === places[at]);
        if (point) said.push(band.name + ': ' + written(point[1], plot.y) + ' to ' + written(point[2], plot.y));
      }
      const spot = toWindow(svg, x, high);
      show(said.join('\n'), spot.x, spot.y);
    }
    function leave() {
      cross.removeAttribute('d');
      spots.forEach((spot) => spot.setAttribute('visibility', 'hidden'));
      hide();
    }
    function near(event) {
      const x = toDrawing(svg, event).x;
      let nearest = 0;
      places.forEach((value, i) => {
        if (Math.abs(place(plot.x, value) - x) < Math.abs(place(plot.x, places[nearest]) - x)) nearest = i;
      });
      go(nearest);
    }
    follow(svg, near, leave);
    keys(svg, { step: (by) => go(at < 0 ? (by > 0 ? 0 : places.length - 1) : at + by), first: () => go(0),
      last: () => go(places.length - 1), leave });
  }

  // Bars, dots and whiskers: each says what it is.
  function marks(svg) {
    const all = [...svg.querySelectorAll('title')].map((title) => {
      const mark = title.parentNode;
      mark.dataset.said = title.textContent;
      title.remove();
      return mark;
    });
    let at = -1;
    function on(index) {
      off();
      at = index;
      const mark = all[at];
      mark.classList.add('on');
      const box = mark.getBoundingClientRect();
      show(mark.dataset.said, box.x + box.width / 2, box.y + Math.min(box.height, 12));
    }
    function off() {
      if (at >= 0 && all[at].dataset.found === undefined) all[at].classList.remove('on');
      hide();
    }
    function near(event) {
      const mark = event.target.dataset.said !== undefined ? event.target : nearest(event);
      if (mark) on(all.indexOf(mark)); else off();
    }
    function nearest(event) {
      if (svg.querySelector('circle') === null) return null;
      let best = null, least = 14;
      for (const mark of all) {
        const box = mark.getBoundingClientRect();
        const distance = Math.hypot(box.x + box.width / 2 - event.clientX, box.y + box.height / 2 - event.clientY);
        if (distance < least) { best = mark; least = distance; }
      }
      return best;
    }
    follow(svg, near, off);
    const go = (index) => on((index + all.length) % all.length);
    keys(svg, { step: (by) => go(at < 0 ? (by > 0 ? 0 : -1) : at + by), first: () => go(0), last: () => go(-1), leave: off });
    return all;
  }

  // A finger that lifts leaves what it pointed at to be read; the next tap elsewhere ends it.
  function follow(svg, near, leave) {
    let pointing = false;
    const end = () => { pointing = false; leave(); };
    for (const kind of ['pointermove', 'pointerdown']) {
      svg.addEventListener(kind, (event) => { pointing = true; near(event); });
    }
    svg.addEventListener('pointerleave', (event) => { if (event.pointerType !== 'touch') end(); });
    svg.addEventListener('blur', end);
    document.addEventListener('pointerdown', (event) => { if (pointing && !svg.contains(event.target)) end(); });
  }

  function keys(svg, to) {
    svg.addEventListener('keydown', (event) => {
      const act = {
        ArrowRight: () => to.step(1), ArrowLeft: () => to.step(-1), Home: to.first, End: to.last, Escape: to.leave,
      }[event.key];
      if (act && !event.altKey && !event.ctrlKey && !event.metaKey) { event.preventDefault(); act(); }
    });
  }

  // The map: zoom by buttons, keys, pinch and, once it has the focus, the wheel; drag to move.
  function map(svg, plot, all) {
    const whole = svg.viewBox.baseVal;
    const [width, height] = [whole.width, whole.height];
    let view = { x: 0, y: 0, scale: 1 };
    function apply() {
      view.scale = Math.min(20, Math.max(1, view.scale));
      view.x = Math.min(width - width / view.scale, Math.max(0, view.x));
      view.y = Math.min(height - height / view.scale, Math.max(0, view.y));
      svg.setAttribute('viewBox', [view.x, view.y, width / view.scale, height / view.scale].join(' '));
      svg.classList.toggle('zoomed', view.scale > 1);
      // Dots keep their size on the screen, nearly.
      for (const mark of all) {
        mark.dataset.r = mark.dataset.r || mark.getAttribute('r');
        mark.setAttribute('r', mark.dataset.r / Math.pow(view.scale, 0.8));
      }
    }
    function zoom(by, x, y) {
      const scale = Math.min(20, Math.max(1, view.scale * by));
      view = { x: x - (x - view.x) * view.scale / scale, y: y - (y - view.y) * view.scale / scale, scale };
      hide();
      apply();
    }
    const middle = () => [view.x + width / view.scale / 2, view.y + height / view.scale / 2];
    const reset = () => { view = { x: 0, y: 0, scale: 1 }; apply(); };
    for (const button of document.querySelectorAll('[data-zoom]')) {
      const how = { in: () => zoom(1.6, ...middle()), out: () => zoom(1 / 1.6, ...middle()), all: reset };
      button.addEventListener('click', how[button.dataset.zoom]);
    }
    svg.addEventListener('keydown', (event) => {
      if (event.key === '+' || event.key === '=') zoom(1.6, ...middle());
      else if (event.key === '-') zoom(1 / 1.6, ...middle());
      else if (event.key === '0') reset();
    });
    svg.addEventListener('wheel', (event) => {
      if (document.activeElement !== svg && !event.ctrlKey) return;
      event.preventDefault();
      const at = toDrawing(svg, event);
      zoom(Math.exp(-event.deltaY / 300), at.x, at.y);
    }, { passive: false });
    const held = new Map();
    svg.addEventListener('pointerdown', (event) => held.set(event.pointerId, event));
    svg.addEventListener('pointermove', (event) => {
      if (!held.has(event.pointerId)) return;
      const before = [...held.values()];
      const last = held.get(event.pointerId);
      held.set(event.pointerId, event);
      const after = [...held.values()];
      const unit = width / view.scale / svg.getBoundingClientRect().width;
      if (after.length === 1 && view.scale > 1) {
        view.x -= (event.clientX - last.clientX) * unit;
        view.y -= (event.clientY - last.clientY) * unit;
        apply();
      } else if (after.length === 2) {
        const apart = (two) => Math.hypot(two[0].clientX - two[1].clientX, two[0].clientY - two[1].clientY);
        const at = toDrawing(svg, {
          clientX: (after[0].clientX + after[1].clientX) / 2, clientY: (after[0].clientY + after[1].clientY) / 2,
        });
        zoom(apart(after) / Math.max(1, apart(before)), at.x, at.y);
      }
    });
    for (const end of ['pointerup', 'pointercancel', 'pointerleave']) {
      svg.addEventListener(end, (event) => held.delete(event.pointerId));
    }
    const colour = document.getElementById('colour');
    const classes = plot.choices.flatMap((choice) => choice.classes.map(([name]) => name));
    colour?.addEventListener('change', () => {
      const choice = plot.choices[colour.value - 1];
      all.forEach((mark, i) => {
        mark.classList.remove(...classes);
        if (choice) mark.classList.add(choice.classes[choice.of[i]][0]);
      });
      svg.closest('figure').querySelectorAll('[data-legend]').forEach((key) => {
        key.hidden = key.dataset.legend !== colour.value;
      });
    });
    const find = document.getElementById('find');
    const found = document.getElementById('found');
    find.addEventListener('input', () => {
      const wanted = find.value.trim().toLowerCase();
      let many = 0;
      for (const mark of all) {
        const is = wanted !== '' && mark.dataset.said.toLowerCase().includes(wanted);
        if (is) { many += 1; mark.dataset.found = ''; } else delete mark.dataset.found;
        mark.classList.toggle('on', is);
      }
      svg.classList.toggle('finding', wanted !== '');
      found.textContent = wanted === '' ? '' : many + ' found';
    });
  }

  for (const svg of document.querySelectorAll('svg[data-plot]')) {
    const plot = data.plots[svg.dataset.plot];
    if (!plot) continue;
    if (plot.kind === 'lines') { lines(svg, plot); continue; }
    const all = marks(svg);
    if (plot.kind === 'scatter') map(svg, plot, all);
  }

  for (const button of document.querySelectorAll('[data-copy]')) {
    button.addEventListener('click', async () => {
      const source = document.getElementById(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = 'Copied';
      } catch {
        getSelection().selectAllChildren(source);
        button.textContent = 'Selected: copy it';
      }
    });
  }

  const links = new Map([...document.querySelectorAll('nav a')].map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      links.forEach((link) => link.removeAttribute('aria-current'));
      links.get(entry.target.id)?.setAttribute('aria-current', 'true');
    }
  }, { rootMargin: '-30% 0px -60% 0px' });
  document.querySelectorAll('main > section').forEach((section) => seen.observe(section));
})();
